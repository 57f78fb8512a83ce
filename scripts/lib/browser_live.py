"""Tests of pages that follow the board: streams, tabs, outages, and messages that wait while one reads."""
from browser_board import HURRY, Proxy, card, scroll_down, send, until, wait_live, within_a_second

# Chromium shows each page of a test as a visible one, so the tests say which tab is in front.
TAB = """
    let isInBack = false;
    Object.defineProperty(document, "hidden", { get: () => isInBack });
    window.turn = (isHidden) => {
        isInBack = isHidden;
        document.dispatchEvent(new Event("visibilitychange"));
    };
"""


def what_others_post_edit_and_delete_appears_within_a_second(board, browser):
    page = browser.open_live(board)
    for text in within_a_second():
        identity = board.post(text)
        card(page, text).wait_for()
    board.edit(identity, "edited by SQL")
    page.wait_for_selector(f"#m{identity} small:has-text('edited')")
    assert card(page, "edited by SQL").count() == 1
    board.sql(f"DELETE FROM messages WHERE id = {identity}")
    page.wait_for_selector(f"#m{identity}", state="detached")


def two_windows_see_each_other(board, browser):
    one, other = browser.open_live(board), browser.open_live(board)
    for writer, reader, text in [(one, other, "from one"), (other, one, "from the other")]:
        send(writer, text)
        card(reader, text).wait_for()
        card(writer, text).wait_for()
    for page in (one, other):
        assert page.locator("#messages li p").all_inner_texts() == ["from the other", "from one"]


def eight_tabs_stay_live_and_only_the_visible_one_has_a_stream(board, browser):
    window = browser.window()
    tabs = []
    for _ in range(8):
        if tabs:
            tabs[-1].evaluate("turn(true)")
        tabs.append(browser.tab(window, board, init=TAB))
        wait_live(tabs[-1])
    # The server finds closed connections when it writes to them or the browser closes them.
    until(lambda: board.streams() == 1)
    front = tabs[-1]
    for text, tab in zip(within_a_second(7), tabs):
        assert tab.evaluate("events === null")
        board.post(text)
        card(front, text).wait_for()
        front.evaluate("turn(true)")
        tab.evaluate("turn(false)")
        card(tab, text).wait_for()
        front = tab
    until(lambda: board.streams() == 1)


def a_browser_without_streams_polls(board, browser):
    page = browser.open(board, init="delete window.EventSource;" + HURRY)
    board.post("found by polling")
    card(page, "found by polling").wait_for()


def a_page_whose_stream_is_refused_polls_and_tries_again(board, browser):
    browser.expects_errors = True
    window = browser.window()
    window.route("**/events", lambda route: route.fulfill(status=503, body=""))
    page = browser.tab(window, board, init=HURRY)
    board.post("found by polling")
    card(page, "found by polling").wait_for()
    window.unroute("**/events")
    wait_live(page)


def an_edit_that_is_made_while_the_stream_is_away_is_found(board, browser):
    browser.expects_errors = True
    identity = board.post("before the restart")
    page = browser.open_live(board)
    board.stop()
    board.edit(identity, "edited meanwhile")
    board.start()
    card(page, "edited meanwhile").wait_for(timeout=20000)


def an_outage_of_the_database_leaves_the_page_live(board, browser):
    page = browser.open_live(board)
    board.database("stop")
    board.database("start")
    until(lambda: board.read("readyz"))
    board.post("after the outage")
    card(page, "after the outage").wait_for(timeout=20000)


def a_tab_that_was_hidden_for_long_has_no_gap(board, browser):
    board.post_many(20)
    page = browser.open_live(board, init=TAB)
    page.evaluate("turn(true)")
    board.post_many(120)
    page.evaluate("turn(false)")
    page.wait_for_function("() => list.children.length === 140")
    ids = page.locator("#messages li").evaluate_all("(cards) => cards.map((card) => Number(card.id.slice(1)))")
    stored = board.sql("SELECT id FROM messages ORDER BY id DESC").split()
    assert ids == [int(identity) for identity in stored]


def a_message_of_ones_own_hides_no_gap(board, browser):
    browser.expects_errors = True
    board.post_many(20)
    page = browser.open_live(board)
    board.stop()
    page.fill("#text", "sent during the outage")
    page.click("#new-message button")
    board.post_many(120)
    board.start()
    page.wait_for_function("() => list.children.length === 141", timeout=20000)


def an_empty_page_that_fills_while_it_is_hidden_leads_to_older_messages(board, browser):
    page = browser.open_live(board, init=TAB)
    page.evaluate("turn(true)")
    board.post_many(300)
    page.evaluate("turn(false)")
    page.wait_for_selector("nav a[rel=next]")
    last = page.get_attribute("#messages li:last-child", "id")[1:]
    assert page.get_attribute("nav a[rel=next]", "href").endswith(f"?before={last}")


def a_read_of_the_list_that_fails_is_repeated(board, browser):
    browser.expects_errors = True
    window = browser.window()
    page = browser.tab(window, board, init=TAB + HURRY)
    wait_live(page)
    page.evaluate("turn(true)")
    other = browser.open_live(board)
    board.post("posted meanwhile")
    card(other, "posted meanwhile").wait_for()
    failed = []
    window.route("**/messages", lambda route: route.continue_() if failed else (failed.append(route), route.fulfill(status=503, body="")))
    page.evaluate("turn(false)")
    card(page, "posted meanwhile").wait_for()
    assert failed


