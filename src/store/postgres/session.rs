//! Questions and write transactions over a connection, repeated while that is safe and the time allows.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio_postgres::{Client, Error};

use super::error::{LOST, WAITING_FOR_WRITERS};
use super::link::{Failure, Link};
use super::rows::all_rows;
use super::transaction::{Writes, begin, sync};
use crate::core::app::AppId;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// How long a process may hold its lock and say nothing, as it does when it is stopped or cut off: under
/// the lock it only compares rows.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// What is waited for where a commit takes others' rows along.
const DISKS: &str = "the disk of the server and of its standby";

/// A connection to a server, and how long one command may wait.
pub(super) struct Session {
    pub(super) link: Link,
    pub(super) retry: Retry,
}

impl Session {
    /// Asks something that may be asked again.
    pub(super) fn ask<T>(&mut self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        self.ask_for(WAITING_FOR_WRITERS, question)
    }

    /// The same where something else is waited for.
    pub(super) fn ask_for<T>(
        &mut self,
        what: &str,
        question: impl AsyncFn(&Client) -> Result<T, Error>,
    ) -> Result<T, StoreError> {
        let Self { link, retry } = self;
        retry.run(|| Ok(link.ask(retry, what, &question)?))
    }

    /// Locks the table, reads, decides and writes, and returns what was decided with the ids of new
    /// rows, in no order. With `makes_table`, the table is made first where there is none. The decision
    /// may not take longer than [`IDLE_MAX`].
    pub(super) fn write<R, T>(
        &mut self,
        makes_table: bool,
        read: impl AsyncFn(&Client) -> Result<R, Error>,
        mut decide: impl FnMut(R, Timestamp) -> Result<(T, Writes), StoreError>,
    ) -> Result<(T, HashMap<AppId, i64>), StoreError> {
        let Self { link, retry } = self;
        let (value, ids, made_table) = retry.run(|| {
            let left = retry.left();
            let begun = link.ask(retry, WAITING_FOR_WRITERS, async |client| {
                begin(client, left, IDLE_MAX, makes_table, &read).await
            });
            let decided = begun.map_err(StoreError::from).and_then(|begun| {
                let (value, writes) = decide(begun.read, retry.timestamp())?;
                Ok((begun.made_table, begun.commit, value, writes))
            });
            let (made_table, commit, value, writes) = decided.inspect_err(|_| link.roll_back())?;
            let ids = match link.finish(retry, async |client| writes.commit(client, commit).await) {
                Ok(Some(ids)) => ids,
                Ok(None) => {
                    link.roll_back();
                    return Err(StoreError::unusable(
                        "did not take what was written: it has a trigger, rule or policy of its own",
                    ));
                }
                Err(Failure::Store(err)) => {
                    link.roll_back();
                    return Err(err);
                }
                Err(Failure::Lost) => {
                    log::debug!("the connection was lost in a commit, looking up what became of it");
                    let rows = retry.run(|| {
                        let left = retry.left();
                        let begun = link.ask(retry, WAITING_FOR_WRITERS, async |client| {
                            begin(client, left, IDLE_MAX, false, all_rows).await
                        });
                        link.roll_back();
                        let rows = begun?.read;
                        link.ask(retry, DISKS, async |client| sync(client, 0).await)?;
                        Ok(rows)
                    });
                    match rows {
                        Ok(rows) => writes.found_in(&rows).ok_or(LOST)?,
                        // Not even the table that it made is there.
                        Err(StoreError::Missing) => return Err(LOST),
                        Err(other) => return Err(other),
                    }
                }
            };
            Ok((value, ids, made_table))
        })?;
        if made_table {
            log::info!("Created table port_configurations in {}", self.link.target);
        }
        Ok((value, ids))
    }

    /// Makes all rows that can be seen durable, whose writers need not have waited for that.
    pub(super) fn sync_rows_of_others(&mut self) -> Result<(), StoreError> {
        let is_durable = self.ask(async |client| {
            let sql = "SELECT CASE WHEN pg_is_in_recovery() THEN true
                       ELSE pg_current_wal_insert_lsn() <= pg_current_wal_flush_lsn()
                        AND (current_setting('synchronous_standby_names') = ''
                             OR current_setting('synchronous_commit') = 'local') END";
            client.query_typed_one(sql, &[]).await?.try_get(0)
        })?;
        if is_durable { Ok(()) } else { self.ask_for(DISKS, async |client| sync(client, 0).await) }
    }
}
