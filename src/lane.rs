//! A queue of jobs that are done in batches by the threads that bring them: group commit, for anything.
//!
//! A thread that has brought jobs has to lead when a batch is due and a seat is free: it takes what is queued, does it as one
//! batch, gives the seat back, reports on each job, and does the same again if another batch is due by then. Otherwise the
//! jobs are left to those who lead or report, and the thread goes its way. So no thread ever waits for another's result, and
//! the database does not wait for answers to be sent. The lane knows nothing of what a job or a seat is.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::metrics::{LaneMetrics, METRICS};

/// What a lane does with its batches.
pub trait Work {
    /// What is queued. A job carries its own way to report its result.
    type Job;
    /// What a leader needs while it leads; a lane has as many leaders as seats.
    type Seat;

    /// A batch that is done and not reported on yet.
    type Done;

    /// Does a batch, of which the first job has `waited` so long.
    fn run(&self, seat: &mut Self::Seat, batch: Vec<Self::Job>, waited: Duration) -> (Self::Done, Verdict);

    /// Reports on each job of a batch. Its seat may serve the next batch meanwhile.
    fn report(&self, done: Self::Done);

    /// Reports to jobs that will not be tried.
    fn turn_away(&self, jobs: Vec<Self::Job>, why: Away);
}

/// What a batch says about the jobs behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next batch has every chance.
    Carry,
    /// What the lane depends on is gone or does not answer: whoever is queued by now is turned away, so that nobody
    /// waits for the same time-out twice.
    Outage,
}

impl Verdict {
    /// The verdict after a failure that is an outage, or is not.
    pub fn outage_if(outage: bool) -> Verdict {
        if outage { Verdict::Outage } else { Verdict::Carry }
    }
}

/// Why a job is not tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Away {
    /// A batch before it met an [`Verdict::Outage`].
    Outage,
    /// It has waited too long.
    Late,
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
    pub patience: Duration,
}

/// The queue, its limits and its free seats.
pub struct Lane<W: Work> {
    work: W,
    limits: Limits,
    metrics: LaneMetrics,
    state: Mutex<State<W>>,
}

struct State<W: Work> {
    queue: VecDeque<Waiting<W::Job>>,
    bytes: usize,
    seats: Vec<W::Seat>,
    /// Jobs that are done and being reported on.
    reporting: usize,
    /// How long the last batches took, the longer ones for a while; not known before the first one and after a failure.
    pace: Option<Duration>,
}

/// What a leader has taken from the queue.
struct Taken<J> {
    /// Jobs that have waited too long.
    late: Vec<J>,
    batch: Vec<J>,
    /// How long the first of the batch has waited.
    waited: Duration,
}

struct Waiting<J> {
    job: J,
    bytes: usize,
    since: Instant,
}

/// The duty to do what was queued, as one batch.
#[must_use]
pub struct Lead<'a, W: Work> {
    lane: &'a Lane<W>,
    seat: W::Seat,
    taken: Taken<W::Job>,
    expected: Duration,
}

/// A batch that is done, and not reported on yet.
#[must_use]
pub struct Done<'a, W: Work> {
    lane: &'a Lane<W>,
    jobs: usize,
    result: Option<W::Done>,
    /// Jobs that waited behind it in vain.
    given_up: Vec<W::Job>,
}

impl<'a, W: Work> Lead<'a, W> {
    /// How long the batch may take, from how long the last ones did.
    pub fn expected(&self) -> Duration {
        self.expected
    }

    /// Does the batch, which may block, and gives the seat back.
    pub fn run(self) -> Done<'a, W> {
        let Lead { lane, mut seat, taken, .. } = self;
        let start = Instant::now();
        let jobs = taken.batch.len();
        // A panic ends one batch, whose jobs report it as they are dropped; the lane and the thread go on.
        let (result, verdict) =
            catch_unwind(AssertUnwindSafe(|| lane.run(&mut seat, taken))).unwrap_or_default().unzip();
        Done { lane, jobs, result, given_up: lane.give_back(seat, jobs, verdict, start.elapsed()) }
    }
}

