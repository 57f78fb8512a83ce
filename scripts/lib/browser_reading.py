"""Tests of what a reader sees: cards, times, links, pages, and the weight of it all."""
import re

from browser_board import PASSWORD, Board, card, log_in, wait_live

# HTML without messages, style and script together.
MAX_WEIGHT = 16 * 1024
# What people may type, and the page must show as it is.
HOSTILE = "<img src=x onerror=alert(1)> </script><script>alert(2)</script> javascript:alert(3) \" ' &amp; {{title}}"
# The server and the script must make the same card of them.
SAME = [
    "https://a.example/?q='x'&y=\"z\"",
    "see http://a.example/b?c=d#e, and (HTTPS://B.example/).",
    "http://... https:// ftp://a.example javascript://alert(1) xhttp://a.example/<b>",
    "a\n\n\n\nb\n \n\t\n\nc\n  d",
    HOSTILE,
    "\n".join(f"line {number}" for number in range(15)),
    "\n".join(f"line {number}" for number in range(16)),
    "x" * 1200,
    "🦀" * 1201,
    "é" + "\n\n\n\n" + "y" * 1121,
]
# The card without what the script alone writes: times as the reader reads them.
CARD = """(id) => {
    const card = document.getElementById(id).cloneNode(true);
    card.removeAttribute("class");
    card.querySelectorAll("time").forEach((time) => { time.removeAttribute("title"); time.textContent = "" });
    return card.outerHTML;
}"""


def the_page_weighs_less_than_16_kib(board, browser):
    heavy = Board(board.folder, ADMIN_TOKEN=PASSWORD, PAGE_INTRO="What this board is for.", PAGE_FOOTER="on", PUBLIC_URL="https://board.example.org/")
    html = heavy.read("")
    style, script = (heavy.read(re.search(pattern, html)[1]) for pattern in (r'href="\./(assets/[^"]*css)"', r'src="\./([^"]*)"'))
    moderation = heavy.read("assets/" + re.search(r"moderation-\w+\.js", script)[0])
    sizes = [len(part.encode()) for part in (html, style, script)]
    print(f"weight: {sum(sizes)} bytes (HTML {sizes[0]}, style {sizes[1]}, script {sizes[2]}); for moderators {len(moderation.encode())} more")
    heavy.stop()
    assert sum(sizes) < MAX_WEIGHT, sizes


def the_script_makes_the_same_card_as_the_server(board, browser):
    page = browser.open_live(board)
    identities = [board.post(text) for text in SAME]
    for identity in identities[:2]:
        board.edit(identity, "edited: https://a.example/")
    board.sql("INSERT INTO messages (message, created_at) VALUES ('old', NULL)")
    old = int(board.sql("SELECT MAX(id) FROM messages"))
    for identity in [*identities, old]:
        page.wait_for_selector(f"#m{identity}", state="attached")
    for identity in identities[:2]:
        page.wait_for_selector(f"#m{identity} small")
    plain = browser.open(board, java_script_enabled=False)
    for identity in [*identities, old]:
        by_script, by_server = (tab.evaluate(f"({CARD})('m{identity}')") for tab in (page, plain))
        assert by_script == by_server, f"{by_script}\n{by_server}"
    assert page.locator("details").count() == 3 and page.locator("#messages img, #messages script").count() == 0
    assert page.inner_text(f"#m{old} a") == "Permalink"


def a_card_of_the_server_stays_when_nothing_changed(board, browser):
    board.post("here before")
    board.post("https://a.example begins it, https://b.example")
    board.sql(r"INSERT INTO messages (message) VALUES ('of an\r\nolder\r\n\r\n\r\nprogram\rwith other line ends')")
    page = browser.open(board)
    page.evaluate("[...list.children].forEach((card) => card.marked = true)")
    wait_live(page)
    page.evaluate("refresh()")
    page.wait_for_function("() => reads === 0")
    assert page.evaluate("list.children.length === 3 && [...list.children].every((card) => card.marked)")


def times_are_relative_under_a_day_and_exact_on_hover(board, browser):
    ages = [("0 SECOND", "just now"), ("5 MINUTE", "5 min ago"), ("190 MINUTE", "3 h ago")]
    for age, _ in ages:
        board.sql(f"INSERT INTO messages (message, created_at) VALUES ('{age}', UTC_TIMESTAMP(6) - INTERVAL {age})")
    board.sql("INSERT INTO messages (message, created_at, edited_at) VALUES ('last year', '2025-03-04 23:59:07', UTC_TIMESTAMP(6))")
    plain = browser.open(board, java_script_enabled=False)
    assert card(plain, "last year").locator("a").inner_text() == "2025-03-04 23:59 UTC"
    page = browser.open(board, locale="en-GB", timezone_id="Asia/Tokyo")
    for age, words in ages:
        assert card(page, age).locator("a").inner_text() == words
    last = card(page, "last year").locator("time")
    assert last.nth(0).inner_text() == "5 Mar 2025" and last.nth(0).get_attribute("title") == "5 Mar 2025, 08:59:07"
    assert last.nth(1).inner_text() == "just now"


