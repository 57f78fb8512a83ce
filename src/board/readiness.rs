//! The watch lane: whether the table can be read right now, asked at most once a second however many probes come.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::warn;

use super::responses;
use crate::batch_queue::{BackendState, BatchProcessor, RejectReason};
use crate::http::{Responder, Response};
use crate::store::Client;

/// How long a result is shared.
const SHARED: Duration = Duration::from_secs(1);

/// The work of the lane.
#[derive(Default)]
pub struct Readiness {
    latest: Mutex<Option<Look>>,
}

#[derive(Clone)]
struct Look {
    at: Instant,
    reply: Response,
}

impl Readiness {
    /// The answer of a look that is fresh enough to be shared.
    pub fn shared(&self) -> Option<Response> {
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.as_ref().filter(|look| look.at.elapsed() < SHARED).map(|look| look.reply.clone())
    }

    fn look(&self, client: &mut Client) -> Response {
        let reply = match client.probe() {
            Ok(()) => responses::text(200, &[], "ready"),
            Err(cause) => {
                warn!("not ready: {cause}");
                not_ready(cause.summary())
            }
        };
        let look = Look { at: Instant::now(), reply: reply.clone() };
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
        reply
    }
}

impl BatchProcessor for Readiness {
    type Job = Responder;
    type Connection = Client;
    type Outcome = (Vec<Responder>, Response);

    fn execute(&self, client: &mut Client, probes: Vec<Responder>, waited: Duration) -> (Self::Outcome, BackendState) {
        client.begin(waited);
        let reply = self.shared().unwrap_or_else(|| self.look(client));
        ((probes, reply), BackendState::Up)
    }

    fn reply(&self, (probes, reply): Self::Outcome) {
        probes.into_iter().for_each(|probe| probe.answer(reply.clone()));
    }

    fn reject(&self, probes: Vec<Responder>, _: RejectReason) {
        probes.into_iter().for_each(|probe| probe.answer(not_ready("the database is not available")));
    }
}

/// What a probe is told when the service can't serve.
pub fn not_ready(reason: &str) -> Response {
    responses::text(503, &[("Retry-After", "1")], &format!("not ready: {reason}"))
}
