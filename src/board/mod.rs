//! The board: what each request means, and which lane does it.
//!
//! A request is turned into a plan by looking at nothing but itself; then its answer is given at once or left to a
//! lane. Nothing here touches a socket, and SQL is the store's.

pub mod client_address;
pub mod cross_site;
pub mod input;
pub mod latest;
pub mod pending_reply;
pub mod point;
pub mod problem;
pub mod rate_limit;
pub mod responses;
pub mod route;
pub mod submit;

use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::batch_queue::{self, BatchProcessor, BatchQueue};
use crate::http::head::Head;
use crate::http::{Body, Handler, PollPermit, Request, RequestError, Responder, Response};
use crate::idempotency_key::IdempotencyKey;
use crate::lifecycle::{Lifecycle, Readiness};
use crate::message::NewMessage;
use crate::metrics::METRICS;
use crate::outage_log::Outages;
use crate::page::Pages;
use crate::store::{Client, Database};
use input::{Start, Submitted};
use latest::{LatestReads, ReadJob};
use pending_reply::PendingReply;
use point::{PointOp, PointOps};
use problem::Problem;
use rate_limit::RateLimiter;
use route::Route;
use submit::{Endpoint, InsertBatches, InsertJob};

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
}

/// Batches that each queue executes at the same time; all of them together are fewer than the workers.
const LATEST_LEADERS: usize = 1;
const INSERT_LEADERS: usize = 1;
const POINT_LEADERS: usize = 2;
/// All leaders.
pub const LEADERS: usize = LATEST_LEADERS + INSERT_LEADERS + POINT_LEADERS;

type Queue<P> = BatchQueue<P, Arc<Database>>;

/// The board.
pub struct Board {
    pages: Arc<Pages>,
    lifecycle: Arc<Lifecycle>,
    max_chars: usize,
    admin_token: Option<[u8; 32]>,
    trusted_proxies: Vec<IpNet>,
    rate: Option<RateLimiter>,
    latest: Queue<LatestReads>,
    inserts: Queue<InsertBatches>,
    points: Queue<PointOps>,
}

/// What is to be done for a request.
enum Plan {
    Answer(Response),
    Latest(ReadJob),
    Insert(InsertJob),
    Point(PointOp),
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
    /// A board whose queues use `database`, and which answers as `lifecycle` allows.
    pub fn new(
        settings: Settings,
        database: &Arc<Database>,
        lifecycle: Arc<Lifecycle>,
        outages: &Arc<Outages>,
    ) -> Board {
        let pages = Arc::new(Pages::new(&settings.title, &settings.host, settings.max_chars));
        let limits = |leaders, batch_jobs| batch_queue::Limits {
            queue_jobs: settings.queue_requests,
            queue_bytes: settings.queue_bytes,
            batch_jobs,
            batch_bytes: BATCH_BYTES,
            max_queue_wait: database.timeouts().max_queue_wait(),
            leaders,
        };
        let latest = LatestReads::new(Arc::clone(&pages), Arc::clone(outages));
        let inserts = InsertBatches::new(Arc::clone(&pages), Arc::clone(outages));
        let points = PointOps::new(Arc::clone(&pages), Arc::clone(outages));
        let source = || Arc::clone(database);
        Board {
            lifecycle,
            max_chars: settings.max_chars,
            // Compared as hashes, so that the time it takes says nothing of where two tokens differ.
            admin_token: settings.admin_token.map(|token| Sha256::digest(token).into()),
            trusted_proxies: settings.trusted_proxies,
            rate: settings.rate_limit.map(RateLimiter::new),
            latest: Queue::new(latest, source(), limits(LATEST_LEADERS, BATCH_JOBS), METRICS.batch_queue("latest")),
            inserts: Queue::new(inserts, source(), limits(INSERT_LEADERS, BATCH_JOBS), METRICS.batch_queue("insert")),
            points: Queue::new(points, source(), limits(POINT_LEADERS, 1), METRICS.batch_queue("point")),
            pages,
        }
    }