def times_go_on_while_one_reads(board, browser):
    board.post("a moment ago")
    window = browser.window()
    page = window.new_page()
    page.clock.install()
    page.goto(board.url)
    assert card(page, "a moment ago").locator("time").inner_text() == "just now"
    page.clock.fast_forward(3 * 60000)
    page.wait_for_function("() => document.querySelector('time').textContent === '3 min ago'")


def a_time_leads_to_the_page_of_the_message(board, browser):
    long = board.post("\n".join(f"line {number}" for number in range(40)))
    page = browser.open(board)
    page.click(f"#m{long} > a")
    page.wait_for_url(f"**/messages/{long}")
    assert page.locator("details").count() == 0 and page.inner_text("time") == "just now"
    assert "line 39" in page.inner_text("li") and page.locator("#new-message").count() == 0
    page.click("nav a")
    page.wait_for_url(board.url)


def a_long_message_folds_and_opens(board, browser):
    for script in (True, False):
        identity = board.post("\n".join(f"line {number}" for number in range(40)))
        page = browser.open(board, java_script_enabled=script)
        folded = page.locator(f"#m{identity} p").bounding_box()["height"]
        page.click("summary >> nth=0")
        assert page.locator(f"#m{identity} p").bounding_box()["height"] > 2 * folded


def an_open_message_stays_open_when_it_is_edited(board, browser):
    identity = board.post("\n".join(f"line {number}" for number in range(40)))
    page = browser.open_live(board)
    page.click("summary")
    board.sql(f"UPDATE messages SET message = CONCAT(message, ' edited'), edited_at = UTC_TIMESTAMP(6) WHERE id = {identity}")
    page.wait_for_selector(f"#m{identity} small")
    assert page.locator("details[open]").count() == 1


def pages_lead_to_newer_and_older_messages(board, browser):
    board.post_many(120)
    for script in (True, False):
        page = browser.open(board, java_script_enabled=script)
        seen = []
        while True:
            seen += page.locator("#messages li").evaluate_all("(cards) => cards.map((card) => card.querySelector('p').textContent)")
            links = page.locator("nav >> nth=-1").locator("a")
            assert all(box["height"] >= 44 for box in (link.bounding_box() for link in links.all()))
            if "Older" not in links.all_inner_texts():
                break
            links.filter(has_text="Older").click()
            page.wait_for_url("**/?before=*")
            assert page.locator("nav").count() == 2
        assert seen == [f"many {number}" for number in range(120, 0, -1)]
        assert "No older messages" in page.locator("nav >> nth=-1").inner_text()
        page.locator("nav >> nth=0").locator("a[rel=prev]").click()
        page.wait_for_url("**/?after=*")
        assert page.locator("#messages li p").first.inner_text() == "many 70"
        page.locator("nav >> nth=0").locator("a:text-is('Newest')").click()
        page.wait_for_url(board.url)


def the_last_message_that_goes_leaves_the_words_of_an_empty_board(board, browser):
    words = "No messages yet. Write the first one."
    page = browser.open_live(board)
    assert page.inner_text("#empty") == words
    board.post("alone")
    card(page, "alone").wait_for()
    assert page.inner_text("#empty") == ""
    board.sql("DELETE FROM messages")
    page.wait_for_function(f"() => document.getElementById('empty').textContent === '{words}'")


def nothing_hostile_leaves_its_card(board, browser):
    page = browser.open_live(board, viewport={"width": 320, "height": 640})
    for text in ["A" * 2000, "e" + "\u0301" * 500, "\u202eright to left\u202c", "https://a.example/" + "b" * 1500]:
        identity = board.post(text)
        page.wait_for_selector(f"#m{identity}", state="attached")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("li").evaluate_all("(cards) => cards.every((card) => getComputedStyle(card).overflow === 'hidden')")


def the_time_of_a_right_to_left_message_stands_on_the_right(board, browser):
    left, right = board.post("left to right"), board.post("שלום לכולם")
    page = browser.open(board)
    log_in(page)
    page.wait_for_selector(f"#m{right} .tools")
    centre = page.locator("ol").bounding_box()["x"] + page.locator("ol").bounding_box()["width"] / 2
    assert page.locator(f"#m{left} time").bounding_box()["x"] < centre < page.locator(f"#m{right} time").bounding_box()["x"]


def the_board_works_without_storage(board, browser):
    forbid = "for (const name of ['localStorage', 'sessionStorage']) Object.defineProperty(window, name, { get() { throw new Error('forbidden') } });"
    page = browser.open_live(board, init=forbid)
    board.post("from the stream")
    card(page, "from the stream").wait_for()
    page.fill("#text", "by form")
    page.click("#new-message button")
    card(page, "by form").wait_for()
