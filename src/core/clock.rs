//! Names what waiting needs of a clock. `core` has no clock of its own: its callers give one.

use std::time::Duration;

use jiff::Timestamp;

/// The clock and the sleep that waiting needs.
pub(crate) trait Clock {
    /// The time since some fixed moment; never runs backwards.
    fn now(&self) -> Duration;

    /// The time of day.
    fn timestamp(&self) -> Timestamp;

    /// Sleeps for about this long.
    fn sleep(&self, pause: Duration);

    /// Whether the user has asked to stop.
    fn is_interrupted(&self) -> bool;
}
