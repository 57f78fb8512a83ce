//! The board: what each request means, and which queue serves it.
//!
//! In come complete requests, each with its responder. Out go responses, either immediately or after a batch.
//! - Understanding a request: `route`, `input`, `body` with `multipart` and `parameters`, `forwarded`.
//! - Admitting it: `cross_site`, `admin_token` and `rate_limit`, which remember clients in `recent`.
//! - Setting it up: `settings`, and the `queue` type with its connections.
//! - Serving it: `latest`, `submit` and `point` are the work of the three queues. Their batch sizes and leaders are set
//!   in this file.
//! - Streaming: `live` sends what changed, which `live_window` finds and `live_events` writes.
//! - Answering it: `responses` forms JSON and pages, `problem` has the status and the detail of each error, `words` has
//!   what a page says about it, `status` answers for the service itself, and `pending_reply` and `delayed_replies` carry a
//!   response back.
//!
//! Nothing here touches a socket or SQL, and nothing but a leader's statement blocks.

mod admin_token;
pub mod body;
mod cross_site;
mod delayed_replies;
mod forwarded;
pub mod input;
mod latest;
mod live;
mod live_events;
mod live_window;
mod multipart;
mod parameters;
mod pending_reply;
mod point;
pub mod problem;
mod queue;
mod rate_limit;
mod recent;
mod responses;
mod route;
mod settings;
mod status;
pub mod submit;
mod words;

use std::net::IpAddr;
use std::sync::Arc;

use crate::batch_queue::{self, BatchProcessor};
use crate::http::head::Head;
use crate::http::{Body, Handler, PollPermit, Request, RequestError, RequestId, Responder, Response};
use crate::idempotency_key::IdempotencyKey;
use crate::lifecycle::Lifecycle;
use crate::message::NewMessage;
use crate::metrics::METRICS;
use crate::outage_log::Outages;
use crate::page::{Depth, Pages, ROBOTS};
use crate::store::{Client, Database};
use admin_token::AdminToken;
use body::Submitted;
use cross_site::CrossSiteRule;
use delayed_replies::DelayedReplies;
use forwarded::TrustedProxies;
use input::Start;
use latest::{LatestReads, ReadJob};
use live::LastEventId;
pub use live::LiveFeed;
use pending_reply::PendingReply;
use point::{PointOp, PointOps};
use problem::Problem;
use queue::{Clients, Queue};
use rate_limit::RateLimiter;
use route::Route;
pub use settings::Settings;
use submit::{Endpoint, InsertBatches, InsertJob};

/// Batches that each queue executes at the same time; all of them together are fewer than the workers.
const LATEST_LEADERS: usize = 1;
const INSERT_LEADERS: usize = 2;
const POINT_LEADERS: usize = 2;
/// All leaders.
pub const LEADERS: usize = LATEST_LEADERS + INSERT_LEADERS + POINT_LEADERS;

/// The board.
pub struct Board {
    pages: Arc<Pages>,
    lifecycle: Arc<Lifecycle>,
    max_chars: usize,
    admin_token: Option<AdminToken>,
    delayed: DelayedReplies,
    proxies: TrustedProxies,
    cross_site: CrossSiteRule,
    rate: Option<RateLimiter>,
    latest: Queue<LatestReads>,
    inserts: Queue<InsertBatches>,
    points: Queue<PointOps>,
    live: Arc<LiveFeed>,
}

/// What is known about a request before its route.
#[derive(Clone, Copy)]
struct RequestContext {
    /// The client's address, as trusted proxies report it.
    client: IpAddr,
    /// The depth of the path, where the client prefers HTML.
    page: Option<Depth>,
}

/// What a request needs.
enum Plan {
    Answer(Response),
    Stream(LastEventId),
    Latest(ReadJob),
    Insert(InsertJob),
    Point(PointOp),
}

/// Rows and bytes of one INSERT, and requests that one SELECT answers.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// The size of a request without a text in the limit of a queue.
const JOB_BYTES: usize = 512;

