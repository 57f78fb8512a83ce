//! The three queues of the board: which job goes where, their batch sizes and leaders, and where these get clients of the
//! database.
//!
//! Never forms a response, except that a full queue refuses.

use std::sync::Arc;

use super::latest::{LatestReads, ReadJob};
use super::pending_reply::PendingReply;
use super::point::{PointOp, PointOps};
use super::problem::Problem;
use super::route;
use super::settings::Settings;
use super::submit::{InsertBatches, InsertJob};
use crate::batch_queue::{BatchProcessor, BatchQueue, Limits, Source};
use crate::http::PollPermit;
use crate::metrics::METRICS;
use crate::outage_log::Outages;
use crate::page::Pages;
use crate::store::{Client, Database};

/// What the database is asked for.
pub(super) enum Job {
    Latest(ReadJob),
    Insert(InsertJob),
    Point(PointOp),
}

/// The queues.
pub(super) struct Queues {
    latest: Queue<LatestReads>,
    inserts: Queue<InsertBatches>,
    points: Queue<PointOps>,
}

type Queue<P> = BatchQueue<P, Clients>;

/// Gives the clients of the database to the leaders of all queues.
struct Clients(Arc<Database>);

/// Batches that each queue executes at the same time; all of them together are fewer than the workers.
const LATEST_LEADERS: usize = 1;
const INSERT_LEADERS: usize = 2;
const POINT_LEADERS: usize = 2;
/// All leaders.
pub const LEADERS: usize = LATEST_LEADERS + INSERT_LEADERS + POINT_LEADERS;

/// Rows and bytes of one INSERT, and requests that one SELECT answers.
const BATCH_JOBS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;
/// The size of a request without a text in the limit of a queue.
const JOB_BYTES: usize = 512;

impl Queues {
    /// Queues of these sizes that use `database`.
    pub(super) fn new(
        settings: &Settings,
        database: &Arc<Database>,
        pages: &Arc<Pages>,
        outages: &Arc<Outages>,
    ) -> Queues {
        let limits = |leaders, batch_jobs| Limits {
            queue_jobs: settings.queue_requests,
            queue_bytes: settings.queue_bytes,
            batch_jobs,
            batch_bytes: BATCH_BYTES,
            max_queue_wait: database.max_queue_wait(),
            leaders,
        };
        let latest = LatestReads::new(Arc::clone(pages), Arc::clone(outages));
        let inserts = InsertBatches::new(Arc::clone(pages), Arc::clone(outages));
        let allow = route::item_methods(settings.admin_token.is_some());
        let points = PointOps::new(Arc::clone(pages), Arc::clone(outages), allow);
        let source = || Clients(Arc::clone(database));
        Queues {
            latest: Queue::new(latest, source(), limits(LATEST_LEADERS, BATCH_JOBS), METRICS.batch_queue("latest")),
            inserts: Queue::new(inserts, source(), limits(INSERT_LEADERS, BATCH_JOBS), METRICS.batch_queue("insert")),
            points: Queue::new(points, source(), limits(POINT_LEADERS, 1), METRICS.batch_queue("point")),
        }
    }

    /// Queues the job of a request, or refuses it. The caller must call [`run`](Queues::run) afterwards.
    pub(super) fn push(&self, pending: PendingReply, job: Job) {
        let bytes = JOB_BYTES + job.text_bytes();
        let full = match job {
            Job::Latest(read) => self.latest.push((pending, read), bytes).err().map(|job| job.0),
            Job::Insert(submit) => self.inserts.push((pending, submit), bytes).err().map(|job| job.0),
            Job::Point(single) => self.points.push((pending, single), bytes).err().map(|job| job.0),
        };
        if let Some(pending) = full {
            pending.refuse(&Problem::Overloaded);
        }
    }

    /// Leads the batches that are ready, until there are none.
    pub(super) fn run(&self, permit: &mut PollPermit<'_>) {
        // The queues share their connections, so a batch of one may have kept another one waiting.
        while self.lead(&self.latest, permit) | self.lead(&self.inserts, permit) | self.lead(&self.points, permit) {}
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
}

impl Job {
    /// Whether it changes the board.
    pub(super) fn is_write(&self) -> bool {
        match self {
            Job::Latest(_) => false,
            Job::Insert(_) => true,
            Job::Point(op) => op.is_write(),
        }
    }

    fn text_bytes(&self) -> usize {
        match self {
            Job::Insert(submit) => submit.text.as_str().len(),
            Job::Point(PointOp::Replace(_, text)) => text.as_str().len(),
            Job::Latest(_) | Job::Point(_) => 0,
        }
    }
}

impl Source for Clients {
    type Connection = Client;

    fn try_acquire(&self) -> Option<Client> {
        self.0.try_client()
    }

    fn is_available(&self) -> bool {
        self.0.has_free_slot()
    }
}
