"""Tests of editing and deleting."""
from browser_board import HURRY, PASSWORD, Board, card, log_in, until

# What a tab keeps.
STORED = "Object.values(sessionStorage).join('')"


def is_stored(board, identity):
    return board.sql(f"SELECT COUNT(*) FROM messages WHERE id = {identity}") == "1"


def refuse(page, status, **answer):
    """The board answers each change with this status."""
    page.unroute("**/messages/*")
    page.route("**/messages/*", lambda route: route.continue_() if route.request.method == "GET" else route.fulfill(status=status, **answer))


def only_a_board_with_a_password_can_be_moderated(board, browser):
    open_board = Board(board.folder)
    open_board.post("safe")
    page = browser.open_live(open_board)
    assert page.locator("#moderate").count() == 0 and page.evaluate("typeof discard") == "undefined"
    page.close()
    open_board.stop()
    assert browser.open(board, java_script_enabled=False).is_hidden("#moderate")


def the_password_opens_the_buttons_of_each_card_in_this_tab(board, browser):
    first = board.post("an old message")
    window = browser.window()
    page = browser.tab(window, board)
    log_in(page)
    board.post("a new message")
    card(page, "a new message").wait_for()
    for name in ("Edit", "Delete"):
        assert page.locator(f".tools button:text-is('{name}')").count() == 2
        box = page.locator(f"#m{first} button:text-is('{name}')").bounding_box()
        assert box["height"] >= 44 and page.get_attribute(f"#m{first} button:text-is('{name}')", "aria-label") == f"{name} message {first}"
    for path in ("", "?before=1000000000", f"messages/{first}"):
        page.goto(board.url + path)
        page.wait_for_selector(f"#m{first} button:text-is('Delete')")
    assert page.evaluate(STORED.replace("sessionStorage", "localStorage")) == "" and page.evaluate("document.cookie") == ""
    other = browser.tab(window, board)
    assert other.locator(".tools").count() == 0 and other.inner_text("#moderate") == "Moderate"
    page.click("#moderate:text-is('Stop moderating')")
    assert page.locator(".tools").count() == 0 and page.evaluate(STORED) == ""
    page.reload()
    assert page.inner_text("#moderate") == "Moderate"


def a_deleted_message_is_gone_at_once_and_on_the_board_some_seconds_later(board, browser):
    identity, other = board.post("to be deleted"), board.post("to stay")
    page = browser.open(board, init=HURRY)
    log_in(page)
    page.click(f"#m{identity} button:text-is('Delete')")
    assert page.locator(f"#m{identity} p").is_hidden() and page.inner_text(f"#m{identity} .note").startswith("Deleted.")
    assert page.evaluate("document.activeElement.ariaLabel") == "Deleted. Undo" and is_stored(board, identity)
    page.wait_for_selector(f"#m{identity}", state="detached")
    until(lambda: not is_stored(board, identity))
    assert page.evaluate("list.contains(document.activeElement)"), "the focus stays near"
    assert is_stored(board, other)


def a_delete_can_be_undone(board, browser):
    identity = board.post("to be kept")
    page = browser.open_live(board)
    log_in(page)
    sent = []
    page.on("request", lambda request: sent.append(request.method))
    page.click(f"#m{identity} button:text-is('Delete')")
    page.keyboard.press("Enter")
    assert page.locator(f"#m{identity} p").is_visible() and page.locator(".note").count() == 0
    assert page.evaluate("pending.size") == 0 and "DELETE" not in sent and is_stored(board, identity)


def a_delete_is_sent_when_the_page_is_left(board, browser):
    for leave in (lambda page: page.goto(board.url + "?before=1"), lambda page: page.close(), lambda page: page.click("#moderate")):
        identity = board.post("to be deleted")
        page = browser.open(board)
        log_in(page)
        page.click(f"#m{identity} button:text-is('Delete')")
        assert is_stored(board, identity)
        leave(page)
        until(lambda: not is_stored(board, identity), 3)


