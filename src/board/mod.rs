//! The board: what each request means, and which lane does it.
//!
//! A request is turned into a plan by looking at nothing but itself; then its answer is given at once or left to a
//! lane. Nothing here touches a socket, and SQL is the store's.

pub mod answer;
pub mod asker;
pub mod client;
pub mod input;
pub mod newest;
pub mod origin;
pub mod problem;
pub mod rate;
pub mod route;
pub mod single;
pub mod submit;
pub mod watch;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::http::head::Head;
use crate::http::{Body, Refusal, Reply, Request, Responder, Service, Turn};
use crate::key::Key;
use crate::lane::{self, Lane, Work};
use crate::message::NewMessage;
use crate::metrics::METRICS;
use crate::page::Pages;
use crate::phase::Phase;
use crate::store::Seat;
use asker::Asker;
use input::{Start, Submitted};
use newest::{Newest, Read};
use problem::Problem;
use rate::Rate;
use route::Route;
use single::{Single, Singles};
use submit::{Form, Submit, Submits};
use watch::Watch;

/// What a board is like.
pub struct Settings {
    /// The pages' title.
    pub title: String,
    /// The name of this machine, for the pages.
    pub host: String,
    /// The longest message.
    pub max_chars: usize,
    /// The token that turns on editing and deleting.
    pub admin_token: Option<String>,
    /// The proxies that are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Submits a minute for one client.
    pub rate_limit: Option<NonZeroU32>,
    /// Requests that may wait in a lane.
    pub queue_requests: usize,
    /// Bytes that may wait in a lane.
    pub queue_bytes: usize,
    /// How long a request may wait in a lane.
    pub patience: Duration,
}

/// The leaders that the lanes may have together; two workers more are never taken by the database.
pub const LEADERS: usize = 5;

/// The seats of the lanes.
pub struct Seats {
    /// One for the newest messages.
    pub newest: Seat,
    /// One for submits.
    pub submit: Seat,
    /// Two for everything else.
    pub singles: [Seat; 2],
    /// One for readiness.
    pub watch: Seat,
}

/// The board.
pub struct Board {
    pages: Arc<Pages>,
    phase: Arc<Phase>,
    max_chars: usize,
    admin_token: Option<[u8; 32]>,
    trusted_proxies: Vec<IpNet>,
    rate: Option<Rate>,
    newest: Lane<Newest>,
    submits: Lane<Submits>,
    singles: Lane<Singles>,
    watch: Lane<Watch>,
}

/// What is to be done for a request.
enum Plan {
    Answer(Reply),
    Newest(Read),
    Submit(Submit),
    Single(Single),
    Probe,
}

/// Rows and bytes of one INSERT, and requests that one SELECT answers.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// What a request without a text counts for in a lane's bytes.
const JOB_BYTES: usize = 512;
/// What lives for ever in caches, as its name changes with its content.
const FOR_EVER: (&str, &str) = ("Cache-Control", "public, max-age=31536000, immutable");
const FOR_A_DAY: (&str, &str) = ("Cache-Control", "public, max-age=86400");

#[derive(Serialize)]
struct VersionJson {
    name: &'static str,
    version: &'static str,
    commit: Option<&'static str>,
}

impl Board {
    /// A board whose lanes use `seats`, and which answers by `phase`.
    pub fn new(settings: Settings, seats: Seats, phase: Arc<Phase>) -> Board {
        let pages = Arc::new(Pages::new(&settings.title, &settings.host, settings.max_chars));
        let limits = |batch_jobs| lane::Limits {
            queue_jobs: settings.queue_requests,
            queue_bytes: settings.queue_bytes,
            batch_jobs,
            batch_bytes: BATCH_BYTES,
            patience: settings.patience,
        };
        Board {
            phase,
            max_chars: settings.max_chars,
            // Compared as hashes, so that the time it takes says nothing of where two tokens differ.
            admin_token: settings.admin_token.map(|token| Sha256::digest(token).into()),
            trusted_proxies: settings.trusted_proxies,
            rate: settings.rate_limit.map(Rate::new),
            newest: Lane::new("newest", Newest::new(Arc::clone(&pages)), vec![seats.newest], limits(BATCH_JOBS)),
            submits: Lane::new("submit", Submits::new(Arc::clone(&pages)), vec![seats.submit], limits(BATCH_JOBS)),
            singles: Lane::new("other", Singles::new(Arc::clone(&pages)), seats.singles.into(), limits(1)),
            watch: Lane::new("watch", Watch::default(), vec![seats.watch], limits(usize::MAX)),
            pages,
        }
    }

