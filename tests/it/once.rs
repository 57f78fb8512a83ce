//! Exactly once: keys, replays, and what a batch does to the ids of its rows.

use std::collections::HashSet;
use std::sync::Barrier;
use std::thread;

use mysql::prelude::Queryable;

use crate::support::client::request;
use crate::support::{Answer, Board, Database, Proxy, Service, eventually};

fn keyed(service: &Service, text: &str, key: &str) -> Answer {
    service.json("POST", "/messages", &[("Idempotency-Key", key)], text)
}

#[test]
fn the_same_key_and_message_again_answers_as_the_first_time() {
    let board = Board::start();
    let first = keyed(&board.service, "once", "order-1");
    assert_eq!((first.status, first.header("Idempotency-Replayed")), (201, None));
    for _ in 0..3 {
        let again = keyed(&board.service, " once ", "order-1");
        assert_eq!((again.status, again.header("Idempotency-Replayed")), (201, Some("true")));
        assert_eq!(again.body, first.body);
        assert_eq!(again.header("Location"), first.header("Location"));
    }
    let form = board.service.submit("once", &[("Idempotency-Key", "order-1")]);
    assert_eq!((form.status, form.id(), form.header("Idempotency-Replayed")), (200, first.id(), Some("true")));
    assert_eq!(board.schema.copies("once"), 1);
}

#[test]
fn a_key_belongs_to_its_message() {
    let board = Board::start();
    keyed(&board.service, "first", "k");
    let other = keyed(&board.service, "second", "k");
    assert_eq!((other.status, other.code().as_str()), (422, "key_reused"));
    assert_eq!(keyed(&board.service, "second", "K").status, 201, "keys are compared byte for byte");
    let key = "01890A5D-AC96-774B-BCCE-B302099A8057";
    assert_eq!(keyed(&board.service, "capitals", key).status, 201);
    assert_eq!(keyed(&board.service, "small", &key.to_lowercase()).status, 201);
    assert_eq!(board.get("/messages").messages(), ["small", "capitals", "second", "first"]);
}

#[test]
fn a_form_that_is_edited_after_back_is_a_message_of_its_own_once_for_each_text() {
    let board = Board::start();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let html = ("Accept", "text/html");
    let send = |text: &str| {
        let body = format!("new_message={text}&key=the-forms-key");
        board.service.ask("POST", "/submit", &[form, html], body.as_bytes())
    };
    for text in ["first", "second", "first", "third", "second", "third"] {
        let answer = send(text);
        assert_eq!(answer.status, 303, "{text}: {}", answer.text());
    }
    assert_eq!(board.get("/messages").messages(), ["third", "second", "first"]);
    let replay = send("second");
    assert_eq!(replay.header("Idempotency-Replayed"), Some("true"));
    // A program that sends a key in the header means one message and no other.
    let header = [("Idempotency-Key", "the-forms-key")];
    assert_eq!(board.service.submit("fourth", &header).code(), "key_reused");
    assert_eq!(board.service.json("POST", "/messages", &header, "fourth").code(), "key_reused");
}

#[test]
fn edited_forms_and_replays_that_share_a_batch_are_stored_once_each() {
    let board = Board::start();
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    let send = |service: &Service, text: &str| {
        let body = format!("new_message={text}&key=k");
        service.ask("POST", "/submit", &[form], body.as_bytes())
    };
    let texts = ["a", "b", "a", "c", "b", "api", "a", "c"];
    let answers = in_one_batch(
        &board,
        texts
            .map(|text| {
                move |service: &Service| match text {
                    "api" => (text, keyed(service, text, "k")),
                    text => (text, send(service, text)),
                }
            })
            .into(),
    );
    let mut ids = std::collections::HashMap::new();
    for (text, answer) in answers {
        match text {
            "api" => assert_eq!((answer.status, answer.code().as_str()), (422, "key_reused")),
            text => {
                assert_eq!((answer.status, answer.json()["message"].as_str()), (200, Some(text)));
                assert_eq!(*ids.entry(text).or_insert(answer.id()), answer.id(), "{text}");
            }
        }
    }
    for text in ["a", "b", "c"] {
        assert_eq!(board.schema.copies(text), 1, "{text}");
    }
}

