//! Responses about the service itself: readiness, metrics and version. Asks no database.

use serde::Serialize;

use super::responses;
use crate::http::{Body, Response};
use crate::lifecycle::Readiness;
use crate::metrics::METRICS;

#[derive(Serialize)]
struct VersionJson {
    name: &'static str,
    version: &'static str,
    commit: Option<&'static str>,
}

/// The response to a readiness probe.
pub(super) fn readiness(readiness: Readiness) -> Response {
    match readiness {
        Readiness::Ready => responses::text(200, &[], "ready"),
        Readiness::ReadOnly(reason) => responses::text(200, &[], &format!("ready, read-only: {}", reason.text)),
        Readiness::NotReady(reason) => {
            responses::text(503, &[("Retry-After", "1")], &format!("not ready: {}", reason.text))
        }
    }
}

/// All metrics, with this readiness.
pub(super) fn metrics(readiness: Readiness) -> Response {
    METRICS.set_readiness(readiness);
    let headers = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), responses::NO_STORE];
    Response::new(200, &headers, Body::shared(METRICS.text()))
}

/// Name, version and commit of the program.
pub(super) fn version() -> Response {
    let commit = option_env!("TWOTIER_COMMIT").filter(|commit| !commit.is_empty());
    responses::json(200, &[], &VersionJson { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), commit })
}