def an_edit_is_saved_after_the_time_for_undo(board, browser):
    raw = "first\n\n\n\nhttps://a.example/ <b>"
    identity = board.post(raw)
    page = browser.open_live(board, init=HURRY)
    log_in(page)
    page.click(f"#m{identity} button:text-is('Edit')")
    field = page.locator(f"#m{identity} textarea")
    field.wait_for()
    assert field.input_value() == raw and field.get_attribute("aria-label") == f"Text of message {identity}"
    assert page.evaluate("document.activeElement.ariaLabel") == f"Text of message {identity}"
    field.fill("corrected https://b.example/")
    page.keyboard.press("Control+Enter")
    assert page.get_attribute(f"#m{identity} p a", "href") == "https://b.example/" and board.text(identity).startswith("first")
    until(lambda: board.text(identity) == "corrected https://b.example/")
    page.wait_for_selector(f"#m{identity} small")
    assert page.locator(".note, li form").count() == 0 and page.locator(".tools").count() == 1


def an_edit_can_be_cancelled_and_undone(board, browser):
    identity = board.post("as it was")
    page = browser.open_live(board)
    log_in(page)
    for button in ("Cancel", "Save"):
        page.click(f"#m{identity} button:text-is('Edit')")
        page.fill(f"#m{identity} textarea", "changed")
        page.click(f"#m{identity} button:text-is('{button}')")
    assert page.inner_text(f"#m{identity} p") == "changed"
    page.click("button:text-is('Undo')")
    assert page.inner_text(f"#m{identity} p") == "as it was" and page.evaluate("pending.size") == 0
    assert page.evaluate("document.activeElement.textContent") == "Edit" and board.text(identity) == "as it was"


def what_a_moderator_types_survives_edits_and_deletions_of_others(board, browser):
    edited, deleted = board.post("one"), board.post("two")
    page = browser.open_live(board, init=HURRY)
    log_in(page)
    for identity in (edited, deleted):
        page.click(f"#m{identity} button:text-is('Edit')")
        page.fill(f"#m{identity} textarea", "typed")
    board.edit(edited, "edited by another")
    board.sql(f"DELETE FROM messages WHERE id = {deleted}")
    board.post("a sign")
    card(page, "a sign").wait_for()
    page.evaluate("refresh()")
    for identity in (edited, deleted):
        assert page.input_value(f"#m{identity} textarea") == "typed"
    page.click(f"#m{edited} button:text-is('Cancel')")
    card(page, "edited by another").wait_for()
    browser.expects_errors = True
    page.click(f"#m{deleted} button:text-is('Save')")
    page.wait_for_selector(f"#m{deleted} form:has-text('This message is deleted.')")
    assert page.input_value(f"#m{deleted} textarea") == "typed"


def the_focus_and_the_place_stay_after_a_save_and_a_delete(board, browser):
    board.post_many(40)
    page = browser.open_live(board, init=HURRY)
    log_in(page)
    edited, deleted, below = page.locator("li").evaluate_all("(cards) => cards.slice(20, 23).map((card) => card.id)")
    page.click(f"#{edited} button:text-is('Edit')")
    page.fill(f"#{edited} textarea", "changed")
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(f"#{edited} small")
    place = page.evaluate("scrollY")
    assert place > 0 and page.evaluate("document.activeElement.closest('li').id") == edited
    page.click(f"#{deleted} button:text-is('Delete')")
    page.wait_for_selector(f"#{deleted}", state="detached")
    assert page.evaluate("document.activeElement.closest('li').id") == below
    assert abs(page.evaluate("scrollY") - place) < 200


def what_a_moderator_does_is_not_pushed_off_the_page(board, browser):
    identity = board.post("to be edited")
    page = browser.open_live(board)
    log_in(page)
    page.click(f"#m{identity} button:text-is('Edit')")
    page.fill(f"#m{identity} textarea", "typed")
    board.post_many(201)
    page.wait_for_function("() => list.children.length >= 200 && list.firstElementChild.textContent.includes('many 201')", timeout=20000)
    assert page.input_value(f"#m{identity} textarea") == "typed"


def an_answer_that_comes_late_changes_no_card_that_is_being_changed(board, browser):
    edited, deleted = board.post("to be edited"), board.post("to be deleted")
    page = browser.open_live(board)
    log_in(page)
    waiting = []
    page.route("**/messages/*", lambda route: waiting.append(route))
    page.evaluate(f"document.querySelector('#m{edited} .tools button').click()")
    page.evaluate(f"document.querySelector('#m{edited} .tools button').click()")
    page.evaluate(f"document.querySelector('#m{deleted} .tools button').click()")
    page.click(f"#m{deleted} button:text-is('Delete')")
    page.wait_for_function("() => pending.size === 1")
    until(lambda: page.evaluate("1") and len(waiting) == 3)
    waiting[0].continue_()
    page.fill(f"#m{edited} textarea", "typed")
    with page.expect_response("**/messages/*"):
        waiting[1].continue_()
    with page.expect_response("**/messages/*"):
        waiting[2].continue_()
    page.evaluate("fetch('messages').then((response) => response.text())")
    assert page.input_value(f"#m{edited} textarea") == "typed"
    assert page.locator(f"#m{deleted} form").count() == 0


