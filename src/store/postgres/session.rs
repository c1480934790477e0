//! This file runs queries and write transactions over a connection, and repeats them while that is safe and
//! time is left.

use std::collections::HashMap;

use jiff::Timestamp;
use tokio_postgres::{Client, Error};

use super::error::{LOST, NOT_TAKEN};
use super::holders::naming_holders;
use super::link::{Failure, Link};
use super::migrate::{apply, plan};
use super::progress::{Phase, Progress};
use super::rows::all_rows;
use super::transaction::{Limits, TableLock, Writes, begin, read_only, sync};
use crate::core::app::AppId;
use crate::core::migration::Migration;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The most repetitions of a write whose connection ended while it may have held the lock. If a server ended
/// the connection each time, it would otherwise be kept busy, and other writers blocked, until `--timeout` is
/// over.
const LOSSES_MAX: u32 = 3;

/// A connection to a server, with the time that one command may wait.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) retry: Retry,
}

/// The result of a write transaction.
struct Written<T> {
    /// The decision of the caller.
    value: T,
    /// The ids of new rows.
    ids: HashMap<AppId, i64>,
    /// Tells whether the transaction made the table.
    made_table: bool,
}

impl Session {
    /// Runs one read query in a transaction of its own.
    pub(super) fn ask<T>(&mut self, query: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        let Self { link, retry } = self;
        let answer = retry.run(|| {
            let query = async |client: &Client, progress: &_| {
                read_only(client, progress, Limits::new(retry.left()), &query).await
            };
            Ok(link.ask(retry, Phase::Answering, query)?)
        });
        answer.map_err(|err| naming_holders(err, TableLock::ForRows, link, retry))
    }

    /// Runs statements that may be repeated and need no transaction.
    pub(super) fn run(&mut self, phase: Phase, sql: &str) -> Result<(), StoreError> {
        let Self { link, retry } = self;
        retry.run(|| Ok(link.ask(retry, phase, async |client, _| client.batch_execute(sql).await)?))
    }

    /// Locks the table, reads, decides and writes. Returns the decision and the ids of new rows. With
    /// `makes_table`, the table is made first if it does not exist.
    pub(super) fn write<R, T>(
        &mut self,
        makes_table: bool,
        read: impl AsyncFn(&Client) -> Result<R, Error>,
        mut decide: impl FnMut(R, Timestamp) -> Result<(T, Writes), StoreError>,
    ) -> Result<(T, HashMap<AppId, i64>), StoreError> {
        let write = |link: &mut Link, retry: &Retry| write_once(link, retry, makes_table, &read, &mut decide);
        let Written { value, ids, made_table } = self.repeat(TableLock::ForRows, write)?;
        if made_table {
            log::info!("Created table port_configurations in {}", self.link.target);
        }
        Ok((value, ids))
    }

    /// Locks the table against everybody, plans the migration and makes the planned changes.
    pub(super) fn migrate(&mut self) -> Result<Migration, StoreError> {
        let mut unconfirmed = None;
        let migrated = self.repeat(TableLock::ForSchema, |link, retry| migrate_once(link, retry, &mut unconfirmed))?;
        // After a commit without an answer, a table that lacks nothing shows that it took place.
        let is_done = !migrated.has_work() && migrated.obstacles.is_empty();
        Ok(unconfirmed.filter(|_| is_done).unwrap_or(migrated))
    }

    /// Runs a write transaction until it is done, or cannot be repeated any more.
    fn repeat<T>(
        &mut self,
        lock: TableLock,
        mut write: impl FnMut(&mut Link, &Retry) -> Result<T, Failure>,
    ) -> Result<T, StoreError> {
        let Self { link, retry } = self;
        retry.takes_lock();
        let mut losses = 0;
        let written = retry.run(|| {
            write(link, retry).map_err(|failure| match failure {
                Failure::Lost { phase, why } if phase.may_hold_lock() => {
                    losses += 1;
                    if losses < LOSSES_MAX { LOST } else { keeps_ending(&why) }
                }
                other => other.into(),
            })
        });
        written.map_err(|err| naming_holders(err, lock, link, retry))
    }

    /// Makes all visible rows durable. Their writers may not have waited for that.
    pub(super) fn sync_rows_of_others(&mut self) -> Result<(), StoreError> {
        let is_durable = self.ask(async |client| {
            let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN true
                       ELSE pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()
                        AND (current_setting('synchronous_standby_names') = ''
                             OR current_setting('synchronous_commit') = 'local') END";
            client.query_typed_one(sql, &[]).await?.try_get(0)
        })?;
        if is_durable { Ok(()) } else { self.run(Phase::Syncing, &sync(0)) }
    }
}

