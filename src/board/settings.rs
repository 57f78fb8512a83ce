//! The settings of the board, as plain values. Reads no environment.

use std::num::NonZeroU32;

use ipnet::IpNet;
use url::Url;

use crate::page::PageSettings;

/// The settings of a board.
pub struct Settings {
    /// The pages' title.
    pub title: String,
    /// What the board is for, below the title.
    pub intro: Option<String>,
    /// The name of this machine, where the pages show it.
    pub host: Option<String>,
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

impl Settings {
    /// The part of them that the pages show.
    pub(super) fn page(&self) -> PageSettings<'_> {
        PageSettings {
            title: &self.title,
            intro: self.intro.as_deref(),
            host: self.host.as_deref(),
            max_chars: self.max_chars,
            can_moderate: self.admin_token.is_some(),
            has_feed: !self.public_urls.is_empty(),
        }
    }
}
