//! A request's way back to its client, which travels with the request.

use std::net::IpAddr;
use std::sync::Arc;

use super::Refusal;
use super::access::Access;
use super::connection::Connection;
use super::hub::Hub;
use super::reply::Reply;
use super::request::RequestId;

/// Answers one request, from whichever thread finishes it. Dropped unanswered, it answers 500.
pub struct Responder {
    hub: Arc<Hub>,
    /// Taken by the answer; still here on drop only when there was none.
    connection: Option<Box<Connection>>,
    access: Access,
}

impl Responder {
    pub(super) fn new(hub: Arc<Hub>, connection: Box<Connection>, access: Access) -> Responder {
        Responder { hub, connection: Some(connection), access }
    }

    /// Says what log and metrics can't know: the route, by a name from the code, and who the client is behind its proxies.
    pub fn describe(&mut self, route: &'static str, client: IpAddr) {
        self.access.route = route;
        self.access.client = client;
    }

    /// The request's name in the logs.
    pub fn request_id(&self) -> &RequestId {
        &self.access.id
    }

    /// Sends `reply`, or as much of it as the socket takes now; the hub sends the rest.
    pub fn answer(mut self, reply: Reply) {
        self.send(reply);
    }

    fn send(&mut self, reply: Reply) {
        if let Some(connection) = self.connection.take() {
            self.hub.finish(connection, reply, &self.access);
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
