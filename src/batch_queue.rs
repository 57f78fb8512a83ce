//! A queue of jobs that are done in batches by the threads that push_and_lead them: group commit, for anything.
//!
//! A thread that has brought jobs has to lead when a batch is due and a connection is free: it takes what is queued, does it as one
//! batch, gives the connection back, reports on each job, and does the same again if another batch is due by then. Otherwise the
//! jobs are left to those who lead or reply, and the thread goes its way. So no thread ever waits for another's result, and
//! the database does not wait for answers to be sent. The lane knows nothing of what a job or a connection is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::metrics::{BatchQueueMetrics, METRICS};

/// What a lane does with its batches.
pub trait BatchProcessor {
    /// What is queued. A job carries its own way to reply its result.
    type Job;
    /// What a leader needs while it leads; a lane has as many leaders as connections.
    type Connection;

    /// A batch that is done and not reported on yet.
    type Outcome;

    /// Does a batch, of which the first job has `waited` so long.
    fn execute(
        &self,
        connection: &mut Self::Connection,
        batch: Vec<Self::Job>,
        waited: Duration,
    ) -> (Self::Outcome, BackendState);

    /// Reports on each job of a batch. Its connection may serve the next batch meanwhile.
    fn reply(&self, done: Self::Outcome);

    /// Reports to jobs that will not be tried.
    fn reject(&self, jobs: Vec<Self::Job>, why: RejectReason);
}

/// What a batch says about the jobs behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackendState {
    /// The next batch has every chance.
    Up,
    /// What the lane depends on is gone or does not answer: whoever is queued by now is turned away, so that nobody
    /// waits for the same time-out twice.
    Down,
}

impl BackendState {
    /// The verdict after a failure that is an outage, or is not.
    pub fn outage_if(outage: bool) -> BackendState {
        if outage { BackendState::Down } else { BackendState::Up }
    }
}

/// Why a job is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    /// A batch before it met an [`BackendState::Down`].
    BackendDown,
    /// It has waited too long.
    QueueTimeout,
}

/// How much a lane takes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Jobs that may wait; the lane is full beyond it.
    pub queue_jobs: usize,
    /// Bytes of all waiting jobs together; the lane is full beyond it.
    pub queue_bytes: usize,
    /// Jobs in one batch.
    pub batch_jobs: usize,
    /// Bytes in one batch; a single job may be larger.
    pub batch_bytes: usize,
    /// What a job may wait for its turn. Beyond it, its client has given up, or is better told than kept waiting.
    pub max_queue_wait: Duration,
}

/// The queue, its limits and its free connections.
pub struct BatchQueue<W: BatchProcessor> {
    work: W,
    limits: Limits,
    metrics: BatchQueueMetrics,
    state: Mutex<State<W>>,
}

struct State<W: BatchProcessor> {
    queue: VecDeque<Queued<W::Job>>,
    bytes: usize,
    connections: Vec<W::Connection>,
    /// Jobs that are done and being reported on.
    replying: usize,
    /// How long the last batches took, the longer ones for a while; not known before the first one and after a failure.
    duration_estimate: Option<Duration>,
}

/// What a leader has taken from the queue.
struct Batch<J> {
    /// Jobs that have waited too long.
    late: Vec<J>,
    batch: Vec<J>,
    /// How long the first of the batch has waited.
    waited: Duration,
}

struct Queued<J> {
    job: J,
    bytes: usize,
    since: Instant,
}

/// The duty to do what was queued, as one batch.
#[must_use]
pub struct Leader<'a, W: BatchProcessor> {
    lane: &'a BatchQueue<W>,
    connection: W::Connection,
    taken: Batch<W::Job>,
    expected: Duration,
}

/// A batch that is done, and not reported on yet.
#[must_use]
pub struct Executed<'a, W: BatchProcessor> {
    lane: &'a BatchQueue<W>,
    jobs: usize,
    result: Option<W::Outcome>,
    /// Jobs that waited behind it in vain.
    abandoned: Vec<W::Job>,
}

impl<'a, W: BatchProcessor> Leader<'a, W> {
    /// How long the batch may take, from how long the last ones did.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// Does the batch, which may block, and gives the connection back.
    pub fn execute(self) -> Executed<'a, W> {
        let Leader { lane, mut connection, taken, .. } = self;
        let start = Instant::now();
        let jobs = taken.batch.len();
        // A panic ends one batch, whose jobs reply it as they are dropped; the lane and the thread go on.
        let (result, verdict) =
            catch_unwind(AssertUnwindSafe(|| lane.execute(&mut connection, taken))).unwrap_or_default().unzip();
        Executed { lane, jobs, result, abandoned: lane.finish(connection, jobs, verdict, start.elapsed()) }
    }
}

