//! Delays responses without blocking a worker: one thread sends each when it is due.

use std::sync::OnceLock;
use std::sync::mpsc::{SendError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use log::error;

use super::pending_reply::PendingReply;
use super::problem::Problem;

/// The delayed responses. The thread starts with the first of them. Their number is bounded by the number of connections,
/// because each holds one.
#[derive(Default)]
pub(super) struct DelayedReplies {
    queue: OnceLock<Sender<Delayed>>,
}

struct Delayed {
    due: Instant,
    pending: PendingReply,
    problem: Problem,
}

impl DelayedReplies {
    /// Answers with `problem` after `delay`, which must be the same in each call: the responses are sent in their order.
    pub(super) fn refuse(&self, pending: PendingReply, problem: Problem, delay: Duration) {
        let queue = self.queue.get_or_init(start);
        if let Err(SendError(delayed)) = queue.send(Delayed { due: Instant::now() + delay, pending, problem }) {
            // There is no thread.
            delayed.send();
        }
    }
}

impl Delayed {
    fn send(self) {
        self.pending.refuse(&self.problem);
    }
}

fn start() -> Sender<Delayed> {
    let (queue, delayed) = channel::<Delayed>();
    let run = move || {
        for next in delayed {
            thread::sleep(next.due.saturating_duration_since(Instant::now()));
            next.send();
        }
    };
    if let Err(error) = thread::Builder::new().name("delayed-replies".to_owned()).spawn(run) {
        error!("no thread for delayed replies, so they are not delayed: {error}");
    }
    queue
}