impl Board {
    /// A board whose queues use `database`, and which answers as `lifecycle` allows.
    pub fn new(
        settings: Settings,
        database: &Arc<Database>,
        lifecycle: Arc<Lifecycle>,
        outages: &Arc<Outages>,
    ) -> Board {
        let pages = Arc::new(Pages::new(settings.page()));
        let limits = |leaders, batch_jobs| batch_queue::Limits {
            queue_jobs: settings.queue_requests,
            queue_bytes: settings.queue_bytes,
            batch_jobs,
            batch_bytes: BATCH_BYTES,
            max_queue_wait: database.max_queue_wait(),
            leaders,
        };
        METRICS.rate_limit.set(settings.rate_limit.map_or(0, |limit| limit.get().into()));
        METRICS.message_limit.set(settings.max_chars.try_into().unwrap_or(i64::MAX));
        route::create_series(&METRICS.requests);
        let latest = LatestReads::new(Arc::clone(&pages), Arc::clone(outages));
        let inserts = InsertBatches::new(Arc::clone(&pages), Arc::clone(outages));
        let points = PointOps::new(Arc::clone(&pages), Arc::clone(outages));
        let source = || Clients(Arc::clone(database));
        Board {
            lifecycle,
            max_chars: settings.max_chars,
            admin_token: settings.admin_token.as_deref().map(AdminToken::new),
            delayed: DelayedReplies::default(),
            proxies: TrustedProxies::new(settings.trusted_proxies),
            cross_site: CrossSiteRule::new(&settings.public_urls),
            rate: settings.rate_limit.map(RateLimiter::new),
            latest: Queue::new(latest, source(), limits(LATEST_LEADERS, BATCH_JOBS), METRICS.batch_queue("latest")),
            inserts: Queue::new(inserts, source(), limits(INSERT_LEADERS, BATCH_JOBS), METRICS.batch_queue("insert")),
            points: Queue::new(points, source(), limits(POINT_LEADERS, 1), METRICS.batch_queue("point")),
            live: LiveFeed::new(settings.max_streams),
            pages,
        }
    }

    /// The live feed, which must be started.
    pub fn live(&self) -> Arc<LiveFeed> {
        Arc::clone(&self.live)
    }

    fn plan(&self, route: Route, request: &Request, context: RequestContext) -> Result<Plan, Problem> {
        let is_page = context.page.is_some() && matches!(route, Route::Show(_));
        if let Some(known) = route.parameters().filter(|_| !is_page) {
            input::parameters(request.head.query(), known)?;
        }
        match route {
            Route::Live => Ok(Plan::Answer(responses::text(200, &[], "alive"))),
            Route::Ready => Ok(Plan::Answer(status::readiness(self.lifecycle.readiness()))),
            Route::Version => Ok(Plan::Answer(status::version())),
            Route::Metrics => Ok(Plan::Answer(status::metrics(self.lifecycle.readiness()))),
            Route::Asset(name) => self.asset(&name).map(Plan::Answer),
            Route::Icon => Ok(Plan::Answer(responses::asset(responses::FOR_A_DAY, self.pages.icon()))),
            Route::Robots => Ok(Plan::Answer(responses::file(responses::FOR_A_DAY, responses::PLAIN, ROBOTS))),
            Route::Options(allow) => Ok(Plan::Answer(Response::new(204, &[("Allow", allow)], Body::Empty))),
            Route::Page => self.page(request),
            Route::List => self.list(request),
            Route::Show(id) => self.with_database(Plan::Point(PointOp::Show(id))),
            Route::Events => {
                let plan = self.with_database(Plan::Stream(input::last_event_id(&request.head)))?;
                self.live.admit().map(|()| plan)
            }
            Route::Submit => self.submit_form(request, context),
            Route::Create => self.submit(request, context, &body::submitted(request, Endpoint::Api)?, Endpoint::Api),
            Route::Replace(id) => {
                self.admit_editor(request, context)?;
                let text = NewMessage::parse(&body::submitted(request, Endpoint::Api)?.text, self.max_chars)?;
                self.with_database(Plan::Point(PointOp::Replace(id, text)))
            }
            Route::Remove(id) => {
                self.admit_editor(request, context)?;
                self.with_database(Plan::Point(PointOp::Remove(id)))
            }
        }
    }

