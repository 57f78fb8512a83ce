//! A queue of jobs that are executed in batches by the threads that bring them: group commit.
//!
//! After it has queued jobs a thread calls [`try_lead`](BatchQueue::try_lead). If a batch is ready and the source has a
//! connection left, it becomes the leader: it executes one batch, returns the connection, and replies to each job.
//! Otherwise the current leaders see to the jobs: after each batch they try to lead again. So no thread waits for the
//! result of another one, and the database does not wait while replies are sent. The queue does not know what a job or
//! a connection is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::metrics::BatchQueueMetrics;

/// Executes the batches of a queue.
pub trait BatchProcessor {
    /// What is queued. A job carries its own way to reply.
    type Job;
    /// What a leader needs to execute a batch.
    type Connection;
    /// A batch that is executed and not replied to yet.
    type Outcome;

    /// Executes a batch, whose first job has `waited` so long. May block.
    fn execute(
        &self,
        connection: &mut Self::Connection,
        batch: Vec<Self::Job>,
        waited: Duration,
    ) -> (Self::Outcome, BackendState);

    /// Replies to each job of a batch. The connection may serve the next batch meanwhile.
    fn reply(&self, outcome: Self::Outcome);

    /// Replies to jobs that will not be executed.
    fn reject(&self, jobs: Vec<Self::Job>, reason: RejectReason);
}

/// Where leaders get their connections, which several queues may share. A connection is returned when it is dropped.
pub trait Source {
    /// A connection.
    type Connection;

    /// A connection, if one is left.
    fn try_acquire(&self) -> Option<Self::Connection>;

    /// Whether a connection is left.
    fn is_available(&self) -> bool;
}

/// What a batch says about the jobs that are queued after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// The next batch may succeed.
    Up,
    /// The backend is gone or does not respond: queued jobs are rejected, so that none waits for the same time-out.
    Down,
}

impl BackendState {
    /// `Down` after a failure that is an outage.
    pub fn outage_if(outage: bool) -> BackendState {
        if outage { BackendState::Down } else { BackendState::Up }
    }
}

/// Why a job is not executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// A batch before it found the backend [`BackendState::Down`].
    BackendDown,
    /// It has waited longer than [`Limits::max_queue_wait`].
    QueueTimeout,
}

/// How much a queue takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Jobs that may wait.
    pub queue_jobs: usize,
    /// Bytes of all waiting jobs together.
    pub queue_bytes: usize,
    /// Jobs in one batch.
    pub batch_jobs: usize,
    /// Bytes in one batch; a single job may be larger.
    pub batch_bytes: usize,
    /// How long a job may wait for its batch to begin.
    pub max_queue_wait: Duration,
    /// Batches that may be executed at the same time.
    pub leaders: usize,
}

/// Another leader begins only while fewer jobs are executed. So a few clients use two connections of the database, which
/// gives half as many inserts again with 2 to 4 clients, and many clients still share one statement.
const SMALL_BATCH: usize = 3;

/// The queue.
pub struct BatchQueue<P: BatchProcessor, S> {
    processor: P,
    source: S,
    limits: Limits,
    metrics: BatchQueueMetrics,
    state: Mutex<State<P::Job>>,
}

struct State<J> {
    queue: VecDeque<Queued<J>>,
    bytes: usize,
    leaders: usize,
    /// Jobs of the batches that are being executed.
    executing: usize,
    /// Jobs that are executed and not replied to yet.
    replying: usize,
    /// How long the last batches took; the longest decays by half with each. Unknown at first and after a failure.
    duration_estimate: Option<Duration>,
}

/// What a leader has taken from the queue.
struct Batch<J> {
    /// Jobs that have waited too long.
    late: Vec<J>,
    jobs: Vec<J>,
    /// How long the first of the jobs has waited.
    waited: Duration,
}

struct Queued<J> {
    job: J,
    bytes: usize,
    since: Instant,
}

/// The duty to execute a batch.
#[must_use]
pub struct Leader<'a, P: BatchProcessor, S> {
    queue: &'a BatchQueue<P, S>,
    connection: P::Connection,
    batch: Batch<P::Job>,
    expected: Duration,
}

/// A batch that is executed and not replied to yet.
#[must_use]
pub struct Executed<'a, P: BatchProcessor, S> {
    queue: &'a BatchQueue<P, S>,
    jobs: usize,
    outcome: Option<P::Outcome>,
    /// Jobs that were queued when the batch found the backend down.
    rejected: Vec<P::Job>,
}

