//! Operations that can't be grouped, one in each batch: a message by its id, older pages, edits and deletions.

use std::sync::Arc;
use std::time::Duration;

use super::input::DEFAULT_LIMIT;
use super::latest;
use super::pending_reply::PendingReply;
use super::problem::Problem;
use super::responses::{self, MessageJson};
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Body, Response};
use crate::idempotency_key;
use crate::message::{Message, NewMessage};
use crate::outage_log::Outages;
use crate::page::{Pages, Part, Position};
use crate::store::{Client, Error};

/// Executes the operations.
pub(super) struct PointOps {
    pages: Arc<Pages>,
    outages: Arc<Outages>,
    /// The methods of a message.
    allow: &'static str,
}

/// An operation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum PointOp {
    /// One message.
    Show(u64),
    /// The page below an id.
    PageBefore(u64),
    /// The page above an id.
    PageAfter(u64),
    /// A list of the messages below an id.
    Before(u64, usize),
    /// A list of the messages above an id.
    After(u64, usize),
    /// Replaces the text of a message.
    Replace(u64, NewMessage),
    /// Deletes a message.
    Remove(u64),
}

impl PointOp {
    /// Whether it changes a message.
    pub(super) fn is_write(&self) -> bool {
        match self {
            PointOp::Replace(..) | PointOp::Remove(_) => true,
            PointOp::Show(_)
            | PointOp::PageBefore(_)
            | PointOp::PageAfter(_)
            | PointOp::Before(..)
            | PointOp::After(..) => false,
        }
    }
}

impl PointOps {
    /// Renders with `pages`, and logs failures in `outages`. A message takes the methods in `allow`.
    pub(super) fn new(pages: Arc<Pages>, outages: Arc<Outages>, allow: &'static str) -> PointOps {
        PointOps { pages, outages, allow }
    }

    fn response(&self, client: &mut Client, op: &PointOp, pending: &PendingReply) -> Result<Response, Error> {
        let not_found = |id: u64| pending.problem(&Problem::NoMessage(id));
        let list = |list| pending.unless_held(&list);
        Ok(match op {
            PointOp::Show(id) => match (client.by_id(*id)?, pending.page()) {
                (None, _) => not_found(*id),
                (Some(message), None) => pending.unless_held(&responses::message(&message, self.allow)),
                (Some(message), Some(depth)) => {
                    let page = self.pages.message(&message, depth);
                    pending.unless_held(&responses::message_page(page, self.allow))
                }
            },
            PointOp::PageBefore(id) => self.page_before(client, *id)?,
            PointOp::PageAfter(id) => self.page_after(client, *id)?,
            PointOp::Before(id, limit) => list(latest::descending(&client.before(*id, limit + 1)?, *limit)),
            PointOp::After(id, limit) => list(latest::ascending(&client.after(*id, limit + 1)?, *limit)),
            PointOp::Replace(id, text) => match client.replace(*id, text)? {
                Some(message) => responses::json(200, &[], &MessageJson::from(&message)),
                None => not_found(*id),
            },
            PointOp::Remove(id) if client.remove(*id)? => Response::new(204, &[], Body::Empty),
            PointOp::Remove(id) => not_found(*id),
        })
    }

    fn page_before(&self, client: &mut Client, id: u64) -> Result<Response, Error> {
        let mut messages = client.before(id, DEFAULT_LIMIT + 1)?;
        let has_older = messages.len() > DEFAULT_LIMIT;
        messages.truncate(DEFAULT_LIMIT);
        let has_newer = match messages.first() {
            Some(newest) => !client.after(newest.id, 1)?.is_empty(),
            None => false,
        };
        Ok(self.page(&messages, Position { part: Part::Before, has_newer, has_older }))
    }

    fn page_after(&self, client: &mut Client, id: u64) -> Result<Response, Error> {
        let mut messages = client.after(id, DEFAULT_LIMIT + 1)?;
        let has_newer = messages.len() > DEFAULT_LIMIT;
        messages.truncate(DEFAULT_LIMIT);
        messages.reverse();
        let has_older = match messages.last() {
            Some(oldest) => !client.before(oldest.id, 1)?.is_empty(),
            None => false,
        };
        Ok(self.page(&messages, Position { part: Part::After, has_newer, has_older }))
    }

    fn page(&self, messages: &[Message], position: Position) -> Response {
        latest::page(&self.pages, messages, position).with_insert(idempotency_key::generate_text())
    }
}

impl BatchProcessor for PointOps {
    type Job = (PendingReply, PointOp);
    type Connection = Client;
    /// Each with whether it was a write.
    type Outcome = Vec<(PendingReply, bool, Result<Response, Error>)>;

    fn execute(
        &self,
        client: &mut Client,
        jobs: Vec<(PendingReply, PointOp)>,
        waited: Duration,
    ) -> (Self::Outcome, BackendState) {
        client.start_deadline(waited);
        let replies = jobs.into_iter().map(|(pending, op)| {
            let reply = self.response(client, &op, &pending);
            (pending, op.is_write(), reply)
        });
        let replies: Self::Outcome = replies.collect();
        let outage = replies.iter().any(|(_, _, reply)| reply.as_ref().is_err_and(Error::is_outage));
        (replies, BackendState::outage_if(outage))
    }

    fn reply(&self, replies: Self::Outcome) {
        for (pending, is_write, reply) in replies {
            let log = if is_write { &self.outages.writes } else { &self.outages.reads };
            match reply {
                Ok(reply) => {
                    log.succeed();
                    pending.answer(reply);
                }
                Err(cause) => {
                    log.fail(cause.label(), &cause, &[pending.id()]);
                    pending.refuse(&Problem::from(&cause));
                }
            }
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, PointOp)>, reason: RejectReason) {
        for (pending, op) in jobs {
            let log = if op.is_write() { &self.outages.writes } else { &self.outages.reads };
            log.count(&[pending.id()]);
            pending.refuse(&Problem::from(reason));
        }
    }
}
