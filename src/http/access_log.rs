//! What log and metrics need of a request, kept until its response.

use std::net::IpAddr;
use std::time::Instant;

use log::debug;
use tiny_http::Method;

use super::request::RequestId;
use super::response::Response;
use crate::metrics::METRICS;

/// A request without a response yet.
#[derive(Debug)]
pub(super) struct AccessRecord {
    /// Its name in the logs and in the response.
    pub(super) id: RequestId,
    /// The route, which is a name from the code.
    pub(super) route: &'static str,
    /// The address of the client, as far as it is known.
    pub(super) client: IpAddr,
    method: &'static str,
    arrived: Instant,
}

/// The route of a request that has none.
const NO_ROUTE: &str = "-";

impl AccessRecord {
    /// A request that arrives now. `method` is none when it could not be parsed.
    pub(super) fn new(id: RequestId, method: Option<&Method>, client: IpAddr) -> AccessRecord {
        AccessRecord { id, route: NO_ROUTE, client, method: method.map_or("-", name), arrived: Instant::now() }
    }

    /// Counts and logs the request with its response.
    pub(super) fn answered(&self, response: &Response) {
        let took = self.arrived.elapsed();
        let status = response.status().to_string();
        METRICS.requests.with_label_values(&[self.route, self.method, &status]).inc();
        METRICS.request_seconds.with_label_values(&[self.route]).observe(took.as_secs_f64());
        debug!(
            status = response.status(), us = took.as_micros() as u64, bytes = response.body_length(), method = self.method,
            route = self.route, client:% = self.client, request_id = self.id.as_str();
            "request"
        );
    }
}

/// The label of a method. Unknown methods share one, because clients may invent any number of them.
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
