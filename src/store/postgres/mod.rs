//! The table on a PostgreSQL server, for many machines.
//!
//! - *Choosing and inserting happen under a lock on the table.* A transaction takes
//!   `SHARE ROW EXCLUSIVE`, which keeps out itself and every other writer, the platform's inserts
//!   among them, and no reader. Nothing weaker does: an advisory lock and an optimistic insert do not
//!   see the platform give out a port as the other role, which no index forbids, and serialisable
//!   transactions see it only if the platform's are serialisable, too. Nor are they faster, see
//!   `cargo bench`: what a call costs is its connection.
//! - *The queue is the server's*, and fair. `lock_timeout` and `statement_timeout` bound the wait by
//!   what is left of `--timeout`, and `idle_in_transaction_session_timeout` by less the lock of a
//!   process that was stopped or cut off while it held it.
//! - *One allocation is three round trips:* the look for a row that is there, which takes no lock; the
//!   transaction's begin, its lock and all that it reads; what it writes and its commit. What goes in
//!   one trip is sent together and answered in order.
//! - *An answer is durable.* A commit returns once it is on the server's disk, and on its synchronous
//!   standbys where `synchronous_commit` is not `local`; a setting of `off` is overruled. Others' rows may
//!   be seen before that: they commit with `off`, or left off waiting for a standby. So an answer about a
//!   row that was there follows a commit of its own, which takes all before it along, unless the log is
//!   all on the disk and there is no standby to wait for
//!   (<https://www.postgresql.org/docs/current/wal-async-commit.html>).
//! - *A commit whose outcome is unknown is looked up.* A connection may be lost between a commit and its
//!   confirmation. Under the lock, when the transaction is over one way or the other, the rows tell
//!   which: all that it wrote is there, and nothing that it removed, or it is repeated; what is there is
//!   then made as durable as any other's row. Its id would not tell (`txid_status`): after a crash, the
//!   server gives the same one to somebody else.
//! - *Whatever is safe to repeat is repeated*, under the deadline of [`Retry`]: a server that starts or
//!   has no connection free, a connection lost before the commit, a deadlock, a constraint that
//!   somebody who does not lock was quicker to meet.
//!
//! A transaction and its settings never outlive one another, and nothing is prepared by name, so a
//! pooler may hand out its connections transaction by transaction.

mod cancel;
mod error;
mod link;
mod passfile;
mod rows;
mod scratch;
mod session;
mod tls;
mod transaction;
mod url;
mod values;

pub(super) use self::scratch::ScratchSchema;
pub(crate) use self::url::PgTarget;

use std::collections::HashMap;

use futures_util::future::try_join;
use jiff::SignedDuration;
use tokio_postgres::{Client, Error};

use self::link::Link;
use self::rows::{all_rows, existing, taken_ports};
use self::session::Session;
use self::transaction::{Writes, has_table, lock_wait};
use super::api::{Choose, IfMissing, Mode, Plan, Select, Storage, Store, Waiting};
use super::error::StoreError;
use super::retry::Retry;
use super::settle::{Step, settled, steps};
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::import::Entry;
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

    /// Asks something of the table; without a table, there is nothing to be told.
    fn ask_table<T: Default>(&mut self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        match (self.session.ask(question), self.missing) {
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
            let (taken, has_row) = taken_ports(client, apps).await?;
            // Hardly ever: somebody was quicker, or a row is to be held for longer.
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
        let sql = "SELECT string_agg(columns.attname, ',' ORDER BY columns.attname)
             FROM pg_index AS indexes JOIN pg_attribute AS columns ON columns.attrelid = indexes.indrelid
              AND columns.attnum = ANY ((indexes.indkey::int2[])[0:indexes.indnkeyatts - 1])
             WHERE indexes.indrelid = 'port_configurations'::regclass AND indexes.indisunique AND indexes.indisvalid
              AND indexes.indpred IS NULL AND indexes.indexprs IS NULL GROUP BY indexes.indexrelid";
        let present: Option<Vec<String>> = self.ask_table(async |client| {
            let indexes = client.query_typed(sql, &[]).await?;
            indexes.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>().map(Some)
        })?;
        let Some(present) = present else { return Ok(Vec::new()) };
        Ok(UniqueIndex::missing_from(&present))
    }
}

/// Gives new rows the ids that the server gave them.
fn identify<'a>(rows: impl Iterator<Item = &'a mut Allocation>, ids: &HashMap<AppId, i64>) {
    for row in rows {
        row.id = ids.get(&row.app).copied().unwrap_or_default();
    }
}