impl<'a, W: BatchProcessor> Executed<'a, W> {
    /// Reports on each job. Then this thread has to lead again, if another batch is due.
    pub fn reply(self) -> Option<Leader<'a, W>> {
        let Executed { lane, jobs, result, abandoned } = self;
        drop(catch_unwind(AssertUnwindSafe(|| result.map(|result| lane.work.reply(result)))));
        let reject = || lane.reject(abandoned, RejectReason::BackendDown, &lane.metrics.backend_down);
        drop(catch_unwind(AssertUnwindSafe(reject)));
        lane.lock().replying -= jobs;
        lane.try_lead()
    }
}

impl<W: BatchProcessor> BatchQueue<W> {
    /// A lane called `name` with one leader at most for each of `connections`.
    pub fn new(name: &'static str, work: W, connections: Vec<W::Connection>, limits: Limits) -> BatchQueue<W> {
        let state =
            Mutex::new(State { queue: VecDeque::new(), bytes: 0, connections, replying: 0, duration_estimate: None });
        BatchQueue { work, limits, metrics: METRICS.batch_queue(name), state }
    }

    /// What this lane does with its jobs.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// Queues `job`, or gives it back when the lane is full. Who has brought jobs, as many as there were, has to ask what is
    /// [`try_lead`](BatchQueue::try_lead), and then the free connections do them; so a batch for each of these has room however small the queue is.
    pub fn push(&self, job: W::Job, bytes: usize) -> Result<(), W::Job> {
        let mut state = self.lock();
        let Limits { queue_jobs, queue_bytes, batch_jobs, batch_bytes, .. } = self.limits;
        let most_jobs = queue_jobs.max(batch_jobs.saturating_mul(state.connections.len()));
        let most_bytes = queue_bytes.max(batch_bytes.saturating_mul(state.connections.len()));
        if state.queue.len() >= most_jobs || state.bytes + bytes > most_bytes {
            self.metrics.full.inc();
            return Err(job);
        }
        state.queue.push_back(Queued { job, bytes, since: Instant::now() });
        state.bytes += bytes;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        Ok(())
    }

