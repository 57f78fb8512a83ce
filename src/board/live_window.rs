//! What changed between two reads of the newest messages. No I/O.
//!
//! Ids become visible in any order: another replica or a long transaction may commit a smaller id after a larger one. So the
//! ids that were seen say nothing of those below them, and complete windows are compared. A window reaches down to the
//! largest id that was known some seconds ago, and has the newest 200 rows at least.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::store::live_window::LiveRow;

/// Rows that a window has at least, unless the table has fewer.
pub(super) const MIN_ROWS: usize = 200;
/// Rows that a window has at most. When more are needed, the changes are unknown.
pub(super) const MAX_ROWS: usize = 2000;
/// Messages that are sent at once. When there are more, the client must load them.
const MAX_MESSAGES: usize = 200;
/// How much later than a larger id a smaller one may become visible.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(5);

/// The newest rows, as one statement read them.
#[derive(Debug)]
pub(super) struct Window {
    rows: BTreeMap<u64, LiveRow>,
    /// All rows above this id are in the window.
    above: u64,
    /// The largest ids of this window and of those before it, oldest first, back to the first one that is old enough.
    newest: VecDeque<(Instant, u64)>,
}

/// What the next window has that the one before it had not, and the other way round. The ids ascend.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    pub(super) added: Vec<u64>,
    pub(super) edited: Vec<u64>,
    pub(super) deleted: Vec<u64>,
}

impl Changes {
    /// Whether they may be sent.
    pub(super) fn is_small(&self) -> bool {
        self.added.len().max(self.edited.len()).max(self.deleted.len()) <= MAX_MESSAGES
    }

    /// The ids of the messages whose texts are needed.
    pub(super) fn with_text(&self) -> impl Iterator<Item = u64> {
        self.added.iter().chain(&self.edited).copied()
    }
}

impl Window {
    /// The window of `rows`, newest first, which were read at `now` with this `limit` after the window `before`.
    pub(super) fn new(rows: &[LiveRow], limit: usize, before: Option<&Window>, now: Instant) -> Window {
        let oldest = rows.last().map_or(0, |row| row.id);
        let above = if rows.len() < limit { 0 } else { oldest.saturating_sub(1) };
        let mut newest = before.map(|before| before.newest.clone()).unwrap_or_default();
        newest.push_back((now, rows.first().map_or(0, |row| row.id)));
        while newest.get(1).is_some_and(|(at, _)| now.saturating_duration_since(*at) >= MAX_DELAY) {
            newest.pop_front();
        }
        Window { rows: rows.iter().map(|row| (row.id, *row)).collect(), above, newest }
    }

    /// The largest id that was known some seconds ago. The next window must reach down to it.
    pub(super) fn mark(&self) -> u64 {
        self.newest.front().map_or(0, |(_, id)| *id)
    }

    /// Rows that the next window probably has.
    pub(super) fn expected_rows(&self) -> usize {
        if self.rows.range(self.mark()..).nth(MIN_ROWS / 2).is_some() { MAX_ROWS } else { MIN_ROWS }
    }

    /// Whether it has all rows above `mark`.
    pub(super) fn reaches(&self, mark: u64) -> bool {
        self.above <= mark
    }

    /// The id from which a stream that resumes after `id` sends all messages: the first one that may have become visible
    /// later. None when it is unknown, or too many messages follow.
    pub(super) fn resume(&self, id: u64) -> Option<u64> {
        let newest = self.rows.last_key_value().map_or(0, |(id, _)| *id);
        if !self.reaches(id) || id > newest {
            return None;
        }
        let age = self.rows.range(..=id).next_back().and_then(|(_, row)| row.age);
        let oldest = age.map(|age| age.saturating_add(MAX_DELAY.as_micros() as i64));
        let is_late = |row: &LiveRow| row.age.zip(oldest).is_some_and(|(age, oldest)| age <= oldest);
        let late = self.rows.range(..id).find(|(_, row)| is_late(row)).map(|(id, _)| *id);
        let first = late.unwrap_or(id.saturating_add(1));
        (self.rows.range(first..).count() <= MAX_MESSAGES).then_some(first)
    }

    /// The ids of its rows from `first` on.
    pub(super) fn ids_from(&self, first: u64) -> impl Iterator<Item = u64> {
        self.rows.range(first..).map(|(id, _)| *id)
    }

    /// What happened until `next`. A row below this window is not new: it entered `next` because another row was deleted. A
    /// row below `next` is not deleted: newer ones took its place.
    pub(super) fn changes(&self, next: &Window) -> Changes {
        let mut changes = Changes::default();
        for (id, row) in next.rows.range(self.above.saturating_add(1)..) {
            match self.rows.get(id) {
                None => changes.added.push(*id),
                Some(before) if before.fingerprint != row.fingerprint => changes.edited.push(*id),
                Some(_) => {}
            }
        }
        let kept = self.rows.range(next.above.saturating_add(1)..).map(|(id, _)| *id);
        changes.deleted = kept.filter(|id| !next.rows.contains_key(id)).collect();
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(ids: &[u64], limit: usize) -> Window {
        edited(ids, limit, 0)
    }

    fn edited(ids: &[u64], limit: usize, edited: u64) -> Window {
        let row = |id: &u64| LiveRow { id: *id, fingerprint: u64::from(*id == edited), age: None };
        let rows: Vec<LiveRow> = ids.iter().rev().map(row).collect();
        Window::new(&rows, limit, None, Instant::now())
    }

    #[test]
    fn changes_are_what_differs_and_not_what_moves() {
        let changes = |before: &[u64], after: &[u64]| window(before, 4).changes(&window(after, 4));
        let all = |added: &[u64], deleted: &[u64]| Changes {
            added: added.to_vec(),
            edited: Vec::new(),
            deleted: deleted.to_vec(),
        };
        for (before, after, want) in [
            (&[][..], &[1][..], all(&[1], &[])),
            (&[1], &[1, 2], all(&[2], &[])),
            (&[1, 5], &[1, 3, 5], all(&[3], &[])),
            (&[2, 3, 4, 5], &[3, 4, 5, 6], all(&[6], &[])),
            (&[2, 3, 4, 5], &[1, 2, 4, 5], all(&[], &[3])),
            (&[2, 3, 4, 5], &[1, 3, 4, 5], all(&[], &[2])),
            (&[2, 3, 4, 5], &[3, 4, 5], all(&[], &[2])),
            (&[2, 3, 4, 9], &[3, 4, 7, 9], all(&[7], &[])),
            (&[1, 2, 3], &[], all(&[], &[1, 2, 3])),
            (&[1, 2, 3, 4], &[11, 12, 13, 14], all(&[11, 12, 13, 14], &[])),
        ] {
            assert_eq!(changes(before, after), want, "{before:?} {after:?}");
        }
        let changes = window(&[1, 2, 3], 4).changes(&edited(&[1, 2, 3], 4, 2));
        assert_eq!(changes, Changes { edited: vec![2], ..Changes::default() });
    }

    #[test]
    fn a_window_reaches_down_to_what_was_known_some_seconds_ago() {
        let start = Instant::now();
        let row = |id| LiveRow { id, fingerprint: 0, age: None };
        let mut window = Window::new(&[row(1)], 4, None, start);
        for second in 1..20u64 {
            window = Window::new(&[row(second + 1)], 4, Some(&window), start + Duration::from_secs(second));
            assert_eq!(window.mark(), (second + 1).saturating_sub(MAX_DELAY.as_secs()).max(1), "{second}");
        }
        assert!(window.reaches(0), "it is the complete table");
    }
}