#[test]
fn malformed_keys_are_refused() {
    let board = Board::start();
    for key in ["a b", "é", &"k".repeat(65)] {
        let answer = keyed(&board.service, "x", key);
        assert_eq!((answer.status, answer.code().as_str()), (400, "invalid_key"), "{key:?}");
    }
    let form = ("Content-Type", "application/x-www-form-urlencoded");
    for body in ["new_message=x&key=", "new_message=x&key=a%20b"] {
        assert_eq!(board.service.ask("POST", "/submit", &[form], body.as_bytes()).code(), "invalid_key", "{body}");
    }
    let both = board.service.ask("POST", "/submit", &[form, ("Idempotency-Key", "a")], b"new_message=x&key=b");
    assert_eq!(both.code(), "invalid_key");
    assert_eq!(board.get("/messages").messages().len(), 0);
}

#[test]
fn a_replay_after_an_edit_answers_the_stored_message_and_after_a_delete_the_key_is_free() {
    let board = Board::with(&[("ADMIN_TOKEN", "token-of-an-admin")]);
    let token = ("Authorization", "Bearer token-of-an-admin");
    let first = keyed(&board.service, "before", "k");
    let path = format!("/messages/{}", first.id());
    board.service.json("PUT", &path, &[token], "after");
    let replay = keyed(&board.service, "before", "k");
    assert_eq!((replay.status, replay.json()["message"].as_str()), (201, Some("after")));
    assert_eq!(replay.id(), first.id());
    assert_eq!(keyed(&board.service, "something else", "k").json()["message"], "after", "never 422");
    board.service.ask("DELETE", &path, &[token], b"");
    let new = keyed(&board.service, "before", "k");
    assert_eq!((new.status, new.header("Idempotency-Replayed")), (201, None));
    assert!(new.id() > first.id());
}

