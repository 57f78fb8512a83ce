//! Properties of everything that reads foreign text, on random texts: messages, keys, settings, queries, HTML and SQL.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::json;
use twotier::board::body;
use twotier::board::input::{self, MAX_LIMIT, Start};
use twotier::board::submit::Endpoint;
use twotier::config::{Config, Environment, SETTINGS};
use twotier::http::Request;
use twotier::http::head::Head;
use twotier::idempotency_key::{IdempotencyKey, MAX_KEY};
use twotier::message::{InvalidMessage, Message, NewMessage};
use twotier::page::{Depth, FormValues, PageSettings, Pages, Part, Position};

use crate::support::Board;
use crate::support::client::request;

const MAX_CHARS: usize = 50;

/// Random cases of each property; nothing is written beside the sources.
fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) }
}

/// Any text, often with characters that have a meaning in HTML, SQL or HTTP.
fn text() -> impl Strategy<Value = String> {
    let special = "[<>&\"'`\\\\%_;#{}\\-/*?\r\n\t \u{a0}\u{2028}\u{feff}\u{202e}\u{fffd}]";
    let piece = prop_oneof![
        3 => special,
        3 => "\\PC{0,4}",
        1 => any::<char>().prop_map(String::from),
        1 => prop::sample::select(vec!["\r\n", "{{key}}", "</p>", "<script>", "&amp;", "\\'", "--", "😀", "e\u{301}", "\0"])
            .prop_map(str::to_owned),
    ];
    prop::collection::vec(piece, 0..24).prop_map(|pieces| pieces.concat())
}

