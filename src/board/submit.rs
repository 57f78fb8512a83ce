//! The submit lane: one INSERT and one commit for everyone who is waiting, and an answer only after it.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::pending_reply::PendingReply;
use super::problem::Problem;
use super::responses::{self, MessageJson};
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Body, Response};
use crate::idempotency_key::{self, IdempotencyKey};
use crate::message::{Message, NewMessage};
use crate::outage_log::Outages;
use crate::page::{FormValues, Pages};
use crate::store::{Client, Error, NewRow, Outcome};

/// The work of the lane.
pub struct InsertBatches {
    pages: Arc<Pages>,
    outages: Arc<Outages>,
}

/// A message that somebody wants stored.
pub struct InsertJob {
    /// The text.
    pub text: NewMessage,
    /// The key as the client sent it, if it did.
    pub chosen_key: Option<String>,
    /// What the row will have.
    pub key: IdempotencyKey,
    /// How it was asked for.
    pub endpoint: Endpoint,
}

/// The shape of the request, and so of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /submit`.
    Form,
    /// `POST /messages`.
    Api,
}

/// The answers to one batch. What many of them share is printed once.
struct Answers<'a> {
    pages: &'a Pages,
    /// To a program that sent the form.
    program: Response,
}

/// A batch that was stored, or failed, and is not answered yet.
pub struct InsertOutcome {
    /// By key; those with one key in the order in which they came.
    jobs: Vec<(PendingReply, InsertJob)>,
    /// What became of each key, and how many jobs have it.
    outcomes: Vec<(Outcome, usize)>,
}

#[derive(Serialize)]
struct SubmitJson<'a> {
    id: u64,
    message: &'a str,
}

impl InsertBatches {
    /// The lane's work.
    pub fn new(pages: Arc<Pages>, outages: Arc<Outages>) -> InsertBatches {
        InsertBatches { pages, outages }
    }
}

impl Answers<'_> {
    fn new(pages: &Pages) -> Answers<'_> {
        Answers { pages, program: responses::json_without_value(200, &[]) }
    }

    /// The answer to the person or program that sent `submit`, of which `outcome` became.
    fn reply(&self, submit: &InsertJob, outcome: &Outcome, html: bool) -> Response {
        match outcome {
            Outcome::Stored { id, message: None } => self.stored(submit.endpoint, &as_stored(*id, &submit.text), html),
            Outcome::Stored { message: Some(message), .. } => self.stored(submit.endpoint, message, html),
            Outcome::Replayed(message) => {
                self.stored(submit.endpoint, message, html).with_header("Idempotency-Replayed", "true")
            }
            Outcome::KeyReused(_) => refusal(self.pages, submit, &Problem::KeyReused, html),
            Outcome::Failed(cause) => refusal(self.pages, submit, &Problem::from(cause), html),
        }
    }

    fn stored(&self, endpoint: Endpoint, message: &Message, html: bool) -> Response {
        match endpoint {
            Endpoint::Form if html => {
                Response::new(303, &[("Location", "/"), ("Cache-Control", "no-store")], Body::Empty)
            }
            Endpoint::Form => {
                let stored = SubmitJson { id: message.id, message: &message.text };
                self.program.clone().with_body(responses::json_body(&stored))
            }
            Endpoint::Api => {
                let location = format!("/messages/{}", message.id);
                responses::json(201, &[("Location", &location)], &MessageJson::from(message))
            }
        }
    }
}

impl BatchProcessor for InsertBatches {
    type Job = (PendingReply, InsertJob);
    type Connection = Client;
    type Outcome = InsertOutcome;

