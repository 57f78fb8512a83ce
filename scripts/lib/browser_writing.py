"""Tests of the form: sending, drafts, errors and outages."""
import signal

from browser_board import HURRY, Board, card, problem, send, until


def a_posted_message_appears_once_is_announced_and_empties_the_form(board, browser):
    page = browser.open(board)
    assert page.evaluate("document.activeElement.tagName") == "BODY", "nothing takes the focus from a reader"
    page.fill("#text", "by keyboard")
    page.keyboard.press("Control+Enter")
    card(page, "by keyboard").wait_for()
    assert page.inner_text("#hint") == "Posted" and page.input_value("#text") == ""
    assert page.get_attribute("#hint", "role") == "status"
    page.reload()
    assert card(page, "by keyboard").count() == 1


def the_key_n_leads_to_the_form_and_is_a_letter_in_it(board, browser):
    page = browser.open(board)
    assert page.get_attribute("#text", "aria-keyshortcuts") == "n"
    page.keyboard.press("Control+n")
    page.keyboard.press("Alt+n")
    assert page.evaluate("document.activeElement.id") == ""
    page.keyboard.press("n")
    assert page.evaluate("document.activeElement.id") == "text" and page.input_value("#text") == ""
    page.keyboard.press("n")
    assert page.input_value("#text") == "n"


def without_javascript_the_form_leads_to_the_new_message(board, browser):
    page = browser.open(board, java_script_enabled=False)
    send(page, "without script")
    page.wait_for_url("**/#m*")
    card(page, "without script").wait_for()


def without_javascript_an_error_stands_at_the_form_with_the_text(board, browser):
    browser.expects_errors = True
    page = browser.open(board, java_script_enabled=False)
    send(page, "x" * 2001)
    page.wait_for_url("**/submit")
    assert "2001 characters" in page.inner_text("#problem") and page.input_value("#text") == "x" * 2001


def a_shared_link_with_foreign_parameters_is_the_newest_page(board, browser):
    page = browser.open_live(board, "?utm_source=mail")
    send(page, "from a shared link")
    card(page, "from a shared link").wait_for()
    assert page.url.endswith("?utm_source=mail")


def a_message_from_an_older_page_is_shown_on_the_newest(board, browser):
    for query in ("?before=1000000000", "?after=0"):
        board.post("there")
        page = browser.open(board, query)
        send(page, f"from {query}")
        page.wait_for_url("**/#m*")
        card(page, f"from {query}").wait_for()


def a_draft_survives_a_reload_an_older_page_and_a_closed_tab(board, browser):
    window = browser.window()
    page = browser.tab(window, board)
    page.fill("#text", "a draft")
    page.reload()
    assert page.input_value("#text") == "a draft"
    page.goto(board.url + "?before=1000000000")
    assert page.input_value("#text") == "a draft"
    page.close()
    page = browser.tab(window, board)
    assert page.input_value("#text") == "a draft"
    page.click("#new-message button")
    card(page, "a draft").wait_for()
    page.reload()
    assert page.input_value("#text") == ""


def errors_stand_at_the_form_and_go_away_while_one_types(board, browser):
    page = browser.open(board)
    for text, words in [("x" * 2001, "2001 characters; the limit is 2000"), ("   ", "Write something first.")]:
        send(page, text)
        assert problem(page) == words and page.get_attribute("#text", "aria-invalid") == "true"
        page.fill("#text", "better")
        assert page.inner_text("#problem") == "" and page.get_attribute("#text", "aria-invalid") is None
    page.fill("#text", "🦀" * 1990)
    assert page.inner_text("#hint") == "10 left", "counted as the server counts"
    page.fill("#text", "")


