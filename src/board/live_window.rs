//! What changed between two reads of the newest messages. No I/O.
//!
//! Ids become visible in any order: another replica or a long transaction may commit a smaller id after a larger one. So the
//! ids that were seen say nothing of those below them, and complete windows are compared. A window reaches down to the
//! largest id that was known some seconds ago, and has the newest 200 rows at least. It remembers when each row was found.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use crate::store::live_window::LiveRow;

/// Rows that a window has at least, unless the table has fewer.
pub(super) const MIN_ROWS: usize = 200;
/// Rows that a window has at most. When more are needed, the changes are unknown.
pub(super) const MAX_ROWS: usize = 2000;
/// Messages that one tick sends to a stream. When there are more, the client must load them.
const MAX_MESSAGES: usize = 200;
/// The same for a stream that resumes, with the messages that its client may have already.
const MAX_REPLAY: usize = 2 * MAX_MESSAGES;
/// How much later than a larger id a smaller one may become visible.
pub(super) const MAX_DELAY: Duration = Duration::from_secs(5);

/// The newest rows, as one statement read them.
#[derive(Debug)]
pub(super) struct Window {
    rows: BTreeMap<u64, Known>,
    /// All rows above this id are in the window.
    above: u64,
    /// The rows up to there were found at this time at the latest.
    below: Instant,
    /// The largest ids of this window and of those before it, oldest first, back to the first one that is old enough.
    newest: VecDeque<(Instant, u64)>,
}

/// A row, and what is known of the time at which it became visible.
#[derive(Debug, Clone, Copy)]
struct Known {
    row: LiveRow,
    /// When a window had it first.
    found: Instant,
}

/// The message after which a stream resumes.
struct Reference {
    /// None when the message is not there any more.
    found: Option<Instant>,
    /// The age of the message, or of the one before it.
    age: Option<i64>,
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
        let known = |row: &LiveRow| {
            let found = before.map_or(now, |before| before.found(row.id).unwrap_or(now));
            (row.id, Known { row: *row, found })
        };
        let rows = rows.iter().map(known).collect();
        Window { rows, above, below: before.map_or(now, |before| before.found_up_to(above)), newest }
    }

    /// The largest id that was known some seconds ago. The next window must reach down to it.
    pub(super) fn mark(&self) -> u64 {
        self.newest.front().map_or(0, |(_, id)| *id)
    }

    /// Forgets the ids of the windows before this one, which no open stream knows.
    pub(super) fn forget_marks(&mut self) {
        self.newest.drain(..self.newest.len() - 1);
    }

    /// Rows that the next window probably has.
    pub(super) fn expected_rows(&self) -> usize {
        if self.rows.range(self.mark()..).nth(MIN_ROWS / 2).is_some() { MAX_ROWS } else { MIN_ROWS }
    }

    /// Whether it has all rows above `mark`.
    pub(super) fn reaches(&self, mark: u64) -> bool {
        self.above <= mark
    }

    /// The id from which a stream that resumes after `id` sends all messages: the first one that became visible later. None
    /// when it is unknown, or too many messages follow.
    pub(super) fn resume(&self, id: u64) -> Option<u64> {
        let newest = self.rows.last_key_value().map_or(0, |(id, _)| *id);
        if !self.reaches(id) || id > newest || self.is_too_short(id) {
            return None;
        }
        let after = id.saturating_add(1);
        let reference = self.reference(id);
        let is_late = |known: &Known| reference.as_ref().is_some_and(|reference| reference.is_before(known));
        let late = self.rows.range(..id).find(|(_, known)| is_late(known)).map(|(id, _)| *id);
        let first = late.unwrap_or(after);
        let count = |first: u64| self.rows.range(first..).count();
        (count(after) <= MAX_MESSAGES && count(first) <= MAX_REPLAY).then_some(first)
    }

    /// Whether rows below the window may have become visible after `id`, which is in its range.
    pub(super) fn is_too_short(&self, id: u64) -> bool {
        let Some((_, oldest)) = self.rows.first_key_value() else { return false };
        let below = Known { row: oldest.row, found: self.below };
        self.above > 0 && self.reference(id).is_none_or(|reference| reference.is_before(&below))
    }

    /// The ids of its rows from `first` on.
    pub(super) fn ids_from(&self, first: u64) -> impl Iterator<Item = u64> {
        self.rows.range(first..).map(|(id, _)| *id)
    }

    /// What happened until `next`. A row below this window is not new: it entered `next` because another row was deleted. A
    /// row below `next` is not deleted: newer ones took its place.
    pub(super) fn changes(&self, next: &Window) -> Changes {
        let mut changes = Changes::default();
        for (id, next) in next.rows.range(self.above.saturating_add(1)..) {
            match self.rows.get(id) {
                None => changes.added.push(*id),
                Some(before) if before.row.fingerprint != next.row.fingerprint => changes.edited.push(*id),
                Some(_) => {}
            }
        }
        let kept = self.rows.range(next.above.saturating_add(1)..).map(|(id, _)| *id);
        changes.deleted = kept.filter(|id| !next.rows.contains_key(id)).collect();
        changes
    }

    /// When a row was found, or None for one that is new after this window.
    fn found(&self, id: u64) -> Option<Instant> {
        let below = (id <= self.above).then_some(self.below);
        self.rows.get(&id).map(|known| known.found).or(below)
    }

    /// When the last one of the rows up to `id` was found.
    fn found_up_to(&self, id: u64) -> Instant {
        self.rows.range(..=id).map(|(_, known)| known.found).fold(self.below, Instant::max)
    }

    fn reference(&self, id: u64) -> Option<Reference> {
        let (nearest, known) = self.rows.range(..=id).next_back()?;
        Some(Reference { found: (*nearest == id).then_some(known.found), age: known.row.age })
    }
}

