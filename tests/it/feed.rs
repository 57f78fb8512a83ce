//! The Atom feed, read by a parser of XML.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

use crate::support::{Answer, Board, Service};

const ATOM: &str = "http://www.w3.org/2005/Atom";
const SETTINGS: [(&str, &str); 3] = [
    ("PUBLIC_URL", "https://board.example/a&b/, https://second.example"),
    ("PAGE_TITLE", "<Messages> & \"more\""),
    ("ADMIN_TOKEN", "0123456789abcdef"),
];
const AUTHORIZATION: (&str, &str) = ("Authorization", "Bearer 0123456789abcdef");

/// The text of the only child with this name.
#[track_caller]
fn text<'a>(node: Node<'a, '_>, name: &str) -> &'a str {
    let children: Vec<Node> = node.children().filter(|child| child.has_tag_name((ATOM, name))).collect();
    assert_eq!(children.len(), 1, "{name} in {node:?}");
    children[0].text().unwrap_or_default()
}

/// The address of the only link with this relation.
#[track_caller]
fn link<'a>(node: Node<'a, '_>, relation: &str) -> &'a str {
    let is_link = |child: &Node| child.has_tag_name((ATOM, "link")) && child.attribute("rel") == Some(relation);
    let links: Vec<Node> = node.children().filter(is_link).collect();
    assert_eq!(links.len(), 1, "{relation} in {node:?}");
    links[0].attribute("href").expect("an address")
}

fn entries<'a, 'input>(document: &'a Document<'input>) -> Vec<Node<'a, 'input>> {
    document.root_element().children().filter(|child| child.has_tag_name((ATOM, "entry"))).collect()
}

/// The id and the content of each entry.
fn messages(feed: &Answer) -> Vec<(String, String)> {
    let document = Document::parse(feed.text()).unwrap_or_else(|error| panic!("{error}: {}", feed.text()));
    let of = |entry: Node| (text(entry, "id").to_owned(), text(entry, "content").to_owned());
    entries(&document).into_iter().map(of).collect()
}

#[test]
fn the_feed_has_what_atom_requires_and_the_newest_messages() {
    let board = Board::with(&SETTINGS);
    board.schema.run("INSERT INTO messages (message) SELECT CONCAT('m', seq) FROM seq_1_to_60");
    let answer = board.get("/feed.atom?utm_source=shared");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("Content-Type"), Some("application/atom+xml; charset=utf-8"));
    let document = Document::parse(answer.text()).expect("XML");
    let feed = document.root_element();
    assert!(feed.has_tag_name((ATOM, "feed")));
    assert_eq!(text(feed, "title"), "<Messages> & \"more\"");
    let author = feed.children().find(|child| child.has_tag_name((ATOM, "author"))).expect("an author");
    assert_eq!(text(author, "name"), "<Messages> & \"more\"");
    assert_eq!(text(feed, "id"), "https://board.example/a&b/");
    assert_eq!(link(feed, "self"), "https://board.example/a&b/feed.atom");
    assert_eq!(link(feed, "alternate"), "https://board.example/a&b/");
    let entries = entries(&document);
    let mut ids = BTreeSet::new();
    for (entry, number) in entries.iter().zip((11..=60).rev()) {
        let json = board.get(&format!("/messages/{number}")).json();
        assert_eq!(text(*entry, "id"), format!("https://board.example/a&b/messages/{number}"));
        assert_eq!(link(*entry, "alternate"), text(*entry, "id"));
        let message = format!("m{number}");
        assert_eq!([text(*entry, "title"), text(*entry, "content")], [message.as_str(); 2]);
        for time in ["updated", "published"] {
            assert_eq!(text(*entry, time), json["created_at"]);
        }
        assert!(ids.insert(text(*entry, "id").to_owned()), "an id is there twice");
    }
    assert_eq!(ids.len(), 50);
    assert_eq!(text(feed, "updated"), entries.iter().map(|entry| text(*entry, "updated")).max().unwrap());
}