    fn page(&self, request: &Request) -> Result<Plan, Problem> {
        let plan = match input::page_start(request.head.query())? {
            Start::Newest => Plan::Latest(ReadJob::Page),
            Start::Before(id) => Plan::Point(PointOp::PageBefore(id)),
            Start::After(id) => Plan::Point(PointOp::PageAfter(id)),
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

    /// A browser gets the form once more with what is wrong; a program gets an error.
    fn submit_form(&self, request: &Request, context: RequestContext) -> Result<Plan, Problem> {
        let sent = body::submitted(request, Endpoint::Form)?;
        self.submit(request, context, &sent, Endpoint::Form).or_else(|problem| match problem {
            // The text of another site must not be one click away from being posted.
            Problem::CrossSite(_) => Err(problem),
            _ if context.page.is_some() => {
                Ok(Plan::Answer(submit::returned(&self.pages, &sent.text, sent.key.as_deref(), &problem)))
            }
            _ => Err(problem),
        })
    }

    fn submit(
        &self,
        request: &Request,
        context: RequestContext,
        submitted: &Submitted,
        endpoint: Endpoint,
    ) -> Result<Plan, Problem> {
        self.admit_writer(request)?;
        let key = submitted.key.as_deref().map_or_else(|| Ok(IdempotencyKey::generate()), input::key)?;
        let text = NewMessage::parse(&submitted.text, self.max_chars)?;
        let plan = self.with_database(Plan::Insert(InsertJob {
            text,
            chosen_key: submitted.key.clone(),
            key_in_form: submitted.key_in_form && endpoint == Endpoint::Form,
            key,
            endpoint,
        }))?;
        // Last, because only a submit that would be stored counts.
        match &self.rate {
            Some(rate) => rate.check(context.client).map(|()| plan).map_err(|wait| {
                METRICS.rate_limited.inc();
                Problem::rate_limited(wait)
            }),
            None => Ok(plan),
        }
    }

    fn admit_writer(&self, request: &Request) -> Result<(), Problem> {
        self.cross_site.check(request, &self.proxies).map_err(Problem::CrossSite)
    }

    fn admit_editor(&self, request: &Request, context: RequestContext) -> Result<(), Problem> {
        self.admit_writer(request)?;
        self.admin_token.as_ref().ok_or(Problem::EditingDisabled)?.check(&request.head, context.client)
    }

    fn with_database(&self, plan: Plan) -> Result<Plan, Problem> {
        if !self.lifecycle.is_serving() {
            let is_stopping = self.lifecycle.is_stopping();
            return Err(if is_stopping { Problem::ShuttingDown } else { Problem::DatabaseUnavailable });
        }
        let is_write = match &plan {
            Plan::Insert(_) => true,
            Plan::Point(op) => op.is_write(),
            Plan::Answer(_) | Plan::Stream(_) | Plan::Latest(_) => false,
        };
        if is_write && !self.lifecycle.is_writable() {
            return Err(Problem::WritesPaused);
        }
        Ok(plan)
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
        Ok(responses::asset(responses::FOR_EVER, asset))
    }
}

impl Handler for Board {
    fn client(&self, head: &Head, peer: IpAddr) -> IpAddr {
        self.proxies.client(head, peer)
    }

    fn respond(&self, request: Request, mut responder: Responder) {
        let context = RequestContext { client: responder.client(), page: preferred_page(&request.head) };
        let route = Route::find(&request.head.method, request.head.path());
        let template = route.as_ref().map_or(route::UNKNOWN, Route::template);
        responder.set_route(template);
        let plan = route.and_then(|route| self.plan(route, &request, context));
        drop(request);
        let pending = |responder| PendingReply::new(responder, Arc::clone(&self.pages), context.page);
        let full = match plan {
            Ok(Plan::Answer(reply)) => return responder.answer(reply),
            Ok(Plan::Stream(last)) => return self.live.open(responder, last),
            Err(problem @ Problem::Unauthorized { delay }) if !delay.is_zero() => {
                return self.delayed.refuse(pending(responder), problem, delay);
            }
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

    fn refuse(&self, refusal: RequestError, head: Option<&Head>, id: &RequestId) -> Response {
        let page = head.and_then(preferred_page);
        responses::problem(&self.pages, &Problem::from(refusal), page, id.as_str())
    }
}

/// The depth of the path, where the client prefers HTML.
fn preferred_page(head: &Head) -> Option<Depth> {
    input::prefers_html(head).then(|| Depth::of(head.path()))
}