def the_password_is_asked_for_although_the_script_did_not_load_once(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    page.route("**/moderation-*", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        page.click("#moderate")
    page.unroute("**/moderation-*")
    page.wait_for_function("() => moderate.onclick")
    page.click("#moderate")
    page.fill("dialog input", PASSWORD)
    page.keyboard.press("Control+Enter")
    if page.locator("dialog").count():
        page.click("dialog button:text-is('Moderate')")
    page.wait_for_selector("#moderate:text-is('Stop moderating')")


def a_wrong_password_is_asked_for_again_in_words(board, browser):
    browser.expects_errors = True
    identity = board.post("to be deleted")
    page = browser.open(board, init=HURRY)
    for wrong in ("a wrong password", "ein falsches Paßwort"):
        log_in(page, wrong)
        page.click(f"#m{identity} button:text-is('Delete')")
        page.wait_for_selector("dialog:has-text(\"That is not the moderator's password.\")")
        assert page.evaluate(STORED) == ""
        page.click("dialog button:text-is('Cancel')")
        page.wait_for_selector(f"#m{identity} [role=alert]")
        assert page.locator(f"#m{identity} p[dir]").is_visible() and page.inner_text("#moderate") == "Moderate"
    log_in(page, "a wrong password")
    page.click(f"#m{identity} button:text-is('Delete')")
    page.fill("dialog input", PASSWORD)
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#m{identity}", state="detached")
    assert not is_stored(board, identity)


def a_change_that_does_not_get_through_says_so_at_its_card_and_keeps_the_text(board, browser):
    browser.expects_errors = True
    identity = board.post("as it was")
    page = browser.open(board, init=HURRY)
    log_in(page)
    away = "The board is unavailable right now. Try again in a moment."
    answers = [
        (lambda: refuse(page, 503), away),
        (lambda: page.route("**/messages/*", lambda route: route.abort() if route.request.method != "GET" else route.continue_()), away),
        (lambda: refuse(page, 429, headers={"Retry-After": "7"}), "Too many changes. Try again in 7 s."),
    ]
    for answer, words in answers:
        answer()
        page.click(f"#m{identity} button:text-is('Delete')")
        page.wait_for_selector(f"#m{identity} > [role=alert]:text-is('{words}')")
        assert page.locator(f"#m{identity} p[dir]").is_visible()
        page.click(f"#m{identity} button:text-is('Edit')")
        page.fill(f"#m{identity} textarea", "typed")
        page.click(f"#m{identity} button:text-is('Save')")
        page.focus("#text")
        page.wait_for_selector(f"#m{identity} form [role=alert]:text-is('{words}')")
        assert page.evaluate("document.activeElement.id") == "text", "nothing interrupts what one does meanwhile"
        assert page.input_value(f"#m{identity} textarea") == "typed"
        page.click(f"#m{identity} button:text-is('Cancel')")
        assert page.inner_text(f"#m{identity} p[dir]") == "as it was"
    page.unroute("**/messages/*")
    page.click(f"#m{identity} button:text-is('Edit')")
    page.fill(f"#m{identity} textarea", "x" * 2001)
    page.click(f"#m{identity} button:text-is('Save')")
    page.wait_for_selector(f"#m{identity} form [role=alert]:has-text('2001 characters')")
    assert board.text(identity) == "as it was"


def one_message_is_edited_and_deleted_on_its_own_page(board, browser):
    identity = board.post("alone")
    page = browser.open(board, f"messages/{identity}", init=HURRY)
    log_in(page)
    page.click("button:text-is('Edit')")
    page.fill("textarea", "better")
    page.click("button:text-is('Save')")
    until(lambda: board.text(identity) == "better")
    page.wait_for_selector("small:has-text('edited')")
    page.click("button:text-is('Delete')")
    until(lambda: not is_stored(board, identity))
    page.wait_for_url(board.url)
