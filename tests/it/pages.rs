//! The pages that a browser without a script shows.

use crate::support::client::request;
use crate::support::{Answer, Board, Connection};

const HTML: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

fn page(board: &Board, path: &str) -> Answer {
    board.service.ask("GET", path, &[HTML], b"")
}

/// The number of the first and of the last message of a page, and how many there are. Message 7 has the text `number 7.`
fn span(page: &str) -> Option<(u64, u64, usize)> {
    let numbers: Vec<u64> =
        page.split("number ").skip(1).map(|rest| rest.split('.').next().unwrap().parse().unwrap()).collect();
    assert!(numbers.is_sorted_by(|a, b| a > b), "newest first: {numbers:?}");
    Some((*numbers.first()?, *numbers.last()?, numbers.len()))
}

/// Where a link of the page leads.
fn link(page: &str, words: &str) -> Option<String> {
    let before = page.split_once(&format!(">{words}</a>"))?.0;
    let target = before.rsplit_once("href=\"")?.1.split('"').next()?;
    Some(target.strip_prefix('.').expect("a relative link").to_owned())
}

#[test]
fn a_message_is_a_page_for_browsers_and_json_for_programs() {
    let board = Board::start();
    let id = board.submit("Tom & Jerry <3").id();
    let path = format!("/messages/{id}");
    let json = board.get(&path);
    assert_eq!((json.status, json.json()["message"].as_str()), (200, Some("Tom & Jerry <3")));
    let html = page(&board, &path);
    assert_eq!(html.status, 200);
    for part in [
        "<title>Tom &amp; Jerry &lt;3 · Messages</title>",
        &format!("<li id=\"m{id}\"><p dir=\"auto\">Tom &amp; Jerry &lt;3</p><a href=\"../messages/{id}\">"),
        "<a href=\"../\">All messages</a>",
        "href=\"../assets/style-",
    ] {
        assert!(html.text().contains(part), "{part} in {}", html.text());
    }
    assert!(html.header("Content-Security-Policy").is_some_and(|policy| policy.contains("default-src 'none'")));
    for answer in [&json, &html] {
        assert_eq!((answer.header("Vary"), answer.header("Cache-Control")), (Some("Accept"), Some("no-cache")));
    }
    let by_quality = |accept: &str| {
        let answer = board.service.ask("GET", &path, &[("Accept", accept)], b"");
        answer.header("Content-Type").unwrap().to_owned()
    };
    assert_eq!(by_quality("text/html;q=0.5, application/json"), "application/json");
    assert_eq!(by_quality("text/html, application/json;q=0.5"), "text/html; charset=utf-8");
    let mut connection = Connection::open(board.service.address);
    connection.send(request("HEAD", &path, &[HTML], b""));
    let head = connection.try_answer(true).unwrap();
    assert_eq!((head.status, head.header("Content-Length")), (200, html.header("Content-Length")));
}

#[test]
fn a_shared_link_to_a_message_may_have_gained_parameters() {
    let board = Board::start();
    let path = format!("/messages/{}?utm_source=mail", board.submit("x").id());
    assert_eq!(page(&board, &path).status, 200);
    assert_eq!(board.get(&path).code(), "invalid_parameter", "a program made a mistake");
}

#[test]
fn the_page_of_a_missing_message_says_that_it_may_have_been_deleted() {
    let board = Board::start();
    let missing = page(&board, "/messages/99");
    assert_eq!((missing.status, missing.header("Vary")), (404, Some("Accept")));
    assert!(missing.text().contains("It may have been deleted."), "{}", missing.text());
    assert!(missing.text().contains("<a href=\"../\">All messages</a>"), "{}", missing.text());
}

#[test]
fn every_card_links_to_the_page_of_its_message() {
    let board = Board::start();
    let long = (1..=40).map(|line| format!("line {line}")).collect::<Vec<_>>().join("\n");
    let ids = [board.submit(&long).id(), board.submit("short").id()];
    board.schema.run("INSERT INTO messages (message, created_at) VALUES ('old', NULL)");
    let list = board.get("/");
    for id in ids {
        let card = list.text().split_once(&format!("<li id=\"m{id}\">")).unwrap().1.split("</li>").next().unwrap();
        assert!(card.contains(&format!("</p><a href=\"./messages/{id}\"><time datetime=\"")), "{card}");
        assert_eq!(card.contains("<details><summary>Show all</summary></details>"), id == ids[0], "{card}");
    }
    assert!(list.text().contains(">Permalink</a></li>"), "a row without a time");
    let alone = page(&board, &format!("/messages/{}", ids[0]));
    assert!(alone.text().contains("line 40</p>") && !alone.text().contains("<details>"), "{}", alone.text());
}

