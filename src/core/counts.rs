//! Counts what one command does, for the metrics file.

use std::cell::Cell;
use std::time::Duration;

use super::allocation::Outcome;

/// Why an attempt at the database was repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RetryReason {
    /// Another writer had the lock.
    Writer,
    /// Readers held up a commit.
    Readers,
    /// The database's owner was changing the journal mode.
    JournalMode,
    /// Another writer inserted a row with a port or an app of this one's in between.
    Conflict,
    /// There was no connection to the server, or it was lost.
    Connection,
    /// The server cancelled a statement.
    Cancelled,
}

impl RetryReason {
    /// All reasons, in the order of their declaration.
    pub(crate) const ALL: [Self; 6] =
        [Self::Writer, Self::Readers, Self::JournalMode, Self::Conflict, Self::Connection, Self::Cancelled];

    /// Returns the reason's name, which is the value of a label.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Writer => "writer",
            Self::Readers => "readers",
            Self::JournalMode => "journal_mode",
            Self::Conflict => "conflict",
            Self::Connection => "connection",
            Self::Cancelled => "cancelled",
        }
    }

    /// Tells whether a pause for this reason is a wait for a lock.
    pub(crate) fn is_lock(self) -> bool {
        matches!(self, Self::Writer | Self::Readers | Self::JournalMode)
    }
}

/// The number of times that a command did each thing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Done {
    /// The allocations that it made.
    pub(crate) created: u64,
    /// The allocations that it was asked for and that were there.
    pub(crate) existing: u64,
    /// The allocations that it released.
    pub(crate) released: u64,
    /// The orphans that it removed.
    pub(crate) cleaned: u64,
    /// The attempts that it repeated, by reason, in the order of [`RetryReason::ALL`].
    pub(crate) retries: [u64; RetryReason::ALL.len()],
    /// How long it waited for locks; `None` if it neither took nor waited for one.
    pub(crate) lock_wait: Option<Duration>,
}

impl Done {
    /// Counts the answers of an allocation.
    pub(crate) fn add_outcomes(&mut self, outcomes: &[Outcome]) {
        let created = outcomes.iter().filter(|outcome| outcome.created).count();
        self.created += created as u64;
        self.existing += (outcomes.len() - created) as u64;
    }

    /// Counts an attempt that is repeated.
    pub(crate) fn add_retry(&mut self, reason: RetryReason) {
        self.retries[reason as usize] += 1;
    }

    /// Counts a wait for a lock, of no length if the lock was free.
    pub(crate) fn add_lock_wait(&mut self, wait: Duration) {
        self.lock_wait = Some(self.lock_wait.unwrap_or_default() + wait);
    }
}

/// What a command has done so far. The command and its database count in the same one.
#[derive(Default)]
pub(crate) struct Counts(Cell<Done>);

impl Counts {
    /// Adds something.
    pub(crate) fn add(&self, add: impl FnOnce(&mut Done)) {
        let mut done = self.0.get();
        add(&mut done);
        self.0.set(done);
    }

    /// Returns how long the command has waited for locks so far.
    pub(crate) fn lock_wait(&self) -> Duration {
        self.0.get().lock_wait.unwrap_or_default()
    }

    /// Tells whether the command has changed rows.
    pub(crate) fn has_changes(&self) -> bool {
        let Done { created, released, cleaned, .. } = self.0.get();
        created + released + cleaned > 0
    }

    /// Returns all that was counted, and begins anew.
    pub(crate) fn take(&self) -> Done {
        self.0.take()
    }
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    #[test]
    fn each_reason_is_counted_at_its_place() {
        let counts = Counts::default();
        for reason in RetryReason::ALL {
            counts.add(|done| done.add_retry(reason));
        }
        counts.add(|done| done.add_retry(RetryReason::Cancelled));
        counts.add(|done| done.add_lock_wait(Duration::ZERO));
        counts.add(|done| done.add_lock_wait(Duration::from_secs(1)));
        let done = counts.take();
        assert_eq!((done.retries, done.lock_wait), ([1, 1, 1, 1, 1, 2], Some(Duration::from_secs(1))));
        assert_eq!(counts.take(), Done::default());
    }

    #[test]
    fn each_reason_has_its_label_and_those_of_a_locked_file_are_waits_for_a_lock() {
        let told = RetryReason::ALL.map(|reason| (reason.name(), reason.is_lock()));
        let locks = [("writer", true), ("readers", true), ("journal_mode", true)];
        let others = [("conflict", false), ("connection", false), ("cancelled", false)];
        assert_eq!(told.split_at(3), (&locks[..], &others[..]));
    }

    #[test]
    fn the_answers_of_all_calls_add_up() {
        let outcome = |created| Outcome { allocation: row(1, "m", 1, 5001, 8001), created };
        let mut done = Done::default();
        done.add_outcomes(&[true, true, false, true].map(outcome));
        assert_eq!((done.created, done.existing), (3, 1));
        done.add_outcomes(&[false, false, true].map(outcome));
        assert_eq!((done.created, done.existing), (4, 3));
    }
}