fn message(id: u64, text: &str) -> Message {
    Message { id, text: text.to_owned(), created_at: None, edited_at: None }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn what_is_a_message_is_one_again_and_keeps_its_limits(raw in text(), space in "[ \t\r\n\u{3000}]{0,3}") {
        match NewMessage::parse(&raw, MAX_CHARS) {
            Ok(message) => {
                let text = message.as_str();
                prop_assert!((1..=MAX_CHARS).contains(&text.chars().count()));
                prop_assert_eq!(text.trim(), text);
                prop_assert!(!text.chars().any(|c| c.is_control() && !"\n\t".contains(c)));
                prop_assert!(raw.replace("\r\n", "\n").contains(text), "nothing is changed inside");
                let again = NewMessage::parse(&format!("{space}\n{text}\n{space}"), MAX_CHARS);
                prop_assert_eq!(again, Ok(message));
            }
            Err(InvalidMessage::Empty) => prop_assert!(!raw.chars().any(|c| c.is_alphanumeric() || c.is_ascii_graphic())),
            Err(InvalidMessage::TooLong { length, limit }) => {
                prop_assert!(limit == MAX_CHARS && length > MAX_CHARS && length <= raw.chars().count());
            }
            Err(InvalidMessage::ControlCharacter) => {
                prop_assert!(raw.chars().any(|c| c.is_control() && !"\n\t".contains(c)));
            }
        }
    }

    #[test]
    fn different_keys_are_stored_differently(a in "[!-~]{1,64}", b in "[!-~]{1,64}", foreign in text()) {
        let key = |text: &str| IdempotencyKey::parse(text).unwrap();
        prop_assert_eq!(key(&a), key(&a));
        prop_assert_eq!(key(&a) == key(&b), a == b);
        let other_case: String = a.chars().map(|c| if c.is_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }).collect();
        prop_assert_eq!(key(&a) == key(&other_case), a == other_case);
        let well_formed = (1..=MAX_KEY).contains(&foreign.len()) && foreign.bytes().all(|b| (0x21..=0x7e).contains(&b));
        prop_assert_eq!(IdempotencyKey::parse(&foreign).is_some(), well_formed);
        let too_long = a + &"x".repeat(MAX_KEY);
        prop_assert_eq!(IdempotencyKey::parse(&too_long), None);
    }

    #[test]
    fn a_uuid_is_its_own_key_in_one_way_of_writing_it(bytes in any::<[u8; 16]>()) {
        let uuid = uuid::Uuid::from_bytes(bytes);
        let text = uuid.hyphenated().to_string();
        let stored = IdempotencyKey::parse(&text).unwrap();
        prop_assert_eq!(stored.as_bytes(), &bytes);
        for other in [uuid.simple().to_string(), uuid.braced().to_string(), uuid.urn().to_string()] {
            prop_assert_ne!(IdempotencyKey::parse(&other).unwrap(), stored);
        }
    }

    #[test]
    fn a_setting_is_taken_exactly_or_refused_by_name(index in 0..SETTINGS.len(), value in text()) {
        let setting = &SETTINGS[index];
        let variables = [("MYSQL_USER", "u"), ("MYSQL_DB", "d"), (setting.name, &*value)];
        let environment = Environment::of(variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).into())).collect());
        match Config::read(&environment) {
            Err(wrong) => {
                let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                // DATABASE_URL can't be combined with the two that are set beside it.
                let conflict = |said: &String| setting.name == "DATABASE_URL" && said.contains("cannot be combined with DATABASE_URL");
                prop_assert!(said.iter().all(|said| said.starts_with(setting.name) || conflict(said)), "{said:?}");
                let secret = setting.secret && value.chars().count() > 12;
                prop_assert!(!secret || !said.iter().any(|said| said.contains(&value)), "{said:?}");
            }
            Ok(_) if value.is_empty() => {}
            Ok(config) => match setting.name {
                "MYSQL_USER" => prop_assert_eq!(config.account.user, value),
                "MYSQL_DB" | "MYSQL_DATABASE" => prop_assert_eq!(config.account.database, value),
                "MYSQL_PASSWORD" => prop_assert_eq!(config.account.password, Some(value)),
                "ADMIN_TOKEN" => prop_assert_eq!(config.admin_token, Some(value)),
                "PAGE_TITLE" => prop_assert_eq!(config.page_title, value),
                "PAGE_INTRO" => prop_assert_eq!(config.page_intro, Some(value)),
                // All others are words, numbers, addresses and paths.
                _ => prop_assert!(!value.contains(char::is_control), "{}={value:?}", setting.name),
            },
        }
    }

    #[test]
    fn a_multipart_body_gives_back_what_was_put_into_it(text in text(), junk in text()) {
        let part = |name: &str, value: &str| {
            format!("--the-boundary\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
        };
        let read = |body: String| {
            let content_type = "Content-Type: multipart/form-data; boundary=the-boundary";
            let head = format!("POST / HTTP/1.1\r\nHost: a\r\n{content_type}\r\n\r\n");
            let head = Head::parse(head.into_bytes()).unwrap();
            let request = Request { head, body: body.into_bytes(), peer: IpAddr::V4(Ipv4Addr::LOCALHOST) };
            body::submitted(&request, Endpoint::Form)
        };
        let submitted = read(part("other", &junk) + &part("new_message", &text) + "--the-boundary--\r\n");
        prop_assert_eq!(submitted.map(|submitted| submitted.text), Ok(text.clone()));
        // Whatever is malformed is an error and no panic.
        prop_assert!(read(junk + &part("new_message", &text)).is_err(), "the end is missing");
    }

    #[test]
    fn numbers_and_durations_are_what_they_say(number in any::<u32>(), millis in 0u64..8_000_000) {
        let read = |name: &str, value: String| {
            let variables = [("MYSQL_USER", "u".to_owned()), ("MYSQL_DB", "d".to_owned()), (name, value)];
            Config::read(&Environment::of(variables.into_iter().map(|(n, v)| (n.to_owned(), v.into())).collect())).ok()
        };
        let port = read("PORT", number.to_string()).map(|config| config.port);
        prop_assert_eq!(port, u16::try_from(number).ok());
        let timeout = read("DB_TIMEOUT", format!("{millis}ms")).map(|config| config.db_timeout);
        prop_assert_eq!(timeout, Some(Duration::from_millis(millis)).filter(|_| (100..=3_600_000).contains(&millis)));
        let list = read("MYSQL_HOST", format!("a:{number},b")).map(|config| config.hosts[0].port);
        prop_assert_eq!(list, u16::try_from(number).ok().filter(|port| *port > 0));
    }

    #[test]
    fn a_window_says_what_the_query_says(id in any::<u64>(), limit in 0usize..400, other in "[a-z%0-9+]{0,9}", query in text()) {
        let asked = input::window(&format!("limit={limit}&before={id}"));
        match asked {
            Ok(window) => prop_assert_eq!((window.start, window.limit), (Start::Before(id), limit)),
            Err(_) => prop_assert!(!(1..=MAX_LIMIT).contains(&limit)),
        }
        let both = format!("before={id}&after={id}");
        prop_assert!(input::window(&both).is_err());
        let digits = !other.is_empty() && other.bytes().all(|b| b.is_ascii_digit());
        // Percent-encoded digits are digits.
        let after = format!("after={other}");
        prop_assert!(other.contains('%') || input::window(&after).is_ok() == digits, "{after}");
        if let Ok(window) = input::window(&query) {
            prop_assert!((1..=MAX_LIMIT).contains(&window.limit));
        }
    }

    #[test]
    fn text_never_becomes_markup(text in text()) {
        // A page with this text has as much markup as one with a plain word, wherever the text stands.
        let render = |text: &str| {
            let pages = Pages::new(PageSettings {
                title: text,
                intro: Some(text),
                host: Some(text),
                max_chars: 2000,
                can_moderate: true,
                has_feed: true,
            });
            let position = Position { part: Part::Before, has_newer: true, has_older: true };
            let board = pages.board(&[message(1, text), message(2, text)], position);
            let board = [board.before.as_slice(), b"KEY", board.after.as_slice()].concat();
            let returned = pages.returned_form(&FormValues { text, key: text, problem: text });
            let alone = pages.message(&message(1, text), Depth::ROOT);
            [String::from_utf8(board).unwrap(), alone, returned, pages.error(text, text, Depth::ROOT)]
        };
        for (page, plain) in render(&text).iter().zip(render("word")) {
            for mark in ['<', '>', '"', '\''] {
                prop_assert_eq!(page.matches(mark).count(), plain.matches(mark).count(), "{} in {}", mark, page);
            }
            let decoded = ["&lt;", "&gt;", "&quot;", "&#39;", "&amp;"].iter().zip(["<", ">", "\"", "'", "&"]).fold(
                page.clone(),
                |page, (entity, character)| page.replace(entity, character),
            );
            prop_assert!(decoded.contains(&text), "{} is not in {}", text, page);
        }
    }
}

