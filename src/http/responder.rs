//! The way of a response back to its client. It travels with the request.

use std::net::IpAddr;
use std::sync::Arc;

use super::access_log::AccessRecord;
use super::connection::Connection;
use super::request::RequestId;
use super::response::Response;
use super::stream::{StreamBuffer, StreamSender, StreamSink};

/// Sends responses. The server implements it.
pub(super) trait ResponseSink: StreamSink {
    /// Sends `response` on the connection whose request it answers.
    fn finish(&self, connection: Box<Connection>, response: Response, access: &AccessRecord);

    /// Sends `response` as the beginning of a stream, and returns the slot and the buffer of what follows. There are none for
    /// a HEAD request.
    fn open_stream(
        &self,
        connection: Box<Connection>,
        response: Response,
        access: &AccessRecord,
    ) -> Option<(usize, Arc<StreamBuffer>)>;

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

    /// Sends the head and the body of `response` as the beginning of a stream. The connection is closed at its end. None when
    /// there is no stream: the request was HEAD, or the client is gone.
    pub fn stream(mut self, response: Response) -> Option<StreamSender> {
        let connection = self.connection.take()?;
        let (index, buffer) = self.sink.open_stream(connection, response, &self.access)?;
        let sink = Arc::clone(&self.sink) as Arc<dyn StreamSink>;
        Some(StreamSender::new(sink, index, &buffer))
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
