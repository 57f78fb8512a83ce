//! Statements whose reply is lost: the outcome is unknown, and must be known before the client gets a response.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::support::client::request;
use crate::support::proxy::EXECUTE;
use crate::support::{Answer, Connection, Database, Proxy, Schema, Service, Signal, Trap, eventually};

/// A service that reaches its database through a proxy.
struct Far {
    service: Service,
    proxy: Proxy,
    schema: Schema,
}

impl Far {
    fn start(settings: &[(&str, &str)]) -> Far {
        let schema = Database::shared().schema();
        let proxy = Proxy::start(&schema.database);
        let port = proxy.port().to_string();
        let service = Service::start(&schema, &[&[("MYSQL_PORT", port.as_str())], settings].concat());
        service.wait_until_ready();
        Far { service, proxy, schema }
    }

    /// Keeps a queue busy with `first`, whose statement contains `statement`, until `others` are queued after it. Then does
    /// `then` and releases the reply to the first. QUEUE_REQUESTS must be one less than the number of the others: one of
    /// them is refused, which proves that all the rest are queued. Returns the connections of the others.
    fn queue(&self, first: &[u8], statement: &str, others: &[Vec<u8>], then: impl FnOnce()) -> Vec<Connection> {
        // Two batches, as a queue has two leaders at most.
        let mut leaders = [self.service.connect(), self.service.connect()];
        for (number, leader) in leaders.iter_mut().enumerate() {
            self.proxy.arm(statement, Trap::HoldAnswer);
            leader.send(first);
            eventually("the leader is busy", || self.proxy.caught().len() > number);
        }
        let mut connections: Vec<Connection> = others.iter().map(|_| self.service.connect()).collect();
        connections.iter_mut().zip(others).for_each(|(connection, request)| connection.send(request));
        eventually("the queue is full", || connections.iter().any(Connection::has_answer));
        then();
        self.proxy.release();
        leaders.iter_mut().for_each(|leader| assert!(matches!(leader.answer().status, 200 | 201)));
        connections
    }
}

/// A text in the form that it has in the statement that stores it.
fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn keyed(service: &Service, text: &str, key: &str) -> Answer {
    service.json("POST", "/messages", &[("Idempotency-Key", key)], text)
}

/// Repeats the request until the status is no longer 503.
fn acknowledged(service: &Service, text: &str, key: &str) -> Answer {
    let mut answer = keyed(service, text, key);
    eventually("the service is back", || {
        if answer.status == 503 {
            answer = keyed(service, text, key);
        }
        answer.status != 503
    });
    answer
}

fn create(text: &str, key: Option<&str>) -> Vec<u8> {
    let body = serde_json::json!({ "message": text }).to_string();
    let key = key.map(|key| ("Idempotency-Key", key));
    request("POST", "/messages", &[&[("Content-Type", "application/json")], key.as_slice()].concat(), body.as_bytes())
}

fn submit(text: &str) -> Vec<u8> {
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    request("POST", "/submit", &[form], format!("new_message={text}").as_bytes())
}

#[test]
fn a_batch_is_stored_once_and_each_request_gets_the_id_of_its_row_whichever_part_is_lost() {
    // MariaDB's INSERT can return its rows, MySQL's can't.
    for (trap, disguised) in [Trap::Lose, Trap::LoseAnswer].into_iter().flat_map(|trap| [(trap, false), (trap, true)]) {
        let far = Far::start(&[("QUEUE_REQUESTS", "24")]);
        if disguised {
            far.proxy.disguise();
            // The version is read once for each connection.
            far.proxy.close();
            far.proxy.open();
            eventually("the service is back", || far.service.submit("back", &[]).status == 200);
            far.schema.run("DELETE FROM messages");
        }
        let old = keyed(&far.service, "an old one", "old").id();
        let mut others: Vec<Vec<u8>> = (0..10).map(|n| create(&format!("message-{n}"), None)).collect();
        others.extend((10..20).map(|n| submit(&format!("message-{n}"))));
        // Two of each, because one of all requests is refused.
        others.extend([create("a shared one", Some("shared")), create("a shared one", Some("shared"))]);
        others.extend([create("an old one", Some("old")), create("an old one", Some("old"))]);
        others.push(create("another text", Some("old")));
        let arm = || far.proxy.arm("INSERT IGNORE", trap);
        let mut connections = far.queue(&create("the first", None), &hex("the first"), &others, arm);
        let answers: Vec<Answer> = connections.iter_mut().map(Connection::answer).collect();
        let batch = far.proxy.caught().pop().unwrap();
        assert!(batch.matches(&hex("message-")).count() >= 19, "one batch: {batch}");
        assert_eq!(batch.contains(" RETURNING "), !disguised, "{batch}");

        let rows: Vec<(u64, String)> = far.schema.rows("SELECT id, message FROM messages WHERE message <> 'the first'");
        let mut answered = HashSet::from([old]);
        let mut refused = 0;
        for (sent, answer) in others.into_iter().zip(answers) {
            let sent = String::from_utf8(sent).unwrap();
            match answer.status {
                503 => {
                    assert_eq!(answer.code(), "overloaded", "{trap:?}");
                    refused += 1;
                }
                422 => assert!(sent.contains("another text") || sent.contains("an old one"), "{trap:?}: {sent}"),
                _ => {
                    let text = answer.json()["message"].as_str().unwrap().to_owned();
                    assert!(sent.contains(&text), "{trap:?}: {sent} was answered {text}");
                    assert!(rows.contains(&(answer.id(), text)), "{trap:?}: {sent} was answered {}", answer.id());
                    answered.insert(answer.id());
                }
            }
        }
        assert_eq!(refused, 1, "{trap:?}");
        assert_eq!(answered, rows.iter().map(|row| row.0).collect(), "{trap:?}: nothing else is stored");
    }
}