#[test]
fn every_message_comes_back_from_the_database_as_it_went_in() {
    let board = Board::start();
    let mut connection = board.service.connect();
    let mut runner = TestRunner::new(ProptestConfig { cases: 200, ..config() });
    let json_type = ("Content-Type", "application/json");
    let stored = std::cell::RefCell::new(Vec::new());
    let connection = std::cell::RefCell::new(&mut connection);
    let round_trip = |raw: String| {
        let mut connection = connection.borrow_mut();
        connection.send(request("POST", "/messages", &[json_type], json!({ "message": raw }).to_string().as_bytes()));
        let answer = connection.answer();
        match NewMessage::parse(&raw, 2000) {
            Ok(message) => {
                let created = answer.json();
                prop_assert_eq!((answer.status, created["message"].as_str()), (201, Some(message.as_str())));
                let path = format!("/messages/{}", answer.id());
                connection.send(request("GET", &path, &[], b""));
                let shown = connection.answer().json();
                prop_assert_eq!(shown["message"].as_str(), Some(message.as_str()));
                stored.borrow_mut().push(message.as_str().to_owned());
            }
            Err(_) => prop_assert_eq!(answer.status, 400),
        }
        Ok(())
    };
    runner.run(&text(), round_trip).unwrap();
    let rows: Vec<String> = board.schema.rows("SELECT message FROM messages ORDER BY id");
    assert!(rows.len() > 50, "{} messages", rows.len());
    assert_eq!(rows, stored.into_inner());
}
