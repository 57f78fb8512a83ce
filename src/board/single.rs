//! The lane for what can't be grouped: one message by its id, older pages, edits and deletions, one at a time.

use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};

use super::answer::{self, MessageJson};
use super::asker::Asker;
use super::newest;
use super::problem::Problem;
use crate::http::{Body, Reply};
use crate::key;
use crate::lane::{Away, Verdict, Work};
use crate::message::NewMessage;
use crate::page::Pages;
use crate::store::{Error, Seat};

/// The work of the lane.
pub struct Singles {
    pages: Arc<Pages>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Single {
    /// One message.
    Show(u64),
    /// The page below an id.
    Page(u64),
    /// A list of those below an id.
    Before(u64, usize),
    /// A list of those above an id.
    After(u64, usize),
    /// Another text for a message.
    Replace(u64, NewMessage),
    /// A message's end.
    Remove(u64),
}

impl Singles {
    /// The lane's work.
    pub fn new(pages: Arc<Pages>) -> Singles {
        Singles { pages }
    }

    fn reply(&self, seat: &mut Seat, single: &Single, html: bool) -> Result<Reply, Error> {
        let not_found = || answer::problem(&self.pages, &Problem::NotFound, html);
        let shown = |message| answer::json(200, &[], &MessageJson::from(&message));
        Ok(match single {
            Single::Show(id) => seat.by_id(*id)?.map_or_else(not_found, shown),
            Single::Page(id) => {
                let messages = seat.before(*id, super::input::DEFAULT_LIMIT + 1)?;
                newest::page(&self.pages, &messages, false).with_own(key::fresh_text())
            }
            Single::Before(id, limit) => newest::descending(&seat.before(*id, limit + 1)?, *limit),
            Single::After(id, limit) => newest::ascending(&seat.after(*id, limit + 1)?, *limit),
            Single::Replace(id, text) => seat.replace(*id, text)?.map_or_else(not_found, shown),
            Single::Remove(id) if seat.remove(*id)? => Reply::new(204, &[], Body::Empty),
            Single::Remove(_) => not_found(),
        })
    }
}

impl Work for Singles {
    type Job = (Asker, Single);
    type Seat = Seat;
    type Done = Vec<(Asker, Result<Reply, Error>)>;

    fn run(&self, seat: &mut Seat, jobs: Vec<(Asker, Single)>, waited: Duration) -> (Self::Done, Verdict) {
        seat.begin(waited);
        let replies = jobs.into_iter().map(|(asker, single)| {
            let reply = self.reply(seat, &single, asker.html);
            (asker, reply)
        });
        let replies: Self::Done = replies.collect();
        let outage = replies.iter().any(|(_, reply)| reply.as_ref().is_err_and(Error::is_outage));
        (replies, Verdict::outage_if(outage))
    }

    fn report(&self, replies: Self::Done) {
        for (asker, reply) in replies {
            match reply {
                Ok(reply) => asker.answer(reply),
                Err(cause) => {
                    error!(request_id = asker.id(); "{cause}");
                    asker.refuse(&Problem::from(&cause));
                }
            }
        }
    }

    fn turn_away(&self, jobs: Vec<(Asker, Single)>, why: Away) {
        warn!("{} requests that were waiting for single messages are turned away: {why:?}", jobs.len());
        jobs.into_iter().for_each(|(asker, _)| asker.refuse(&Problem::from(why)));
    }
}
