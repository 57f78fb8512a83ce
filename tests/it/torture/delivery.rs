//! How bytes arrive: one by one, in pieces, all together, half-closed, and not at all.

use super::{Case, form, get, lines, post};

const CHUNKS: &str = "6\r\nnew_me\r\n7;x=y\r\nssage=p\r\n0\r\nT: dropped\r\n\r\n";

pub fn cases() -> Vec<Case> {
    let chunked = post("Transfer-Encoding: chunked\r\n", CHUNKS);
    let mut cases = vec![
        Case::new("a GET, one byte at a time").drip(get("/livez", "X: y\r\n")).answer(200, ""),
        Case::new("a form, one byte at a time").drip(form("new_message=p")).answer(200, "").stores("p"),
        Case::new("chunks, one byte at a time").drip(chunked.clone()).answer(200, "").stores("p"),
        Case::new("empty lines, one byte at a time").drip("\r\n".repeat(8)).drip(get("/livez", "")).answer(200, ""),
        Case::new("two requests, one byte at a time, on one connection")
            .drip([get("/livez", ""), form("new_message=p")].concat())
            .answer(200, "")
            .answer(200, "")
            .stores("p"),
        Case::new("a malformed request, one byte at a time")
            .drip("GET / HTTP/1.1\r\nHost : a\r\n\r\n")
            .answer(400, "bad_request")
            .closed(),
    ];
    // Wherever the two pieces meet: in the head, in the body, between CR and LF.
    let whole = form("new_message=p");
    for (bytes, step) in [(&whole, 9), (&chunked, 11)] {
        cases.extend((1..bytes.len()).rev().step_by(step).map(|at| {
            let (first, second) = bytes.split_at(at);
            Case::new(format!("two pieces, split at {at}"))
                .send(first)
                .run_queued()
                .send(second)
                .answer(200, "")
                .stores("p")
        }));
    }
    cases.extend(pipelines());
    cases.extend(half_closed());
    cases.extend(left());
    cases
}

/// Requests that stop in the middle.
pub fn unfinished() -> Vec<Vec<u8>> {
    let mut parts: Vec<Vec<u8>> =
        lines::UNFINISHED.iter().filter(|part| !part.is_empty()).map(|part| part.as_bytes().to_vec()).collect();
    let chunked = post("Transfer-Encoding: chunked\r\n", CHUNKS);
    for whole in [form("new_message=never"), chunked] {
        parts.extend((1..whole.len()).step_by(7).map(|end| whole[..end].to_vec()));
    }
    parts
}

fn pipelines() -> Vec<Case> {
    let mut many = Case::new("10,000 pipelined requests").send(get("/livez", "").repeat(10_000));
    let mut lists = Case::new("500 pipelined reads of the database").send(get("/messages?limit=1", "").repeat(500));
    let mut mixed = Case::new("pipelined GET, form and chunks").send(
        [get("/messages?limit=1", ""), form("new_message=m"), post("Transfer-Encoding: chunked\r\n", CHUNKS)]
            .concat()
            .repeat(20),
    );
    let mut ended = Case::new("a pipeline that a malformed request ends")
        .send([get("/livez", "").repeat(50), b"BAD\r\n\r\n".to_vec(), form("new_message=never")].concat());
    for _ in 0..10_000 {
        many = many.answer(200, "");
    }
    for _ in 0..500 {
        lists = lists.answer(200, "");
    }
    for _ in 0..20 {
        mixed = mixed.answer(200, "").answer(200, "").stores("m").answer(200, "").stores("p");
    }
    for _ in 0..50 {
        ended = ended.answer(200, "");
    }
    vec![many, lists, mixed, ended.answer(400, "bad_request").closed()]
}

fn half_closed() -> Vec<Case> {
    let mut cases = vec![
        Case::new("half-closed after a GET").send(get("/messages", "")).half_close().answer(200, "").closed(),
        Case::new("half-closed after a form")
            .send(form("new_message=h"))
            .half_close()
            .answer(200, "")
            .stores("h")
            .closed(),
        Case::new("half-closed after two requests")
            .send([get("/livez", ""), form("new_message=h")].concat())
            .half_close()
            .answer(200, "")
            .answer(200, "")
            .stores("h")
            .closed(),
        Case::new("half-closed after a malformed request")
            .send("GET /\r\n\r\n")
            .half_close()
            .answer(400, "bad_request")
            .closed(),
        Case::new("half-closed after a request and a part of one")
            .send([get("/livez", ""), b"GET /liv".to_vec()].concat())
            .half_close()
            .answer(200, "")
            .closed(),
        Case::new("half-closed immediately").half_close().closed(),
        Case::new("half-closed after an answer").send(get("/livez", "")).answer(200, "").half_close().closed(),
    ];
    // The client's end comes before the request's: no answer, and nothing is stored.
    let chunked = post("Transfer-Encoding: chunked\r\n", "d\r\nnew_message=h\r\n0\r\n\r\n");
    let whole = form("new_message=h");
    for (bytes, cut) in [
        (&whole, 1),
        (&whole, 13),
        (&whole, 15),
        (&whole, 40),
        (&chunked, 1),
        (&chunked, 4),
        (&chunked, 9),
        (&chunked, 21),
    ] {
        let part = &bytes[..bytes.len() - cut];
        cases.push(Case::new(format!("half-closed {cut} bytes before the end")).send(part).silent());
    }
    cases
}

/// Clients that disconnect early: there is no connection to respond on.
fn left() -> Vec<Case> {
    let half = |bytes: Vec<u8>| bytes[..bytes.len() / 2].to_vec();
    vec![
        Case::new("closed immediately").dropped(),
        Case::new("reset immediately").reset(),
        Case::new("closed in a head").send(half(get("/livez", ""))).dropped(),
        Case::new("reset in a head").send(half(get("/livez", ""))).run_queued().reset(),
        Case::new("closed in a body").send(post("Content-Length: 5000\r\n", "new_message=")).dropped(),
        Case::new("reset in a body").send(post("Content-Length: 5000\r\n", "new_message=")).run_queued().reset(),
        Case::new("reset in a chunk").send(post("Transfer-Encoding: chunked\r\n", "d\r\nnew")).run_queued().reset(),
        Case::new("closed before the answers").send(get("/", "").repeat(1000)).dropped(),
        Case::new("reset before the answers").send(get("/", "").repeat(1000)).reset(),
        Case::new("reset in the middle of the answers").send(get("/", "").repeat(100)).answer(200, "").reset(),
        Case::new("closed while it was to be told to go on")
            .send(post("Expect: 100-continue\r\nContent-Length: 13\r\n", ""))
            .dropped(),
        Case::new("reset after an error").send("BAD\r\n\r\n").answer(400, "bad_request").reset(),
        Case::new("closed in an unread body").send(post("Content-Length: 90000\r\n", "x".repeat(60_000))).dropped(),
    ]
}
