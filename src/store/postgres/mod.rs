//! This module keeps the table on a PostgreSQL server, which many machines share.
//!
//! - *Choosing and inserting happen under a lock on the table.* A transaction takes it in
//!   `SHARE ROW EXCLUSIVE` mode, which excludes other transactions that take it and everyone who writes,
//!   the platform included, but no reader. Weaker means do not suffice: an advisory lock or an optimistic
//!   insert would not notice that the platform gives out the same port in the other column, which no index
//!   forbids, and serializable transactions notice that only if the platform's are serializable, too.
//!   They are not faster either (`cargo bench`): most of a call's time is its connection.
//! - *The server queues the waiting transactions*, first come, first served. `lock_timeout` bounds that
//!   wait by what is left of `--timeout`. The work that follows is bounded by limits of its own, far above
//!   what it needs: a statement that runs too long or a session that is idle under the lock, because its
//!   process was stopped or cut off, is ended by the server.
//! - *One allocation takes three round trips:* a query for an existing row, which needs no lock; the begin
//!   of the transaction, its lock and all that it reads; the insert and the commit. What belongs to one
//!   trip is sent together and answered in order.
//! - *Nothing is committed that the table changed.* A trigger may alter or drop a row. One new row is
//!   inserted by a statement that fails if the row comes out otherwise, so that the commit can be sent
//!   along; with several rows the answers are compared before the commit.
//! - *An answer is durable.* A commit returns once it is on the server's disk, and on its synchronous
//!   standbys unless `synchronous_commit` is `local`; a setting of `off` is overruled. Rows of others may
//!   be visible earlier: their writers committed with `off`, or stopped waiting for a standby. So before
//!   the answer about an existing row there is a commit of our own, which makes all earlier ones durable
//!   (<https://www.postgresql.org/docs/current/wal-async-commit.html>). It is left out where the whole WAL
//!   is on the disk and there is no standby to wait for.
//! - *A commit whose outcome is unknown is looked up.* A connection may be lost between a commit and its
//!   confirmation. Once the lock can be had again, that transaction has ended, and the rows tell how: if
//!   all that it inserted is there and nothing that it deleted, it was committed, and is made durable as
//!   any other's row would be; otherwise it is repeated. The transaction's id would not tell
//!   (`txid_status`): after a crash, the server gives the same id to another transaction.
//! - *Whatever is safe to repeat is repeated*, until the time of [`Retry`] is over: when the server starts
//!   or has no connection free, when a connection was lost before the commit, after a deadlock, and when
//!   somebody who does not lock met a unique constraint first. A write whose connection ends each time is
//!   repeated only a few times, as it may have held the lock.
//!
//! No setting outlives its transaction and no statement is prepared by name, so a pooler may assign its
//! connections transaction by transaction. All locks belong to one schema: hosts that have a schema each
//! on one server do not wait for one another.

mod cancel;
mod connect;
mod error;
mod holders;
mod hosts;
mod link;
mod migrate;
mod parameters;
mod passfile;
mod progress;
mod rows;
mod scratch;
mod session;
mod target;
mod tls;
mod transaction;
mod url;
mod values;
mod wait;

pub(super) use self::scratch::ScratchSchema;
pub(crate) use self::target::PgTarget;

use std::collections::HashMap;

use futures_util::future::try_join;
use jiff::SignedDuration;
use tokio_postgres::{Client, Error};

use self::link::Link;
use self::migrate::{missing_indexes, plan};
use self::rows::{all_rows, existing, models, taken};
use self::session::Session;
use self::transaction::{Writes, has_table, lock_wait};
use super::api::{Change, Choose, IfMissing, Mode, Plan, Select, Storage, Store, Waiting};
use super::error::StoreError;
use super::retry::Retry;
use super::settle::{Step, settled, steps};
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::import::Entry;
use crate::core::migration::Migration;
use crate::core::schema::UniqueIndex;

/// The table on a server.
pub(super) struct Postgres {
    session: Session,
    missing: IfMissing,
}

impl Postgres {
    pub(super) fn open(target: &PgTarget, missing: IfMissing, retry: Retry) -> Result<Self, StoreError> {
        Ok(Self { session: Session { link: Link::new(target.clone())?, retry }, missing })
    }

    /// Runs a query on the table. If the table may be missing and is, returns the default value.
    fn ask_table<T: Default>(&mut self, query: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        match (self.session.ask(query), self.missing) {
            (Err(StoreError::Missing), IfMissing::ReadAsEmpty) => Ok(T::default()),
            (answer, _) => answer,
        }
    }
}

impl Store for Postgres {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let mut rows = self.ask_table(all_rows)?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn models(&mut self) -> Result<Vec<String>, StoreError> {
        self.ask_table(models)
    }

