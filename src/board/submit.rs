//! The submit lane: one INSERT and one commit for everyone who is waiting, and an answer only after it.

use std::sync::Arc;
use std::time::Duration;

use log::{error, warn};
use serde::Serialize;

use super::answer::{self, MessageJson};
use super::asker::Asker;
use super::problem::Problem;
use crate::http::{Body, Reply};
use crate::key::{self, Key};
use crate::lane::{Away, Verdict, Work};
use crate::message::{Message, NewMessage};
use crate::page::{Pages, Returned};
use crate::store::{Error, NewRow, Outcome, Seat};

/// The work of the lane.
pub struct Submits {
    pages: Arc<Pages>,
}

/// A message that somebody wants stored.
pub struct Submit {
    /// The text.
    pub text: NewMessage,
    /// The key as the client sent it, if it did.
    pub chosen_key: Option<String>,
    /// What the row will have.
    pub key: Key,
    /// How it was asked for.
    pub form: Form,
}

/// The shape of the request, and so of its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `POST /submit`.
    Submit,
    /// `POST /messages`.
    Create,
}

/// The answers to one batch. What many of them share is printed once.
struct Answers<'a> {
    pages: &'a Pages,
    /// To a program that sent the form.
    program: Reply,
}

/// A batch that was stored, or failed, and is not answered yet.
pub struct Done {
    /// By key; those with one key in the order in which they came.
    jobs: Vec<(Asker, Submit)>,
    /// What became of each key, and how many jobs have it.
    outcomes: Vec<(Outcome, usize)>,
}

#[derive(Serialize)]
struct SubmitJson<'a> {
    id: u64,
    message: &'a str,
}

impl Submits {
    /// The lane's work.
    pub fn new(pages: Arc<Pages>) -> Submits {
        Submits { pages }
    }
}

impl Answers<'_> {
    fn new(pages: &Pages) -> Answers<'_> {
        Answers { pages, program: answer::json_without_value(200, &[]) }
    }

    /// The answer to the person or program that sent `submit`, of which `outcome` became.
    fn reply(&self, submit: &Submit, outcome: &Outcome, html: bool) -> Reply {
        match outcome {
            Outcome::Stored { id, message: None } => self.stored(submit.form, &as_stored(*id, &submit.text), html),
            Outcome::Stored { message: Some(message), .. } => self.stored(submit.form, message, html),
            Outcome::Replayed(message) => {
                self.stored(submit.form, message, html).with_line("Idempotency-Replayed", "true")
            }
            Outcome::KeyReused(_) => refusal(self.pages, submit, &Problem::KeyReused, html),
            Outcome::Failed(cause) => refusal(self.pages, submit, &Problem::from(cause), html),
        }
    }

    fn stored(&self, form: Form, message: &Message, html: bool) -> Reply {
        match form {
            Form::Submit if html => Reply::new(303, &[("Location", "/"), ("Cache-Control", "no-store")], Body::Empty),
            Form::Submit => {
                let stored = SubmitJson { id: message.id, message: &message.text };
                self.program.clone().with_body(answer::json_body(&stored))
            }
            Form::Create => {
                let location = format!("/messages/{}", message.id);
                answer::json(201, &[("Location", &location)], &MessageJson::from(message))
            }
        }
    }
}

impl Work for Submits {
    type Job = (Asker, Submit);
    type Seat = Seat;
    type Done = Done;

    fn run(&self, seat: &mut Seat, mut jobs: Vec<(Asker, Submit)>, waited: Duration) -> (Done, Verdict) {
        seat.begin(waited);
        // By key: writers that meet take their locks in the same order. The sort is stable, so that the first of two with
        // one key is the one that came first.
        jobs.sort_by_key(|(_, submit)| submit.key);
        let groups: Vec<&[(Asker, Submit)]> = jobs.chunk_by(|a, b| a.1.key == b.1.key).collect();
        let rows: Vec<NewRow<'_>> = groups
            .iter()
            .map(|group| {
                let full = group.iter().any(|(_, submit)| submit.form == Form::Create);
                let first = &group[0].1;
                NewRow { key: first.key, text: &first.text, key_is_ours: first.chosen_key.is_none(), full }
            })
            .collect();
        let outcomes: Vec<_> = seat.insert(&rows).into_iter().zip(groups.iter().map(|group| group.len())).collect();
        let verdict = Verdict::outage_if(outcomes.iter().filter_map(|o| o.0.failure()).any(Error::is_outage));
        (Done { jobs, outcomes }, verdict)
    }

    fn report(&self, Done { jobs, outcomes }: Done) {
        if let Some(cause) = outcomes.iter().find_map(|(outcome, _)| outcome.failure()) {
            let failed = outcomes.iter().filter(|(outcome, _)| outcome.failure().is_some()).count();
            error!("storing {failed} of {} messages failed: {cause}", outcomes.len());
        }
        let answers = Answers::new(&self.pages);
        let mut jobs = jobs.into_iter();
        for (mut outcome, size) in outcomes {
            let mut first_text = None;
            for (asker, submit) in jobs.by_ref().take(size) {
                if let Some(first) = &first_text {
                    outcome = repeated(outcome, first, &submit.text);
                }
                let reply = answers.reply(&submit, &outcome, asker.html);
                asker.answer(reply);
                first_text.get_or_insert(submit.text);
            }
        }
    }

    fn turn_away(&self, jobs: Vec<(Asker, Submit)>, why: Away) {
        warn!("{} submits that were waiting are turned away: {why:?}", jobs.len());
        for (asker, submit) in jobs {
            let reply = refusal(&self.pages, &submit, &Problem::from(why), asker.html);
            asker.answer(reply);
        }
    }
}

/// What becomes of a submit whose key another one of the same batch has, of which `outcome` became.
fn repeated(outcome: Outcome, first: &NewMessage, text: &NewMessage) -> Outcome {
    let there = match outcome {
        Outcome::Stored { id, message } => message.unwrap_or_else(|| as_stored(id, first)),
        Outcome::Replayed(message) | Outcome::KeyReused(message) => message,
        Outcome::Failed(cause) => return Outcome::Failed(cause),
    };
    match there.text == text.as_str() || there.edited_at.is_some() {
        true => Outcome::Replayed(there),
        false => Outcome::KeyReused(there),
    }
}

/// A message of which only the id was asked for.
fn as_stored(id: u64, text: &NewMessage) -> Message {
    Message { id, text: text.as_str().to_owned(), created_at: None, edited_at: None }
}

fn refusal(pages: &Pages, submit: &Submit, problem: &Problem, html: bool) -> Reply {
    match submit.form {
        Form::Submit if html => returned(pages, submit.text.as_str(), submit.chosen_key.as_deref(), problem),
        Form::Submit | Form::Create => answer::problem(pages, problem, html),
    }
}

/// The form with the text kept. It keeps the key too, so that sending it again stores it once; but for a key that belongs
/// to another message.
pub fn returned(pages: &Pages, text: &str, chosen_key: Option<&str>, problem: &Problem) -> Reply {
    let fresh = key::fresh_text();
    let key = chosen_key.filter(|_| !matches!(problem, Problem::KeyReused | Problem::InvalidKey(_))).unwrap_or(&fresh);
    let page = pages.returned_form(&Returned { text, key, problem: &problem.message() });
    answer::html(problem.status(), problem.header().as_slice(), Body::whole(page))
}
