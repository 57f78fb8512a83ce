//! The way of a response back to its client. It travels with the request.

use std::net::IpAddr;
use std::sync::Arc;

use super::access_log::AccessRecord;
use super::connection::Connection;
use super::request::RequestId;
use super::response::Response;

/// Sends responses. The server implements it.
pub(super) trait ResponseSink: Send + Sync {
    /// Sends `response` on the connection whose request it answers.
    fn finish(&self, connection: Box<Connection>, response: Response, access: &AccessRecord);

    /// The response to the request called `id`, which its handler dropped.
    fn handler_dropped(&self, id: &RequestId) -> Response;
}

/// Sends the response to one request, from any thread. Dropped without a response, it sends 500.
pub struct Responder {
    sink: Arc<dyn ResponseSink>,
    /// None after the response.
    connection: Option<Box<Connection>>,
    access: AccessRecord,
}

impl Responder {
    pub(super) fn new(sink: Arc<dyn ResponseSink>, connection: Box<Connection>, access: AccessRecord) -> Responder {
        Responder { sink, connection: Some(connection), access }
    }

    /// Sets the route for logs and metrics, which is a name from the code.
    pub fn set_route(&mut self, route: &'static str) {
        self.access.route = route;
    }

    /// The address of the client, as trusted proxies report it.
    pub fn client(&self) -> IpAddr {
        self.access.client
    }

    /// The name of the request in the logs.
    pub fn request_id(&self) -> &RequestId {
        &self.access.id
    }

    /// Sends as much of the response as the socket takes now. The server sends the rest.
    pub fn answer(mut self, response: Response) {
        self.send(response);
    }

    fn send(&mut self, response: Response) {
        if let Some(connection) = self.connection.take() {
            self.sink.finish(connection, response, &self.access);
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        if self.connection.is_some() {
            let response = self.sink.handler_dropped(&self.access.id);
            self.send(response);
        }
    }
}