    fn execute(
        &self,
        client: &mut Client,
        mut jobs: Vec<(PendingReply, InsertJob)>,
        waited: Duration,
    ) -> (InsertOutcome, BackendState) {
        client.start_deadline(waited);
        // By key: writers that meet take their locks in the same order. The sort is stable, so that the first of two with
        // one key is the one that came first.
        jobs.sort_by_key(|(_, submit)| submit.key);
        let groups: Vec<&[(PendingReply, InsertJob)]> = jobs.chunk_by(|a, b| a.1.key == b.1.key).collect();
        let rows: Vec<NewRow<'_>> = groups
            .iter()
            .map(|group| {
                let full = group.iter().any(|(_, submit)| submit.endpoint == Endpoint::Api);
                let first = &group[0].1;
                NewRow { key: first.key, text: &first.text, key_is_ours: first.chosen_key.is_none(), full }
            })
            .collect();
        let outcomes: Vec<_> = client.insert(&rows).into_iter().zip(groups.iter().map(|group| group.len())).collect();
        let verdict = BackendState::outage_if(outcomes.iter().filter_map(|o| o.0.failure()).any(Error::is_outage));
        (InsertOutcome { jobs, outcomes }, verdict)
    }

    fn reply(&self, InsertOutcome { jobs, outcomes }: InsertOutcome) {
        match outcomes.iter().find_map(|(outcome, _)| outcome.failure()) {
            Some(cause) => {
                let failed = outcomes.iter().filter(|(o, _)| o.failure().is_some()).map(|(_, size)| size).sum();
                let request_id = jobs.first().map_or("-", |(pending, _)| pending.id());
                self.outages.writes.fail(cause.label(), cause, failed, request_id);
            }
            None => self.outages.writes.succeed(),
        }
        let answers = Answers::new(&self.pages);
        let mut jobs = jobs.into_iter();
        for (mut outcome, size) in outcomes {
            let is_stored_here = matches!(outcome, Outcome::Stored { .. });
            let mut first_text = None;
            for (pending, submit) in jobs.by_ref().take(size) {
                if let Some(first) = &first_text {
                    outcome = repeated(outcome, is_stored_here, first, &submit.text);
                }
                let reply = answers.reply(&submit, &outcome, pending.html);
                pending.answer(reply);
                first_text.get_or_insert(submit.text);
            }
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, InsertJob)>, why: RejectReason) {
        self.outages.writes.count(jobs.len());
        for (pending, submit) in jobs {
            let reply = refusal(&self.pages, &submit, &Problem::from(why), pending.html);
            pending.answer(reply);
        }
    }
}

/// What becomes of a submit whose key another one of the same batch has. That one had the text `first` and this `outcome`,
/// and this batch has stored it if `is_stored_here`.
fn repeated(outcome: Outcome, is_stored_here: bool, first: &NewMessage, text: &NewMessage) -> Outcome {
    // The database may have changed the text of the first one.
    let there = match outcome {
        Outcome::Stored { id, message } => message.unwrap_or_else(|| as_stored(id, first)),
        Outcome::Replayed(message) | Outcome::KeyReused(message) => message,
        Outcome::Failed(cause) => return Outcome::Failed(cause),
    };
    if is_stored_here && first == text || there.text == text.as_str() || there.edited_at.is_some() {
        Outcome::Replayed(there)
    } else {
        Outcome::KeyReused(there)
    }
}

/// A message of which only the id was asked for.
fn as_stored(id: u64, text: &NewMessage) -> Message {
    Message { id, text: text.as_str().to_owned(), created_at: None, edited_at: None }
}

fn refusal(pages: &Pages, submit: &InsertJob, problem: &Problem, html: bool) -> Response {
    match submit.endpoint {
        Endpoint::Form if html => returned(pages, submit.text.as_str(), submit.chosen_key.as_deref(), problem),
        Endpoint::Form | Endpoint::Api => responses::problem(pages, problem, html),
    }
}

/// The form with the text kept. It keeps the key too, so that sending it again stores it once; but for a key that belongs
/// to another message.
pub fn returned(pages: &Pages, text: &str, chosen_key: Option<&str>, problem: &Problem) -> Response {
    let fresh = idempotency_key::generate_text();
    let key = chosen_key.filter(|_| !matches!(problem, Problem::KeyReused | Problem::InvalidKey(_))).unwrap_or(&fresh);
    let page = pages.returned_form(&FormValues { text, key, problem: &problem.message() });
    responses::html(problem.status(), problem.header().as_slice(), Body::whole(page))
}