impl<'a, P: BatchProcessor, S: Source<Connection = P::Connection>> Leader<'a, P, S> {
    /// How long the batch will take, judged by the last ones.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// Jobs of the batch.
    pub fn jobs(&self) -> usize {
        self.batch.jobs.len()
    }

    /// Executes the batch, which may block, and returns the connection.
    pub fn execute(self) -> Executed<'a, P, S> {
        let Leader { queue, mut connection, batch, .. } = self;
        let start = Instant::now();
        let jobs = batch.jobs.len();
        // A panic costs one batch, whose jobs reply as they are dropped; the queue and the thread go on.
        let executed = catch_unwind(AssertUnwindSafe(|| queue.execute(&mut connection, batch)));
        let (outcome, state) = executed.unwrap_or_default().unzip();
        drop(connection);
        Executed { queue, jobs, outcome, rejected: queue.finish(jobs, state, start.elapsed()) }
    }
}

impl<P: BatchProcessor, S> Executed<'_, P, S> {
    /// Replies to each job. Afterwards this thread must try to lead again, in all queues that share the source.
    pub fn reply(self) {
        let Executed { queue, jobs, outcome, rejected } = self;
        drop(catch_unwind(AssertUnwindSafe(|| outcome.map(|outcome| queue.processor.reply(outcome)))));
        let reject = || queue.reject(rejected, RejectReason::BackendDown, &queue.metrics.backend_down);
        drop(catch_unwind(AssertUnwindSafe(reject)));
        queue.lock().replying -= jobs;
    }
}

impl<P: BatchProcessor, S: Source<Connection = P::Connection>> BatchQueue<P, S> {
    /// A queue whose leaders take their connections from `source`.
    pub fn new(processor: P, source: S, limits: Limits, metrics: BatchQueueMetrics) -> BatchQueue<P, S> {
        let state =
            State { queue: VecDeque::new(), bytes: 0, leaders: 0, executing: 0, replying: 0, duration_estimate: None };
        metrics.waiting_jobs_limit.set(limits.queue_jobs as i64);
        BatchQueue { processor, source, limits, metrics, state: Mutex::new(state) }
    }

    /// Queues `job`, or returns it when the queue is full. The caller must call [`try_lead`](BatchQueue::try_lead)
    /// afterwards. The limits are raised to one batch for each free leader, so that a small queue never leaves a leader
    /// idle.
    pub fn push(&self, job: P::Job, bytes: usize) -> Result<(), P::Job> {
        let mut state = self.lock();
        let Limits { queue_jobs, queue_bytes, batch_jobs, batch_bytes, leaders, .. } = self.limits;
        let free = if state.may_lead(&self.limits) { leaders - state.leaders } else { 0 };
        let max_jobs = queue_jobs.max(batch_jobs.saturating_mul(free));
        let max_bytes = queue_bytes.max(batch_bytes.saturating_mul(free));
        if state.queue.len() >= max_jobs || state.bytes + bytes > max_bytes {
            self.metrics.full.inc();
            return Err(job);
        }
        state.queue.push_back(Queued { job, bytes, since: Instant::now() });
        state.bytes += bytes;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        Ok(())
    }

    /// The duty to execute the next batch, if one is ready and a connection is left.
    pub fn try_lead(&self) -> Option<Leader<'_, P, S>> {
        let mut state = self.lock();
        if !state.has_ready_batch(&self.limits) {
            return None;
        }
        let connection = self.source.try_acquire()?;
        state.leaders += 1;
        let late = state.take_older_than(self.limits.max_queue_wait);
        let waited = state.queue.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        let jobs = state.take(self.limits.batch_jobs, self.limits.batch_bytes);
        state.executing += jobs.len();
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        let expected = state.duration_estimate.unwrap_or(Duration::MAX);
        Some(Leader { queue: self, connection, batch: Batch { late, jobs, waited }, expected })
    }

    /// Whether [`try_lead`](BatchQueue::try_lead) would make the caller a leader.
    pub fn has_ready_batch(&self) -> bool {
        self.lock().has_ready_batch(&self.limits) && self.source.is_available()
    }
}

impl<P: BatchProcessor, S> BatchQueue<P, S> {
    fn execute(&self, connection: &mut P::Connection, batch: Batch<P::Job>) -> Option<(P::Outcome, BackendState)> {
        self.reject(batch.late, RejectReason::QueueTimeout, &self.metrics.queue_timeout);
        if batch.jobs.is_empty() {
            return None;
        }
        self.metrics.batch_jobs.observe(batch.jobs.len() as f64);
        Some(self.processor.execute(connection, batch.jobs, batch.waited))
    }

