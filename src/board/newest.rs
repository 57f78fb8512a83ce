//! The newest lane: one SELECT answers everyone who arrived before it began.
//!
//! It is no cache: nothing that was read for one batch is used for another. Who asks for what turns out not to be among the
//! newest costs the batch one more SELECT; the floor that is remembered sends the next one like him to another lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use log::{error, warn};

use super::answer;
use super::asker::Asker;
use super::input::{DEFAULT_LIMIT, MAX_LIMIT};
use super::problem::Problem;
use crate::http::{Body, Reply};
use crate::key;
use crate::lane::{Away, Verdict, Work};
use crate::message::Message;
use crate::page::Pages;
use crate::store::{Error, Seat};

/// The work of the lane.
pub struct Newest {
    pages: Arc<Pages>,
    /// The smallest id among the newest [`MAX_LIMIT`] messages when they were last read; 0 when there were fewer.
    floor: AtomicU64,
}

/// A read of the newest messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// The first page.
    Page,
    /// So many as a list.
    List(usize),
    /// Those above an id, so many at most.
    After(u64, usize),
}

/// A batch that was read and is not answered yet.
pub struct Done {
    /// The newest messages, so many as the batch needs; or why there are none.
    messages: Result<Vec<Message>, Error>,
    /// Who asked, and where the answer is.
    jobs: Vec<(Asker, Found)>,
}

/// Where the answer to a read is.
enum Found {
    /// Among the newest messages.
    Here(Read),
    /// Not there: this is what a statement of its own gave, for so many messages at most.
    Beyond(usize, Result<Vec<Message>, Error>),
}

/// What one SELECT of a batch gave, and the answers that were made of it.
struct Batch<'a> {
    messages: &'a [Message],
    page: Option<Reply>,
    lists: Vec<(usize, Reply)>,
}

impl Newest {
    /// The lane's work, before anything was read.
    pub fn new(pages: Arc<Pages>) -> Newest {
        Newest { pages, floor: AtomicU64::new(0) }
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

impl Work for Newest {
    type Job = (Asker, Read);
    type Seat = Seat;
    type Done = Done;

    fn run(&self, seat: &mut Seat, jobs: Vec<(Asker, Read)>, waited: Duration) -> (Done, Verdict) {
        seat.begin(waited);
        let wanted = jobs.iter().map(|(_, read)| read.rows()).max().unwrap_or_default();
        let messages = seat.newest(wanted);
        if let Ok(messages) = &messages
            && wanted > MAX_LIMIT
        {
            self.remember_floor(messages);
        }
        let mut outage = messages.as_ref().err().filter(|cause| cause.is_outage()).cloned();
        let mut find = |asker: &Asker, read| match (read, &messages) {
            (Read::After(id, limit), Ok(messages)) if !holds_all_above(messages, wanted, id) => {
                // After an outage the others would wait for the same, one after the other.
                let above = outage.clone().map_or_else(|| beyond(seat, asker, id, limit), Err);
                outage = above.as_ref().err().filter(|cause| cause.is_outage()).cloned();
                Found::Beyond(limit, above)
            }
            (Read::After(..) | Read::Page | Read::List(_), Ok(_) | Err(_)) => Found::Here(read),
        };
        let found = jobs.into_iter().map(|(asker, read)| {
            let found = find(&asker, read);
            (asker, found)
        });
        let jobs = found.collect();
        let verdict = Verdict::outage_if(outage.is_some());
        (Done { messages, jobs }, verdict)
    }

    fn report(&self, Done { messages, jobs }: Done) {
        let messages = match messages {
            Ok(messages) => messages,
            Err(cause) => {
                error!("reading the newest messages failed for {} requests: {cause}", jobs.len());
                jobs.into_iter().for_each(|(asker, _)| asker.refuse(&Problem::from(&cause)));
                return;
            }
        };
        let mut batch = Batch { messages: &messages, page: None, lists: Vec::new() };
        for (asker, found) in jobs {
            match found {
                Found::Here(read) => asker.answer(batch.reply(&self.pages, read)),
                Found::Beyond(limit, Ok(above)) => asker.answer(ascending(&above, limit)),
                Found::Beyond(_, Err(cause)) => asker.refuse(&Problem::from(&cause)),
            }
        }
    }

    fn turn_away(&self, jobs: Vec<(Asker, Read)>, why: Away) {
        warn!("{} requests that were waiting for the newest messages are turned away: {why:?}", jobs.len());
        jobs.into_iter().for_each(|(asker, _)| asker.refuse(&Problem::from(why)));
    }
}

impl Read {
    /// Rows that answer it; one more than are shown tells whether there are more.
    fn rows(self) -> usize {
        match self {
            Read::Page => DEFAULT_LIMIT + 1,
            Read::List(limit) => limit + 1,
            Read::After(..) => MAX_LIMIT + 1,
        }
    }
}

impl Batch<'_> {
    fn reply(&mut self, pages: &Pages, read: Read) -> Reply {
        match read {
            Read::Page => self.page(pages).with_own(key::fresh_text()),
            Read::List(limit) => self.list(limit),
            Read::After(id, limit) => {
                let above: Vec<_> = self.messages.iter().rev().filter(|m| m.id > id).take(limit + 1).cloned().collect();
                ascending(&above, limit)
            }
        }
    }

    fn page(&mut self, pages: &Pages) -> Reply {
        self.page.get_or_insert_with(|| page(pages, self.messages, true)).clone()
    }

    fn list(&mut self, limit: usize) -> Reply {
        if let Some((_, reply)) = self.lists.iter().find(|(l, _)| *l == limit) {
            return reply.clone();
        }
        let reply = descending(self.messages, limit);
        self.lists.push((limit, reply.clone()));
        reply
    }
}

/// A statement for what is not among the newest messages.
fn beyond(seat: &mut Seat, asker: &Asker, id: u64, limit: usize) -> Result<Vec<Message>, Error> {
    seat.after(id, limit + 1)
        .inspect_err(|cause| error!(request_id = asker.id(); "reading newer messages failed: {cause}"))
}

/// Whether these newest messages, of which `wanted` were asked for, are all above `id`.
fn holds_all_above(messages: &[Message], wanted: usize, id: u64) -> bool {
    messages.len() < wanted || messages.last().is_some_and(|oldest| oldest.id <= id)
}

/// A page of the board that has no key yet: the messages are newest first, and one more than are shown when
/// there are older ones.
pub fn page(pages: &Pages, messages: &[Message], newest: bool) -> Reply {
    let shown = &messages[..messages.len().min(DEFAULT_LIMIT)];
    let older = shown.last().map(|m| m.id).filter(|_| messages.len() > shown.len());
    let halves = pages.board(shown, older, newest);
    let body = Body::Spliced { before: halves.before, own: String::new(), after: halves.after };
    answer::html(200, &[], body)
}

/// A list, newest first, of messages that are one more than `limit` when there are more.
pub fn descending(messages: &[Message], limit: usize) -> Reply {
    continued(messages, limit, "before")
}

/// A list, oldest first, of messages that are one more than `limit` when there are more.
pub fn ascending(messages: &[Message], limit: usize) -> Reply {
    continued(messages, limit, "after")
}

fn continued(messages: &[Message], limit: usize, direction: &str) -> Reply {
    let shown = &messages[..messages.len().min(limit)];
    let last = shown.last().filter(|_| messages.len() > limit);
    answer::list(shown, last.map(|last| format!("/messages?{direction}={}&limit={limit}", last.id)))
}