#[test]
fn hostile_texts_arrive_as_they_are_and_what_xml_forbids_is_replaced() {
    let board = Board::with(&SETTINGS);
    for sent in [
        "<script>alert(1)</script>",
        "]]></content></entry></feed><!-- & &amp; &#x0; <?xml?> <![CDATA[",
        "line one\n\n\tline two\u{a0}\u{2028}",
        "😀\u{202e}abc\u{200d}\u{e0001}x\u{10ffff}",
        "{{text}} {{entries}}",
    ] {
        let id = board.submit(sent).id();
        let stored = board.get(&format!("/messages/{id}")).json()["message"].as_str().unwrap().to_owned();
        assert_eq!(messages(&board.get("/feed.atom"))[0].1, stored);
    }
    board.schema.run(
        "INSERT INTO messages (message) VALUES (CONCAT('a', CHAR(0, 8, 11, 12, 27, 31), 'b', X'EFBFBEEFBFBF', 'c'))",
    );
    assert_eq!(messages(&board.get("/feed.atom"))[0].1, format!("a{}b\u{fffd}\u{fffd}c", "\u{fffd}".repeat(6)));
    board.schema.run("INSERT INTO messages (message, created_at) VALUES ('', NULL)");
    let answer = board.get("/feed.atom");
    let document = Document::parse(answer.text()).expect("XML");
    let old = entries(&document)[0];
    assert_eq!([text(old, "content"), text(old, "updated")], ["", "1970-01-01T00:00:00Z"]);
    assert!(text(old, "title").starts_with("Message "));
    assert!(!old.children().any(|child| child.has_tag_name((ATOM, "published"))));
}

#[test]
fn ids_are_stable_and_the_feed_follows_an_edit_and_a_deletion() {
    let board = Board::with(&SETTINGS);
    let (first, second) = (board.submit("first").id(), board.submit("second").id());
    let before = board.get("/feed.atom");
    let replica = Service::start(&board.schema, &SETTINGS);
    replica.wait_until_ready();
    assert_eq!(replica.get("/feed.atom").body, before.body, "another process writes the same feed");
    let held = [("If-None-Match", before.header("ETag").expect("a tag"))];
    assert_eq!(replica.ask("GET", "/feed.atom", &held, b"").status, 304);
    assert_eq!(board.service.json("PUT", &format!("/messages/{first}"), &[AUTHORIZATION], "edited").status, 200);
    let after = board.service.ask("GET", "/feed.atom", &held, b"");
    let ids = |feed: &Answer| messages(feed).into_iter().map(|(id, _)| id).collect::<Vec<_>>();
    assert_eq!((after.status, ids(&after)), (200, ids(&before)));
    let edited_at = board.get(&format!("/messages/{first}")).json()["edited_at"].as_str().unwrap().to_owned();
    let document = Document::parse(after.text()).expect("XML");
    assert_eq!(text(entries(&document)[1], "updated"), edited_at);
    assert_eq!(text(document.root_element(), "updated"), edited_at, "the newest change is not of the newest message");
    assert_eq!(board.service.ask("DELETE", &format!("/messages/{second}"), &[AUTHORIZATION], b"").status, 204);
    assert_eq!(ids(&board.get("/feed.atom")), ids(&before)[1..]);
}

#[test]
fn an_empty_board_has_an_empty_feed() {
    let board = Board::with(&SETTINGS);
    let answer = board.get("/feed.atom");
    assert_eq!(messages(&answer), []);
    let document = Document::parse(answer.text()).expect("XML");
    assert_eq!(text(document.root_element(), "updated"), "1970-01-01T00:00:00Z");
}

#[test]
fn without_an_address_there_is_no_feed_and_the_answer_says_what_turns_it_on() {
    let board = Board::start();
    let answer = board.get("/feed.atom");
    assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"));
    assert!(answer.json()["detail"].as_str().unwrap().contains("PUBLIC_URL"), "{}", answer.text());
    assert_eq!(board.service.ask("POST", "/feed.atom", &[], b"").header("Allow"), Some("GET, HEAD, OPTIONS"));
}