#[test]
fn a_single_message_whose_answer_is_lost_is_answered_like_any_other() {
    let far = Far::start(&[]);
    for (number, trap) in [Trap::Lose, Trap::LoseAnswer].into_iter().enumerate() {
        far.proxy.arm("INSERT IGNORE", trap);
        let text = format!("new-{number}");
        let answer = keyed(&far.service, &text, &text);
        assert_eq!((answer.status, answer.header("Idempotency-Replayed")), (201, None), "{trap:?}");
        assert_eq!(far.schema.rows::<u64>("SELECT MAX(id) FROM messages"), [answer.id()]);
        assert_eq!(far.schema.copies(&text), 1);
        let again = keyed(&far.service, &text, &text);
        assert_eq!((again.id(), again.header("Idempotency-Replayed")), (answer.id(), Some("true")));
    }
    assert_eq!(far.proxy.caught().len(), 2);
}

#[test]
fn after_two_lost_answers_it_is_503_and_the_same_key_gets_the_id_that_is_stored() {
    let far = Far::start(&[]);
    far.proxy.arm("INSERT IGNORE", Trap::LoseAnswer);
    far.proxy.arm("INSERT IGNORE", Trap::LoseAnswer);
    let answer = keyed(&far.service, "stored all the same", "k");
    assert_eq!((answer.status, answer.code().as_str()), (503, "database_unavailable"));
    assert!(answer.header("Retry-After").is_some());
    let again = acknowledged(&far.service, "stored all the same", "k");
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (201, Some("true")));
    assert_eq!(far.schema.rows::<u64>("SELECT id FROM messages"), [again.id()]);
}

#[test]
fn an_answer_that_comes_too_late_is_503_and_the_same_key_gets_the_id_that_is_stored() {
    let far = Far::start(&[("DB_TIMEOUT", "1s")]);
    far.proxy.arm("INSERT IGNORE", Trap::HoldAnswer);
    let start = Instant::now();
    assert_eq!(keyed(&far.service, "late", "k").status, 503);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    far.proxy.release();
    let again = acknowledged(&far.service, "late", "k");
    assert_eq!((again.status, again.header("Idempotency-Replayed")), (201, Some("true")));
    assert_eq!(far.schema.rows::<u64>("SELECT id FROM messages"), [again.id()]);
}

#[test]
fn an_edit_and_a_deletion_whose_answer_is_lost_are_done() {
    let far = Far::start(&[("ADMIN_TOKEN", "token-of-an-admin")]);
    let token = ("Authorization", "Bearer token-of-an-admin");
    for trap in [Trap::Lose, Trap::LoseAnswer] {
        let path = format!("/messages/{}", far.service.submit("before", &[]).id());
        far.proxy.arm("after", trap);
        let edited = far.service.json("PUT", &path, &[token], "after");
        assert_eq!((edited.status, edited.json()["message"].as_str()), (200, Some("after")), "{trap:?}");
        far.proxy.arm(EXECUTE, trap);
        assert_eq!(far.service.ask("DELETE", &path, &[token], b"").status, 204, "{trap:?}");
        assert_eq!(far.service.get(&path).status, 404);
    }
    assert_eq!(far.proxy.caught().len(), 4);
}

#[test]
fn a_key_survives_the_death_of_everything() {
    let database = Database::private();
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let first = keyed(&service, "once", "k");
    // No connection is closed in the regular way.
    service.signal(Signal::KILL);
    database.signal(Signal::KILL);
    eventually("the database is dead", || database.try_connect().is_err());
    database.start();
    drop(service);
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    let replay = keyed(&service, "once", "k");
    assert_eq!((replay.status, replay.header("Idempotency-Replayed")), (201, Some("true")));
    assert_eq!(replay.body, first.body);
    assert_eq!(keyed(&service, "another", "k").status, 422);
    assert_eq!(schema.copies("once"), 1);
}
