//! Whoever waits for an answer from a lane.

use std::sync::Arc;

use super::problem::Problem;
use super::responses;
use crate::http::{Responder, Response};
use crate::page::Pages;

/// A request on its way through a lane: how to answer it, and in which form.
pub struct PendingReply {
    responder: Responder,
    pages: Arc<Pages>,
    /// The client asked for HTML.
    pub html: bool,
}

impl PendingReply {
    /// The pending behind `responder`.
    pub fn new(responder: Responder, pages: Arc<Pages>, html: bool) -> PendingReply {
        PendingReply { responder, pages, html }
    }

    /// Answers.
    pub fn answer(self, reply: Response) {
        self.responder.answer(reply);
    }

    /// Answers with an error.
    pub fn refuse(self, problem: &Problem) {
        let reply = responses::problem(&self.pages, problem, self.html);
        self.responder.answer(reply);
    }

    /// Names the request in the log.
    pub fn id(&self) -> &str {
        self.responder.request_id().as_str()
    }
}
