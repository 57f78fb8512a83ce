//! Inserts: one statement and one commit for all submits that wait, and responses only after the commit.

use std::borrow::Cow;
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

/// Executes the batches.
pub struct InsertBatches {
    pages: Arc<Pages>,
    outages: Arc<Outages>,
}

/// A message to store.
pub struct InsertJob {
    /// The text.
    pub text: NewMessage,
    /// The key as the client sent it, if it sent one.
    pub chosen_key: Option<String>,
    /// The key came with the form of a page, which the Back button shows again with the same key.
    pub key_in_form: bool,
    /// The key of the row.
    pub key: IdempotencyKey,
    /// Where it was posted.
    pub endpoint: Endpoint,
}

/// The shape of the request and of its response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /submit`.
    Form,
    /// `POST /messages`.
    Api,
}

impl Endpoint {
    /// The form field that holds the text.
    pub fn field(self) -> &'static str {
        match self {
            Endpoint::Form => "new_message",
            Endpoint::Api => "message",
        }
    }
}

/// The responses to one batch. Many of them share one head.
struct Answers<'a> {
    pages: &'a Pages,
    /// To a program that posted the form, without its body.
    program: Response,
}

/// A batch that was stored, or failed, and is not replied to yet.
pub struct InsertOutcome {
    /// Sorted by key; those with the same key in the order of their arrival.
    jobs: Vec<(PendingReply, InsertJob)>,
    /// The outcome of each key, and the number of jobs with it.
    outcomes: Vec<(Outcome, usize)>,
}

#[derive(Serialize)]
struct SubmitJson<'a> {
    id: u64,
    message: &'a str,
}

impl InsertBatches {
    /// Renders with `pages`, and logs failures in `outages`.
    pub fn new(pages: Arc<Pages>, outages: Arc<Outages>) -> InsertBatches {
        InsertBatches { pages, outages }
    }
}

