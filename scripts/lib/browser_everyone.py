"""Tests that the page is for everyone: screens, zoom, colours, print, keyboard and axe; and its pictures."""
from browser_board import HURRY, REST, Board, log_in, problem, scroll_down, send

# Their text needs 24 pixels of height; they stand in lines of text, or alone in a card.
SMALL = "li > a, li > p a, h1 a"


# Of the edge of a control, or its ground where it has no edge, with the ground of the first element around it that has one.
CONTRAST = """(selector) => {
    const element = document.querySelector(selector);
    const isClear = (colour) => colour.endsWith(", 0)");
    const ground = (at) => isClear(getComputedStyle(at).backgroundColor) ? ground(at.parentElement) : getComputedStyle(at).backgroundColor;
    const light = (colour) => colour.match(/[0-9.]+/g).slice(0, 3).map((part) => part / 255)
        .map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
        .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
    const edge = getComputedStyle(element).borderTopColor;
    const pair = [isClear(edge) ? ground(element) : edge, ground(element.parentElement)].map(light);
    return (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
}"""


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def targets(page):
    """The controls that are too small to touch."""
    return page.evaluate(f"""() => [...document.querySelectorAll("a, button, summary, textarea, input:not([type=hidden])")]
        .filter((element) => element.checkVisibility() && element.getBoundingClientRect().height < (element.matches("{SMALL}") ? 24 : 44))
        .map((element) => element.outerHTML)""")


def a_phone_and_a_zoomed_page_show_everything(board, browser):
    board.post_many(60)
    board.post("\n".join(f"line {number}" for number in range(40)))
    identity = board.post("W" * 300)
    # A window of 1280 pixels at 200 % and 400 %, and a small phone.
    for width, scale in [(640, 2), (320, 4), (320, 2)]:
        page = browser.open(board, viewport={"width": width, "height": 640}, device_scale_factor=scale)
        log_in(page)
        page.click(f"#m{identity} button:text-is('Edit')")
        page.wait_for_selector("li textarea")
        for path in ("", "?before=1000000000", f"messages/{identity}", "nothing-here"):
            if path:
                page.goto(board.url + path)
            browser.expects_errors = True
            assert fits(page), (width, path)
            assert targets(page) == [], (width, path)
        page.goto(board.url)
        page.click("#moderate")
        page.click("#moderate")
        page.wait_for_selector("dialog")
        assert fits(page) and targets(page) == []