    /// The duty to lead the batch that is due, when a connection is free. Otherwise those who lead or reply see to the jobs.
    pub fn try_lead(&self) -> Option<Leader<'_, W>> {
        let mut state = self.lock();
        let connection = if state.has_ready_batch(&self.limits) { state.connections.pop()? } else { return None };
        let late = state.take_older_than(self.limits.max_queue_wait);
        let waited = state.queue.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        let batch = state.take(self.limits.batch_jobs, self.limits.batch_bytes);
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        let expected = state.duration_estimate.unwrap_or(Duration::MAX);
        Some(Leader { lane: self, connection, taken: Batch { late, batch, waited }, expected })
    }

    /// Whether a batch is due and a connection is free.
    pub fn has_ready_batch(&self) -> bool {
        let state = self.lock();
        state.has_ready_batch(&self.limits) && !state.connections.is_empty()
    }

    fn execute(&self, connection: &mut W::Connection, taken: Batch<W::Job>) -> Option<(W::Outcome, BackendState)> {
        self.reject(taken.late, RejectReason::QueueTimeout, &self.metrics.queue_timeout);
        if taken.batch.is_empty() {
            return None;
        }
        self.metrics.batch_jobs.observe(taken.batch.len() as f64);
        Some(self.work.execute(connection, taken.batch, taken.waited))
    }

    /// Ends the use of the connection by a batch of so many jobs, which are reported on next. Gives the jobs that are given up.
    fn finish(
        &self,
        connection: W::Connection,
        jobs: usize,
        verdict: Option<BackendState>,
        took: Duration,
    ) -> Vec<W::Job> {
        let mut state = self.lock();
        state.connections.push(connection);
        state.replying += jobs;
        let (duration_estimate, abandoned) = match verdict {
            Some(BackendState::Down) => (None, state.take(usize::MAX, usize::MAX)),
            Some(BackendState::Up) => (Some(took.max(state.duration_estimate.unwrap_or_default() / 2)), Vec::new()),
            // Nobody was left to do anything for.
            None if jobs == 0 => (state.duration_estimate, Vec::new()),
            None => (None, Vec::new()),
        };
        state.duration_estimate = duration_estimate;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        abandoned
    }

    fn reject(&self, jobs: Vec<W::Job>, why: RejectReason, counter: &IntCounter) {
        if !jobs.is_empty() {
            counter.inc_by(jobs.len() as u64);
            self.work.reject(jobs, why);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<W>> {
        // No user code runs under this lock, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: BatchProcessor> State<W> {
    /// Whether another batch is due. While one is reported on, those who hear of it push_and_lead the next jobs: it is due when as
    /// many wait, or when the queue gets full. Whoever has reported asks again, so no job is left behind.
    fn has_ready_batch(&self, limits: &Limits) -> bool {
        let enough = self.replying.min(limits.batch_jobs).min(limits.queue_jobs).max(1);
        let is_heavy = self.bytes >= limits.batch_bytes.min(limits.queue_bytes / 2);
        self.queue.len() >= enough || is_heavy && !self.queue.is_empty()
    }

    fn take(&mut self, max_jobs: usize, max_bytes: usize) -> Vec<W::Job> {
        let (mut jobs, mut bytes) = (0, 0usize);
        for waiting in self.queue.iter().take(max_jobs) {
            if jobs > 0 && bytes.saturating_add(waiting.bytes) > max_bytes {
                break;
            }
            bytes += waiting.bytes;
            jobs += 1;
        }
        self.take_first(jobs)
    }

    /// They are in the order in which they came.
    fn take_older_than(&mut self, max_queue_wait: Duration) -> Vec<W::Job> {
        self.take_first(self.queue.partition_point(|waiting| waiting.since.elapsed() > max_queue_wait))
    }

    fn take_first(&mut self, jobs: usize) -> Vec<W::Job> {
        let taken = self.queue.drain(..jobs);
        let bytes = &mut self.bytes;
        taken.inspect(|waiting| *bytes -= waiting.bytes).map(|waiting| waiting.job).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::sync::{Arc, Barrier};
    use std::thread;

    /// Sends each batch it gets, and stops at a gate while it does job 0 and while it reports on job 100.
    struct Recorder {
        batches: Mutex<Sender<Vec<u32>>>,
        rejected: Mutex<Sender<(RejectReason, Vec<u32>)>>,
        gate: Arc<Barrier>,
        verdict: BackendState,
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
            (batch, self.verdict)
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

    struct Set {
        lane: Arc<BatchQueue<Recorder>>,
        batches: Receiver<Vec<u32>>,
        rejected: Receiver<(RejectReason, Vec<u32>)>,
        gate: Arc<Barrier>,
    }

    fn lane(limits: Limits, verdict: BackendState) -> Set {
        let ((to_batches, batches), (to_turned, rejected)) = (channel(), channel());
        let gate = Arc::new(Barrier::new(2));
        let work = Recorder {
            batches: Mutex::new(to_batches),
            rejected: Mutex::new(to_turned),
            gate: Arc::clone(&gate),
            verdict,
        };
        Set { lane: Arc::new(BatchQueue::new("test", work, vec![()], limits)), batches, rejected, gate }
    }

    const LIMITS: Limits = Limits {
        queue_jobs: 5,
        queue_bytes: 100,
        batch_jobs: 3,
        batch_bytes: 50,
        max_queue_wait: Duration::from_secs(60),
    };

    impl BatchQueue<Recorder> {
        /// Enters, and leads when it has to.
        fn push_and_lead(&self, job: u32, bytes: usize) -> Result<(), u32> {
            self.push(job, bytes)?;
            let mut due = self.try_lead();
            while let Some(lead) = due {
                due = lead.execute().reply();
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
        let lane = Arc::clone(&set.lane);
        let leader = thread::spawn(move || lane.push_and_lead(job, 1));
        set.gate.wait();
        meanwhile();
        set.gate.wait();
        leader.join().unwrap().unwrap();
    }

    #[test]
    fn jobs_that_arrive_while_a_batch_runs_share_the_next_one() {
        let set = lane(LIMITS, BackendState::Up);
        while_leading(&set, || (1..=4).for_each(|job| set.lane.push_and_lead(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn the_next_batch_begins_while_one_is_reported_on() {
        let set = lane(LIMITS, BackendState::Up);
        while_at_gate(&set, 100, || {
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![100]]);
            set.lane.push_and_lead(1, 1).unwrap();
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
            let set = lane(LIMITS, BackendState::Up);
            let lane = Arc::clone(&set.lane);
            let leader = thread::spawn(move || lane.push_and_lead(0, 1));
            set.gate.wait();
            [100, 50].into_iter().for_each(|job| set.lane.push_and_lead(job, 1).unwrap());
            set.gate.wait();
            set.gate.wait();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![100, 50]]);
            others.into_iter().for_each(|(job, bytes)| set.lane.push_and_lead(job, bytes).unwrap());
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_meanwhile);
            set.gate.wait();
            leader.join().unwrap().unwrap();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_in_the_end);
        }
    }

    #[test]
    fn a_full_lane_gives_the_job_back() {
        let set = lane(LIMITS, BackendState::Up);
        while_leading(&set, || {
            (1..=5).for_each(|job| set.lane.push_and_lead(job, 1).unwrap());
            assert_eq!(set.lane.push_and_lead(6, 1), Err(6));
        });
        let set = lane(LIMITS, BackendState::Up);
        while_leading(&set, || {
            set.lane.push_and_lead(1, 90).unwrap();
            assert_eq!(set.lane.push_and_lead(2, 11), Err(2));
            set.lane.push_and_lead(3, 10).unwrap();
        });
        while_leading(&set, || assert_eq!(set.lane.push_and_lead(4, 100), Ok(()), "what was done no longer counts"));
    }

    #[test]
    fn a_lane_with_a_free_seat_has_room_for_a_batch_however_small_its_queue_is() {
        let set = lane(Limits { queue_jobs: 1, queue_bytes: 1, ..LIMITS }, BackendState::Up);
        (1..=2).for_each(|job| set.lane.push(job, 20).unwrap());
        assert_eq!(set.lane.push(3, 20), Err(3), "more bytes than a batch has");
        set.lane.push(3, 10).unwrap();
        assert_eq!(set.lane.push(4, 0), Err(4), "more jobs than a batch has");
        set.lane.push_and_lead(5, 0).unwrap_err();
        let mut due = set.lane.try_lead();
        assert!(set.lane.try_lead().is_none(), "it is led once");
        while let Some(lead) = due {
            due = lead.execute().reply();
        }
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![1, 2, 3]]);
    }

    #[test]
    fn what_one_leader_has_taken_is_due_for_no_other() {
        let set = lane(LIMITS, BackendState::Up);
        set.lane.lock().connections.push(());
        set.lane.push(1, 1).unwrap();
        let lead = set.lane.try_lead().unwrap();
        assert!(!set.lane.has_ready_batch() && set.lane.try_lead().is_none());
        assert!(lead.execute().reply().is_none());
    }

    #[test]
    fn the_next_batch_is_expected_to_last_as_long_as_the_last_ones() {
        let set = lane(LIMITS, BackendState::Up);
        let expected = |job| {
            set.lane.push(job, 1).unwrap();
            let lead = set.lane.try_lead().unwrap();
            let expected = lead.expected();
            assert!(lead.execute().reply().is_none());
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
        let set = lane(LIMITS, BackendState::Up);
        while_leading(&set, || {
            set.lane.push_and_lead(1, 60).unwrap();
            set.lane.push_and_lead(2, 20).unwrap();
            set.lane.push_and_lead(3, 20).unwrap();
        });
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn an_outage_turns_away_whoever_is_queued_by_then() {
        let set = lane(LIMITS, BackendState::Down);
        while_leading(&set, || (1..=4).for_each(|job| set.lane.push_and_lead(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0]]);
        assert_eq!(set.rejected.try_iter().collect::<Vec<_>>(), [(RejectReason::BackendDown, vec![1, 2, 3, 4])]);
        set.lane.push_and_lead(5, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![5]], "the next one is tried again");
        assert_eq!(set.rejected.try_iter().count(), 0, "and when nobody waits, nobody is turned away");
    }

    #[test]
    fn a_job_that_waited_too_long_is_turned_away_and_the_others_are_done() {
        const MAX_QUEUE_WAIT: Duration = Duration::from_secs(20);
        let set = lane(Limits { max_queue_wait: MAX_QUEUE_WAIT, ..LIMITS }, BackendState::Up);
        while_leading(&set, || {
            (1..=2).for_each(|job| set.lane.push_and_lead(job, 1).unwrap());
            let mut state = set.lane.lock();
            // As if that had been a while ago.
            state.queue.iter_mut().for_each(|waiting| waiting.since -= MAX_QUEUE_WAIT);
            drop(state);
            (3..=4).for_each(|job| set.lane.push_and_lead(job, 1).unwrap());
        });
        assert_eq!(set.rejected.try_iter().collect::<Vec<_>>(), [(RejectReason::QueueTimeout, vec![1, 2])]);
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![3, 4]]);
    }

    #[test]
    fn a_panic_costs_one_batch_and_not_the_lane() {
        let set = lane(LIMITS, BackendState::Up);
        set.lane.push_and_lead(666, 1).unwrap();
        set.lane.push_and_lead(667, 1).unwrap();
        set.lane.push_and_lead(1, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![667], vec![1]]);
    }
}
