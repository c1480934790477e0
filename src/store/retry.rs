//! This file waits for other writers: it has one loop and one deadline, and counts the tries.
//!
//! Every wait of a command goes through one [`Retry`], so that all of them together are bounded by
//! `--timeout`. Pauses grow from 0.2 to 10 ms and are drawn at random between a half and the whole,
//! so that processes that collided once do not collide in step.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use jiff::Timestamp;

use super::error::StoreError;
use crate::core::clock::{Clock, LONG_WAIT, TERMINAL_LOG};
use crate::core::counts::{Counts, RetryReason};

const FIRST_PAUSE: Duration = Duration::from_micros(200);
const LONGEST_PAUSE: Duration = Duration::from_millis(10);

/// The longest time until Ctrl-C is noticed during a wait that needs no retry. Each poll wakes the process,
/// and dozens of waiting processes that wake more often would slow down those that work.
const LONGEST_POLL: Duration = Duration::from_millis(50);

/// The most tries after a violated constraint. Another writer, which does not lock, may have inserted a row
/// in between. But if somebody else's constraint can never be met, the loop must end.
const CONFLICTS_MAX: u32 = 10;

/// The rest of one command's time for waiting.
pub(crate) struct Retry {
    clock: Box<dyn Clock>,
    timeout: Duration,
    waited: Cell<Duration>,
    tries: Cell<u64>,
    random: RefCell<fastrand::Rng>,
    counts: Rc<Counts>,
}

impl Retry {
    /// Allows waits of `timeout` in all. With zero, each thing is tried once.
    pub(crate) fn new(timeout: Duration, clock: Box<dyn Clock>) -> Self {
        Self {
            clock,
            timeout,
            waited: Cell::default(),
            tries: Cell::default(),
            random: RefCell::new(fastrand::Rng::new()),
            counts: Rc::default(),
        }
    }

    /// Counts the retries and the waits for locks in these counts, from now on.
    pub(crate) fn counted(self, counts: Rc<Counts>) -> Self {
        Self { counts, ..self }
    }

    /// Returns the time of day, for rows that are written now.
    pub(crate) fn timestamp(&self) -> Timestamp {
        self.clock.timestamp()
    }

