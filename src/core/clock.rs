//! Declares the clock that code with a timeout or a retry uses. `core` has no clock of its own: its callers
//! pass one, so that tests can pass a clock that they control.

use std::time::Duration;

use jiff::Timestamp;

/// After this time, a person at a terminal is told what a wait is for.
pub(crate) const LONG_WAIT: Duration = Duration::from_secs(1);

/// The log target of messages that are meant for a person at a terminal alone.
pub(crate) const TERMINAL_LOG: &str = concat!(env!("CARGO_CRATE_NAME"), "::terminal");

/// A clock that tells the time, sleeps, and knows whether the user has asked to stop.
pub(crate) trait Clock {
    /// Returns the time since some fixed moment; the value never decreases.
    fn now(&self) -> Duration;

    /// Returns the current date and time.
    fn timestamp(&self) -> Timestamp;

    /// Sleeps for about the time `pause`.
    fn sleep(&self, pause: Duration);

    /// Tells whether the user has asked to stop.
    fn is_interrupted(&self) -> bool;
}
