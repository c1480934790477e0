//! This file waits for a future on the runtime of one thread, in short steps, so that Ctrl-C is noticed.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The time that a server has for an answer, whatever is left of `--timeout`.
pub(super) const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// How long a statement may run once it has its lock. `--timeout` does not bound work; this ends the
/// wait for a server that hangs.
pub(super) const WORK_MAX: Duration = Duration::from_secs(60);

/// The longest `--timeout` that is taken for a single try: no server can answer in less, and `--timeout 0s`
/// asks for one try, not for none.
const SHORT: Duration = Duration::from_millis(100);

/// The time that a server still has when `--timeout` is over.
pub(super) struct Grace(Duration);

impl Grace {
    /// Grants the given time.
    pub(super) fn of(time: Duration) -> Self {
        Self(time)
    }

    /// Grants the time that a server needs to answer a trivial query, where `left` is left of `--timeout`.
    pub(super) fn for_an_answer(left: Duration) -> Self {
        Self(if left < SHORT { MIN_ANSWER_TIME } else { Duration::ZERO })
    }

    /// Grants the difference between this time and `left`.
    pub(super) fn up_to(time: Duration, left: Duration) -> Self {
        Self(time.saturating_sub(left))
    }
}

/// Polls a future for the given time, plus the grace period the first time that no time is left.
pub(super) fn polled<F: Future + Unpin>(
    runtime: &Runtime,
    mut future: F,
    grace: Grace,
) -> impl FnMut(Duration) -> Option<F::Output> {
    let mut grace = grace.0;
    move |pause| {
        let pause = if pause.is_zero() { std::mem::take(&mut grace) } else { pause };
        within(runtime, pause, &mut future)
    }
}

/// Returns the future's output, if it comes within this time.
pub(super) fn within<F: Future>(runtime: &Runtime, time: Duration, future: F) -> Option<F::Output> {
    runtime.block_on(async { timeout(time, future).await.ok() })
}