def dark_and_light_follow_the_reader(board, browser):
    grounds = set()
    for scheme in ("light", "dark"):
        page = browser.open(board, color_scheme=scheme)
        grounds.add(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert len(grounds) == 2


def the_edges_of_controls_stand_out_from_what_is_around_them(board, browser):
    identity = board.post("edited")
    board.post_many(60)
    for scheme in ("light", "dark"):
        page = browser.open(board, f"?before={identity + 2}#m{identity}", color_scheme=scheme)
        log_in(page)
        page.click(f"#m{identity} button:text-is('Edit')")
        page.wait_for_selector("li textarea")
        for selector in ("#text", "#new-message button", "nav a", "li textarea", "li .plain", "li form button:not(.plain)"):
            contrast = page.evaluate(CONTRAST, selector)
            assert contrast >= 3, (scheme, selector, contrast)


def controls_have_a_border_in_forced_colours(board, browser):
    board.post_many(60)
    page = browser.open(board, forced_colors="active")
    for selector in ("#new-message button", "textarea", "nav a"):
        border, ground = page.evaluate(f"""() => {{
            const style = getComputedStyle(document.querySelector("{selector}"));
            return [style.borderTopColor, getComputedStyle(document.body).backgroundColor];
        }}""")
        assert border != ground and "rgba" not in border, (selector, border, ground)


def print_has_the_messages_and_no_controls(board, browser):
    board.post_many(60)
    board.post("\n".join(f"line {number}" for number in range(40)))
    page = browser.open(board)
    folded = page.locator("li p").first.bounding_box()["height"]
    page.emulate_media(media="print")
    for selector in ("form", "nav", "#moderate", "summary"):
        assert page.locator(selector).first.is_hidden(), selector
    assert page.locator("li p").first.bounding_box()["height"] > 2 * folded


def nothing_moves_with_reduced_motion(board, browser):
    board.post("calm")
    durations = [
        browser.open(board, reduced_motion=motion).evaluate("getComputedStyle(document.querySelector('li')).transitionDuration")
        for motion in ("no-preference", "reduce")
    ]
    assert durations[0] != "0s" and durations[1] == "0s", durations


def the_keyboard_reaches_everything_in_order_and_shows_where_it_is(board, browser):
    board.post_many(60)
    board.post("https://a.example/\n" * 20)
    page = browser.open(board)
    log_in(page)
    page.reload()
    page.wait_for_selector(".tools")
    order = []
    while True:
        page.keyboard.press("Tab")
        name, outline = page.evaluate("""() => {
            const element = document.activeElement, style = getComputedStyle(element);
            return [element.textContent.trim() || element.id, element === document.body || style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2];
        }""")
        if name == "Stop moderating":
            break
        assert outline, f"{name} does not show the focus"
        order.append(name)
    assert order[:4] == ["Messages", "text", "Send", "Show all"], order[:4]
    assert order[4].startswith("https://") and order[24:27] == ["just now", "Edit", "Delete"] and order[-1] == "Older", order[20:30]
    page.keyboard.press("Enter")
    assert page.locator(".tools").count() == 0


def everything_works_with_the_keyboard_alone(board, browser):
    identity = board.post("by keyboard")
    page = browser.open(board, init=HURRY)
    page.focus("#moderate")
    page.keyboard.press("Enter")
    page.wait_for_selector("dialog input:focus")
    page.keyboard.press("Escape")
    page.wait_for_selector("dialog", state="detached")
    assert page.evaluate("document.activeElement.id") == "moderate" and page.locator(".tools").count() == 0
    log_in(page)
    page.focus(f"#m{identity} button:text-is('Edit')")
    page.keyboard.press("Enter")
    page.wait_for_selector("li textarea:focus")
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.textContent") == "Edit"
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    page.wait_for_selector(f"#m{identity}", state="detached")


def states(board, browser):
    """Each page and each state of a page, with its name."""
    yield "empty board", browser.open(board)
    long = board.post("https://a.example is a link\n" * 30)
    board.post_many(60)
    page = browser.open_live(board)
    yield "newest page", page
    send(page, "x" * 2001)
    problem(page)
    yield "error at the form", page
    page.fill("#text", "")
    scroll_down(page)
    board.post("new")
    page.wait_for_selector("#bar:text-is('1 new message')")
    yield "new messages wait", page
    yield "older page", browser.open(board, f"?before={long + 5}")
    yield "page after the last", browser.open(board, "?before=1")
    yield "one message", browser.open(board, f"messages/{long}")
    browser.expects_errors = True
    yield "no such page", browser.open(board, "nothing-here")
    page = browser.open(board, java_script_enabled=False)
    send(page, "x" * 2001)
    page.wait_for_url("**/submit")
    # Without JavaScript, axe cannot run: the same page, with it.
    html = page.content()
    page = browser.open(board, "submit-again")
    page.route("**/submit-again", lambda route: route.fulfill(body=html, content_type="text/html"))
    page.reload()
    yield "error without JavaScript", page
    page = browser.open(board, f"?before={long + 5}", init=HURRY)
    page.click("#moderate")
    page.wait_for_selector("dialog")
    yield "asks for the password", page
    page.fill("dialog input", "a wrong password")
    page.keyboard.press("Enter")
    page.click(".tools >> nth=0 >> text=Delete")
    page.wait_for_selector("dialog:has-text('That is not')")
    yield "wrong password", page
    page.click("dialog button:text-is('Cancel')")
    page.wait_for_selector("li [role=alert]")
    yield "refused change", page
    page = browser.open(board, f"?before={long + 5}", init=REST)
    log_in(page)
    yield "moderated page", page
    page.click("li >> nth=0 >> button:text-is('Edit')")
    page.wait_for_selector("li textarea")
    yield "editor", page
    page.click("li button:text-is('Save')")
    page.wait_for_selector(".note")
    page.click("li >> nth=1 >> button:text-is('Delete')")
    page.wait_for_selector(".gone .note")
    yield "saved and deleted, with undo", page
    page.click(".gone .note button")


def axe_finds_nothing_on_any_page_and_in_any_state(board, browser):
    from axe_playwright_python.sync_playwright import Axe

    axe, number = Axe(), 0
    for name, page in states(board, browser):
        for media in [{"color_scheme": "light"}, {"color_scheme": "dark"}, {"forced_colors": "active"}]:
            page.emulate_media(**media)
            page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
            results = axe.run(page)
            assert results.violations_count == 0, f"{name}, {media}: {results.generate_report()}"
        number += 1
    print(f"axe: no violation in {number} states, each in light, dark and forced colours")


def take_pictures(board, browser, folder):
    folder.mkdir(parents=True, exist_ok=True)
    fair = Board(board.folder, PAGE_TITLE="Class of 2026", PAGE_INTRO="Questions, plans and news of our class.")
    for text, minutes in [
        ("Hello! This board is open now.", 3000),
        ("The book is at https://doc.rust-lang.org/book/, start with chapter 4.\n\nBring questions to the meeting.", 190),
        ("שלום לכולם! מתי נפגשים?", 45),
        ("Deploying on Friday?\nWhat could go wrong?", 4),
    ]:
        fair.sql(f"INSERT INTO messages (message, created_at) VALUES ('{text}', UTC_TIMESTAMP(6) - INTERVAL {minutes} MINUTE)")
    for name, width, scheme in [("light", 720, "light"), ("dark", 720, "dark"), ("phone", 360, "light")]:
        page = browser.open(fair, viewport={"width": width, "height": 640}, color_scheme=scheme, device_scale_factor=2)
        page.screenshot(path=str(folder / f"{name}.png"), full_page=True)
    fair.stop()
