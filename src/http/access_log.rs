//! What is kept of a request until it is answered: for its line in the log, and for the metrics.

use std::net::IpAddr;
use std::time::Instant;

use log::debug;
use tiny_http::Method;

use super::request::RequestId;
use super::response::Response;
use crate::metrics::METRICS;

/// A request on its way to its answer.
#[derive(Debug)]
pub(super) struct AccessRecord {
    /// Its name in the logs and in its answer.
    pub(super) id: RequestId,
    /// Which of the service's routes it takes; a name from the code.
    pub(super) route: &'static str,
    /// Who sent it, as far as is known.
    pub(super) client: IpAddr,
    method: &'static str,
    arrived: Instant,
}

/// The route of what takes none.
const NO_ROUTE: &str = "-";

impl AccessRecord {
    /// A request that has just arrived; without a method when it is not even one.
    pub(super) fn new(id: RequestId, method: Option<&Method>, client: IpAddr) -> AccessRecord {
        AccessRecord { id, route: NO_ROUTE, client, method: method.map_or("-", name), arrived: Instant::now() }
    }

    /// It is answered.
    pub(super) fn answered(&self, reply: &Response) {
        let took = self.arrived.elapsed();
        METRICS.requests.with_label_values(&[self.route, self.method, reply.status_text()]).inc();
        METRICS.request_seconds.with_label_values(&[self.route]).observe(took.as_secs_f64());
        debug!(
            status = reply.status(), us = took.as_micros() as u64, bytes = reply.body_length(), method = self.method,
            route = self.route, client:% = self.client, request_id = self.id.as_str();
            "request"
        );
    }
}

/// A method as a label: those that are not ours count as one, because a client may invent any number of them.
fn name(method: &Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Options => "OPTIONS",
        _ => "other",
    }
}