def an_edit_of_a_message_on_an_older_page_stays_off_the_newest(board, browser):
    board.post_many(60)
    page = browser.open_live(board)
    board.edit(board.sql("SELECT MIN(id) FROM messages").strip(), "edited far below")
    board.post("after the edit")
    card(page, "after the edit").wait_for()
    assert card(page, "edited far below").count() == 0


def an_event_is_newer_than_an_answer_that_was_asked_for_before_it(board, browser):
    edited, deleted = board.post("to be edited"), board.post("to be deleted")
    window = browser.window()
    page = browser.tab(window, board)
    wait_live(page)

    def answer_late(route):
        response = route.fetch()
        board.edit(edited, "edited meanwhile")
        board.sql(f"DELETE FROM messages WHERE id = {deleted}")
        page.wait_for_selector(f"#m{deleted}", state="detached")
        card(page, "edited meanwhile").wait_for()
        route.fulfill(response=response)

    window.route("**/messages", answer_late)
    page.evaluate("refresh()")
    assert card(page, "edited meanwhile").count() == 1
    assert card(page, "to be").count() == 0


def a_list_whose_cards_are_all_deleted_shows_older_ones(board, browser):
    board.post_many(60)
    page = browser.open_live(board)
    board.sql("DELETE FROM messages ORDER BY id DESC LIMIT 55")
    page.wait_for_function("() => list.children.length === 5")
    assert page.inner_text("#empty") == ""
    page.wait_for_selector("nav:has-text('No older messages')")
    assert page.locator("[rel=next]").count() == 0


def a_long_open_page_keeps_two_hundred_cards_and_its_way_to_older_ones(board, browser):
    page = browser.open_live(board)
    board.post_many(150)
    until(lambda: page.locator("#messages li").count() == 150)
    board.post_many(150)
    until(lambda: page.locator("#messages li").count() == 200)
    last = page.get_attribute("#messages li:last-child", "id")[1:]
    assert page.get_attribute("nav a[rel=next]", "href").endswith(f"?before={last}")
    page.click("nav a[rel=next]")
    page.wait_for_url(f"**/?before={last}")
    assert page.locator("#messages li").count() == 50


def new_messages_wait_while_one_reads_further_down(board, browser):
    board.post_many(40)
    page = browser.open_live(board)
    scroll_down(page)
    place = page.locator("li >> nth=20").bounding_box()["y"]
    for number in range(3):
        board.post(f"waiting {number}")
    page.wait_for_selector("#bar:text-is('3 new messages')")
    assert page.locator("li >> nth=20").bounding_box()["y"] == place and card(page, "waiting").count() == 0
    assert page.locator("[role=status], [aria-live=polite]").count() == 1
    assert page.inner_text("[role=status]") == "3 new messages"
    box = page.locator("#bar").bounding_box()
    assert box["height"] >= 44 and 0 <= box["y"] < 44
    page.click("#bar")
    assert page.locator("#messages li p").all_inner_texts()[:3] == ["waiting 2", "waiting 1", "waiting 0"]
    assert page.is_hidden("#bar") and page.evaluate("list.getBoundingClientRect().top >= 0")
    assert page.evaluate("list.firstElementChild.contains(document.activeElement)")


def waiting_messages_follow_what_happens_to_them_and_appear_at_the_top(board, browser):
    board.post_many(40)
    page = browser.open_live(board)
    scroll_down(page)
    edited, deleted = board.post("to be edited"), board.post("to be deleted")
    page.wait_for_selector("#bar:text-is('2 new messages')")
    board.edit(edited, "edited before it was shown")
    board.sql(f"DELETE FROM messages WHERE id = {deleted}")
    page.wait_for_selector("#bar:text-is('1 new message')")
    page.wait_for_function("() => [...held.values()][0].message === 'edited before it was shown'")
    page.keyboard.press("Home")
    card(page, "edited before it was shown").wait_for()
    assert page.is_hidden("#bar") and page.inner_text("#hint") == "At most 2000 characters"


def a_message_of_ones_own_never_waits(board, browser):
    board.post_many(40)
    page = browser.open_live(board)
    scroll_down(page)
    board.post("of another")
    page.wait_for_selector("#bar:text-is('1 new message')")
    page.evaluate("text.value = 'of my own'; form.requestSubmit()")
    card(page, "of my own").wait_for()
    assert page.locator("#messages li p").all_inner_texts()[:2] == ["of my own", "of another"]


def a_board_below_a_path_of_a_proxy_works(board, browser):
    proxy = Proxy(board)
    page = browser.open_live(proxy)
    assert proxy.url.endswith("/board/")
    send(page, "through the proxy")
    card(page, "through the proxy").wait_for()
    identity = board.post("from the other side")
    card(page, "from the other side").wait_for()
    page.click(f"#m{identity} > a")
    page.wait_for_url(f"{proxy.url}messages/{identity}")
    page.click("nav a")
    page.wait_for_url(proxy.url)
    plain = browser.open(proxy, java_script_enabled=False)
    send(plain, "without script")
    plain.wait_for_url(f"{proxy.url}#m*")
    page.click("#moderate")
    page.wait_for_selector("dialog")
    proxy.shutdown()