    fn plan(&self, route: Route, request: &Request, html: bool) -> Result<Plan, Problem> {
        match route {
            Route::Live => Ok(Plan::Answer(answer::text(200, &[], "alive"))),
            Route::Ready => Ok(self.readiness().map_or(Plan::Probe, Plan::Answer)),
            Route::Version => Ok(Plan::Answer(version())),
            Route::Metrics => Ok(Plan::Answer(metrics())),
            Route::Asset(name) => self.asset(&name).map(Plan::Answer),
            Route::Icon => Ok(Plan::Answer(file(FOR_A_DAY, "image/svg+xml", self.pages.icon()))),
            Route::Options(allow) => Ok(Plan::Answer(Reply::new(204, &[("Allow", allow)], Body::Empty))),
            Route::Page => self.page(request),
            Route::List => self.list(request),
            Route::Show(id) => self.with_database(Plan::Single(Single::Show(id))),
            Route::Submit => Ok(self.submit_form(request, html)),
            Route::Create => self.submit(request, &input::submitted(request, "message", true)?, Form::Create),
            Route::Replace(id) => {
                self.admit_editor(request)?;
                let text = NewMessage::parse(&input::submitted(request, "message", true)?.text, self.max_chars)?;
                self.with_database(Plan::Single(Single::Replace(id, text)))
            }
            Route::Remove(id) => {
                self.admit_editor(request)?;
                self.with_database(Plan::Single(Single::Remove(id)))
            }
        }
    }

    fn page(&self, request: &Request) -> Result<Plan, Problem> {
        let plan = match input::window(request.head.query())?.start {
            Start::Newest => Plan::Newest(Read::Page),
            Start::Before(id) => Plan::Single(Single::Page(id)),
            Start::After(_) => {
                return Err(Problem::InvalidParameter("The page is read from its newest message, or before one."));
            }
        };
        self.with_database(plan)
    }

    fn list(&self, request: &Request) -> Result<Plan, Problem> {
        let window = input::window(request.head.query())?;
        self.with_database(match window.start {
            Start::Newest => Plan::Newest(Read::List(window.limit)),
            Start::Before(id) => Plan::Single(Single::Before(id, window.limit)),
            Start::After(id) if self.newest.work().reaches(id) => Plan::Newest(Read::After(id, window.limit)),
            Start::After(id) => Plan::Single(Single::After(id, window.limit)),
        })
    }

    /// A person who sent the form gets it back with what is wrong; a program gets an error.
    fn submit_form(&self, request: &Request, html: bool) -> Plan {
        let submitted = input::submitted(request, "new_message", false);
        let plan = match &submitted {
            Ok(submitted) => self.submit(request, submitted, Form::Submit),
            Err(problem) => Err(problem.clone()),
        };
        plan.unwrap_or_else(|problem| {
            Plan::Answer(match &submitted {
                // Another site's text is not put before a person to be sent by one click.
                Ok(sent) if html && problem != Problem::CrossSite => {
                    submit::returned(&self.pages, &sent.text, sent.key.as_deref(), &problem)
                }
                Ok(_) | Err(_) => answer::problem(&self.pages, &problem, html),
            })
        })
    }

    fn submit(&self, request: &Request, submitted: &Submitted, form: Form) -> Result<Plan, Problem> {
        self.admit_writer(request)?;
        let key = submitted.key.as_deref().map_or_else(|| Ok(Key::fresh()), input::key)?;
        let text = NewMessage::parse(&submitted.text, self.max_chars)?;
        let plan = self.with_database(Plan::Submit(Submit { text, chosen_key: submitted.key.clone(), key, form }))?;
        // Last: only what would be stored counts.
        match &self.rate {
            Some(rate) => {
                let client = client::address(request, &self.trusted_proxies);
                rate.count(client).map(|()| plan).map_err(Problem::rate_limited)
            }
            None => Ok(plan),
        }
    }

    fn admit_writer(&self, request: &Request) -> Result<(), Problem> {
        match origin::is_cross_site(request, &self.trusted_proxies) {
            true => Err(Problem::CrossSite),
            false => Ok(()),
        }
    }