impl<'a, W: Work> Done<'a, W> {
    /// Reports on each job. Then this thread has to lead again, if another batch is due.
    pub fn report(self) -> Option<Lead<'a, W>> {
        let Done { lane, jobs, result, given_up } = self;
        drop(catch_unwind(AssertUnwindSafe(|| result.map(|result| lane.work.report(result)))));
        let turn_away = || lane.turn_away(given_up, Away::Outage, &lane.metrics.turned_away);
        drop(catch_unwind(AssertUnwindSafe(turn_away)));
        lane.lock().reporting -= jobs;
        lane.due()
    }
}

impl<W: Work> Lane<W> {
    /// A lane called `name` with one leader at most for each of `seats`.
    pub fn new(name: &'static str, work: W, seats: Vec<W::Seat>, limits: Limits) -> Lane<W> {
        let state = Mutex::new(State { queue: VecDeque::new(), bytes: 0, seats, reporting: 0, pace: None });
        Lane { work, limits, metrics: METRICS.lane(name), state }
    }

    /// What this lane does with its jobs.
    pub fn work(&self) -> &W {
        &self.work
    }

    /// Queues `job`, or gives it back when the lane is full. Who has brought jobs, as many as there were, has to ask what is
    /// [`due`](Lane::due), and then the free seats do them; so a batch for each of these has room however small the queue is.
    pub fn enter(&self, job: W::Job, bytes: usize) -> Result<(), W::Job> {
        let mut state = self.lock();
        let Limits { queue_jobs, queue_bytes, batch_jobs, batch_bytes, .. } = self.limits;
        let most_jobs = queue_jobs.max(batch_jobs.saturating_mul(state.seats.len()));
        let most_bytes = queue_bytes.max(batch_bytes.saturating_mul(state.seats.len()));
        if state.queue.len() >= most_jobs || state.bytes + bytes > most_bytes {
            self.metrics.full.inc();
            return Err(job);
        }
        state.queue.push_back(Waiting { job, bytes, since: Instant::now() });
        state.bytes += bytes;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        Ok(())
    }

