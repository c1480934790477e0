//! Declares the clock that code with a timeout or a retry uses. `core` has no clock of its own: its callers
//! pass one, so that tests can pass a clock that they control.

use std::time::Duration;

use jiff::Timestamp;

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
