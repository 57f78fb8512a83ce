//! A request's way back to its client, which travels with the request.

use std::sync::Arc;
use std::time::Instant;

use log::{Level, debug, log_enabled};

use super::Refusal;
use super::connection::Connection;
use super::head::Head;
use super::hub::Hub;
use super::reply::Reply;
use super::request::RequestId;

/// Answers one request, from whichever thread finishes it. Dropped unanswered, it answers 500.
pub struct Responder {
    hub: Arc<Hub>,
    /// Taken by the answer; still here on drop only when there was none.
    connection: Option<Box<Connection>>,
    request_id: RequestId,
    /// What the log says of the request, when it is to be logged, and when it arrived.
    line: Option<(String, Instant)>,
}

impl Responder {
    pub(super) fn new(hub: Arc<Hub>, connection: Box<Connection>, request_id: RequestId, head: &Head) -> Responder {
        let line = log_enabled!(Level::Debug).then(|| (format!("{} {}", head.method, head.path), Instant::now()));
        Responder { hub, connection: Some(connection), request_id, line }
    }

    /// The request's name in the logs.
    pub fn request_id(&self) -> &RequestId {
        &self.request_id
    }

    /// Sends `reply`, or as much of it as the socket takes now; the hub sends the rest.
    pub fn answer(mut self, reply: Reply) {
        self.send(reply);
    }

    fn send(&mut self, reply: Reply) {
        if let Some(connection) = self.connection.take() {
            if let Some((line, arrived)) = &self.line {
                let (id, micros) = (self.request_id.as_str(), arrived.elapsed().as_micros());
                debug!("{id} {line} {} {} bytes {micros} us", reply.status(), reply.body_length());
            }
            self.hub.finish(connection, reply, &self.request_id);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.connection.is_some() {
            let reply = self.hub.service().refuse(Refusal::Unanswered, None);
            self.send(reply);
        }
    }
}