impl Answers<'_> {
    fn new(pages: &Pages) -> Answers<'_> {
        Answers { pages, program: responses::json_without_value(200, &[responses::VARY]) }
    }

    /// The response to a submit with this outcome.
    fn reply(&self, submit: &InsertJob, outcome: &Outcome, pending: &PendingReply) -> Response {
        let html = pending.prefers_html();
        match outcome {
            Outcome::Stored { id, message } => {
                let message =
                    message.as_ref().map_or_else(|| Cow::Owned(as_stored(*id, submit.text.as_str())), Cow::Borrowed);
                self.stored(submit.endpoint, &message, html)
            }
            Outcome::Replayed(message) => {
                self.stored(submit.endpoint, message, html).with_header("Idempotency-Replayed", "true")
            }
            Outcome::KeyReused(_) => refusal(self.pages, submit, &Problem::KeyReused, pending),
            Outcome::Failed(cause) => refusal(self.pages, submit, &Problem::from(cause), pending),
        }
    }

    fn stored(&self, endpoint: Endpoint, message: &Message, html: bool) -> Response {
        match endpoint {
            Endpoint::Form if html => {
                let location = format!("./#m{}", message.id);
                Response::new(303, &[("Location", &location), responses::NO_STORE, responses::VARY], Body::Empty)
            }
            Endpoint::Form => {
                let stored = SubmitJson { id: message.id, message: &message.text };
                self.program.clone().with_body(responses::json_body(&stored))
            }
            Endpoint::Api => {
                let location = format!("./messages/{}", message.id);
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
        jobs: Vec<(PendingReply, InsertJob)>,
        waited: Duration,
    ) -> (InsertOutcome, BackendState) {
        client.start_deadline(waited);
        let mut batch = insert(client, jobs);
        let edited = batch.take_edited_forms();
        if !edited.is_empty() {
            batch.append(insert(client, edited));
        }
        let failures = batch.outcomes.iter().filter_map(|(outcome, _)| outcome.failure());
        let state = BackendState::outage_if(failures.into_iter().any(Error::is_outage));
        (batch, state)
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
        for (outcome, size) in outcomes {
            let mut first = None;
            for (pending, submit) in jobs.by_ref().take(size) {
                let later;
                let outcome = match (&outcome, &first) {
                    (Outcome::Stored { .. }, None) | (Outcome::Failed(_), _) => &outcome,
                    _ => {
                        later = outcome_of_later(&outcome, first.as_ref(), &submit.text);
                        &later
                    }
                };
                let reply = answers.reply(&submit, outcome, &pending);
                pending.answer(reply);
                first.get_or_insert(submit.text);
            }
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, InsertJob)>, why: RejectReason) {
        self.outages.writes.count(jobs.len());
        for (pending, submit) in jobs {
            let reply = refusal(&self.pages, &submit, &Problem::from(why), &pending);
            pending.answer(reply);
        }
    }
}

/// Stores these jobs with one statement.
fn insert(client: &mut Client, mut jobs: Vec<(PendingReply, InsertJob)>) -> InsertOutcome {
    // By key, so that concurrent writers take their locks in the same order. The sort is stable: of two jobs with one key,
    // the first to arrive stays the first.
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
    InsertOutcome { jobs, outcomes }
}

impl InsertOutcome {
    /// Takes out the forms whose key was used for another text (Back, edit, send), each with the key of its text.
    fn take_edited_forms(&mut self) -> Vec<(PendingReply, InsertJob)> {
        let may_differ = |(outcome, size): &(Outcome, usize)| *size > 1 || matches!(outcome, Outcome::KeyReused(_));
        if !self.outcomes.iter().any(may_differ) {
            return Vec::new();
        }
        let (mut kept, mut edited) = (Vec::with_capacity(self.jobs.len()), Vec::new());
        let mut jobs = std::mem::take(&mut self.jobs).into_iter();
        for (outcome, size) in &mut self.outcomes {
            let mut stored = None;
            for (pending, mut submit) in jobs.by_ref().take(std::mem::take(size)) {
                // The text that has the key; none when the outcome is an error.
                let stored = stored.get_or_insert_with(|| text_with_key(outcome, &submit.text));
                if submit.key_in_form && stored.as_ref().is_some_and(|stored| stored != submit.text.as_str()) {
                    submit.key = submit.key.for_text(submit.text.as_str());
                    edited.push((pending, submit));
                } else {
                    kept.push((pending, submit));
                    *size += 1;
                }
            }
        }
        self.jobs = kept;
        edited
    }

    fn append(&mut self, mut other: InsertOutcome) {
        self.jobs.append(&mut other.jobs);
        self.outcomes.append(&mut other.outcomes);
    }
}

/// The text that owns the key when `first` was the first of its batch with it. `None` when any text is a replay, because the
/// message was edited.
fn text_with_key(outcome: &Outcome, first: &NewMessage) -> Option<String> {
    match outcome {
        // Not what is stored, which a trigger may have changed.
        Outcome::Stored { .. } => Some(first.as_str().to_owned()),
        Outcome::Replayed(message) | Outcome::KeyReused(message) => {
            Some(message.text.clone()).filter(|_| message.edited_at.is_none())
        }
        Outcome::Failed(_) => None,
    }
}

/// The outcome of a submit whose key has a message already. `first` is the text of the first submit with this key in the
/// batch, if this one is another.
fn outcome_of_later(outcome: &Outcome, first: Option<&NewMessage>, text: &NewMessage) -> Outcome {
    let owner = text_with_key(outcome, first.unwrap_or(text));
    let stored = match outcome {
        Outcome::Stored { id, message: None } => as_stored(*id, owner.as_deref().unwrap_or_default()),
        Outcome::Stored { message: Some(message), .. } | Outcome::Replayed(message) | Outcome::KeyReused(message) => {
            message.clone()
        }
        Outcome::Failed(cause) => return Outcome::Failed(cause.clone()),
    };
    if owner.is_none_or(|owner| owner == text.as_str()) {
        Outcome::Replayed(stored)
    } else {
        Outcome::KeyReused(stored)
    }
}

/// A message of which the INSERT returned only the id.
fn as_stored(id: u64, text: &str) -> Message {
    Message { id, text: text.to_owned(), created_at: None, edited_at: None }
}

fn refusal(pages: &Pages, submit: &InsertJob, problem: &Problem, pending: &PendingReply) -> Response {
    match submit.endpoint {
        Endpoint::Form if pending.prefers_html() => {
            returned(pages, submit.text.as_str(), submit.chosen_key.as_deref(), problem)
        }
        Endpoint::Form | Endpoint::Api => pending.problem(problem),
    }
}

/// The form again, with the text. It keeps the key too, so that sending it again stores one message; a key that belongs to
/// another message is replaced.
pub fn returned(pages: &Pages, text: &str, chosen_key: Option<&str>, problem: &Problem) -> Response {
    let fresh = idempotency_key::generate_text();
    let key = chosen_key.filter(|_| !matches!(problem, Problem::KeyReused | Problem::InvalidKey(_))).unwrap_or(&fresh);
    let page = pages.returned_form(&FormValues { text, key, problem: &problem.form_detail() });
    responses::html(problem.status(), problem.header().as_slice(), Body::whole(page))
}
