//! This file connects to the first of several hosts that accepts a connection.
//!
//! Every address of every host is tried in turn. An address that drops packets or never answers must not use
//! up the time of the next one. So each address gets a share of the rest of `--timeout`, or `connect_timeout`
//! if that is less.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::error::{LOST, in_full, meaning, not_reached, refusal};
use super::progress::Phase;
use super::target::PgTarget;
use super::wait::{Grace, MIN_ANSWER_TIME, polled};
use crate::core::counts::RetryReason;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The longest wait for one address while there is another to try and no `connect_timeout` is set.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// The name in messages of what the wait is for.
const ANSWER: &str = "the server to answer";

/// A connection to a server.
pub(super) struct Connection {
    pub(super) client: Client,
    /// The host, at the address that accepted the connection.
    pub(super) host: Config,
    /// Yields the reason why the connection ended, if there was one.
    pub(super) ended: JoinHandle<Option<String>>,
}

/// The parameters of an attempt to connect, with its time limit.
struct Attempt<'a> {
    runtime: &'a Runtime,
    retry: &'a Retry,
    tls: MakeRustlsConnect,
    /// Tells whether there was a connection before. A host that cannot be reached may then come back.
    was_connected: bool,
}

/// Connects to the first host that accepts a connection.
pub(super) fn connect(
    runtime: &Runtime,
    target: &PgTarget,
    retry: &Retry,
    was_connected: bool,
) -> Result<Connection, StoreError> {
    let tls = target.verify.connector().map_err(StoreError::unusable)?;
    let attempt = Attempt { runtime, retry, tls, was_connected };
    let mut refusals = Vec::new();
    let mut hosts_left = target.hosts.len();
    for host in &target.hosts {
        hosts_left -= 1;
        let addresses = match attempt.addresses(host, hosts_left) {
            Err(StoreError::Interrupted) => return Err(StoreError::Interrupted),
            Err(err) => {
                refusals.push(err);
                continue;
            }
            Ok(addresses) => addresses,
        };
        let mut left = addresses.len() + hosts_left;
        for address in addresses {
            left -= 1;
            match attempt.connect_to(address, left) {
                Err(StoreError::Interrupted) => return Err(StoreError::Interrupted),
                Err(err) => refusals.push(err),
                Ok(connection) => return Ok(connection),
            }
        }
    }
    // If one host may soon accept a connection, it is worth waiting for it, whatever the other errors are.
    let by_hope = |err: &StoreError| match err {
        StoreError::Busy(..) => 0,
        StoreError::Locked { .. } => 1,
        _ => 2,
    };
    Err(refusals.into_iter().min_by_key(by_hope).unwrap_or(LOST))
}

impl Attempt<'_> {
    /// Returns the host once for each of its addresses, so that each address gets its time and we know which
    /// one answered.
    fn addresses(&self, host: &Config, others: usize) -> Result<Vec<Config>, StoreError> {
        let ([Host::Tcp(name)], []) = (host.get_hosts(), host.get_hostaddrs()) else {
            return Ok(vec![host.clone()]);
        };
        let at = |address: SocketAddr| {
            let mut host = host.clone();
            host.hostaddr(address.ip());
            host
        };
        let limit = limit(host, self.retry.left(), others);
        match self.wait("the host's address", limit, lookup_host((name.as_str(), 0)))? {
            Some(Ok(found)) => Ok(found.map(at).collect()),
            Some(Err(err)) if !self.was_connected => Err(not_reached(format!("{name}: {err}"))),
            Some(Err(_)) | None => Err(StoreError::Busy(RetryReason::Connection, "the host's address")),
        }
    }

    /// Connects to a host at one address, while this many `others` are left to try.
    fn connect_to(&self, host: Config, others: usize) -> Result<Connection, StoreError> {
        let limit = limit(&host, self.retry.left(), others);
        let Some(connected) = self.wait(ANSWER, limit, host.connect(self.tls.clone()))? else {
            return Err(match host.get_connect_timeout() {
                Some(allowed) if limit == Some(*allowed) => {
                    not_reached(format!("it did not answer within a connect_timeout of {allowed:.0?}"))
                }
                _ => StoreError::Busy(RetryReason::Connection, ANSWER),
            });
        };
        let (client, connection) = connected.map_err(|err| refusal(err, &host, self.was_connected))?;
        let has_encoding = connection.parameter("server_encoding") != Some("SQL_ASCII");
        // The task ends when the client is dropped or the connection is lost.
        let ended = self.runtime.spawn(async { connection.await.err().map(|err| in_full(&err)) });
        if !has_encoding {
            // With another encoding, the server would refuse to send text that is not UTF-8.
            let setting = self.wait(ANSWER, None, client.batch_execute("SET client_encoding = SQL_ASCII"))?;
            setting.transpose().map_err(|err| meaning(&err, Phase::Answering))?;
        }
        Ok(Connection { client, host, ended })
    }

    /// Waits as long as `--timeout` allows. Returns `None` if `limit` is over first.
    fn wait<T>(
        &self,
        what: &str,
        limit: Option<Duration>,
        future: impl Future<Output = T>,
    ) -> Result<Option<T>, StoreError> {
        let grace = Grace::for_an_answer(self.retry.left());
        let future = pin!(async { timeout(limit.unwrap_or(Duration::MAX), future).await.ok() });
        self.retry.wait(what, polled(self.runtime, future, grace))
    }
}

/// Returns the time limit for an address, where `left` is left of `--timeout` and `others` are still to be
/// tried.
fn limit(host: &Config, left: Duration, others: usize) -> Option<Duration> {
    let connect_timeout = host.get_connect_timeout().copied();
    let parts = u32::try_from(others + 1).unwrap_or(u32::MAX);
    let share = (others > 0).then(|| (left / parts).max(MIN_ANSWER_TIME));
    match (connect_timeout, share) {
        (Some(limit), Some(share)) => Some(limit.min(share)),
        (Some(limit), None) => Some(limit),
        (None, share) => share.map(|share| share.min(SILENCE_MAX)),
    }
}