    fn admit_editor(&self, request: &Request) -> Result<(), Problem> {
        self.admit_writer(request)?;
        let token = self.admin_token.ok_or(Problem::EditingDisabled)?;
        let sent = request.head.value("authorization").and_then(|value| value.split_once(' '));
        match sent {
            Some((scheme, sent)) if scheme.eq_ignore_ascii_case("bearer") => {
                let sent: [u8; 32] = Sha256::digest(sent.trim_start()).into();
                if sent == token { Ok(()) } else { Err(Problem::Unauthorized) }
            }
            Some(_) | None => Err(Problem::Unauthorized),
        }
    }

    fn with_database(&self, plan: Plan) -> Result<Plan, Problem> {
        match (self.phase.is_open(), self.phase.is_ending()) {
            (true, _) => Ok(plan),
            (false, true) => Err(Problem::ShuttingDown),
            (false, false) => Err(Problem::DatabaseUnavailable),
        }
    }

    /// The answer to a probe, where it needs no look at the database.
    fn readiness(&self) -> Option<Reply> {
        match (self.phase.is_ending(), self.phase.is_open()) {
            (true, _) => Some(watch::not_ready("shutting down")),
            (false, false) => Some(watch::not_ready(&self.phase.waiting_for())),
            (false, true) => self.watch.work().shared(),
        }
    }

    /// Leads `lane` as long as it is due. Another worker is called for whatever else is due by now.
    fn lead<W: Work>(&self, lane: &Lane<W>, turn: &mut Turn<'_>) {
        let mut due = lane.due();
        if due.is_some() && self.is_due() {
            turn.call();
        }
        while let Some(lead) = due {
            turn.leave(lead.expected());
            let done = lead.run();
            turn.come_back();
            due = done.report();
        }
    }

    fn is_due(&self) -> bool {
        self.newest.is_due() || self.submits.is_due() || self.singles.is_due() || self.watch.is_due()
    }

    fn asset(&self, name: &str) -> Result<Reply, Problem> {
        let asset = self.pages.asset(name).ok_or(Problem::NotFound)?;
        Ok(file(FOR_EVER, asset.content_type, asset.content))
    }
}

impl Service for Board {
    fn respond(&self, request: Request, mut responder: Responder) {
        let html = input::accepts_html(&request.head);
        let route = Route::find(&request.head.method, request.head.path());
        let template = route.as_ref().map_or(route::UNKNOWN, Route::template);
        responder.describe(template, client::address(&request, &self.trusted_proxies));
        let plan = route.and_then(|route| self.plan(route, &request, html));
        drop(request);
        let asker = |responder| Asker::new(responder, Arc::clone(&self.pages), html);
        let full = match plan {
            Ok(Plan::Answer(reply)) => return responder.answer(reply),
            Err(problem) => return asker(responder).refuse(&problem),
            Ok(Plan::Newest(read)) => self.newest.enter((asker(responder), read), JOB_BYTES).err().map(|job| job.0),
            Ok(Plan::Single(single)) => {
                let bytes = JOB_BYTES + if let Single::Replace(_, text) = &single { text.as_str().len() } else { 0 };
                self.singles.enter((asker(responder), single), bytes).err().map(|job| job.0)
            }
            Ok(Plan::Submit(submit)) => {
                let bytes = JOB_BYTES + submit.text.as_str().len();
                self.submits.enter((asker(responder), submit), bytes).err().map(|job| job.0)
            }
            Ok(Plan::Probe) => self.watch.enter(responder, JOB_BYTES).err().map(asker),
        };
        if let Some(asker) = full {
            asker.refuse(&Problem::Overloaded);
        }
    }

    fn settle(&self, turn: &mut Turn<'_>) {
        self.lead(&self.newest, turn);
        self.lead(&self.submits, turn);
        self.lead(&self.singles, turn);
        self.lead(&self.watch, turn);
    }

    fn refuse(&self, refusal: Refusal, head: Option<&Head>) -> Reply {
        answer::problem(&self.pages, &Problem::from(refusal), head.is_some_and(input::accepts_html))
    }
}

fn version() -> Reply {
    let commit = option_env!("TWOTIER_COMMIT").filter(|commit| !commit.is_empty());
    answer::json(200, &[], &VersionJson { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), commit })
}

fn metrics() -> Reply {
    let headers = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), answer::NO_STORE];
    Reply::new(200, &headers, Body::whole(METRICS.text()))
}

fn file(cache: (&str, &str), content_type: &str, content: &'static str) -> Reply {
    Reply::new(200, &[("Content-Type", content_type), cache], Body::whole(content))
}
