//! The description of the API for programs: `openapi.json` with the values of this board. Describes, and decides nothing.

use std::sync::Arc;

use super::responses;
use crate::http::{Body, Response};

/// OpenAPI 3.1. It is JSON with its placeholders too, so that editors can check it.
const SOURCE: &str = include_str!("openapi.json");

/// The description of one board.
pub(super) struct Description(Arc<Vec<u8>>);

impl Description {
    /// Of a board that takes messages of `max_chars` characters.
    pub(super) fn new(max_chars: usize) -> Description {
        let text = SOURCE.replace("\"{{max_chars}}\"", &max_chars.to_string());
        Description(Arc::new(text.replace("{{version}}", env!("CARGO_PKG_VERSION")).into()))
    }

    /// The response that has it.
    pub(super) fn response(&self) -> Response {
        responses::json_without_value(200, &[]).with_body(Body::Shared(Arc::clone(&self.0)))
    }
}