    fn plan(&self, route: Route, request: &Request, html: bool) -> Result<Plan, Problem> {
        match route {
            Route::Live => Ok(Plan::Answer(responses::text(200, &[], "alive"))),
            Route::Ready => Ok(Plan::Answer(self.readiness())),
            Route::Version => Ok(Plan::Answer(version())),
            Route::Metrics => Ok(Plan::Answer(metrics(self.lifecycle.readiness()))),
            Route::Asset(name) => self.asset(&name).map(Plan::Answer),
            Route::Icon => Ok(Plan::Answer(file(FOR_A_DAY, "image/svg+xml", self.pages.icon()))),
            Route::Options(allow) => Ok(Plan::Answer(Response::new(204, &[("Allow", allow)], Body::Empty))),
            Route::Page => self.page(request),
            Route::List => self.list(request),
            Route::Show(id) => self.with_database(Plan::Point(PointOp::Show(id))),
            Route::Submit => Ok(self.submit_form(request, html)),
            Route::Create => self.submit(request, &input::submitted(request, "message", true)?, Endpoint::Api),
            Route::Replace(id) => {
                self.admit_editor(request)?;
                let text = NewMessage::parse(&input::submitted(request, "message", true)?.text, self.max_chars)?;
                self.with_database(Plan::Point(PointOp::Replace(id, text)))
            }
            Route::Remove(id) => {
                self.admit_editor(request)?;
                self.with_database(Plan::Point(PointOp::Remove(id)))
            }
        }
    }

    fn page(&self, request: &Request) -> Result<Plan, Problem> {
        let plan = match input::window(request.head.query())?.start {
            Start::Newest => Plan::Latest(ReadJob::Page),
            Start::Before(id) => Plan::Point(PointOp::Page(id)),
            Start::After(_) => {
                return Err(Problem::InvalidParameter("The page is read from its newest message, or before one."));
            }
        };
        self.with_database(plan)
    }

    fn list(&self, request: &Request) -> Result<Plan, Problem> {
        let window = input::window(request.head.query())?;
        self.with_database(match window.start {
            Start::Newest => Plan::Latest(ReadJob::List(window.limit)),
            Start::Before(id) => Plan::Point(PointOp::Before(id, window.limit)),
            Start::After(id) => Plan::Point(PointOp::After(id, window.limit)),
        })
    }

    /// A person who sent the form gets it back with what is wrong; a program gets an error.
    fn submit_form(&self, request: &Request, html: bool) -> Plan {
        let submitted = input::submitted(request, "new_message", false);
        let plan = match &submitted {
            Ok(submitted) => self.submit(request, submitted, Endpoint::Form),
            Err(problem) => Err(problem.clone()),
        };
        plan.unwrap_or_else(|problem| {
            Plan::Answer(match &submitted {
                // Another site's text is not put before a person to be sent by one click.
                Ok(sent) if html && problem != Problem::CrossSite => {
                    submit::returned(&self.pages, &sent.text, sent.key.as_deref(), &problem)
                }
                Ok(_) | Err(_) => responses::problem(&self.pages, &problem, html),
            })
        })
    }

    fn submit(&self, request: &Request, submitted: &Submitted, endpoint: Endpoint) -> Result<Plan, Problem> {
        self.admit_writer(request)?;
        let key = submitted.key.as_deref().map_or_else(|| Ok(IdempotencyKey::generate()), input::key)?;
        let text = NewMessage::parse(&submitted.text, self.max_chars)?;
        let plan =
            self.with_database(Plan::Insert(InsertJob { text, chosen_key: submitted.key.clone(), key, endpoint }))?;
        // Last: only what would be stored counts.
        match &self.rate {
            Some(rate) => {
                let client = client_address::address(request, &self.trusted_proxies);
                rate.check(client).map(|()| plan).map_err(Problem::rate_limited)
            }
            None => Ok(plan),
        }
    }