impl Reference {
    /// Whether the row may have become visible later. Of rows that were found together only the times of storing are known.
    fn is_before(&self, known: &Known) -> bool {
        match self.found {
            Some(found) if found != known.found => found < known.found,
            Some(_) | None => {
                let ages = known.row.age.zip(self.age);
                ages.is_some_and(|(age, own)| age <= own.saturating_add(MAX_DELAY.as_micros() as i64))
            }
        }
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

    /// The window of rows from id 1 on, of these ages in seconds, after the window `before`.
    fn aged(ages: &[i64], limit: usize, before: Option<&Window>, now: Instant) -> Window {
        let row = |(at, age): (usize, &i64)| LiveRow { id: at as u64 + 1, fingerprint: 0, age: Some(age * 1_000_000) };
        let rows: Vec<LiveRow> = ages.iter().enumerate().map(row).rev().take(limit).collect();
        Window::new(&rows, limit, before, now)
    }

    #[test]
    fn a_stream_resumes_with_the_messages_that_may_have_become_visible_later() {
        let now = Instant::now();
        let window = aged(&[60, 9, 8, 4, 3], 10, None, now);
        assert_eq!(window.resume(5), Some(3), "stored up to five seconds before");
        assert_eq!(window.resume(4), Some(2));
        assert_eq!(window.resume(1), Some(2));
        assert_eq!(window.resume(0), Some(1));
        assert_eq!(window.resume(6), None, "it was never there");
        let next = aged(&[60, 9, 8, 4, 3, 0], 10, Some(&window), now + Duration::from_secs(1));
        assert_eq!(next.resume(6), Some(7), "all others were known before");
        assert_eq!(next.resume(5), Some(3));
    }

    #[test]
    fn a_message_that_became_visible_late_is_sent_again_however_old_it_is() {
        let now = Instant::now();
        let row = |id, age: i64| LiveRow { id, fingerprint: 0, age: Some(age * 1_000_000) };
        let first = Window::new(&[row(9, 0), row(1, 60)], 10, None, now);
        let later = now + Duration::from_secs(1);
        let second = Window::new(&[row(9, 1), row(5, 30), row(1, 61)], 10, Some(&first), later);
        assert_eq!(second.resume(9), Some(5));
        let third = Window::new(&[row(10, 0), row(9, 2), row(5, 31), row(1, 62)], 10, Some(&second), later + MAX_DELAY);
        assert_eq!(third.resume(10), Some(11));
        assert_eq!(third.resume(9), Some(5));
        let deleted = Window::new(&[row(10, 0), row(5, 31)], 10, Some(&third), later + 2 * MAX_DELAY);
        assert_eq!(deleted.resume(9), Some(5), "the times of storing are left");
    }

    #[test]
    fn messages_that_were_known_before_count_as_neither_missed_nor_repeated() {
        let mut now = Instant::now();
        let mut ages = vec![0; 900];
        let before = aged(&ages, MAX_ROWS, None, now);
        now += Duration::from_secs(1);
        ages.push(0);
        let window = aged(&ages, MAX_ROWS, Some(&before), now);
        now += Duration::from_secs(1);
        ages.extend([0; MAX_MESSAGES]);
        let next = aged(&ages, MAX_ROWS, Some(&window), now);
        assert_eq!(next.resume(901), Some(902));
        assert_eq!(next.resume(900), None, "too many were missed");
        assert_eq!(before.resume(900), None, "too many may have become visible later");
    }

    #[test]
    fn a_window_that_is_too_short_for_late_messages_resumes_nothing() {
        let now = Instant::now();
        let short = aged(&[4, 3, 2, 1], 3, None, now);
        assert_eq!(
            (short.is_too_short(4), short.resume(4)),
            (true, None),
            "the first row may have become visible later"
        );
        assert_eq!(short.resume(1), None, "no row up to it is known");
        let deep = aged(&[60, 59, 2, 1], 3, None, now);
        assert_eq!((deep.is_too_short(4), deep.resume(4)), (false, Some(3)));
        let complete = aged(&[4, 3, 2, 1], 10, None, now);
        assert_eq!((complete.is_too_short(4), complete.resume(4)), (false, Some(1)));
        let next = aged(&[5, 4, 3, 2, 1, 0], 3, Some(&deep), now + Duration::from_secs(1));
        assert_eq!(next.resume(6), Some(5), "only the last two are new");
        let last = aged(&[9, 8, 7, 6, 5, 4, 0, 0, 0], 3, Some(&next), now + Duration::from_secs(2));
        assert_eq!(last.resume(9), Some(7), "the rows below were found before");
        let last = aged(&[9, 8, 7, 6, 5, 4, 0, 0, 0, 0], 3, Some(&last), now + Duration::from_secs(3));
        assert_eq!(last.resume(9), None, "a row that was found with it is below");
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
