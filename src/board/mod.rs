//! The board: what each request means, and which queue serves it.
//!
//! In come complete requests, each with its responder. Out go responses, either immediately or after a batch.
//! - Understanding a request: `route`, `input`, `body` with `multipart` and `parameters`, `forwarded`.
//! - Admitting it: `cross_site`, `admin_token` and `rate_limit`, which remember clients in `recent`.
//! - Setting it up: `settings`.
//! - Serving it: `latest`, `submit` and `point` are the work of the three `queues`.
//! - Streaming: `live` sends what changed. `live_read` reads the database at intervals, `live_window` finds the changes, and
//!   `live_events` writes them.
//! - Answering it: `responses` forms JSON and pages, `representation` has their entity tags, `problem` has the status and
//!   the detail of each error, `words` has what a page says about it, `status` and `openapi` answer for the service
//!   itself (readiness comes from the last check of `store::supervisor`), and `pending_reply` and `delayed_replies` carry a
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
mod live_read;
mod live_window;
mod multipart;
mod openapi;
mod parameters;
mod pending_reply;
mod point;
pub mod problem;
mod queues;
mod rate_limit;
mod recent;
mod representation;
mod responses;
mod route;
mod settings;
mod status;
pub mod submit;
mod words;

use std::net::IpAddr;
use std::sync::Arc;

use crate::http::head::Head;
use crate::http::{Body, Handler, PollPermit, Request, RequestError, RequestId, Responder, Response};
use crate::idempotency_key::IdempotencyKey;
use crate::lifecycle::Lifecycle;
use crate::message::NewMessage;
use crate::metrics::METRICS;
use crate::outage_log::Outages;
use crate::page::{Depth, Feed, Pages, ROBOTS};
use crate::store::Database;
use admin_token::AdminToken;
use body::Submitted;
use cross_site::CrossSiteRule;
use delayed_replies::DelayedReplies;
use forwarded::TrustedProxies;
use input::Start;
use latest::ReadJob;
use live::LastEventId;
pub use live::LiveFeed;
use openapi::Description;
use pending_reply::PendingReply;
use point::PointOp;
use problem::Problem;
pub use queues::LEADERS;
use queues::{Job, Queues};
use rate_limit::RateLimiter;
use representation::HeldTags;
use route::Route;
pub use settings::Settings;
use submit::{Endpoint, InsertJob};

/// The board.
pub struct Board {
    pages: Arc<Pages>,
    /// None without an address for its links.
    feed: Option<Arc<Feed>>,
    lifecycle: Arc<Lifecycle>,
    max_chars: usize,
    admin_token: Option<AdminToken>,
    delayed: DelayedReplies,
    proxies: TrustedProxies,
    cross_site: CrossSiteRule,
    rate: Option<RateLimiter>,
    queues: Queues,
    live: Arc<LiveFeed>,
    description: Description,
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
    Queue(Job),
}

