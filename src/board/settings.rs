//! The settings of the board, as plain values. Reads no environment.

use std::num::NonZeroU32;

use ipnet::IpNet;
use url::Url;

/// The settings of a board.
pub struct Settings {
    /// The pages' title.
    pub title: String,
    /// The name of this machine, for the pages.
    pub host: String,
    /// Characters of the longest message.
    pub max_chars: usize,
    /// The token that turns on editing and deleting.
    pub admin_token: Option<String>,
    /// The proxies whose headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Where people reach the board; the first is used for absolute links.
    pub public_urls: Vec<Url>,
    /// Submits a minute of one client.
    pub rate_limit: Option<NonZeroU32>,
    /// Requests that may wait in one queue.
    pub queue_requests: usize,
    /// Bytes that may wait in one queue.
    pub queue_bytes: usize,
    /// Streams of the live feed that may be open.
    pub max_streams: usize,
}
