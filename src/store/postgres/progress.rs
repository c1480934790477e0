//! This file tracks what a server is doing for a command, as far as the answers received so far tell.

use std::cell::Cell;

/// The current work of the server. It decides how long the command waits, whether that time counts against
/// `--timeout`, whether Ctrl-C ends the wait, and what an error means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// The server has received a first statement, which takes no time.
    Answering,
    /// The server waits for a lock, as long as `lock_timeout` allows.
    Locking,
    /// The server runs statements that change nothing yet.
    Working,
    /// The server writes rows, which it commits next.
    Writing,
    /// The server commits rows. From here on, the outcome is unknown until the answer comes.
    Committing,
    /// The server commits a transaction without rows of ours, which makes all earlier commits durable.
    Syncing,
}

impl Phase {
    /// Tells whether the command may hold its lock on the table.
    pub(super) fn may_hold_lock(self) -> bool {
        matches!(self, Self::Working | Self::Writing | Self::Committing)
    }
}

/// The current phase of a conversation with the server.
pub(super) struct Progress(Cell<Phase>);

impl Progress {
    /// Starts in the given phase.
    pub(super) fn new(phase: Phase) -> Self {
        Self(Cell::new(phase))
    }

    /// Records that an answer has come and the server has begun the next phase.
    pub(super) fn enter(&self, phase: Phase) {
        self.0.set(phase);
    }

    /// Returns the phase that was entered last.
    pub(super) fn phase(&self) -> Phase {
        self.0.get()
    }
}