impl Board {
    /// A board whose queues use `database`, and which answers as `lifecycle` allows.
    pub fn new(
        settings: Settings,
        database: &Arc<Database>,
        lifecycle: Arc<Lifecycle>,
        outages: &Arc<Outages>,
    ) -> Board {
        let pages = Arc::new(Pages::new(settings.page()));
        let feed = settings.public_urls.first().map(|url| Arc::new(Feed::new(&settings.title, url.as_str())));
        METRICS.rate_limit.set(settings.rate_limit.map_or(0, |limit| limit.get().into()));
        METRICS.message_limit.set(settings.max_chars.try_into().unwrap_or(i64::MAX));
        route::create_series(&METRICS.requests);
        let queues = Queues::new(&settings, database, &pages, outages);
        Board {
            lifecycle,
            max_chars: settings.max_chars,
            admin_token: settings.admin_token.as_deref().map(AdminToken::new),
            delayed: DelayedReplies::default(),
            proxies: TrustedProxies::new(settings.trusted_proxies),
            cross_site: CrossSiteRule::new(&settings.public_urls),
            rate: settings.rate_limit.map(RateLimiter::new),
            queues,
            feed,
            live: LiveFeed::new(settings.max_streams),
            description: Description::new(settings.max_chars),
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
            Route::OpenApi => Ok(Plan::Answer(self.description.response())),
            Route::Asset(name) => self.asset(&name).map(Plan::Answer),
            Route::Icon => Ok(Plan::Answer(responses::asset(responses::FOR_A_DAY, self.pages.icon()))),
            Route::Robots => Ok(Plan::Answer(responses::file(responses::FOR_A_DAY, responses::PLAIN, ROBOTS))),
            Route::Options(allow) => Ok(Plan::Answer(Response::new(204, &[("Allow", allow)], Body::Empty))),
            Route::Page => self.page(request),
            Route::List => self.list(request),
            Route::Show(id) => self.queue(Job::Point(PointOp::Show(id))),
            Route::Feed => {
                let feed = self.feed.as_ref().ok_or(Problem::NoFeed)?;
                self.queue(Job::Latest(ReadJob::Feed(Arc::clone(feed))))
            }
            Route::Events => {
                self.check_serving()?;
                self.live.admit().map(|()| Plan::Stream(input::last_event_id(&request.head)))
            }
            Route::Submit => self.submit_form(request, context),
            Route::Create => self.submit(request, context, &body::submitted(request, Endpoint::Api)?, Endpoint::Api),
            Route::Replace(id) => {
                self.admit_editor(request, context)?;
                let text = NewMessage::parse(&body::submitted(request, Endpoint::Api)?.text, self.max_chars)?;
                self.queue(Job::Point(PointOp::Replace(id, text)))
            }
            Route::Remove(id) => {
                self.admit_editor(request, context)?;
                self.queue(Job::Point(PointOp::Remove(id)))
            }
        }
    }

    fn page(&self, request: &Request) -> Result<Plan, Problem> {
        let job = match input::page_start(request.head.query())? {
            Start::Newest => Job::Latest(ReadJob::Page),
            Start::Before(id) => Job::Point(PointOp::PageBefore(id)),
            Start::After(id) => Job::Point(PointOp::PageAfter(id)),
        };
        self.queue(job)
    }

    fn list(&self, request: &Request) -> Result<Plan, Problem> {
        let window = input::window(request.head.query())?;
        self.queue(match window.start {
            Start::Newest => Job::Latest(ReadJob::List(window.limit)),
            Start::Before(id) => Job::Point(PointOp::Before(id, window.limit)),
            Start::After(id) => Job::Point(PointOp::After(id, window.limit)),
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
        let plan = self.queue(Job::Insert(InsertJob {
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

    fn queue(&self, job: Job) -> Result<Plan, Problem> {
        self.check_serving()?;
        if job.is_write() && !self.lifecycle.is_writable() {
            return Err(Problem::WritesPaused);
        }
        Ok(Plan::Queue(job))
    }

    fn check_serving(&self) -> Result<(), Problem> {
        match (self.lifecycle.is_serving(), self.lifecycle.is_stopping()) {
            (true, _) => Ok(()),
            (false, true) => Err(Problem::ShuttingDown),
            (false, false) => Err(Problem::DatabaseUnavailable),
        }
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
        let route = Route::find(&request.head.method, request.head.path(), self.admin_token.is_some());
        let template = route.as_ref().map_or(route::UNKNOWN, Route::template);
        responder.set_route(template);
        let has_tag = route.as_ref().is_ok_and(Route::has_entity_tag);
        let held = if has_tag { HeldTags::of(&request.head) } else { HeldTags::NONE };
        let plan = route.and_then(|route| self.plan(route, &request, context));
        drop(request);
        let pending = |responder| PendingReply::new(responder, Arc::clone(&self.pages), context.page, held);
        match plan {
            Ok(Plan::Answer(reply)) => responder.answer(reply),
            Ok(Plan::Stream(last)) => self.live.open(responder, last),
            Ok(Plan::Queue(job)) => self.queues.push(pending(responder), job),
            Err(problem @ Problem::Unauthorized { delay }) if !delay.is_zero() => {
                self.delayed.refuse(pending(responder), problem, delay);
            }
            Err(problem) => pending(responder).refuse(&problem),
        }
    }

    fn run_queued(&self, permit: &mut PollPermit<'_>) {
        self.queues.run(permit);
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