#[test]
fn ids_are_those_of_the_rows_when_keys_meet_in_batches_of_two_replicas() {
    const THREADS: usize = 24;
    const ROUNDS: usize = 12;
    let board = Board::start();
    // One replica gets the ids from its INSERTs, as from MariaDB; the other must read them, as from MySQL.
    let proxy = Proxy::start(&board.schema.database);
    proxy.disguise();
    let other = Service::start(&board.schema, &[("MYSQL_PORT", &proxy.port().to_string())]);
    other.wait_until_ready();
    let barrier = Barrier::new(THREADS);
    let answers: Vec<(String, u64)> = thread::scope(|scope| {
        let writers: Vec<_> = (0..THREADS)
            .map(|writer| {
                let (barrier, service) = (&barrier, if writer % 2 == 0 { &board.service } else { &other });
                scope.spawn(move || {
                    let mut connection = service.connect();
                    let mut answers = Vec::new();
                    for round in 0..ROUNDS {
                        barrier.wait();
                        // All writers share a third of the keys; the others belong to one writer each.
                        let key = if writer % 3 == 0 { format!("shared-{round}") } else { format!("{writer}-{round}") };
                        let body = serde_json::json!({ "message": format!("text of {key}") }).to_string();
                        let headers = [("Content-Type", "application/json"), ("Idempotency-Key", key.as_str())];
                        connection.send(request("POST", "/messages", &headers, body.as_bytes()));
                        let answer = connection.answer();
                        assert_eq!(answer.status, 201, "{}", answer.text());
                        answers.push((key, answer.id()));
                    }
                    answers
                })
            })
            .collect();
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    let stored: Vec<(u64, String)> = board.schema.rows("SELECT id, message FROM messages");
    let distinct: HashSet<&String> = answers.iter().map(|(key, _)| key).collect();
    assert_eq!(stored.len(), distinct.len(), "each key is stored once");
    for (key, id) in &answers {
        assert!(stored.contains(&(*id, format!("text of {key}"))), "{key} was answered {id}");
    }
    let asks = |service: &Service| service.get("/metrics").text().contains("seconds_count{statement=\"ids\"}");
    assert_eq!((asks(&board.service), asks(&other)), (false, true));
}

/// Sends these submits while another session locks the table, so that all but the first share a batch. Keeps their order.
fn in_one_batch<T: Send>(board: &Board, submits: Vec<impl FnOnce(&Service) -> T + Send>) -> Vec<T> {
    let mut holder = board.schema.connect();
    holder.query_drop("LOCK TABLES messages WRITE").unwrap();
    let waiting = || -> u64 {
        let inserts =
            "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'INSERT IGNORE%' AND db = DATABASE()";
        board.schema.rows(inserts)[0]
    };
    thread::scope(|scope| {
        let service = &board.service;
        let first = scope.spawn(|| service.submit("the first, which waits for the lock", &[]));
        eventually("a statement waits for the lock", || waiting() == 1);
        let mut queued = Vec::new();
        for submit in submits {
            let (started, has_started) = std::sync::mpsc::channel();
            queued.push(scope.spawn(move || {
                started.send(()).unwrap();
                submit(service)
            }));
            has_started.recv().unwrap();
            // A later request that is answered proves that the submit has had the time to arrive.
            (0..3).for_each(|_| assert_eq!(service.get("/livez").status, 200));
        }
        holder.query_drop("UNLOCK TABLES").unwrap();
        assert_eq!(first.join().unwrap().status, 200);
        queued.into_iter().map(|submit| submit.join().unwrap()).collect()
    })
}

#[test]
fn a_valid_replay_is_not_harmed_by_a_wrong_one_in_its_batch() {
    let board = Board::start();
    let first = keyed(&board.service, "original", "k").id();
    let texts = ["another", "original", "another", "original"];
    let answers =
        in_one_batch(&board, texts.map(|text| move |service: &Service| (text, keyed(service, text, "k"))).into());
    for (text, answer) in answers {
        match text {
            "original" => assert_eq!((answer.status, answer.id()), (201, first)),
            _ => assert_eq!((answer.status, answer.code().as_str()), (422, "key_reused")),
        }
    }
}

#[test]
fn acknowledged_means_committed_whatever_the_server_does_by_default() {
    let database = Database::private();
    let schema = database.schema();
    database.connect().query_drop("SET GLOBAL autocommit = 0").unwrap();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    assert_eq!(service.submit("x", &[]).status, 200);
    assert_eq!(schema.copies("x"), 1);
    let mut other = schema.connect();
    other.query_drop("INSERT INTO messages (message) VALUES ('y')").unwrap();
    assert_eq!(service.get("/messages").messages(), ["x"], "not committed yet");
    other.query_drop("COMMIT").unwrap();
    assert_eq!(service.get("/messages").messages(), ["y", "x"], "no snapshot is kept");
}

#[test]
fn one_bad_row_does_not_fail_its_neighbours() {
    let board = Board::start();
    board.schema.run(
        "CREATE TRIGGER picky BEFORE INSERT ON messages FOR EACH ROW \
         IF NEW.message = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
    );
    let texts = ["good 1", "bad", "good 2", "good 3", "good 4"];
    let statuses =
        in_one_batch(&board, texts.map(|text| move |service: &Service| (text, service.submit(text, &[]))).into());
    for (text, answer) in statuses {
        let want = if text == "bad" { 500 } else { 200 };
        assert_eq!(answer.status, want, "{text}");
        assert!(!answer.text().contains("45000") && !answer.text().contains("SIGNAL"), "a 5xx tells nothing internal");
    }
    assert_eq!(board.get("/messages").messages().len(), 5, "and the first");
}

#[test]
fn a_backslash_stays_one_where_the_server_takes_it_for_a_letter_also_after_an_error() {
    let database = Database::private_with("--sql-mode=NO_BACKSLASH_ESCAPES");
    let schema = database.schema();
    let service = Service::start(&schema, &[]);
    service.wait_until_ready();
    schema.run(
        "CREATE TRIGGER picky BEFORE INSERT ON messages FOR EACH ROW \
         IF NEW.message = 'bad' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'no'; END IF",
    );
    assert_eq!(service.submit(r"one \ before", &[]).status, 200);
    assert_eq!(service.submit("bad", &[]).status, 500);
    assert_eq!(service.submit(r"one \ behind", &[]).status, 200);
    assert_eq!(service.get("/messages").messages(), [r"one \ behind", r"one \ before"]);
}

#[test]
fn text_that_the_table_cannot_hold_is_an_error_and_is_not_stored() {
    let board = Board::start();
    // Another program narrows the column while the service runs.
    board.schema.run("ALTER TABLE messages MODIFY message VARCHAR(10) CHARACTER SET latin1 NOT NULL");
    assert_eq!(board.submit("fits").status, 200);
    for text in ["😀", "far longer than ten characters"] {
        assert_eq!(board.submit(text).status, 500, "{text}");
    }
    assert_eq!(board.get("/messages").messages(), ["fits"]);
}
