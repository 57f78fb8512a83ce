//! A request's way back to its client, which travels with the request.

use std::net::IpAddr;
use std::sync::Arc;

use super::RequestError;
use super::access_log::AccessRecord;
use super::connection::Connection;
use super::request::RequestId;
use super::response::Response;
use super::server::Server;

/// Answers one request, from whichever thread finishes it. Dropped unanswered, it answers 500.
pub struct Responder {
    server: Arc<Server>,
    /// Taken by the answer; still here on drop only when there was none.
    connection: Option<Box<Connection>>,
    access: AccessRecord,
}

impl Responder {
    pub(super) fn new(server: Arc<Server>, connection: Box<Connection>, access: AccessRecord) -> Responder {
        Responder { server, connection: Some(connection), access }
    }

    /// Says what log and metrics can't know: the route, by a name from the code, and who the client is behind its
    /// proxies.
    pub fn describe(&mut self, route: &'static str, client: IpAddr) {
        self.access.route = route;
        self.access.client = client;
    }

    /// The request's name in the logs.
    pub fn request_id(&self) -> &RequestId {
        &self.access.id
    }

    /// Sends `reply`, or as much of it as the socket takes now; the server sends the rest.
    pub fn answer(mut self, reply: Response) {
        self.send(reply);
    }

    fn send(&mut self, reply: Response) {
        if let Some(connection) = self.connection.take() {
            self.server.finish(connection, reply, &self.access);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.connection.is_some() {
            let reply = self.server.service().refuse(RequestError::HandlerDropped, None, &self.access.id);
            self.send(reply);
        }
    }
}