#[test]
fn pages_lead_in_both_directions_and_end() {
    let board = Board::start();
    board.schema.run("INSERT INTO messages (message) SELECT CONCAT('number ', seq, '.') FROM seq_1_to_120");
    let open = |path: &str| {
        let page = page(&board, path);
        assert_eq!(page.status, 200, "{path}");
        page.text().to_owned()
    };
    let newest = open("/");
    assert_eq!(span(&newest), Some((120, 71, 50)));
    assert_eq!((link(&newest, "Newer"), link(&newest, "Newest")), (None, None));
    assert!(!newest.contains("Pages, top") && !newest.contains("noindex"));
    let second = open(&link(&newest, "Older").unwrap());
    assert_eq!(span(&second), Some((70, 21, 50)));
    let last = open(&link(&second, "Older").unwrap());
    assert_eq!((span(&last), link(&last, "Older")), (Some((20, 1, 20)), None));
    assert!(last.contains("<span>No older messages</span>") && !second.contains("No older messages"));
    let back = open(&link(&last, "Newer").unwrap());
    assert_eq!(span(&back), Some((70, 21, 50)));
    let top = open(&link(&back, "Newer").unwrap());
    assert_eq!((span(&top), link(&top, "Newer")), (Some((120, 71, 50)), None));
    for page in [&second, &last, &back, &top] {
        assert!(page.contains("<nav aria-label=\"Pages, top\">") && page.contains("<nav aria-label=\"Pages\">"));
        assert!(page.contains("content=\"noindex\"") && page.contains("<title>Older messages · Messages</title>"));
        assert_eq!(link(page, "Newest").as_deref(), Some("/"));
    }
    let oldest = open("/?after=0");
    assert_eq!((span(&oldest), link(&oldest, "Older")), (Some((50, 1, 50)), None), "right after the id");
    assert_eq!(span(&open("/?after=118&utm_source=x")), Some((120, 119, 2)));
    for (path, words) in [("/?after=120", "No newer messages."), ("/?before=1", "No older messages.")] {
        let empty = open(path);
        assert_eq!((span(&empty), link(&empty, "Newest").as_deref()), (None, Some("/")));
        assert!(empty.contains(words), "{empty}");
    }
    let both = page(&board, "/?before=9&after=1");
    assert_eq!(both.status, 400);
    assert!(both.text().starts_with("<!doctype html>"), "{}", both.text());
}

#[test]
fn an_empty_board_invites_to_write() {
    let board = Board::start();
    let page = page(&board, "/");
    assert!(page.text().contains("<p id=\"empty\">No messages yet. Write the first one.</p>"), "{}", page.text());
    assert!(!page.text().contains("<nav") && !page.text().contains("No older"), "{}", page.text());
}

#[test]
fn introduction_footer_and_feed_are_there_when_they_are_set() {
    let plain = Board::start();
    let page = plain.get("/");
    for absent in ["<footer", "class=\"intro\"", "feed.atom", "Served by", "id=\"moderate\""] {
        assert!(!page.text().contains(absent), "{absent} in {}", page.text());
    }
    let board = Board::with(&[
        ("PAGE_TITLE", "Class"),
        ("PAGE_INTRO", "For <all> of us."),
        ("PAGE_FOOTER", "on"),
        ("ADMIN_TOKEN", "token-of-an-admin"),
        ("PUBLIC_URL", "https://board.example.org/"),
    ]);
    let page = board.get("/");
    let served = format!("Served by {} · twotier ", page.header("X-Served-By").unwrap());
    for part in [
        "</h1><p class=\"intro\" dir=\"auto\">For &lt;all&gt; of us.</p>",
        "<meta name=\"description\" content=\"For &lt;all&gt; of us.\">",
        "<meta property=\"og:title\" content=\"Class\">",
        "<link rel=\"alternate\" type=\"application/atom+xml\" href=\"./feed.atom\">",
        "<button type=\"button\" id=\"moderate\" hidden>Moderate</button></footer>",
        &served,
    ] {
        assert!(page.text().contains(part), "{part} in {}", page.text());
    }
}

#[test]
fn crawlers_may_read_messages_and_nothing_else() {
    let board = Board::start();
    let robots = board.get("/robots.txt");
    assert_eq!((robots.status, robots.header("Content-Type")), (200, Some("text/plain; charset=utf-8")));
    let refused: Vec<&str> = robots.text().lines().filter_map(|line| line.strip_prefix("Disallow: ")).collect();
    assert_eq!(refused, ["/submit", "/events", "/metrics"]);
    assert!(robots.text().contains("User-agent: *\n"));
    assert_eq!(board.service.ask("POST", "/robots.txt", &[], b"").status, 405);
}

#[test]
fn a_page_without_messages_weighs_less_than_16_kb_with_all_that_it_loads() {
    let board = Board::start();
    let page = board.get("/");
    let assets = page.text().split('"').filter_map(|part| part.strip_prefix('.'));
    let assets: Vec<&str> = assets.filter(|path| path.ends_with(".css") || path.ends_with(".js")).collect();
    assert_eq!(assets.len(), 2, "{assets:?}");
    let weight = page.body.len() + assets.iter().map(|path| board.get(path).body.len()).sum::<usize>();
    assert!(weight < 16 * 1024, "{weight} bytes");
}
