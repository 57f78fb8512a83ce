//! The lane for what can't be grouped: one message by its id, older pages, edits and deletions, one at a time.

use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};

use super::latest;
use super::pending_reply::PendingReply;
use super::problem::Problem;
use super::responses::{self, MessageJson};
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Body, Response};
use crate::idempotency_key;
use crate::message::NewMessage;
use crate::page::Pages;
use crate::store::{Client, Error};

/// The work of the lane.
pub struct PointOps {
    pages: Arc<Pages>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PointOp {
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

impl PointOps {
    /// The lane's work.
    pub fn new(pages: Arc<Pages>) -> PointOps {
        PointOps { pages }
    }

    fn reply(&self, client: &mut Client, op: &PointOp, pending: &PendingReply) -> Result<Response, Error> {
        let not_found = |id: u64| pending.problem(&Problem::NoMessage(id));
        let shown = |message| responses::json(200, &[], &MessageJson::from(&message));
        Ok(match op {
            PointOp::Show(id) => client.by_id(*id)?.map_or_else(|| not_found(*id), shown),
            PointOp::Page(id) => {
                let messages = client.before(*id, super::input::DEFAULT_LIMIT + 1)?;
                latest::page(&self.pages, &messages, false).with_insert(idempotency_key::generate_text())
            }
            PointOp::Before(id, limit) => latest::descending(&client.before(*id, limit + 1)?, *limit),
            PointOp::After(id, limit) => latest::ascending(&client.after(*id, limit + 1)?, *limit),
            PointOp::Replace(id, text) => client.replace(*id, text)?.map_or_else(|| not_found(*id), shown),
            PointOp::Remove(id) if client.remove(*id)? => Response::new(204, &[], Body::Empty),
            PointOp::Remove(id) => not_found(*id),
        })
    }
}

impl BatchProcessor for PointOps {
    type Job = (PendingReply, PointOp);
    type Connection = Client;
    type Outcome = Vec<(PendingReply, Result<Response, Error>)>;

    fn execute(
        &self,
        client: &mut Client,
        jobs: Vec<(PendingReply, PointOp)>,
        waited: Duration,
    ) -> (Self::Outcome, BackendState) {
        client.begin(waited);
        let replies = jobs.into_iter().map(|(pending, op)| {
            let reply = self.reply(client, &op, &pending);
            (pending, reply)
        });
        let replies: Self::Outcome = replies.collect();
        let outage = replies.iter().any(|(_, reply)| reply.as_ref().is_err_and(Error::is_outage));
        (replies, BackendState::outage_if(outage))
    }

    fn reply(&self, replies: Self::Outcome) {
        for (pending, reply) in replies {
            match reply {
                Ok(reply) => pending.answer(reply),
                Err(cause) => {
                    error!(request_id = pending.id(); "{cause}");
                    pending.refuse(&Problem::from(&cause));
                }
            }
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, PointOp)>, why: RejectReason) {
        warn!("{} requests that were waiting for op messages are rejected: {why:?}", jobs.len());
        jobs.into_iter().for_each(|(pending, _)| pending.refuse(&Problem::from(why)));
    }
}