    /// Runs `attempt` until it is neither busy nor in conflict, or the time is over. If an attempt ends busy,
    /// its own duration counts as waited.
    ///
    /// Calls may be nested. An outer call does not repeat an attempt that an inner call gave up.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Locked`] when the time is over, [`StoreError::Interrupted`], the conflict that
    /// stayed, or any other error of `attempt`.
    pub(crate) fn run<T>(&self, mut attempt: impl FnMut() -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut pause = FIRST_PAUSE;
        let mut conflicts = 0;
        let mut told = Told::default();
        loop {
            if self.clock.is_interrupted() {
                return Err(StoreError::Interrupted);
            }
            let start = self.clock.now();
            let already = self.waited.get();
            let already_locked = self.counts.lock_wait();
            let (reason, what) = match attempt() {
                Err(StoreError::Busy(reason, what)) => {
                    // SQLite or a server may have waited itself before it reported that it is busy.
                    let took = self.clock.now().saturating_sub(start);
                    self.waited.set(already + took);
                    if reason.is_lock() {
                        let counted = self.counts.lock_wait().saturating_sub(already_locked);
                        self.counts.add(|done| done.add_lock_wait(took.saturating_sub(counted)));
                    }
                    (reason, what.to_owned())
                }
                Err(StoreError::Conflict(what)) if conflicts < CONFLICTS_MAX => {
                    conflicts += 1;
                    (RetryReason::Conflict, what)
                }
                done => {
                    told.over();
                    return done;
                }
            };
            let left = self.left();
            if left.is_zero() {
                return Err(self.locked(&what, 1));
            }
            self.tries.set(self.tries.get() + 1);
            let drawn = pause.mul_f64(self.random.borrow_mut().f64().midpoint(1.0)).min(left);
            self.counts.add(|done| done.add_retry(reason));
            told.retry(reason, &what);
            log::trace!("try {} follows in {drawn:.1?}", self.tries.get() + 1);
            let start = self.clock.now();
            self.clock.sleep(drawn);
            let slept = self.clock.now().saturating_sub(start);
            self.waited.set(self.waited.get() + slept);
            told.waited += slept;
            told.goes_on(&what);
            if reason.is_lock() {
                self.counts.add(|done| done.add_lock_wait(slept));
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Waits for an event that needs no retry, as long as the time allows. `poll` waits for it, no longer
    /// than its argument.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Locked`] when the time is over, or [`StoreError::Interrupted`].
    pub(crate) fn wait<T>(&self, what: &str, poll: impl FnMut(Duration) -> Option<T>) -> Result<T, StoreError> {
        self.poll(Duration::ZERO, what, poll, || self.clock.is_interrupted())
    }

    /// Waits like [`Retry::wait`] for a lock, but keeps `kept` of the time for another wait.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Locked`] when the rest of the time is over, or [`StoreError::Interrupted`].
    pub(crate) fn wait_keeping<T>(
        &self,
        kept: Duration,
        what: &str,
        poll: impl FnMut(Duration) -> Option<T>,
    ) -> Result<T, StoreError> {
        let start = self.clock.now();
        let come = self.poll(kept, what, poll, || self.clock.is_interrupted());
        let waited = self.clock.now().saturating_sub(start);
        self.counts.add(|done| done.add_lock_wait(waited));
        come
    }

    /// Waits like [`Retry::wait`] for something that is under way and must not be interrupted: Ctrl-C does
    /// not end the wait.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Locked`] when the time is over.
    pub(crate) fn finish<T>(&self, what: &str, poll: impl FnMut(Duration) -> Option<T>) -> Result<T, StoreError> {
        self.poll(Duration::ZERO, what, poll, || false)
    }

    /// Waits for work that others do for this process, for at most `longest`. `--timeout` does not limit that
    /// work, and the wait does not count as waited unless it exceeds `longest`.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Locked`] when `longest` is over, or [`StoreError::Interrupted`].
    pub(crate) fn work<T>(
        &self,
        what: &str,
        longest: Duration,
        mut poll: impl FnMut(Duration) -> Option<T>,
    ) -> Result<T, StoreError> {
        let start = self.clock.now();
        let mut told = Told::default();
        loop {
            if self.clock.is_interrupted() {
                return Err(StoreError::Interrupted);
            }
            told.waited = self.clock.now().saturating_sub(start);
            let left = longest.saturating_sub(told.waited);
            if left.is_zero() {
                self.waited.set(self.waited.get() + longest);
                return Err(self.locked(what, 1));
            }
            if let Some(done) = poll(left.min(LONGEST_POLL)) {
                told.over();
                return Ok(done);
            }
            told.goes_on(what);
        }
    }

    fn poll<T>(
        &self,
        kept: Duration,
        what: &str,
        mut poll: impl FnMut(Duration) -> Option<T>,
        is_interrupted: impl Fn() -> bool,
    ) -> Result<T, StoreError> {
        let start = self.clock.now();
        let already = self.waited.get();
        let mut told = Told::default();
        loop {
            if is_interrupted() {
                return Err(StoreError::Interrupted);
            }
            let left = self.left().saturating_sub(kept);
            let come = poll(left.min(LONGEST_POLL));
            let waited = self.clock.now().saturating_sub(start);
            self.waited.set(already + waited);
            told.waited = waited;
            match come {
                Some(come) => {
                    told.over();
                    return Ok(come);
                }
                None if left.is_zero() => {
                    return Err(self.locked(what, 1));
                }
                None => told.goes_on(what),
            }
        }
    }

    /// Counts that the command takes a lock, for which it may have to wait.
    pub(crate) fn takes_lock(&self) {
        self.counts.add(|done| done.add_lock_wait(Duration::ZERO));
    }

    /// Returns how long this command has waited so far.
    pub(crate) fn waited(&self) -> Duration {
        self.waited.get()
    }

    /// Sleeps for about this long. The pause does not count as waited.
    pub(crate) fn pause(&self, pause: Duration) {
        self.clock.sleep(pause);
    }

    /// Returns how long this command may still wait.
    pub(crate) fn left(&self) -> Duration {
        self.timeout.saturating_sub(self.waited.get())
    }

    /// Returns the error for a wait whose time is over, or whose tries were all in vain. `more_tries` are
    /// added to the number of tries.
    pub(crate) fn locked(&self, what: &str, more_tries: u32) -> StoreError {
        self.tries.set(self.tries.get() + u64::from(more_tries));
        StoreError::Locked { waited: self.waited.get(), tries: self.tries.get(), what: what.to_owned() }
    }
}

/// One wait, as it is logged.
#[derive(Default)]
struct Told {
    waited: Duration,
    retries: u64,
    reason: Option<RetryReason>,
    has_begun: bool,
    is_long: bool,
}

impl Told {
    /// Logs a retry, unless the one before had the same reason.
    fn retry(&mut self, reason: RetryReason, what: &str) {
        self.retries += 1;
        if self.reason.replace(reason) != Some(reason) {
            self.has_begun = true;
            log::debug!("trying again ({}): waiting for {what}", reason.name());
        }
    }

    /// Logs that the wait goes on: at its beginning, and on a terminal after some time.
    fn goes_on(&mut self, what: &str) {
        if !self.has_begun {
            self.has_begun = true;
            log::debug!("waiting for {what}");
        }
        if !self.is_long && self.waited >= LONG_WAIT {
            self.is_long = true;
            log::info!(target: TERMINAL_LOG, "Waiting for {what}...");
        }
    }

    /// Logs the end of the wait, if its beginning was logged.
    fn over(&self) {
        match (self.has_begun, self.retries) {
            (false, _) => {}
            (true, 0) => log::debug!("waited {:.1?}", self.waited),
            (true, retries) => log::debug!("waited {:.1?}, and tried again {retries} time(s)", self.waited),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[derive(Clone, Default)]
    struct Fake {
        now: Rc<Cell<Duration>>,
        interrupted_at: Option<Duration>,
    }

    impl Clock for Fake {
        fn now(&self) -> Duration {
            self.now.get()
        }
        fn timestamp(&self) -> Timestamp {
            Timestamp::UNIX_EPOCH + self.now.get()
        }
        fn sleep(&self, pause: Duration) {
            self.now.set(self.now.get() + pause);
        }
        fn is_interrupted(&self) -> bool {
            self.interrupted_at.is_some_and(|at| self.now.get() >= at)
        }
    }

    fn busy() -> Result<(), StoreError> {
        Err(StoreError::Busy(RetryReason::Writer, "another writer"))
    }

    /// Returns what the results in turn are, for [`Retry::run`].
    fn in_turn<T>(results: impl IntoIterator<Item = T>) -> impl FnMut() -> T {
        let mut results = results.into_iter();
        move || results.next().unwrap()
    }

    thread_local! {
        /// The messages that the thread of a test logged, without the traces.
        static LOGGED: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
    }

    struct Logger;

    impl log::Log for Logger {
        fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
            metadata.level() <= log::Level::Debug
        }
        fn log(&self, record: &log::Record<'_>) {
            let place = if record.target() == TERMINAL_LOG { "terminal" } else { "log" };
            LOGGED.with_borrow_mut(|logged| logged.push(format!("{place}: {}", record.args())));
        }
        fn flush(&self) {}
    }

    /// Returns what is logged while this runs.
    fn logged<T>(run: impl FnOnce() -> T) -> Vec<String> {
        // It is set once for all tests.
        let _ = log::set_logger(&Logger);
        log::set_max_level(log::LevelFilter::Debug);
        LOGGED.take();
        run();
        LOGGED.take()
    }

    #[test]
    fn a_retry_is_logged_once_a_reason_and_the_end_with_the_number_of_tries() {
        let retry = Retry::new(Duration::from_secs(2), Box::new(Fake::default()));
        let conflict = || Err(StoreError::Conflict("UNIQUE".into()));
        let log = logged(|| retry.run(in_turn([busy(), busy(), conflict(), Ok(())])));
        let [writer, unique, over] = log.as_slice() else { panic!("{log:?}") };
        assert_eq!(writer, "log: trying again (writer): waiting for another writer");
        assert_eq!(unique, "log: trying again (conflict): waiting for UNIQUE");
        assert!(over.starts_with("log: waited ") && over.ends_with(", and tried again 3 time(s)"), "{over}");
        assert_eq!(logged(|| retry.run(|| Ok(()))), [""; 0]);
    }

    #[test]
    fn a_wait_is_logged_when_it_begins_and_ends_and_a_terminal_is_told_of_a_long_one() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(60), Box::new(clock.clone()));
        let wait = |time: Duration| {
            let end = clock.now.get() + time;
            logged(|| {
                retry.wait("a turn", |pause| {
                    clock.sleep(pause);
                    (clock.now.get() >= end).then_some(())
                })
            })
        };
        assert_eq!(wait(LONGEST_POLL), [""; 0]);
        assert_eq!(wait(Duration::from_millis(900)), ["log: waiting for a turn", "log: waited 900.0ms"]);
        assert_eq!(
            wait(Duration::from_millis(1500)),
            ["log: waiting for a turn", "terminal: Waiting for a turn...", "log: waited 1.5s"]
        );
    }

    #[test]
    fn retries_and_waits_for_locks_are_counted_where_the_caller_says() {
        let counts = Rc::new(Counts::default());
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(2), Box::new(clock.clone())).counted(Rc::clone(&counts));
        retry.takes_lock();
        assert_eq!(counts.take().lock_wait, Some(Duration::ZERO), "a lock that was free is counted");
        assert!(retry.run(in_turn([busy(), busy(), Ok(())])).is_ok());
        let done = counts.take();
        assert_eq!((done.retries, done.lock_wait), ([2, 0, 0, 0, 0, 0], Some(clock.now.get())));
        assert!(retry.run(in_turn([Err(StoreError::Conflict("UNIQUE".into())), Ok(())])).is_ok());
        let done = counts.take();
        assert_eq!((done.retries, done.lock_wait), ([0, 0, 0, 1, 0, 0], None));
    }

    #[test]
    fn all_waits_together_end_at_the_timeout() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(2), Box::new(clock.clone()));
        let mut tries = 0;
        let free = retry.run(|| {
            tries += 1;
            if tries < 100 { busy() } else { Ok(()) }
        });
        assert!(free.is_ok());
        let Err(StoreError::Locked { waited, tries, what }) = retry.run(busy) else { panic!("still busy") };
        assert_eq!(waited, Duration::from_secs(2));
        assert_eq!(clock.now.get(), waited);
        assert_eq!(what, "another writer");
        assert!((200..2000).contains(&tries), "{tries} tries in 2 s of pauses up to 10 ms");
    }

    #[test]
    fn the_time_of_an_attempt_that_ends_busy_counts_as_waited_once() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(2), Box::new(clock.clone()));
        let mut tries = 0;
        let result = retry.run(|| {
            tries += 1;
            // The attempt waits for a second by itself, and for another in a loop of its own.
            clock.sleep(Duration::from_secs(1));
            let Err(_) = retry.wait_keeping(Duration::from_millis(500), "a turn", |pause| {
                clock.sleep(pause);
                None::<()>
            }) else {
                panic!("it never comes")
            };
            busy()
        });
        let Err(StoreError::Locked { waited, .. }) = result else { panic!("{result:?}") };
        assert_eq!(retry.counts.lock_wait(), waited);
        assert!((Duration::from_secs(2)..Duration::from_secs(4)).contains(&waited), "{waited:?}");
        assert_eq!((tries, waited), (1, clock.now.get()));
    }

    #[test]
    fn a_wait_that_keeps_time_leaves_it_to_the_next() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(2), Box::new(clock.clone()));
        let sleep = |pause| {
            clock.sleep(pause);
            None::<()>
        };
        assert!(matches!(retry.wait_keeping(retry.left() / 2, "a turn", sleep), Err(StoreError::Locked { .. })));
        assert_eq!((clock.now.get(), retry.left()), (Duration::from_secs(1), Duration::from_secs(1)));
        assert!(retry.run(|| if clock.now.get() < Duration::from_millis(1900) { busy() } else { Ok(()) }).is_ok());
    }

    #[test]
    fn a_pause_passes_and_does_not_count_as_waited() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::from_secs(2), Box::new(clock.clone()));
        retry.pause(Duration::from_secs(3));
        assert_eq!((clock.now.get(), retry.waited()), (Duration::from_secs(3), Duration::ZERO));
        assert_eq!(retry.timestamp(), Timestamp::UNIX_EPOCH + Duration::from_secs(3));
        let came = retry.wait("a turn", |pause| {
            clock.sleep(pause);
            (clock.now.get() >= Duration::from_secs(4)).then_some(())
        });
        assert_eq!((came.is_ok(), retry.waited()), (true, Duration::from_secs(1)));
    }

    #[test]
    fn without_a_timeout_each_thing_is_tried_once() {
        let retry = Retry::new(Duration::ZERO, Box::new(Fake::default()));
        let mut tries = 0;
        let result = retry.run(|| {
            tries += 1;
            busy()
        });
        assert!(matches!(result, Err(StoreError::Locked { tries: 1, .. })));
        assert_eq!(tries, 1);
    }

    #[test]
    fn a_conflict_that_stays_is_not_tried_forever() {
        let retry = Retry::new(Duration::from_secs(60), Box::new(Fake::default()));
        let mut tries = 0;
        let result = retry.run(|| -> Result<(), _> {
            tries += 1;
            Err(StoreError::Conflict("UNIQUE".into()))
        });
        assert!(matches!(result, Err(StoreError::Conflict(_))));
        assert_eq!(tries, CONFLICTS_MAX + 1);
    }

    #[test]
    fn work_is_bounded_by_its_own_limit_alone() {
        let clock = Fake::default();
        let retry = Retry::new(Duration::ZERO, Box::new(clock.clone()));
        let longest = Duration::from_secs(5);
        let done = |at: u64| {
            let end = clock.now.get() + Duration::from_secs(at);
            retry.work("the server", longest, |pause| {
                clock.sleep(pause);
                (clock.now.get() >= end).then_some(())
            })
        };
        assert!(done(4).is_ok() && retry.waited.get().is_zero());
        let Err(StoreError::Locked { waited, tries, .. }) = done(6) else { panic!("it works on") };
        assert_eq!((waited, tries), (longest, 1));
    }

    #[test]
    fn an_interrupt_ends_the_wait() {
        let at = Duration::from_millis(50);
        let clock = Fake { interrupted_at: Some(at), ..Fake::default() };
        let retry = Retry::new(Duration::from_secs(60), Box::new(clock.clone()));
        assert!(matches!(retry.run(busy), Err(StoreError::Interrupted)));
        assert!(clock.now.get() < at + LONGEST_PAUSE);
    }
}