    fn admit_writer(&self, request: &Request) -> Result<(), Problem> {
        match cross_site::is_cross_site(request, &self.trusted_proxies) {
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
        if !self.lifecycle.is_serving() {
            let is_stopping = self.lifecycle.is_stopping();
            return Err(if is_stopping { Problem::ShuttingDown } else { Problem::DatabaseUnavailable });
        }
        let is_write = match &plan {
            Plan::Insert(_) => true,
            Plan::Point(op) => op.is_write(),
            Plan::Answer(_) | Plan::Latest(_) => false,
        };
        if is_write && !self.lifecycle.is_writable() {
            return Err(Problem::WritesPaused);
        }
        Ok(plan)
    }

    fn readiness(&self) -> Response {
        match self.lifecycle.readiness() {
            Readiness::Ready => responses::text(200, &[], "ready"),
            Readiness::ReadOnly(reason) => responses::text(200, &[], &format!("ready, read-only: {}", reason.text)),
            Readiness::NotReady(reason) => {
                responses::text(503, &[("Retry-After", "1")], &format!("not ready: {}", reason.text))
            }
        }
    }

    /// Leads one batch of `queue`, if one is ready. Another worker is called for whatever else is ready by now.
    fn lead<P: BatchProcessor<Connection = Client>>(&self, queue: &Queue<P>, permit: &mut PollPermit<'_>) -> bool {
        let Some(leader) = queue.try_lead() else { return false };
        if self.has_ready_batch() {
            permit.wake_helper();
        }
        permit.enter_blocking(leader.expected());
        let executed = leader.execute();
        permit.exit_blocking();
        executed.reply();
        true
    }

    fn has_ready_batch(&self) -> bool {
        self.latest.has_ready_batch() || self.inserts.has_ready_batch() || self.points.has_ready_batch()
    }

    fn asset(&self, name: &str) -> Result<Response, Problem> {
        let asset = self.pages.asset(name).ok_or(Problem::NotFound)?;
        Ok(file(FOR_EVER, asset.content_type, asset.content))
    }
}

impl Handler for Board {
    fn respond(&self, request: Request, mut responder: Responder) {
        let html = input::accepts_html(&request.head);
        let route = Route::find(&request.head.method, request.head.path());
        let template = route.as_ref().map_or(route::UNKNOWN, Route::template);
        responder.describe(template, client_address::address(&request, &self.trusted_proxies));
        let plan = route.and_then(|route| self.plan(route, &request, html));
        drop(request);
        let pending = |responder| PendingReply::new(responder, Arc::clone(&self.pages), html);
        let full = match plan {
            Ok(Plan::Answer(reply)) => return responder.answer(reply),
            Err(problem) => return pending(responder).refuse(&problem),
            Ok(Plan::Latest(read)) => self.latest.push((pending(responder), read), JOB_BYTES).err().map(|job| job.0),
            Ok(Plan::Point(single)) => {
                let bytes = JOB_BYTES + if let PointOp::Replace(_, text) = &single { text.as_str().len() } else { 0 };
                self.points.push((pending(responder), single), bytes).err().map(|job| job.0)
            }
            Ok(Plan::Insert(submit)) => {
                let bytes = JOB_BYTES + submit.text.as_str().len();
                self.inserts.push((pending(responder), submit), bytes).err().map(|job| job.0)
            }
        };
        if let Some(pending) = full {
            pending.refuse(&Problem::Overloaded);
        }
    }

    fn run_queued(&self, permit: &mut PollPermit<'_>) {
        // The queues share their connections, so a batch of one may have kept another one waiting.
        while self.lead(&self.latest, permit) | self.lead(&self.inserts, permit) | self.lead(&self.points, permit) {}
    }

    fn refuse(&self, refusal: RequestError, head: Option<&Head>) -> Response {
        responses::problem(&self.pages, &Problem::from(refusal), head.is_some_and(input::accepts_html))
    }
}

fn version() -> Response {
    let commit = option_env!("TWOTIER_COMMIT").filter(|commit| !commit.is_empty());
    responses::json(200, &[], &VersionJson { name: env!("CARGO_PKG_NAME"), version: env!("CARGO_PKG_VERSION"), commit })
}

fn metrics(readiness: Readiness) -> Response {
    METRICS.set_readiness(readiness);
    let headers = [("Content-Type", "text/plain; version=0.0.4; charset=utf-8"), responses::NO_STORE];
    Response::new(200, &headers, Body::whole(METRICS.text()))
}

fn file(cache: (&str, &str), content_type: &str, content: &'static str) -> Response {
    Response::new(200, &[("Content-Type", content_type), cache], Body::whole(content))
}