    /// The duty to lead the batch that is due, when a seat is free. Otherwise those who lead or report see to the jobs.
    pub fn due(&self) -> Option<Lead<'_, W>> {
        let mut state = self.lock();
        let seat = if state.is_due(&self.limits) { state.seats.pop()? } else { return None };
        let late = state.take_older_than(self.limits.patience);
        let waited = state.queue.front().map_or(Duration::ZERO, |first| first.since.elapsed());
        let batch = state.take(self.limits.batch_jobs, self.limits.batch_bytes);
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        let expected = state.pace.unwrap_or(Duration::MAX);
        Some(Lead { lane: self, seat, taken: Taken { late, batch, waited }, expected })
    }

    /// Whether a batch is due and a seat is free.
    pub fn is_due(&self) -> bool {
        let state = self.lock();
        state.is_due(&self.limits) && !state.seats.is_empty()
    }

    fn run(&self, seat: &mut W::Seat, taken: Taken<W::Job>) -> Option<(W::Done, Verdict)> {
        self.turn_away(taken.late, Away::Late, &self.metrics.late);
        if taken.batch.is_empty() {
            return None;
        }
        self.metrics.batch_jobs.observe(taken.batch.len() as f64);
        Some(self.work.run(seat, taken.batch, taken.waited))
    }

    /// Ends the use of the seat by a batch of so many jobs, which are reported on next. Gives the jobs that are given up.
    fn give_back(&self, seat: W::Seat, jobs: usize, verdict: Option<Verdict>, took: Duration) -> Vec<W::Job> {
        let mut state = self.lock();
        state.seats.push(seat);
        state.reporting += jobs;
        let (pace, given_up) = match verdict {
            Some(Verdict::Outage) => (None, state.take(usize::MAX, usize::MAX)),
            Some(Verdict::Carry) => (Some(took.max(state.pace.unwrap_or_default() / 2)), Vec::new()),
            // Nobody was left to do anything for.
            None if jobs == 0 => (state.pace, Vec::new()),
            None => (None, Vec::new()),
        };
        state.pace = pace;
        self.metrics.waiting_jobs.set(state.queue.len() as i64);
        given_up
    }

    fn turn_away(&self, jobs: Vec<W::Job>, why: Away, counter: &IntCounter) {
        if !jobs.is_empty() {
            counter.inc_by(jobs.len() as u64);
            self.work.turn_away(jobs, why);
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State<W>> {
        // No user code runs under this lock, so a poisoned state is a whole one.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Work> State<W> {
    /// Whether another batch is due. While one is reported on, those who hear of it bring the next jobs: it is due when as
    /// many wait, or when the queue gets full. Whoever has reported asks again, so no job is left behind.
    fn is_due(&self, limits: &Limits) -> bool {
        let enough = self.reporting.min(limits.batch_jobs).min(limits.queue_jobs).max(1);
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
    fn take_older_than(&mut self, patience: Duration) -> Vec<W::Job> {
        self.take_first(self.queue.partition_point(|waiting| waiting.since.elapsed() > patience))
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
        turned_away: Mutex<Sender<(Away, Vec<u32>)>>,
        gate: Arc<Barrier>,
        verdict: Verdict,
    }

    impl Work for Recorder {
        type Job = u32;
        type Seat = ();
        type Done = Vec<u32>;

        fn run(&self, _: &mut (), batch: Vec<u32>, _: Duration) -> (Vec<u32>, Verdict) {
            if batch.contains(&666) {
                panic!("a job that breaks");
            }
            self.batches.lock().unwrap().send(batch.clone()).unwrap();
            self.stop_at_gate(batch.contains(&0));
            (batch, self.verdict)
        }

        fn report(&self, done: Vec<u32>) {
            if done.contains(&667) {
                panic!("a report that breaks");
            }
            self.stop_at_gate(done.contains(&100));
        }

        fn turn_away(&self, jobs: Vec<u32>, why: Away) {
            self.turned_away.lock().unwrap().send((why, jobs)).unwrap();
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
        lane: Arc<Lane<Recorder>>,
        batches: Receiver<Vec<u32>>,
        turned_away: Receiver<(Away, Vec<u32>)>,
        gate: Arc<Barrier>,
    }

    fn lane(limits: Limits, verdict: Verdict) -> Set {
        let ((to_batches, batches), (to_turned, turned_away)) = (channel(), channel());
        let gate = Arc::new(Barrier::new(2));
        let work = Recorder {
            batches: Mutex::new(to_batches),
            turned_away: Mutex::new(to_turned),
            gate: Arc::clone(&gate),
            verdict,
        };
        Set { lane: Arc::new(Lane::new("test", work, vec![()], limits)), batches, turned_away, gate }
    }

    const LIMITS: Limits =
        Limits { queue_jobs: 5, queue_bytes: 100, batch_jobs: 3, batch_bytes: 50, patience: Duration::from_secs(60) };

    impl Lane<Recorder> {
        /// Enters, and leads when it has to.
        fn bring(&self, job: u32, bytes: usize) -> Result<(), u32> {
            self.enter(job, bytes)?;
            let mut due = self.due();
            while let Some(lead) = due {
                due = lead.run().report();
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
        let leader = thread::spawn(move || lane.bring(job, 1));
        set.gate.wait();
        meanwhile();
        set.gate.wait();
        leader.join().unwrap().unwrap();
    }

    #[test]
    fn jobs_that_arrive_while_a_batch_runs_share_the_next_one() {
        let set = lane(LIMITS, Verdict::Carry);
        while_leading(&set, || (1..=4).for_each(|job| set.lane.bring(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1, 2, 3], vec![4]]);
    }

    #[test]
    fn the_next_batch_begins_while_one_is_reported_on() {
        let set = lane(LIMITS, Verdict::Carry);
        while_at_gate(&set, 100, || {
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![100]]);
            set.lane.bring(1, 1).unwrap();
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
            let set = lane(LIMITS, Verdict::Carry);
            let lane = Arc::clone(&set.lane);
            let leader = thread::spawn(move || lane.bring(0, 1));
            set.gate.wait();
            [100, 50].into_iter().for_each(|job| set.lane.bring(job, 1).unwrap());
            set.gate.wait();
            set.gate.wait();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![100, 50]]);
            others.into_iter().for_each(|(job, bytes)| set.lane.bring(job, bytes).unwrap());
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_meanwhile);
            set.gate.wait();
            leader.join().unwrap().unwrap();
            assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), done_in_the_end);
        }
    }

    #[test]
    fn a_full_lane_gives_the_job_back() {
        let set = lane(LIMITS, Verdict::Carry);
        while_leading(&set, || {
            (1..=5).for_each(|job| set.lane.bring(job, 1).unwrap());
            assert_eq!(set.lane.bring(6, 1), Err(6));
        });
        let set = lane(LIMITS, Verdict::Carry);
        while_leading(&set, || {
            set.lane.bring(1, 90).unwrap();
            assert_eq!(set.lane.bring(2, 11), Err(2));
            set.lane.bring(3, 10).unwrap();
        });
        while_leading(&set, || assert_eq!(set.lane.bring(4, 100), Ok(()), "what was done no longer counts"));
    }

    #[test]
    fn a_lane_with_a_free_seat_has_room_for_a_batch_however_small_its_queue_is() {
        let set = lane(Limits { queue_jobs: 1, queue_bytes: 1, ..LIMITS }, Verdict::Carry);
        (1..=2).for_each(|job| set.lane.enter(job, 20).unwrap());
        assert_eq!(set.lane.enter(3, 20), Err(3), "more bytes than a batch has");
        set.lane.enter(3, 10).unwrap();
        assert_eq!(set.lane.enter(4, 0), Err(4), "more jobs than a batch has");
        set.lane.bring(5, 0).unwrap_err();
        let mut due = set.lane.due();
        assert!(set.lane.due().is_none(), "it is led once");
        while let Some(lead) = due {
            due = lead.run().report();
        }
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![1, 2, 3]]);
    }

    #[test]
    fn what_one_leader_has_taken_is_due_for_no_other() {
        let set = lane(LIMITS, Verdict::Carry);
        set.lane.lock().seats.push(());
        set.lane.enter(1, 1).unwrap();
        let lead = set.lane.due().unwrap();
        assert!(!set.lane.is_due() && set.lane.due().is_none());
        assert!(lead.run().report().is_none());
    }

    #[test]
    fn the_next_batch_is_expected_to_last_as_long_as_the_last_ones() {
        let set = lane(LIMITS, Verdict::Carry);
        let expected = |job| {
            set.lane.enter(job, 1).unwrap();
            let lead = set.lane.due().unwrap();
            let expected = lead.expected();
            assert!(lead.run().report().is_none());
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
        let set = lane(LIMITS, Verdict::Carry);
        while_leading(&set, || {
            set.lane.bring(1, 60).unwrap();
            set.lane.bring(2, 20).unwrap();
            set.lane.bring(3, 20).unwrap();
        });
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![1], vec![2, 3]]);
    }

    #[test]
    fn an_outage_turns_away_whoever_is_queued_by_then() {
        let set = lane(LIMITS, Verdict::Outage);
        while_leading(&set, || (1..=4).for_each(|job| set.lane.bring(job, 1).unwrap()));
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0]]);
        assert_eq!(set.turned_away.try_iter().collect::<Vec<_>>(), [(Away::Outage, vec![1, 2, 3, 4])]);
        set.lane.bring(5, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![5]], "the next one is tried again");
        assert_eq!(set.turned_away.try_iter().count(), 0, "and when nobody waits, nobody is turned away");
    }

    #[test]
    fn a_job_that_waited_too_long_is_turned_away_and_the_others_are_done() {
        const PATIENCE: Duration = Duration::from_secs(20);
        let set = lane(Limits { patience: PATIENCE, ..LIMITS }, Verdict::Carry);
        while_leading(&set, || {
            (1..=2).for_each(|job| set.lane.bring(job, 1).unwrap());
            let mut state = set.lane.lock();
            // As if that had been a while ago.
            state.queue.iter_mut().for_each(|waiting| waiting.since -= PATIENCE);
            drop(state);
            (3..=4).for_each(|job| set.lane.bring(job, 1).unwrap());
        });
        assert_eq!(set.turned_away.try_iter().collect::<Vec<_>>(), [(Away::Late, vec![1, 2])]);
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![0], vec![3, 4]]);
    }

    #[test]
    fn a_panic_costs_one_batch_and_not_the_lane() {
        let set = lane(LIMITS, Verdict::Carry);
        set.lane.bring(666, 1).unwrap();
        set.lane.bring(667, 1).unwrap();
        set.lane.bring(1, 1).unwrap();
        assert_eq!(set.batches.try_iter().collect::<Vec<_>>(), [vec![667], vec![1]]);
    }
}
