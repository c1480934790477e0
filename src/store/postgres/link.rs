//! The connection to a server: made when it is needed, made again when it was lost, and never waited
//! for longer than the time allows.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, Error};

use super::cancel::cancel;
use super::error::{LOST, in_full, is_lost, not_reached, refusal};
use super::url::PgTarget;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The time that a server has for an answer, whatever is left of the time for waiting.
const MIN_ANSWER_TIME: Duration = Duration::from_secs(1);

/// A connection, made when it is needed and made again when it was lost.
pub(super) struct Link {
    pub(super) target: PgTarget,
    /// There until the end.
    runtime: Option<Runtime>,
    client: Option<Client>,
    /// The host that it is or was last connected to, at its address.
    host: Option<Config>,
}

/// Why the server did not answer.
pub(super) enum Failure {
    /// The connection is gone, and with it what became of the question.
    Lost,
    /// It did, or it cannot be asked.
    Store(StoreError),
}

impl Link {
    pub(super) fn new(target: PgTarget) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        Ok(Self { target, runtime: Some(runtime), client: None, host: None })
    }

    /// Asks, and leaves off on Ctrl-C; `what` is waited for.
    pub(super) fn ask<T>(
        &mut self,
        retry: &Retry,
        what: &str,
        question: impl AsyncFnOnce(&Client) -> Result<T, Error>,
    ) -> Result<T, Failure> {
        self.connect(retry)?;
        self.converse(question, |poll| retry.wait(what, poll))
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
        let mut refusals = Vec::new();
        let mut note = |err| match err {
            StoreError::Interrupted | StoreError::Locked { .. } => Err(err),
            _ => {
                refusals.push(err);
                Ok(())
            }
        };
        for host in &self.target.hosts {
            let addresses = self.at_addresses(host, retry).or_else(|err| note(err).map(|()| Vec::new()))?;
            for host in addresses {
                match self.connect_to(&host, retry) {
                    Ok(client) => {
                        self.client = Some(client);
                        self.host = Some(host);
                        return Ok(());
                    }
                    Err(err) => note(err)?,
                }
            }
        }
        // A host that may soon take a connection is worth waiting for, whatever the others say.
        Err(refusals.into_iter().min_by_key(|err| !matches!(err, StoreError::Busy(_))).unwrap_or(LOST))
    }

    /// The host at each of its addresses, so that it is known which one answered.
    fn at_addresses(&self, host: &Config, retry: &Retry) -> Result<Vec<Config>, StoreError> {
        let (Some(runtime), [Host::Tcp(name)], []) = (&self.runtime, host.get_hosts(), host.get_hostaddrs()) else {
            return Ok(vec![host.clone()]);
        };
        let looking = pin!(lookup_host((name.as_str(), 0)));
        let found = retry.wait("the host's address", polled(runtime, looking))?;
        let at = |address: SocketAddr| {
            let mut host = host.clone();
            host.hostaddr(address.ip());
            host
        };
        match found {
            Ok(found) => Ok(found.map(at).collect()),
            Err(_) if self.host.is_some() => Err(StoreError::Busy("the host's address")),
            Err(err) => Err(not_reached(format!("{name}: {err}"))),
        }
    }

    fn connect_to(&self, host: &Config, retry: &Retry) -> Result<Client, StoreError> {
        let Some(runtime) = &self.runtime else { return Err(LOST) };
        let tls = self.target.verify.connector().map_err(StoreError::unusable)?;
        let limit = host.get_connect_timeout().copied().unwrap_or(Duration::MAX);
        let connecting = pin!(async { timeout(limit, host.connect(tls)).await });
        let connected = retry.wait("the server to answer", polled(runtime, connecting))?;
        let (client, connection) = match connected {
            Ok(connected) => connected.map_err(|err| refusal(err, host, self.host.is_some()))?,
            Err(_) => return Err(not_reached(format!("it did not answer within a connect_timeout of {limit:.0?}"))),
        };
        let has_encoding = connection.parameter("server_encoding") != Some("SQL_ASCII");
        // It ends when the client is dropped or the connection lost, which the client tells as well.
        runtime.spawn(async { connection.await.map_or_else(|err| log::trace!("{}", in_full(&err)), drop) });
        if !has_encoding {
            // It would refuse to show what is not UTF-8.
            let asking = pin!(client.batch_execute("SET client_encoding = SQL_ASCII"));
            retry.wait("the server to answer", polled(runtime, asking))?.map_err(StoreError::from)?;
        }
        Ok(client)
    }

    /// Ends what was begun, if anything was.
    pub(super) fn roll_back(&mut self) {
        if let (Some(runtime), Some(client)) = (&self.runtime, &self.client)
            && !matches!(within(runtime, MIN_ANSWER_TIME, client.batch_execute("ROLLBACK")), Some(Ok(())))
        {
            self.client = None;
        }
    }

    /// Leaves a question unanswered: the server is told not to go on with it, as it would stay in its
    /// queue and keep others waiting.
    fn give_up(&mut self) {
        if let (Some(runtime), Some(client)) = (&self.runtime, self.client.take())
            && let (Some(host), Ok(tls)) = (&self.host, self.target.verify.connector())
        {
            let told = within(runtime, MIN_ANSWER_TIME, cancel(client.cancel_token(), host, tls));
            log::debug!("asked the server to stop: {}", if matches!(told, Some(Ok(()))) { "done" } else { "in vain" });
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
    let mut least = MIN_ANSWER_TIME;
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
