//! Waiting for a future on the runtime of one thread, a little at a time, so that Ctrl-C is seen.

use std::future::Future;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::timeout;

/// The time that a server has for an answer, whatever is left of `--timeout`.
pub(super) const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// How long a statement may run once it has its lock. `--timeout` does not bound work; this ends the
/// wait for a server that hangs.
pub(super) const WORK_MAX: Duration = Duration::from_secs(60);

/// Less than this is too little for any server to answer: `--timeout 0s` asks for one try, not for none.
const SHORT: Duration = Duration::from_millis(100);

/// What a server has left when `--timeout` is over.
pub(super) struct Grace(Duration);

impl Grace {
    /// This much.
    pub(super) fn of(time: Duration) -> Self {
        Self(time)
    }

    /// What a server needs to answer what takes it no time, where `left` is left of `--timeout`.
    pub(super) fn for_an_answer(left: Duration) -> Self {
        Self(if left < SHORT { MIN_ANSWER_TIME } else { Duration::ZERO })
    }

    /// What `left` lacks of this time.
    pub(super) fn up_to(time: Duration, left: Duration) -> Self {
        Self(time.saturating_sub(left))
    }
}

/// Polls a future as long as it is told to, and for the grace the first time that no time is left.
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

/// The future's output, if it comes within this time.
pub(super) fn within<F: Future>(runtime: &Runtime, time: Duration, future: F) -> Option<F::Output> {
    runtime.block_on(async { timeout(time, future).await.ok() })
}
