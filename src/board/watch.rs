//! The watch lane: whether the table can be read right now, asked at most once a second however many probes come.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

use super::answer;
use crate::http::{Reply, Responder};
use crate::lane::{Away, Verdict, Work};
use crate::store::Seat;

/// How long a result is shared.
const SHARED: Duration = Duration::from_secs(1);

/// The work of the lane.
#[derive(Default)]
pub struct Watch {
    latest: Mutex<Option<Look>>,
}

#[derive(Clone)]
struct Look {
    at: Instant,
    reply: Reply,
}

impl Watch {
    /// The answer of a look that is fresh enough to be shared.
    pub fn shared(&self) -> Option<Reply> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|look| look.at.elapsed() < SHARED).map(|look| look.reply.clone())
    }

    fn look(&self, seat: &mut Seat) -> Reply {
        let reply = match seat.probe() {
            Ok(()) => answer::text(200, &[], "ready"),
            Err(cause) => {
                warn!("not ready: {cause}");
                not_ready(cause.in_short())
            }
        };
        let look = Look { at: Instant::now(), reply: reply.clone() };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
        reply
    }
}

impl Work for Watch {
    type Job = Responder;
    type Seat = Seat;
    type Done = (Vec<Responder>, Reply);

    fn run(&self, seat: &mut Seat, probes: Vec<Responder>, waited: Duration) -> (Self::Done, Verdict) {
        seat.begin(waited);
        let reply = self.shared().unwrap_or_else(|| self.look(seat));
        ((probes, reply), Verdict::Carry)
    }

    fn report(&self, (probes, reply): Self::Done) {
        probes.into_iter().for_each(|probe| probe.answer(reply.clone()));
    }

    fn turn_away(&self, probes: Vec<Responder>, _: Away) {
        probes.into_iter().for_each(|probe| probe.answer(not_ready("the database is not available")));
    }
}

/// What a probe is told when the service can't serve.
pub fn not_ready(reason: &str) -> Reply {
    answer::text(503, &[("Retry-After", "1")], &format!("not ready: {reason}"))
}
