//! What a server is doing for a command, as far as the answers that have come tell.

use std::cell::Cell;

/// What the server is doing, which decides how long the command waits for it, whether that time
/// counts against `--timeout`, whether Ctrl-C ends the wait, and what an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has been sent a first statement, which takes no time.
    Answering,
    /// It waits for a lock, as long as `lock_timeout` allows.
    Locking,
    /// It runs statements that change nothing yet.
    Working,
    /// It writes rows that it commits next.
    Writing,
    /// It commits rows: from here on, the outcome is not known before the answer comes.
    Committing,
    /// It commits nothing of ours, and so makes all commits before durable.
    Syncing,
}

impl Phase {
    /// Whether the command may hold its lock on the table.
    pub(super) fn may_hold_lock(self) -> bool {
        matches!(self, Self::Working | Self::Writing | Self::Committing)
    }
}

/// The current phase of a conversation with the server.
pub(super) struct Progress(Cell<Phase>);

impl Progress {
    /// Starts in this phase.
    pub(super) fn new(phase: Phase) -> Self {
        Self(Cell::new(phase))
    }

    /// Notes that an answer has come and the server has begun with what follows.
    pub(super) fn enter(&self, phase: Phase) {
        self.0.set(phase);
    }

    /// The phase that was entered last.
    pub(super) fn phase(&self) -> Phase {
        self.0.get()
    }
}
