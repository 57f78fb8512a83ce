//! A request in a batch queue, with the way to answer it.

use std::sync::Arc;

use super::problem::Problem;
use super::representation::{HeldTags, Representation};
use super::responses;
use crate::http::{Responder, Response};
use crate::page::{Depth, Pages};

/// A request that waits for the database: how to answer it, and in which form.
pub struct PendingReply {
    responder: Responder,
    pages: Arc<Pages>,
    /// The depth of the path, where the client prefers HTML.
    page: Option<Depth>,
    /// What the client holds already.
    held: HeldTags,
}

impl PendingReply {
    /// The request that `responder` answers.
    pub(super) fn new(responder: Responder, pages: Arc<Pages>, page: Option<Depth>, held: HeldTags) -> PendingReply {
        PendingReply { responder, pages, page, held }
    }

    /// Answers.
    pub fn answer(self, reply: Response) {
        self.responder.answer(reply);
    }

    /// Answers with an error.
    pub fn refuse(self, problem: &Problem) {
        let reply = self.problem(problem);
        self.responder.answer(reply);
    }

    /// An error in the form that the client prefers.
    pub fn problem(&self, problem: &Problem) -> Response {
        responses::problem(&self.pages, problem, self.page, self.id())
    }

    /// `representation`, or 304 when the client holds it.
    pub(super) fn unless_held(&self, representation: &Representation) -> Response {
        representation.response(&self.held)
    }

    /// The depth of the path, where the client prefers HTML.
    pub fn page(&self) -> Option<Depth> {
        self.page
    }

    /// Whether the client prefers HTML.
    pub fn prefers_html(&self) -> bool {
        self.page.is_some()
    }

    /// The request's id, for the log.
    pub fn id(&self) -> &str {
        self.responder.request_id().as_str()
    }
}
