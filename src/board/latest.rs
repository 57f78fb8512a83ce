//! The newest lane: one SELECT answers everyone who arrived before it began.
//!
//! It is no cache: nothing that was read for one batch is used for another. Who asks for what turns out not to be among the
//! newest costs the batch one more SELECT; the floor that is remembered sends the next one like him to another lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{error, warn};

use super::input::{DEFAULT_LIMIT, MAX_LIMIT};
use super::pending_reply::PendingReply;
use super::problem::Problem;
use super::responses;
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Body, Response};
use crate::idempotency_key;
use crate::message::Message;
use crate::page::Pages;
use crate::store::{Client, Error};

/// The work of the lane.
pub struct LatestReads {
    pages: Arc<Pages>,
    /// The smallest id among the newest [`MAX_LIMIT`] messages when they were last read; 0 when there were fewer.
    floor: AtomicU64,
}

/// A read of the newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadJob {
    /// The first page.
    Page,
    /// So many as a list.
    List(usize),
    /// Those above an id, so many at most.
    After(u64, usize),
}

/// A batch that was read and is not answered yet.
pub struct ReadOutcome {
    /// The newest messages, so many as the batch needs; or why there are none.
    messages: Result<Vec<Message>, Error>,
    /// Who asked, and where the answer is.
    jobs: Vec<(PendingReply, Found)>,
}

/// Where the answer to a read is.
enum Found {
    /// Among the newest messages.
    Here(ReadJob),
    /// Not there: this is what a statement of its own gave, for so many messages at most.
    Beyond(usize, Result<Vec<Message>, Error>),
}

/// What one SELECT of a batch gave, and the answers that were made of it.
struct Batch<'a> {
    messages: &'a [Message],
    page: Option<Response>,
    lists: Vec<(usize, Response)>,
}

impl LatestReads {
    /// The lane's work, before anything was read.
    pub fn new(pages: Arc<Pages>) -> LatestReads {
        LatestReads { pages, floor: AtomicU64::new(0) }
    }

    /// Whether the messages above `id` were among the newest when these were last read. If they no longer are, the lane
    /// finds out by itself.
    pub fn reaches(&self, id: u64) -> bool {
        id >= self.floor.load(Ordering::Relaxed)
    }

    fn remember_floor(&self, messages: &[Message]) {
        let floor = messages.get(MAX_LIMIT - 1).map_or(0, |message| message.id);
        self.floor.store(floor, Ordering::Relaxed);
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
        client.begin(waited);
        let wanted = jobs.iter().map(|(_, read)| read.rows()).max().unwrap_or_default();
        let messages = client.newest(wanted);
        if let Ok(messages) = &messages
            && wanted > MAX_LIMIT
        {
            self.remember_floor(messages);
        }
        let mut outage = messages.as_ref().err().filter(|cause| cause.is_outage()).cloned();
        let mut find = |pending: &PendingReply, read| match (read, &messages) {
            (ReadJob::After(id, limit), Ok(messages)) if !holds_all_above(messages, wanted, id) => {
                // After an outage the others would wait for the same, one after the other.
                let above = outage.clone().map_or_else(|| beyond(client, pending, id, limit), Err);
                outage = above.as_ref().err().filter(|cause| cause.is_outage()).cloned();
                Found::Beyond(limit, above)
            }
            (ReadJob::After(..) | ReadJob::Page | ReadJob::List(_), Ok(_) | Err(_)) => Found::Here(read),
        };
        let found = jobs.into_iter().map(|(pending, read)| {
            let found = find(&pending, read);
            (pending, found)
        });
        let jobs = found.collect();
        let verdict = BackendState::outage_if(outage.is_some());
        (ReadOutcome { messages, jobs }, verdict)
    }

