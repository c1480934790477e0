//! This file holds the connection to a server. It connects when a query needs it, reconnects after a loss,
//! and never waits without a bound.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio_postgres::{Client, Error};

use super::cancel::cancel;
use super::connect::{Connection, connect};
use super::error::{LOST, WAITING_FOR_WRITERS, in_full, is_lost, meaning};
use super::progress::{Phase, Progress};
use super::target::PgTarget;
use super::wait::{Grace, MIN_ANSWER_TIME, WORK_MAX, polled, within};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The time that a server has to write to its disk and to its standbys, if `--timeout` leaves less.
const MIN_COMMIT_TIME: Duration = Duration::from_secs(5);

/// The name in messages of what we wait for while a statement runs.
const STATEMENT: &str = "the server to finish a statement";

/// The name in messages of what we wait for while rows are committed.
const CONFIRMATION: &str = "the server to confirm what was written: the same call again tells what became of it";

/// The name in messages of what we wait for while the commits of others are made durable.
const DISKS: &str = "the disk of the server and of its standby";

/// A connection that is made when it is needed, and made again after it was lost.
pub(super) struct Link {
    pub(super) target: PgTarget,
    /// `None` only while the link is dropped.
    runtime: Option<Runtime>,
    connection: Option<Connection>,
    /// Tells whether there was a connection before. If so, we wait for a server that cannot be reached.
    was_connected: bool,
}

/// The reason why there is no answer.
pub(super) enum Failure {
    /// The connection ended, and it is unknown whether the server did what it was asked.
    Lost {
        /// The work of the server when the connection ended.
        phase: Phase,
        /// The reason why the connection ended.
        why: String,
    },
    /// The server answered with an error, or cannot be asked.
    Store(StoreError),
}

impl Link {
    pub(super) fn new(target: PgTarget) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|err| {
            StoreError::unusable(format!("cannot be connected to: this process could make no event loop: {err}"))
        })?;
        Ok(Self { target, runtime: Some(runtime), connection: None, was_connected: false })
    }

    /// Sends queries and waits for the answer, over a new connection if there is none. Each phase of the
    /// query, from `first` on, has its own time limit.
    pub(super) fn ask<T>(
        &mut self,
        retry: &Retry,
        first: Phase,
        query: impl AsyncFnOnce(&Client, &Progress) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let is_there = self.connection.as_ref().is_some_and(|connection| !connection.client.is_closed());
        if !is_there && let Some(runtime) = &self.runtime {
            self.connection = None;
            self.connection = Some(connect(runtime, &self.target, retry, self.was_connected)?);
            self.was_connected = true;
        }
        self.ask_connected(retry, first, query)
    }

    /// Sends queries over the existing connection, in the transaction that was begun there.
    pub(super) fn ask_connected<T>(
        &mut self,
        retry: &Retry,
        first: Phase,
        query: impl AsyncFnOnce(&Client, &Progress) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let progress = Progress::new(first);
        let (Some(runtime), Some(Connection { client, .. })) = (&self.runtime, &self.connection) else {
            return Err(Failure::Lost { phase: first, why: "there is none".to_owned() });
        };
        let answer = {
            let mut answer = pin!(query(client, &progress));
            loop {
                let phase = progress.phase();
                // This wait ends with the phase, because the next phase has a time limit of its own.
                let step = poll_fn(|context| match answer.as_mut().poll(context) {
                    Poll::Ready(answer) => Poll::Ready(Some(answer)),
                    Poll::Pending if progress.phase() != phase => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                });
                match wait_for(runtime, retry, phase, pin!(step)) {
                    Ok(Some(answer)) => break Ok(answer),
                    Ok(None) => {}
                    Err(err) => break Err(err),
                }
            }
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(err)) if is_lost(&err) || client.is_closed() => Err(self.lose(&err, progress.phase())),
            Ok(Err(err)) => Err(Failure::Store(meaning(&err, progress.phase()))),
            Err(err) => {
                self.give_up();
                Err(Failure::Store(err))
            }
        }
    }

    /// Drops a lost connection and returns the best known reason for the loss.
    fn lose(&mut self, err: &Error, phase: Phase) -> Failure {
        let ended = self.connection.take().map(|connection| connection.ended);
        let why = match (&self.runtime, ended) {
            // The server may have sent the reason before the query was sent.
            (Some(runtime), Some(ended)) if err.as_db_error().is_none() => {
                within(runtime, Duration::from_millis(10), ended).and_then(Result::ok).flatten()
            }
            _ => None,
        };
        let why = why.unwrap_or_else(|| in_full(err));
        log::debug!("the connection to the server was lost: {why}");
        Failure::Lost { phase, why }
    }

    /// Ends the transaction, if one was begun.
    pub(super) fn roll_back(&mut self) {
        if let (Some(runtime), Some(Connection { client, .. })) = (&self.runtime, &self.connection)
            && !matches!(within(runtime, MIN_ANSWER_TIME, client.batch_execute("ROLLBACK")), Some(Ok(())))
        {
            self.connection = None;
        }
    }

    /// Stops waiting for the answer to a query, and asks the server to cancel the query. Otherwise the query
    /// would stay in the queue for the lock and block others.
    fn give_up(&mut self) {
        if let (Some(runtime), Some(Connection { client, host, .. })) = (&self.runtime, self.connection.take())
            && let Ok(tls) = self.target.verify.connector()
        {
            let told = within(runtime, MIN_ANSWER_TIME, cancel(client.cancel_token(), &host, tls));
            log::debug!("asked the server to stop: {}", if matches!(told, Some(Ok(()))) { "done" } else { "in vain" });
        }
    }
}

/// Waits for the next event in this phase.
fn wait_for<F: Future + Unpin>(
    runtime: &Runtime,
    retry: &Retry,
    phase: Phase,
    next: F,
) -> Result<F::Output, StoreError> {
    let left = retry.left();
    match phase {
        Phase::Answering => retry.wait("the server to answer", polled(runtime, next, Grace::for_an_answer(left))),
        // The server itself ends this wait.
        Phase::Locking => {
            retry.wait_keeping(Duration::ZERO, WAITING_FOR_WRITERS, polled(runtime, next, Grace::of(MIN_ANSWER_TIME)))
        }
        Phase::Working | Phase::Writing => {
            let mut next = next;
            // A statement may wait for a lock first. The server bounds that wait by the time that is left.
            retry.work(STATEMENT, left + WORK_MAX, move |pause| within(runtime, pause, &mut next))
        }
        Phase::Committing => retry.finish(CONFIRMATION, polled(runtime, next, Grace::up_to(MIN_COMMIT_TIME, left))),
        Phase::Syncing => retry.wait(DISKS, polled(runtime, next, Grace::up_to(MIN_COMMIT_TIME, left))),
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // If the look-up of a host's name hangs, we do not wait for it.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost { .. } => LOST,
            Failure::Store(err) => err,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(err: StoreError) -> Self {
        Self::Store(err)
    }
}