    /// Ends the execution of a batch of so many jobs, which are replied to next. Returns the jobs that must be
    /// rejected.
    fn finish(&self, jobs: usize, backend: Option<BackendState>, took: Duration) -> Vec<P::Job> {
        let mut state = self.lock();
        state.leaders -= 1;
        state.executing -= jobs;
        state.replying += jobs;
        let (duration_estimate, rejected) = match backend {
            Some(BackendState::Down) => (None, state.take(usize::MAX, usize::MAX)),
            Some(BackendState::Up) => (Some(took.max(state.duration_estimate.unwrap_or_default() / 2)), Vec::new()),
            // All jobs were late, which says nothing of the backend.
            None if jobs == 0 => (state.duration_estimate, Vec::new()),
            None => (None, Vec::new()),
        };
        state.duration_estimate = duration_estimate;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        rejected
    }

    fn reject(&self, jobs: Vec<P::Job>, reason: RejectReason, counter: &IntCounter) {
        if !jobs.is_empty() {
            counter.inc_by(jobs.len() as u64);
            self.processor.reject(jobs, reason);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<P::Job>> {
        // No code of a processor runs under this lock, so a panic leaves the state consistent.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<J> State<J> {
    fn may_lead(&self, limits: &Limits) -> bool {
        self.leaders == 0 || self.leaders < limits.leaders && self.executing < SMALL_BATCH
    }

    /// Whether the next batch may begin. While replies are sent, the clients that received them send their next
    /// requests. So wait until as many jobs are queued as replies are outstanding, or the queue is half full. The
    /// replying thread checks again when it is done, so no job is forgotten.
    fn has_ready_batch(&self, limits: &Limits) -> bool {
        let enough = self.replying.min(limits.batch_jobs).min(limits.queue_jobs).max(1);
        let is_heavy = self.bytes >= limits.batch_bytes.min(limits.queue_bytes / 2);
        self.may_lead(limits) && (self.queue.len() >= enough || is_heavy && !self.queue.is_empty())
    }

    fn take(&mut self, max_jobs: usize, max_bytes: usize) -> Vec<J> {
        let (mut jobs, mut bytes) = (0, 0usize);
        for queued in self.queue.iter().take(max_jobs) {
            if jobs > 0 && bytes.saturating_add(queued.bytes) > max_bytes {
                break;
            }
            bytes += queued.bytes;
            jobs += 1;
        }
        self.take_first(jobs)
    }

    fn take_older_than(&mut self, max_age: Duration) -> Vec<J> {
        self.take_first(self.queue.partition_point(|queued| queued.since.elapsed() > max_age))
    }

    fn take_first(&mut self, jobs: usize) -> Vec<J> {
        let taken = self.queue.drain(..jobs);
        let bytes = &mut self.bytes;
        taken.inspect(|queued| *bytes -= queued.bytes).map(|queued| queued.job).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::METRICS;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Barrier};
    use std::thread;

    /// Sends each batch it gets, and stops at a gate while it does job 0 and while it reports on job 100.
    struct Recorder {
        batches: Mutex<Sender<Vec<u32>>>,
        rejected: Mutex<Sender<(RejectReason, Vec<u32>)>>,
        gate: Arc<Barrier>,
        backend: BackendState,
    }

    impl BatchProcessor for Recorder {
        type Job = u32;
        type Connection = ();
        type Outcome = Vec<u32>;

        fn execute(&self, _: &mut (), batch: Vec<u32>, _: Duration) -> (Vec<u32>, BackendState) {
            if batch.contains(&666) {
                panic!("a job that breaks");
            }
            self.batches.lock().unwrap().send(batch.clone()).unwrap();
            self.stop_at_gate(batch.contains(&0));
            (batch, self.backend)
        }

        fn reply(&self, done: Vec<u32>) {
            if done.contains(&667) {
                panic!("a reply that breaks");
            }
            self.stop_at_gate(done.contains(&100));
        }

        fn reject(&self, jobs: Vec<u32>, why: RejectReason) {
            self.rejected.lock().unwrap().send((why, jobs)).unwrap();
        }
    }

    impl Recorder {
        fn stop_at_gate(&self, stops: bool) {
            if stops {
                self.gate.wait();
                self.gate.wait();
            }
        }
    }

    /// Always has a connection left.
    struct Unlimited;

    impl Source for Unlimited {
        type Connection = ();

        fn try_acquire(&self) -> Option<()> {
            Some(())
        }

        fn is_available(&self) -> bool {
            true
        }
    }

    struct Set {
        queue: Arc<BatchQueue<Recorder, Unlimited>>,
        batches: Receiver<Vec<u32>>,
        rejected: Receiver<(RejectReason, Vec<u32>)>,
        gate: Arc<Barrier>,
    }

    fn queue(limits: Limits, backend: BackendState) -> Set {
        let ((to_batches, batches), (to_rejected, rejected)) = (channel(), channel());
        let gate = Arc::new(Barrier::new(2));
        let recorder = Recorder {
            batches: Mutex::new(to_batches),
            rejected: Mutex::new(to_rejected),
            gate: Arc::clone(&gate),
            backend,
        };
        let queue = BatchQueue::new(recorder, Unlimited, limits, METRICS.batch_queue("test"));
        Set { queue: Arc::new(queue), batches, rejected, gate }
    }

    const LIMITS: Limits = Limits {
        queue_jobs: 5,
        queue_bytes: 100,
        batch_jobs: 3,
        batch_bytes: 50,
        max_queue_wait: Duration::from_secs(60),
        leaders: 1,
    };

    impl BatchQueue<Recorder, Unlimited> {
        /// Queues a job, and leads as long as a batch is ready.
        fn push_and_lead(&self, job: u32, bytes: usize) -> Result<(), u32> {
            self.push(job, bytes)?;
            while let Some(leader) = self.try_lead() {
                leader.execute().reply();
            }
            Ok(())
        }
    }

    /// Lets one thread lead job 0, runs `meanwhile` while it is busy, and lets it go on.
    fn while_leading(set: &Set, meanwhile: impl FnOnce()) {
        while_at_gate(set, 0, meanwhile);
    }

    /// Lets one thread lead `job`, runs `meanwhile` while it stops at the gate, and lets it go on.
    fn while_at_gate(set: &Set, job: u32, meanwhile: impl FnOnce()) {
        let queue = Arc::clone(&set.queue);
        let leader = thread::spawn(move || queue.push_and_lead(job, 1));
        set.gate.wait();
        meanwhile();
        set.gate.wait();
        leader.join().unwrap().unwrap();
    }

    #[test]
    fn jobs_that_arrive_while_a_batch_runs_share_the_next_one() {
        let set = queue(LIMITS, BackendState::Up);
        while_leading(&set, || (1..=4).for_each(|job| set.queue.push_and_lead(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn the_next_batch_begins_while_one_is_reported_on() {
        let set = queue(LIMITS, BackendState::Up);
        while_at_gate(&set, 100, || {
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![100]]);
            set.queue.push_and_lead(1, 1).unwrap();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![1]]);
        });
    }

    #[test]
    fn the_next_batch_waits_for_as_many_jobs_as_are_reported_on_or_a_full_one_or_the_end_of_the_report() {
        for (others, done_meanwhile, done_in_the_end) in [
            (vec![(1, 1)], vec![], vec![vec![1]]),
            (vec![(1, 1), (2, 1)], vec![vec![1, 2]], vec![]),
            (vec![(1, LIMITS.batch_bytes)], vec![vec![1]], vec![]),
        ] {
            let set = queue(LIMITS, BackendState::Up);
            let queue = Arc::clone(&set.queue);
            let leader = thread::spawn(move || queue.push_and_lead(0, 1));
            set.gate.wait();
            [100, 50].into_iter().for_each(|job| set.queue.push_and_lead(job, 1).unwrap());
            set.gate.wait();
            set.gate.wait();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![100, 50]]);
            others.into_iter().for_each(|(job, bytes)| set.queue.push_and_lead(job, bytes).unwrap());
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_meanwhile);
            set.gate.wait();
            leader.join().unwrap().unwrap();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_in_the_end);
        }
    }

    #[test]
    fn a_full_queue_returns_the_job() {
        let set = queue(LIMITS, BackendState::Up);
        while_leading(&set, || {
            (1..=5).for_each(|job| set.queue.push_and_lead(job, 1).unwrap());
            assert_eq!(set.queue.push_and_lead(6, 1), Err(6));
        });
        let set = queue(LIMITS, BackendState::Up);
        while_leading(&set, || {
            set.queue.push_and_lead(1, 90).unwrap();
            assert_eq!(set.queue.push_and_lead(2, 11), Err(2));
            set.queue.push_and_lead(3, 10).unwrap();
        });
        while_leading(&set, || assert_eq!(set.queue.push_and_lead(4, 100), Ok(()), "what was done no longer counts"));
    }

    #[test]
    fn a_queue_with_a_free_leader_has_room_for_a_batch_however_small_its_limits_are() {
        let set = queue(Limits { queue_jobs: 1, queue_bytes: 1, ..LIMITS }, BackendState::Up);
        (1..=2).for_each(|job| set.queue.push(job, 20).unwrap());
        assert_eq!(set.queue.push(3, 20), Err(3), "more bytes than a batch has");
        set.queue.push(3, 10).unwrap();
        assert_eq!(set.queue.push(4, 0), Err(4), "more jobs than a batch has");
        set.queue.push_and_lead(5, 0).unwrap_err();
        let leader = set.queue.try_lead().unwrap();
        assert!(set.queue.try_lead().is_none(), "it is led once");
        leader.execute().reply();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![1, 2, 3]]);
    }

    #[test]
    fn what_one_leader_has_taken_is_due_for_no_other() {
        let set = queue(LIMITS, BackendState::Up);
        set.queue.push(1, 1).unwrap();
        let leader = set.queue.try_lead().unwrap();
        assert!(!set.queue.has_ready_batch() && set.queue.try_lead().is_none());
        leader.execute().reply();
        assert!(set.queue.try_lead().is_none());
    }

    #[test]
    fn another_leader_begins_only_while_few_jobs_are_executed() {
        for (first, leads) in [(1, true), (SMALL_BATCH - 1, true), (SMALL_BATCH, false)] {
            let set = queue(Limits { leaders: 2, ..LIMITS }, BackendState::Up);
            (0..first as u32).for_each(|job| set.queue.push(job + 1, 1).unwrap());
            let leader = set.queue.try_lead().unwrap();
            set.queue.push(10, 1).unwrap();
            assert_eq!(set.queue.has_ready_batch(), leads, "beside {first} jobs");
            let other = set.queue.try_lead();
            assert_eq!(other.is_some(), leads, "beside {first} jobs");
            set.queue.push(11, 1).unwrap();
            assert!(set.queue.try_lead().is_none(), "there are two leaders");
            leader.execute().reply();
            other.into_iter().for_each(|other| other.execute().reply());
            assert!(set.queue.try_lead().is_some(), "all are done");
        }
    }

    #[test]
    fn the_next_batch_is_expected_to_last_as_long_as_the_last_ones() {
        let set = queue(LIMITS, BackendState::Up);
        let expected = |job| {
            set.queue.push(job, 1).unwrap();
            let leader = set.queue.try_lead().unwrap();
            let expected = leader.expected();
            leader.execute().reply();
            expected
        };
        assert_eq!(expected(1), Duration::MAX, "nothing is known yet");
        let second = expected(2);
        assert!(second < Duration::from_secs(20), "{second:?}");
        assert!(expected(3) >= second / 2);
        expected(666);
        assert_eq!(expected(4), Duration::MAX, "the last one failed");
    }

    #[test]
    fn a_batch_ends_at_its_bytes_but_takes_one_job_of_any_size() {
        let set = queue(LIMITS, BackendState::Up);
        while_leading(&set, || {
            set.queue.push_and_lead(1, 60).unwrap();
            set.queue.push_and_lead(2, 20).unwrap();
            set.queue.push_and_lead(3, 20).unwrap();
        });
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn an_outage_rejects_all_queued_jobs() {
        let set = queue(LIMITS, BackendState::Down);
        while_leading(&set, || (1..=4).for_each(|job| set.queue.push_and_lead(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0]]);
        assert_eq!(set.rejected.try_iter().collect::<Vec<_>>(), [(RejectReason::BackendDown, vec![1, 2, 3, 4])]);
        set.queue.push_and_lead(5, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![5]], "the next one is tried again");
        assert_eq!(set.rejected.try_iter().count(), 0, "an empty queue has no job to reject");
    }

    #[test]
    fn a_job_that_waited_too_long_is_turned_away_and_the_others_are_done() {
        const MAX_QUEUE_WAIT: Duration = Duration::from_secs(20);
        let set = queue(Limits { max_queue_wait: MAX_QUEUE_WAIT, ..LIMITS }, BackendState::Up);
        while_leading(&set, || {
            (1..=2).for_each(|job| set.queue.push_and_lead(job, 1).unwrap());
            let mut state = set.queue.lock();
            // As if that had been a while ago.
            state.queue.iter_mut().for_each(|waiting| waiting.since -= MAX_QUEUE_WAIT);
            drop(state);
            (3..=4).for_each(|job| set.queue.push_and_lead(job, 1).unwrap());
        });
        assert_eq!(set.rejected.try_iter().collect::<Vec<_>>(), [(RejectReason::QueueTimeout, vec![1, 2])]);
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![3, 4]]);
    }

    #[test]
    fn a_panic_costs_one_batch_and_not_the_queue() {
        let set = queue(LIMITS, BackendState::Up);
        set.queue.push_and_lead(666, 1).unwrap();
        set.queue.push_and_lead(667, 1).unwrap();
        set.queue.push_and_lead(1, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![667], vec![1]]);
    }
}
