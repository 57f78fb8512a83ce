//! Reads of the newest messages: one SELECT answers all requests that arrived before it began.
//!
//! It is not a cache: the rows that were read for one batch are not used for another one.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use super::input::DEFAULT_LIMIT;
use super::pending_reply::PendingReply;
use super::problem::Problem;
use super::representation::Representation;
use super::responses;
use super::route;
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Body, Response};
use crate::idempotency_key;
use crate::message::Message;
use crate::outage_log::Outages;
use crate::page::{Feed, Pages, Part, Position};
use crate::store::{Client, Error};

/// Executes the batches.
pub(super) struct LatestReads {
    pages: Arc<Pages>,
    outages: Arc<Outages>,
}

/// A read of the newest messages.
pub(super) enum ReadJob {
    /// The first page.
    Page,
    /// A list of this many messages.
    List(usize),
    /// The feed, which this renders.
    Feed(Arc<Feed>),
}

/// A batch that was read and is not replied to yet.
pub(super) struct ReadOutcome {
    /// As many of the newest messages as the batch needs; or why there are none.
    messages: Result<Vec<Message>, Error>,
    jobs: Vec<(PendingReply, ReadJob)>,
}

/// The result of one SELECT, and the responses that were made of it.
struct Batch<'a> {
    messages: &'a [Message],
    page: Option<Response>,
    /// By the number of messages.
    lists: HashMap<usize, Representation>,
    feed: Option<Representation>,
}

impl LatestReads {
    /// Renders with `pages`, and logs failures in `outages`.
    pub(super) fn new(pages: Arc<Pages>, outages: Arc<Outages>) -> LatestReads {
        LatestReads { pages, outages }
    }
}

impl BatchProcessor for LatestReads {
    type Job = (PendingReply, ReadJob);
    type Connection = Client;
    type Outcome = ReadOutcome;

    fn execute(
        &self,
        client: &mut Client,
        jobs: Vec<(PendingReply, ReadJob)>,
        waited: Duration,
    ) -> (ReadOutcome, BackendState) {
        client.start_deadline(waited);
        let wanted = jobs.iter().map(|(_, read)| read.rows()).max().unwrap_or_default();
        let messages = client.newest(wanted);
        let state = BackendState::outage_if(messages.as_ref().is_err_and(Error::is_outage));
        (ReadOutcome { messages, jobs }, state)
    }

    fn reply(&self, ReadOutcome { messages, jobs }: ReadOutcome) {
        let messages = match messages {
            Ok(messages) => messages,
            Err(cause) => {
                let request_ids: Vec<&str> = jobs.iter().map(|(pending, _)| pending.id()).collect();
                self.outages.reads.fail(cause.label(), &cause, &request_ids);
                jobs.into_iter().for_each(|(pending, _)| pending.refuse(&Problem::from(&cause)));
                return;
            }
        };
        self.outages.reads.succeed();
        let mut batch = Batch { messages: &messages, page: None, lists: HashMap::new(), feed: None };
        for (pending, read) in jobs {
            let reply = batch.reply(&self.pages, read, &pending);
            pending.answer(reply);
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, ReadJob)>, reason: RejectReason) {
        let request_ids: Vec<&str> = jobs.iter().map(|(pending, _)| pending.id()).collect();
        self.outages.reads.count(&request_ids);
        jobs.into_iter().for_each(|(pending, _)| pending.refuse(&Problem::from(reason)));
    }
}

impl ReadJob {
    /// Rows that it needs. Of a page and a list one more than are shown, which shows whether there are more.
    fn rows(&self) -> usize {
        match self {
            ReadJob::Page => DEFAULT_LIMIT + 1,
            ReadJob::List(limit) => limit + 1,
            ReadJob::Feed(_) => DEFAULT_LIMIT,
        }
    }
}

impl Batch<'_> {
    fn reply(&mut self, pages: &Pages, read: ReadJob, pending: &PendingReply) -> Response {
        let messages = self.messages;
        match read {
            ReadJob::Page => {
                let page = self.page.get_or_insert_with(|| newest(pages, messages));
                page.clone().with_insert(idempotency_key::generate_text())
            }
            ReadJob::List(limit) => {
                pending.unless_held(self.lists.entry(limit).or_insert_with(|| descending(messages, limit)))
            }
            ReadJob::Feed(feed) => {
                let shown = &messages[..messages.len().min(DEFAULT_LIMIT)];
                pending.unless_held(self.feed.get_or_insert_with(|| responses::feed(feed.render(shown))))
            }
        }
    }
}

/// The first page: the messages are one more than are shown when there are older ones.
fn newest(pages: &Pages, messages: &[Message]) -> Response {
    let shown = &messages[..messages.len().min(DEFAULT_LIMIT)];
    let has_older = messages.len() > shown.len();
    page(pages, shown, Position { part: Part::Newest, has_newer: false, has_older })
}

/// A page of the board, with these messages, that has no key yet.
pub(super) fn page(pages: &Pages, messages: &[Message], position: Position) -> Response {
    let halves = pages.board(messages, position);
    let body = Body::Split { before: halves.before, own: String::new(), after: halves.after };
    responses::html(200, &[], body)
}

/// A list, newest first, of messages that are one more than `limit` when there are more.
pub(super) fn descending(messages: &[Message], limit: usize) -> Representation {
    continued(messages, limit, "before")
}

/// A list, oldest first, of messages that are one more than `limit` when there are more.
pub(super) fn ascending(messages: &[Message], limit: usize) -> Representation {
    continued(messages, limit, "after")
}

fn continued(messages: &[Message], limit: usize, direction: &str) -> Representation {
    let shown = &messages[..messages.len().min(limit)];
    let last = shown.last().filter(|_| messages.len() > limit);
    let next = last.map(|last| format!("./messages?{direction}={}&limit={limit}", last.id));
    responses::list(shown, next, route::LIST)
}