def words_of_the_server_are_for_people(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    send(page, "a \x07 bell")
    assert "control character" in problem(page)
    refusal = '{"status": 403, "code": "cross_site", "detail": "Origin x is not Host y: set PUBLIC_URL."}'
    page.route("**/messages", lambda route: route.fulfill(status=403, body=refusal))
    send(page, "refused")
    page.wait_for_function("() => document.getElementById('problem').textContent.includes('could not store')")
    assert page.input_value("#text") == "refused"


def a_text_that_is_sent_after_another_one_with_the_same_key_is_a_message_of_its_own(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    key = page.input_value("[name=key]")
    send(page, "the first")
    card(page, "the first").wait_for()
    page.evaluate(f"form.elements.key.value = '{key}'")
    send(page, "the second")
    card(page, "the second").wait_for()
    assert page.inner_text("#problem") == ""


def a_message_that_is_sent_while_the_board_is_down_is_posted_once_when_it_is_back(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    board.stop()
    send(page, "written during the outage")
    page.wait_for_function("() => document.getElementById('problem').textContent.includes('unavailable')")
    assert page.input_value("#text") == "written during the outage" and page.inner_text("#new-message button") == "Sending…"
    assert not page.is_editable("#text")
    board.start()
    card(page, "written during the outage").wait_for(timeout=20000)
    assert page.inner_text("#problem") == "" and page.inner_text("#new-message button") == "Send"
    assert board.sql("SELECT COUNT(*) FROM messages WHERE message = 'written during the outage'") == "1"
    board.post("after the restart")
    card(page, "after the restart").wait_for(timeout=20000)


def a_message_that_is_sent_while_the_database_is_away_is_posted_once_when_it_is_back(board, browser):
    browser.expects_errors = True
    page = browser.open_live(board)
    board.database("stop")
    send(page, "written without a database")
    page.wait_for_function("() => document.getElementById('problem').textContent.includes('unavailable')", timeout=20000)
    assert page.input_value("#text") == "written without a database"
    board.database("start")
    card(page, "written without a database").wait_for(timeout=20000)
    assert board.sql("SELECT COUNT(*) FROM messages") == "1" and page.inner_text("#problem") == ""
    until(lambda: board.read("readyz"))


def a_message_whose_answer_is_lost_is_posted_once(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    lost = []

    def lose_the_first(route):
        if lost:
            return route.continue_()
        lost.append(route.fetch())
        route.abort()

    page.route("**/messages", lambda route: lose_the_first(route) if route.request.method == "POST" else route.continue_())
    send(page, "sent twice")
    page.wait_for_function("() => hint.textContent === 'Posted'")
    assert lost and board.sql("SELECT COUNT(*) FROM messages") == "1" and card(page, "sent twice").count() == 1


def a_draft_that_was_sent_before_the_tab_was_closed_is_posted_once(board, browser):
    browser.expects_errors = True
    window = browser.window()
    page = browser.tab(window, board)
    lost = []
    page.route("**/messages", lambda route: (lost.append(route.fetch()), route.abort()) if route.request.method == "POST" else route.continue_())
    send(page, "sent and closed")
    problem(page)
    page.close()
    page = browser.tab(window, board)
    assert page.input_value("#text") == "sent and closed" and board.sql("SELECT COUNT(*) FROM messages") == "1"
    page.click("#new-message button")
    page.wait_for_function("() => hint.textContent === 'Posted'")
    send(page, "the next one")
    card(page, "the next one").wait_for()
    assert board.sql("SELECT message FROM messages ORDER BY id").splitlines() == ["sent and closed", "the next one"]


def the_focus_stays_where_one_works_when_a_message_is_posted_later(board, browser):
    browser.expects_errors = True
    board.post("there")
    page = browser.open(board)
    board.stop()
    send(page, "written during the outage")
    problem(page)
    page.focus("#messages a")
    board.start()
    card(page, "written during the outage").wait_for(timeout=20000)
    page.wait_for_function("() => !button.disabled")
    assert page.evaluate("list.contains(document.activeElement)")


def a_proxy_that_answers_for_the_board_ends_no_attempt(board, browser):
    browser.expects_errors = True
    page = browser.open(board, init=HURRY)
    statuses = [502, 504, 503]
    page.route("**/messages", lambda route: route.fulfill(status=statuses.pop(), body="<h1>Bad</h1>") if statuses and route.request.method == "POST" else route.continue_())
    send(page, "through a proxy")
    card(page, "through a proxy").wait_for()
    assert not statuses and page.inner_text("#problem") == ""


def a_board_that_hangs_is_reported_and_gets_the_message_later(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    board.process.send_signal(signal.SIGSTOP)
    try:
        send(page, "sent to a board that hangs")
        page.wait_for_function("() => document.getElementById('problem').textContent.includes('unavailable')", timeout=20000)
    finally:
        board.process.send_signal(signal.SIGCONT)
    card(page, "sent to a board that hangs").wait_for(timeout=20000)
    assert board.sql("SELECT COUNT(*) FROM messages") == "1"


def a_new_key_is_remembered_before_its_message_is_sent(board, browser):
    browser.expects_errors = True
    window = browser.window()
    page = browser.tab(window, board)
    key = page.input_value("[name=key]")
    send(page, "the first")
    card(page, "the first").wait_for()
    page.evaluate(f"form.elements.key.value = '{key}'")

    def lose_what_is_stored(route):
        response = route.fetch()
        route.abort() if response.ok else route.fulfill(response=response)

    page.route("**/messages", lambda route: lose_what_is_stored(route) if route.request.method == "POST" else route.continue_())
    send(page, "the second")
    problem(page)
    page.close()
    page = browser.tab(window, board)
    assert page.input_value("#text") == "the second"
    page.click("#new-message button")
    page.wait_for_function("() => hint.textContent === 'Posted'")
    assert board.sql("SELECT COUNT(*) FROM messages") == "2"


def the_reasons_of_the_server_stand_at_the_form(board, browser):
    browser.expects_errors = True
    page = browser.open(board)
    page.evaluate("text.value = '\u200b'; form.requestSubmit()")
    assert "could not store" not in problem(page)
    page.fill("#text", "better")
    limited = '{"status": 400, "code": "message_too_long", "detail": "The limit is lower now."}'
    page.route("**/messages", lambda route: route.fulfill(status=400, body=limited))
    page.click("#new-message button")
    page.wait_for_function("() => document.getElementById('problem').textContent === 'The limit is lower now.'")


def a_message_that_is_sent_while_posting_is_paused_says_so_and_is_posted_later(board, browser):
    browser.expects_errors = True
    page = browser.open(board, init=HURRY)
    paused = '{"status": 503, "code": "database_unavailable", "detail": "Posting is paused."}'
    page.route("**/messages", lambda route: route.fulfill(status=503, body=paused) if route.request.method == "POST" else route.continue_())
    send(page, "sent while paused")
    assert problem(page).startswith("Posting is paused")
    page.unroute("**/messages")
    card(page, "sent while paused").wait_for()


def a_draft_stays_when_another_tab_posts(board, browser):
    window = browser.window()
    one, other = browser.tab(window, board), browser.tab(window, board)
    one.fill("#text", "a long draft")
    send(other, "posted")
    card(other, "posted").wait_for()
    one.reload()
    assert one.input_value("#text") == "a long draft"
    one.fill("#text", "of the one")
    other.fill("#text", "of the other")
    one.click("#new-message button")
    card(one, "of the one").wait_for()
    other.close()
    other = browser.tab(window, board)
    assert other.input_value("#text") == "of the other"


def a_rate_limit_counts_down(board, browser):
    browser.expects_errors = True
    limited = Board(board.folder, RATE_LIMIT="60", TRUSTED_PROXIES="127.0.0.1")
    page = browser.open_live(limited, extra_http_headers={"X-Forwarded-For": "192.0.2.7"})
    for _ in range(60):
        page.evaluate("fetch('submit', {method: 'POST', body: new URLSearchParams({new_message: 'x'}), headers: {Accept: 'application/json'}})")
    page.wait_for_function("() => list.children.length >= 50")
    for _ in range(8):
        send(page, "one too many")
        page.wait_for_function("() => !button.disabled")
        if page.inner_text("#problem"):
            break
    assert page.inner_text("#problem").startswith("Too many messages. Try again in"), page.inner_text("#problem")
    page.wait_for_function("() => document.getElementById('problem').textContent === ''")
    limited.stop()


def a_countdown_ends_by_itself_and_is_announced_once(board, browser):
    browser.expects_errors = True
    page = browser.open(board, init=HURRY)
    page.route("**/messages", lambda route: route.fulfill(status=429, headers={"Retry-After": "3"}, body="{}"))
    page.evaluate("""() => {
        window.shown = [];
        new MutationObserver(() => shown.push([problem.textContent, problem.ariaLive])).observe(problem, { childList: true });
    }""")
    send(page, "too soon")
    page.wait_for_function("() => shown.length && !problem.textContent")
    words = "Too many messages. Try again in {} s."
    assert page.evaluate("shown") == [[words.format(3), None], [words.format(2), "off"], [words.format(1), "off"], ["", None]]
    assert page.input_value("#text") == "too soon" and page.get_attribute("#text", "aria-invalid") is None
