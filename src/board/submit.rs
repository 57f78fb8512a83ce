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

/// A job that was stored, or failed, and is not replied to yet.
type Executed = (PendingReply, InsertJob, Outcome);

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
    type Outcome = Vec<Executed>;

    fn execute(
        &self,
        client: &mut Client,
        jobs: Vec<(PendingReply, InsertJob)>,
        waited: Duration,
    ) -> (Vec<Executed>, BackendState) {
        client.start_deadline(waited);
        let mut executed = insert(client, jobs);
        // A form whose key was used for another text (Back, edit, send) is stored with the key of its text.
        let is_edited = |(_, job, outcome): &mut Executed| job.key_in_form && matches!(outcome, Outcome::KeyReused(_));
        let with_key_of_text = |(pending, mut job, _): Executed| {
            job.key = job.key.for_text(job.text.as_str());
            (pending, job)
        };
        let edited: Vec<_> = executed.extract_if(.., is_edited).map(with_key_of_text).collect();
        if !edited.is_empty() {
            executed.extend(insert(client, edited));
        }
        let mut failures = executed.iter().filter_map(|(_, _, outcome)| outcome.failure());
        let state = BackendState::outage_if(failures.any(Error::is_outage));
        (executed, state)
    }

    fn reply(&self, executed: Vec<Executed>) {
        let failures = || executed.iter().filter_map(|(pending, _, outcome)| Some((pending.id(), outcome.failure()?)));
        match failures().next() {
            Some((_, cause)) => {
                let request_ids: Vec<&str> = failures().map(|(id, _)| id).collect();
                self.outages.writes.fail(cause.label(), cause, &request_ids);
            }
            None => self.outages.writes.succeed(),
        }
        let answers = Answers::new(&self.pages);
        for (pending, job, outcome) in executed {
            let reply = answers.reply(&job, &outcome, &pending);
            pending.answer(reply);
        }
    }

    fn reject(&self, jobs: Vec<(PendingReply, InsertJob)>, why: RejectReason) {
        let request_ids: Vec<&str> = jobs.iter().map(|(pending, _)| pending.id()).collect();
        self.outages.writes.count(&request_ids);
        for (pending, submit) in jobs {
            let reply = refusal(&self.pages, &submit, &Problem::from(why), &pending);
            pending.answer(reply);
        }
    }
}

/// Stores these jobs with one statement.
fn insert(client: &mut Client, mut jobs: Vec<(PendingReply, InsertJob)>) -> Vec<Executed> {
    // By key, so that concurrent writers take their locks in the same order. The sort is stable: of two jobs with one key,
    // the first to arrive stays the first.
    jobs.sort_by_key(|(_, job)| job.key);
    let groups: Vec<&[(PendingReply, InsertJob)]> = jobs.chunk_by(|a, b| a.1.key == b.1.key).collect();
    let rows: Vec<NewRow<'_>> = groups
        .iter()
        .map(|group| {
            let full = group.iter().any(|(_, job)| job.endpoint == Endpoint::Api);
            let first = &group[0].1;
            NewRow { key: first.key, text: &first.text, key_is_ours: first.chosen_key.is_none(), full }
        })
        .collect();
    let outcomes: Vec<_> = client.insert(&rows).into_iter().zip(groups.iter().map(|group| group.len())).collect();
    let mut executed: Vec<Executed> = Vec::with_capacity(jobs.len());
    let mut jobs = jobs.into_iter();
    for (outcome, size) in outcomes {
        let at = executed.len();
        executed.extend(jobs.next().map(|(pending, first)| (pending, first, outcome)));
        for (pending, job) in jobs.by_ref().take(size - 1) {
            let (_, first, outcome) = &executed[at];
            let outcome = outcome_of_later(outcome, &first.text, &job.text);
            executed.push((pending, job, outcome));
        }
    }
    executed
}

/// The outcome of a job with `text` that has the key of an earlier one in its batch. The `first` of them had this `outcome`.
fn outcome_of_later(outcome: &Outcome, first: &NewMessage, text: &NewMessage) -> Outcome {
    let (stored, owner) = match outcome {
        // The owner of the key is not what is stored, which a trigger may have changed.
        Outcome::Stored { id, message } => {
            let stored = message.clone().unwrap_or_else(|| as_stored(*id, first.as_str()));
            (stored, Some(first.as_str()))
        }
        // After an edit, any text is a replay.
        Outcome::Replayed(message) | Outcome::KeyReused(message) => {
            (message.clone(), Some(message.text.as_str()).filter(|_| message.edited_at.is_none()))
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
    let page = pages.returned_form(&FormValues { text, key, problem: &problem.form_words() });
    responses::html(problem.status(), problem.header().as_slice(), Body::shared(page))
}