/// Runs one attempt of [`Session::write`]. If it fails, it leaves no transaction open.
fn write_once<R, T>(
    link: &mut Link,
    retry: &Retry,
    makes_table: bool,
    read: &impl AsyncFn(&Client) -> Result<R, Error>,
    decide: &mut impl FnMut(R, Timestamp) -> Result<(T, Writes), StoreError>,
) -> Result<Written<T>, Failure> {
    let begin = async |client: &Client, progress: &_| {
        // The limits come from the rest of `--timeout` once there is a connection.
        begin(client, progress, Limits::new(retry.left()), TableLock::ForRows, makes_table, read).await
    };
    let begun = link.ask(retry, Phase::Answering, begin).inspect_err(|_| link.roll_back())?;
    let (value, writes) = decide(begun.read, retry.timestamp()).inspect_err(|_| link.roll_back())?;
    let commit = async |client: &Client, progress: &_| writes.commit(client, progress, begun.commit).await;
    let ids = match link.ask_connected(retry, Phase::Writing, commit) {
        Ok(Some(ids)) => ids,
        Ok(None) => {
            link.roll_back();
            return Err(StoreError::unusable(NOT_TAKEN).into());
        }
        Err(Failure::Lost { phase, why }) => {
            log::debug!("the connection was lost in a commit, looking up what became of it");
            look_up(link, retry, begun.made_table, &writes)?.ok_or(Failure::Lost { phase, why })?
        }
        Err(other) => {
            link.roll_back();
            return Err(other);
        }
    };
    Ok(Written { value, ids, made_table: begun.made_table })
}

/// Runs one attempt of [`Session::migrate`]. If it fails, it leaves no transaction open. A migration whose commit
/// got no answer is put into `unconfirmed`.
fn migrate_once(link: &mut Link, retry: &Retry, unconfirmed: &mut Option<Migration>) -> Result<Migration, Failure> {
    let begin = async |client: &Client, progress: &_| {
        begin(client, progress, Limits::new(retry.left()), TableLock::ForSchema, false, plan).await
    };
    let begun = link.ask(retry, Phase::Answering, begin).inspect_err(|_| link.roll_back())?;
    let planned = begun.read.migration().inspect_err(|_| link.roll_back())?;
    if !planned.has_work() {
        link.roll_back();
        return Ok(planned);
    }
    let change = async |client: &Client, progress: &Progress| {
        apply(client, &begun.read, &planned).await?;
        progress.enter(Phase::Committing);
        client.batch_execute(begun.commit).await
    };
    match link.ask_connected(retry, Phase::Working, change) {
        Ok(()) => Ok(planned),
        Err(Failure::Lost { phase: Phase::Committing, why }) => {
            *unconfirmed = Some(planned);
            Err(Failure::Lost { phase: Phase::Committing, why })
        }
        Err(other) => {
            link.roll_back();
            Err(other)
        }
    }
}

/// Looks up whether an unconfirmed commit took place, and makes it durable. Returns the ids of its new rows
/// if it did.
///
/// The look-up takes the lock. Once it has the lock, the earlier transaction is over, committed or rolled
/// back. If the earlier transaction made the table, there may be no table to lock until it is over. The look-up
/// then waits as another transaction that wants to make the table does, and rolls back a table that it makes.
fn look_up(
    link: &mut Link,
    retry: &Retry,
    made_table: bool,
    writes: &Writes,
) -> Result<Option<HashMap<AppId, i64>>, StoreError> {
    let found = retry.run(|| {
        let begin = async |client: &Client, progress: &_| {
            begin(client, progress, Limits::new(retry.left()), TableLock::ForRows, made_table, &all_rows).await
        };
        let begun = link.ask(retry, Phase::Answering, begin);
        link.roll_back();
        let found = writes.found_in(&begun?.read);
        link.ask(retry, Phase::Syncing, async |client, _| client.batch_execute(&sync(0)).await)?;
        Ok(found)
    });
    match found {
        // Somebody has dropped the table.
        Err(StoreError::Missing) => Ok(None),
        found => found,
    }
}

/// Returns the error for a server that ends the connection each time before it has written.
fn keeps_ending(why: &str) -> StoreError {
    StoreError::Unusable {
        why: format!("ended the connection {LOSSES_MAX} times in the middle of a write: {why}"),
        hint: Some("the server's log says more"),
    }
}