    fn reply(&self, ReadOutcome { messages, jobs }: ReadOutcome) {
        let messages = match messages {
            Ok(messages) => messages,
            Err(cause) => {
                error!("reading the newest messages failed for {} requests: {cause}", jobs.len());
                jobs.into_iter().for_each(|(pending, _)| pending.refuse(&Problem::from(&cause)));
                return;
            }
        };
        let mut batch = Batch { messages: &messages, page: None, lists: Vec::new() };
        for (pending, found) in jobs {
            match found {
                Found::Here(read) => pending.answer(batch.reply(&self.pages, read)),
                Found::Beyond(limit, Ok(above)) => pending.answer(ascending(&above, limit)),
                Found::Beyond(_, Err(cause)) => pending.refuse(&Problem::from(&cause)),
            }
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, ReadJob)>, why: RejectReason) {
        warn!("{} requests that were waiting for the newest messages are rejected: {why:?}", jobs.len());
        jobs.into_iter().for_each(|(pending, _)| pending.refuse(&Problem::from(why)));
    }
}

impl ReadJob {
    /// Rows that answer it; one more than are shown tells whether there are more.
    fn rows(self) -> usize {
        match self {
            ReadJob::Page => DEFAULT_LIMIT + 1,
            ReadJob::List(limit) => limit + 1,
            ReadJob::After(..) => MAX_LIMIT + 1,
        }
    }
}

impl Batch<'_> {
    fn reply(&mut self, pages: &Pages, read: ReadJob) -> Response {
        match read {
            ReadJob::Page => self.page(pages).with_insert(idempotency_key::generate_text()),
            ReadJob::List(limit) => self.list(limit),
            ReadJob::After(id, limit) => {
                let above: Vec<_> = self.messages.iter().rev().filter(|m| m.id > id).take(limit + 1).cloned().collect();
                ascending(&above, limit)
            }
        }
    }

    fn page(&mut self, pages: &Pages) -> Response {
        self.page.get_or_insert_with(|| page(pages, self.messages, true)).clone()
    }

    fn list(&mut self, limit: usize) -> Response {
        if let Some((_, reply)) = self.lists.iter().find(|(l, _)| *l == limit) {
            return reply.clone();
        }
        let reply = descending(self.messages, limit);
        self.lists.push((limit, reply.clone()));
        reply
    }
}

/// A statement for what is not among the newest messages.
fn beyond(client: &mut Client, pending: &PendingReply, id: u64, limit: usize) -> Result<Vec<Message>, Error> {
    client
        .after(id, limit + 1)
        .inspect_err(|cause| error!(request_id = pending.id(); "reading newer messages failed: {cause}"))
}

/// Whether these newest messages, of which `wanted` were asked for, are all above `id`.
fn holds_all_above(messages: &[Message], wanted: usize, id: u64) -> bool {
    messages.len() < wanted || messages.last().is_some_and(|oldest| oldest.id <= id)
}

/// A page of the board that has no key yet: the messages are newest first, and one more than are shown when
/// there are older ones.
pub fn page(pages: &Pages, messages: &[Message], newest: bool) -> Response {
    let shown = &messages[..messages.len().min(DEFAULT_LIMIT)];
    let older = shown.last().map(|m| m.id).filter(|_| messages.len() > shown.len());
    let halves = pages.board(shown, older, newest);
    let body = Body::Split { before: halves.before, own: String::new(), after: halves.after };
    responses::html(200, &[], body)
}

/// A list, newest first, of messages that are one more than `limit` when there are more.
pub fn descending(messages: &[Message], limit: usize) -> Response {
    continued(messages, limit, "before")
}

/// A list, oldest first, of messages that are one more than `limit` when there are more.
pub fn ascending(messages: &[Message], limit: usize) -> Response {
    continued(messages, limit, "after")
}

fn continued(messages: &[Message], limit: usize, direction: &str) -> Response {
    let shown = &messages[..messages.len().min(limit)];
    let last = shown.last().filter(|_| messages.len() > limit);
    responses::list(shown, last.map(|last| format!("./messages?{direction}={}&limit={limit}", last.id)))
}