    fn find(&mut self, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError> {
        match self.session.ask(async |client| existing(client, apps).await) {
            Err(StoreError::Missing) => Ok(vec![None; apps.len()]),
            found => found,
        }
    }

    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let makes_table = match self.session.ask(async |client| existing(client, apps).await) {
            Ok(found) => {
                if let Some(outcomes) = settled(found, self.session.retry.timestamp(), hold) {
                    self.session.sync_rows_of_others()?;
                    return Ok(outcomes);
                }
                false
            }
            Err(StoreError::Missing) => true,
            Err(other) => return Err(other),
        };
        let read = async |client: &Client| {
            let (taken, has_row) = taken(client, apps).await?;
            // This is rare: another process inserted the row first, or a reservation must be extended.
            let found = if has_row { existing(client, apps).await? } else { vec![None; apps.len()] };
            Ok((found, taken))
        };
        let (mut outcomes, ids) = self.session.write(makes_table, read, |(found, taken), now| {
            let steps = steps(apps, found, now, hold, &taken, choose)?;
            let mut writes = Writes::default();
            for step in &steps {
                match step {
                    Step::Keep(_) => {}
                    Step::Hold(row) => writes.update.push(row.clone()),
                    Step::Insert(row) => writes.insert.push(row.clone()),
                }
            }
            Ok((steps.into_iter().map(Step::into_outcome).collect::<Vec<_>>(), writes))
        })?;
        identify(outcomes.iter_mut().filter(|outcome| outcome.created).map(|outcome| &mut outcome.allocation), &ids);
        if outcomes.iter().any(|outcome| !outcome.created) {
            self.session.sync_rows_of_others()?;
        }
        Ok(outcomes)
    }

    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError> {
        let has_table = self.session.ask(has_table)?;
        if !has_table && plan(&[]).is_empty() {
            return Ok(Vec::new());
        }
        let (mut added, ids) = self.session.write(!has_table, all_rows, |rows, now| {
            let new = plan(&rows).into_iter();
            let new: Vec<_> = new.map(|Entry { app, pair, until }| Allocation::new(app, pair, until, now)).collect();
            Ok((new.clone(), Writes { insert: new, ..Writes::default() }))
        })?;
        identify(added.iter_mut(), &ids);
        self.session.sync_rows_of_others()?;
        Ok(added)
    }

    fn remove(&mut self, select: &mut Select<'_>) -> Result<Option<Vec<Allocation>>, StoreError> {
        let read = async |client: &Client| try_join(lock_wait(client), all_rows(client)).await;
        let removed = self.session.write(false, read, |(waited, rows), _| {
            let selected = select(rows, waited);
            let delete = selected.iter().flatten().map(|row| row.id).collect();
            Ok((selected, Writes { delete, ..Writes::default() }))
        });
        match (removed, self.missing) {
            (Ok((removed, _)), _) => Ok(removed),
            (Err(StoreError::Missing), IfMissing::ReadAsEmpty) => Ok(Some(Vec::new())),
            (Err(other), _) => Err(other),
        }
    }

    fn update(&mut self, change: &mut Change<'_>) -> Result<Vec<Allocation>, StoreError> {
        let updated = self.session.write(false, all_rows, |rows, now| {
            let mut changed = change(rows)?;
            changed.iter_mut().for_each(|row| row.updated_at = Some(now));
            Ok((changed.clone(), Writes { update: changed, ..Writes::default() }))
        });
        match (updated, self.missing) {
            (Ok((updated, _)), _) => Ok(updated),
            (Err(StoreError::Missing), IfMissing::ReadAsEmpty) => Ok(Vec::new()),
            (Err(other), _) => Err(other),
        }
    }

    fn mode(&mut self) -> Result<Mode, StoreError> {
        let journal = self.session.ask(async |client| {
            let sql = "SELECT format('write-ahead log of the server, fsync %s, synchronous_commit %s',
                       current_setting('fsync'), current_setting('synchronous_commit'))";
            client.query_typed_one(sql, &[]).await?.try_get(0)
        })?;
        Ok(Mode { journal, waiting: Waiting::TableLock, storage: self.storage() })
    }

    fn storage(&self) -> Storage {
        Storage::Server
    }

    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError> {
        self.ask_table(missing_indexes)
    }

    fn migrate(&mut self, dry_run: bool) -> Result<Migration, StoreError> {
        // Most tables lack nothing, which needs no lock to be seen.
        let seen = self.ask_table(async |client| plan(client).await.map(Some))?;
        let Some(seen) = seen else { return Ok(Migration::default()) };
        let planned = seen.migration()?;
        if dry_run {
            return Ok(planned);
        }
        let migrated = if planned.has_work() {
            seen.may_change()?;
            self.session.migrate()?
        } else {
            planned
        };
        self.session.sync_rows_of_others()?;
        Ok(migrated)
    }
}

/// Writes into new rows the ids that the server gave them.
fn identify<'a>(rows: impl Iterator<Item = &'a mut Allocation>, ids: &HashMap<AppId, i64>) {
    for row in rows {
        row.id = ids.get(&row.app).copied().unwrap_or_default();
    }
}
