//! The connection to a server: made when it is needed, made again when it was lost, and never waited
//! for longer than the time allows.

use std::error::Error as _;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::Type;
use tokio_postgres::{Client, Error};

use super::error::{in_full, is_lost, is_passing, unusable};
use super::server::Server;
use crate::core::retry::Retry;
use crate::core::store::StoreError;

/// What a writer waits for.
pub(super) const OTHERS: &str = "other writers to finish";

/// What to do again when the connection is gone.
pub(super) const LOST: StoreError = StoreError::Busy("the server to answer again");

/// The time that a server has for an answer, whatever is left of the time for waiting.
const LEAST: Duration = Duration::from_secs(1);

/// A connection, made when it is needed and made again when it was lost.
pub(super) struct Link {
    pub(super) server: Server,
    /// There until the end.
    runtime: Option<Runtime>,
    client: Option<Client>,
    was_connected: bool,
}

/// Why the server did not answer.
pub(super) enum Failure {
    /// The connection is gone, and with it what became of the question.
    Lost,
    /// It did, or it cannot be asked.
    Store(StoreError),
}

impl Link {
    pub(super) fn new(server: Server) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { server, runtime: Some(runtime), client: None, was_connected: false })
    }

    /// Asks, and leaves off on Ctrl-C.
    pub(super) fn ask<T>(
        &mut self,
        retry: &Retry,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        self.connect(retry)?;
        self.converse(question, |poll| retry.wait(OTHERS, poll))
    }

    /// Asks what must not be left in the middle.
    pub(super) fn finish<T>(
        &mut self,
        retry: &Retry,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        let what = "the server to confirm what was written: the same call again tells what became of it";
        self.converse(question, |poll| retry.finish(what, poll))
    }

    fn converse<T>(
        &mut self,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
        wait: impl FnOnce(&mut dyn FnMut(Duration) -> Option<Result<T, Error>>) -> Result<Result<T, Error>, StoreError>,
    ) -> Result<T, Failure> {
        let (Some(runtime), Some(client)) = (&self.runtime, &self.client) else { return Err(Failure::Lost) };
        let answer = {
            let answer = pin!(question(client));
            wait(&mut polled(runtime, answer))
        };
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(err)) if is_lost(&err) || client.is_closed() => {
                log::debug!("the connection to the server was lost: {}", in_full(&err));
                self.client = None;
                Err(Failure::Lost)
            }
            Ok(Err(err)) => Err(Failure::Store(err.into())),
            Err(err) => {
                self.give_up();
                Err(Failure::Store(err))
            }
        }
    }

    /// Connects, unless there is a connection.
    fn connect(&mut self, retry: &Retry) -> Result<(), StoreError> {
        if self.client.as_ref().is_some_and(|client| !client.is_closed()) {
            return Ok(());
        }
        let Some(runtime) = &self.runtime else { return Err(LOST) };
        let tls = self.server.verify.connector().map_err(unusable)?;
        let connected = {
            let connecting = pin!(self.server.config.connect(tls));
            retry.wait("the server to answer", polled(runtime, connecting))?
        };
        let (client, connection) =
            connected.map_err(|err| match err.source().and_then(|err| err.downcast_ref::<io::Error>()) {
                Some(tls) if tls.kind() == io::ErrorKind::InvalidData => StoreError::Unusable {
                    why: format!("cannot be trusted: {}", in_full(&err)),
                    hint: Some("see sslmode and sslrootcert"),
                },
                // It was there a moment ago: it is starting again, or another one takes over.
                Some(_) if self.was_connected => StoreError::Busy("the server to come back"),
                Some(_) => StoreError::Unusable {
                    why: format!("cannot be reached: {}", in_full(&err)),
                    hint: Some("see that the server runs, and that its host and port are right"),
                },
                None if is_passing(&err) => StoreError::Busy("the server to accept connections"),
                None if err.code().is_none() && self.server.config.get_password().is_none() => StoreError::Unusable {
                    why: format!("cannot be used: {}", in_full(&err)),
                    hint: Some("a password is taken from PGPASSWORD, ~/.pgpass or the URL"),
                },
                None => err.into(),
            })?;
        // It ends when the client is dropped or the connection lost, which the client tells as well.
        runtime.spawn(async { connection.await.map_or_else(|err| log::trace!("{}", in_full(&err)), drop) });
        self.client = Some(client);
        self.was_connected = true;
        Ok(())
    }

    /// Ends what was begun, if anything was.
    pub(super) fn roll_back(&mut self) {
        if let (Some(runtime), Some(client)) = (&self.runtime, &self.client)
            && !matches!(within(runtime, LEAST, client.batch_execute("ROLLBACK")), Some(Ok(())))
        {
            self.client = None;
        }
    }

    /// Leaves a question unanswered: the server is told not to go on with it, as it would stay in its
    /// queue and keep others waiting.
    fn give_up(&mut self) {
        if let (Some(runtime), Some(client)) = (&self.runtime, self.client.take())
            && let Ok(tls) = self.server.verify.connector()
        {
            let told = within(runtime, LEAST, client.cancel_token().cancel_query(tls));
            log::debug!("asked the server to stop: {}", if matches!(told, Some(Ok(()))) { "done" } else { "in vain" });
        }
    }

    /// Whether a transaction was committed, of which that is not known.
    pub(super) fn has_committed(&mut self, retry: &Retry, id: i64) -> Result<bool, StoreError> {
        let status: Option<String> = self.ask(retry, async |client| {
            match client.query_typed_one("SELECT txid_status($1)", &[(&id, Type::INT8)]).await {
                // A standby that took over may never have heard of it.
                Err(err) if err.code() == Some(&SqlState::INVALID_PARAMETER_VALUE) => Ok(None),
                answer => answer?.try_get(0),
            }
        })?;
        match status.as_deref() {
            Some("in progress") => Err(StoreError::Busy("the server to end the transaction")),
            status => Ok(status == Some("committed")),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // A look-up of a host's name that hangs is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What waits for an answer as long as it is told to, and a little if there is no time from the start.
fn polled<F: Future + Unpin>(runtime: &Runtime, mut answer: F) -> impl FnMut(Duration) -> Option<F::Output> {
    let mut least = LEAST;
    move |pause| {
        let pause = if pause.is_zero() { least } else { pause };
        least = Duration::ZERO;
        within(runtime, pause, &mut answer)
    }
}

/// The answer, if it comes within this time.
fn within<F: Future>(runtime: &Runtime, time: Duration, answer: F) -> Option<F::Output> {
    runtime.block_on(async { timeout(time, answer).await.ok() })
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Lost => LOST,
            Failure::Store(err) => err,
        }
    }
}

impl From<StoreError> for Failure {
    fn from(err: StoreError) -> Self {
        Self::Store(err)
    }
}
