//! One read of the database for all streams: the newest rows, and the texts of what is sent.
//!
//! Never sends anything, and holds no lock during a statement.

use std::time::Instant;

use super::live_events::{self as events, Changed, Replay};
use super::live_window::{Changes, MAX_ROWS, MIN_ROWS, Window};
use crate::http::Chunk;
use crate::store::{Client, Error};

/// Where a stream begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LastEventId {
    /// With what happens from now on.
    None,
    /// After this message.
    Message(u64),
    /// After something that this service did not send.
    Unknown,
}

/// What a read found.
pub(super) struct Found {
    pub(super) window: Window,
    /// What changed since the window before. None when it is unknown, or more than a stream takes.
    pub(super) changed: Option<Changed>,
    /// The messages for all streams that resume.
    pub(super) replay: Chunk,
    /// For each arrival, from which position of `replay` on it gets messages. None when that is unknown or too much.
    pub(super) positions: Vec<Option<usize>>,
}

/// Reads the next window. `last` is the one before it, which the open streams know if the feed `is_watching`. `arrivals`
/// returns where each new stream begins; those that come during the read wait for the next one.
pub(super) fn read(
    client: &mut Client,
    last: Option<&Window>,
    is_watching: bool,
    arrivals: impl Fn() -> Vec<LastEventId>,
) -> Result<Found, Error> {
    let mut window = read_window(client, last, is_watching, &arrivals())?;
    if !is_watching {
        window.forget_marks();
    }
    let before = last.filter(|before| is_watching && window.reaches(before.mark()));
    let changes = before.map(|before| before.changes(&window)).filter(Changes::is_small);
    let firsts: Vec<Option<u64>> = arrivals().iter().map(|arrival| first(*arrival, &window)).collect();
    let lowest = firsts.iter().flatten().min().map_or(u64::MAX, |first| *first);
    let mut ids: Vec<u64> = changes.iter().flat_map(Changes::with_text).chain(window.ids_from(lowest)).collect();
    ids.sort_unstable();
    ids.dedup();
    let texts = client.by_ids(&ids)?;
    let replay = Replay::new(&texts[texts.partition_point(|message| message.id < lowest)..]);
    let changed = changes.and_then(|changes| events::changes(&changes, &texts));
    let positions = firsts.into_iter().map(|first| replay.position(first?)).collect();
    Ok(Found { window, changed, replay: replay.chunk, positions })
}

/// The id from which a new stream gets the messages of `window`.
fn first(arrival: LastEventId, window: &Window) -> Option<u64> {
    match arrival {
        LastEventId::None => Some(u64::MAX),
        LastEventId::Message(id) => window.resume(id),
        LastEventId::Unknown => None,
    }
}

fn read_window(
    client: &mut Client,
    before: Option<&Window>,
    is_watching: bool,
    arrivals: &[LastEventId],
) -> Result<Window, Error> {
    let watched = before.filter(|_| is_watching);
    let is_complete = |window: &Window| watched.is_none_or(|before| window.reaches(before.mark()));
    let is_too_short = |window: &Window, arrival: &LastEventId| match arrival {
        LastEventId::Message(id) => window.reaches(*id) && window.is_too_short(*id),
        LastEventId::None | LastEventId::Unknown => false,
    };
    let expected = watched.map_or(MIN_ROWS, Window::expected_rows);
    let rows = client.live_window(expected)?;
    let window = Window::new(&rows, expected, before, Instant::now());
    let suffices = is_complete(&window) && !arrivals.iter().any(|arrival| is_too_short(&window, arrival));
    if suffices || expected == MAX_ROWS && is_complete(&window) {
        return Ok(window);
    }
    let rows = client.live_window(MAX_ROWS)?;
    let window = Window::new(&rows, MAX_ROWS, before, Instant::now());
    // Otherwise the clients load all messages now, so the next window need not reach as far down as this one.
    Ok(if is_complete(&window) { window } else { Window::new(&rows, MAX_ROWS, None, Instant::now()) })
}
