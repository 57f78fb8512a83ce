//! What the server serves: the interface between connections and the application.

use std::net::IpAddr;

use super::error::RequestError;
use super::head::Head;
use super::request::{Request, RequestId};
use super::responder::Responder;
use super::response::Response;
use super::scheduler::PollPermit;

/// The application.
pub trait Handler: Send + Sync {
    /// The address of the client that sent `head` through `peer`, which may be a proxy.
    fn client(&self, head: &Head, peer: IpAddr) -> IpAddr;

    /// Responds to `request`, now or later, on this thread or another one. Must not block: a request that needs to wait
    /// is queued for [`run_queued`](Handler::run_queued), which this thread calls next.
    fn respond(&self, request: Request, responder: Responder);

    /// Runs what requests have queued, unless another thread does. May block, after
    /// [`enter_blocking`](PollPermit::enter_blocking). The threads that handled requests call it, and those that are
    /// woken to help.
    fn run_queued(&self, permit: &mut PollPermit<'_>);

    /// The response to what is not a request that can be handled, and is called `id`. `head` is set when it arrived
    /// completely.
    fn refuse(&self, error: RequestError, head: Option<&Head>, id: &RequestId) -> Response;
}
