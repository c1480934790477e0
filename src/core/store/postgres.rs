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
mod rows;
mod scratch;
mod server;
mod tls;
mod values;

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join3};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use self::error::unusable;
use self::link::{Failure, LOST, Link, OTHERS};
use self::rows::{ROWS_MAX, all_rows, delete, existing, insert, taken_ports, update_metadata};
pub(super) use self::scratch::Scratch;
pub use self::server::Server;
use super::settle::{Step, settled, steps};
use super::{Choose, Missing, Mode, Outcome, Plan, Select, Store, StoreError, Waiting};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::core::conflict::UniqueIndex;
use crate::core::import::Entry;
use crate::core::retry::Retry;

/// The platform's table and indexes, to the letter.
const SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid SERIAL NOT NULL, 
\tmodel VARCHAR(200) NOT NULL, 
\tapp_num INTEGER NOT NULL, 
\tfrontend_port INTEGER NOT NULL, 
\tbackend_port INTEGER NOT NULL, 
\tis_available BOOLEAN, 
\tmetadata_json TEXT, 
\tcreated_at TIMESTAMP WITH TIME ZONE, 
\tupdated_at TIMESTAMP WITH TIME ZONE, 
\tPRIMARY KEY (id), 
\tCONSTRAINT unique_model_app UNIQUE (model, app_num)
);
CREATE INDEX ix_port_configurations_is_available ON port_configurations (is_available);
CREATE INDEX ix_port_configurations_model ON port_configurations (model);
CREATE INDEX ix_port_configurations_app_num ON port_configurations (app_num);
CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (frontend_port);
";

/// The advisory lock under which the table is made: "ports" in ASCII, a number that nobody else has.
const MAKING: i64 = 0x70_6f72_7473;

/// How long a process may hold its lock and say nothing, as it does when it is stopped or cut off,
/// where it has nothing to do that takes long.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// What is waited for where a commit takes others' rows along.
const DISKS: &str = "the disk of the server and of its standby";

/// The table on a server.
pub(super) struct Postgres {
    link: Link,
    retry: Retry,
    missing: Missing,
}

/// What a transaction writes.
#[derive(Default)]
struct Writes {
    insert: Vec<Allocation>,
    update: Vec<Allocation>,
    /// Ids.
    delete: Vec<i64>,
}

/// A transaction that holds its lock.
struct Begun<R> {
    /// What it read.
    read: R,
    /// Whether it made the table.
    made_table: bool,
    /// What commits it and waits for the disk, even where the server lets others not wait.
    commit: &'static str,
}

impl Postgres {
    pub(super) fn open(server: &Server, missing: Missing, retry: Retry) -> Result<Self, StoreError> {
        Ok(Self { link: Link::new(server.clone())?, retry, missing })
    }

    /// Asks something that may be asked again.
    fn ask<T>(&mut self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        self.ask_for(OTHERS, question)
    }

    /// The same where something else is waited for.
    fn ask_for<T>(&mut self, what: &str, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        let Self { link, retry, .. } = self;
        retry.run(|| Ok(link.ask(retry, what, &question)?))
    }

    /// Asks something of the table; without a table, there is nothing to be told.
    fn ask_table<T: Default>(&mut self, question: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, StoreError> {
        match (self.ask(question), self.missing) {
            (Err(StoreError::Missing), Missing::Empty) => Ok(T::default()),
            (answer, _) => answer,
        }
    }

    /// Locks the table, reads, decides and writes, and returns what was decided with the ids of new
    /// rows, in no order. With `makes_table`, the table is made first where there is none; `idle` is how
    /// long the decision may take.
    fn write<R, T>(
        &mut self,
        makes_table: bool,
        idle: Duration,
        read: impl AsyncFn(&Client) -> Result<R, Error>,
        mut decide: impl FnMut(R, Timestamp) -> Result<(T, Writes), StoreError>,
    ) -> Result<(T, HashMap<AppId, i64>), StoreError> {
        let Self { link, retry, .. } = self;
        let (value, ids, made_table) = retry.run(|| {
            let left = retry.left();
            let begun = link.ask(retry, OTHERS, async |client| begin(client, left, idle, makes_table, &read).await);
            let decided = begun.map_err(StoreError::from).and_then(|begun| {
                let (value, writes) = decide(begun.read, retry.timestamp())?;
                Ok((begun.made_table, begun.commit, value, writes))
            });
            let (made_table, commit, value, writes) = decided.inspect_err(|_| link.roll_back())?;
            let ids = match link.finish(retry, async |client| writes.commit(client, commit).await) {
                Ok(Some(ids)) => ids,
                Ok(None) => {
                    link.roll_back();
                    return Err(unusable("did not take what was written: it has a trigger, rule or policy of its own"));
                }
                Err(Failure::Store(err)) => {
                    link.roll_back();
                    return Err(err);
                }
                Err(Failure::Lost) => {
                    log::debug!("the connection was lost in a commit, looking up what became of it");
                    let rows = retry.run(|| {
                        let left = retry.left();
                        let begun = link
                            .ask(retry, OTHERS, async |client| begin(client, left, IDLE_MAX, false, all_rows).await);
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
            log::info!("Created table port_configurations in {}", self.link.server);
        }
        Ok((value, ids))
    }

    /// Makes all rows that can be seen durable, whose writers need not have waited for that.
    fn sync_rows_of_others(&mut self) -> Result<(), StoreError> {
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

impl Store for Postgres {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let mut rows = self.ask_table(all_rows)?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let makes_table = match self.ask(async |client| existing(client, apps).await) {
            Ok(found) => {
                if let Some(outcomes) = settled(found, self.retry.timestamp(), hold) {
                    self.sync_rows_of_others()?;
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
        let (mut outcomes, ids) = self.write(makes_table, IDLE_MAX, read, |(found, taken), now| {
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
            self.sync_rows_of_others()?;
        }
        Ok(outcomes)
    }

    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError> {
        let has_table = self.ask(has_table)?;
        if !has_table && plan(&[]).is_empty() {
            return Ok(Vec::new());
        }
        let (mut added, ids) = self.write(!has_table, IDLE_MAX, all_rows, |rows, now| {
            let new = plan(&rows).into_iter();
            let new: Vec<_> = new.map(|Entry { app, pair, until }| Allocation::new(app, pair, until, now)).collect();
            Ok((new.clone(), Writes { insert: new, ..Writes::default() }))
        })?;
        identify(added.iter_mut(), &ids);
        self.sync_rows_of_others()?;
        Ok(added)
    }

    fn remove(&mut self, select: &mut Select<'_>) -> Result<Vec<Allocation>, StoreError> {
        // Who selects may look at thousands of directories first.
        let removed = self.write(false, Duration::MAX, all_rows, |rows, _| {
            let selected = select(rows);
            let delete = selected.iter().map(|row| row.id).collect();
            Ok((selected, Writes { delete, ..Writes::default() }))
        });
        match (removed, self.missing) {
            (Ok((removed, _)), _) => Ok(removed),
            (Err(StoreError::Missing), Missing::Empty) => Ok(Vec::new()),
            (Err(other), _) => Err(other),
        }
    }

    fn mode(&mut self) -> Result<Mode, StoreError> {
        let journal = self.ask(async |client| {
            let sql = "SELECT format('write-ahead log of the server, fsync %s, synchronous_commit %s',
                       current_setting('fsync'), current_setting('synchronous_commit'))";
            client.query_typed_one(sql, &[]).await?.try_get(0)
        })?;
        Ok(Mode { journal, waiting: Waiting::TableLock })
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

/// Begins a transaction, locks the table and reads.
async fn begin<R>(
    client: &Client,
    left: Duration,
    idle: Duration,
    makes_table: bool,
    read: impl AsyncFn(&Client) -> Result<R, Error>,
) -> Result<Begun<R>, Error> {
    // Zero would be no limit.
    let limit = left.as_millis().clamp(1, i32::MAX as u128);
    let idle = limit.min(idle.as_millis());
    // Somebody else's table may keep times without a zone.
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SET LOCAL timezone = 'UTC';
         SET LOCAL lock_timeout = {limit};
         SET LOCAL statement_timeout = {limit};
         SET LOCAL idle_in_transaction_session_timeout = {idle}"
    );
    let lock = "LOCK TABLE port_configurations IN SHARE ROW EXCLUSIVE MODE";
    let made_table = makes_table && {
        client.batch_execute(&format!("{begin}; SELECT pg_advisory_xact_lock({MAKING})")).await?;
        let is_missing = !has_table(client).await?;
        if is_missing {
            client.batch_execute(SCHEMA).await?;
        }
        is_missing
    };
    let lock = if makes_table { lock.to_owned() } else { format!("{begin}; {lock}") };
    let lock = format!("{lock}; SHOW synchronous_commit");
    let (shown, read) = try_join(client.simple_query(&lock), read(client)).await?;
    let does_not_wait =
        shown.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off")));
    let commit = if does_not_wait { "SET LOCAL synchronous_commit = on; COMMIT" } else { "COMMIT" };
    Ok(Begun { read, made_table, commit })
}

impl Writes {
    /// Writes and commits, and returns the ids of new rows; nothing if the table did not take all of it
    /// as it is. That is seen before the commit, but for one new row, which is sent along with it and
    /// taken back.
    async fn commit(&self, client: &Client, commit: &str) -> Result<Option<HashMap<AppId, i64>>, Error> {
        let is_one = self.insert.len() == 1 && self.update.is_empty() && self.delete.is_empty();
        let insert = try_join_all(self.insert.chunks(ROWS_MAX).map(|rows| insert(client, rows)));
        let (inserted, updated, deleted) = if is_one {
            (try_join(insert, client.batch_execute(commit)).await?.0, 0, 0)
        } else {
            try_join3(insert, update_metadata(client, &self.update), delete(client, &self.delete)).await?
        };
        let ids: HashMap<_, _> = inserted.into_iter().flatten().collect();
        let has_id = |row: &Allocation| ids.contains_key(&(row.app.clone(), row.ports()));
        if (updated, deleted) != (self.update.len(), self.delete.len()) || !self.insert.iter().all(has_id) {
            if is_one {
                delete(client, &ids.into_values().collect::<Vec<_>>()).await?;
            }
            return Ok(None);
        }
        if !is_one {
            client.batch_execute(commit).await?;
        }
        Ok(Some(ids.into_iter().map(|((app, _), id)| (app, id)).collect()))
    }

    /// The ids of new rows, if these rows are what a commit of this leaves.
    fn found_in(&self, rows: &[Allocation]) -> Option<HashMap<AppId, i64>> {
        let same = |new: &Allocation, row: &Allocation| Allocation { id: row.id, ..new.clone() } == *row;
        let by_id: HashMap<_, _> = rows.iter().map(|row| (row.id, row)).collect();
        let is_updated = self.update.iter().all(|new| by_id.get(&new.id).is_some_and(|row| same(new, row)));
        let is_deleted = self.delete.iter().all(|id| !by_id.contains_key(id));
        let inserted =
            self.insert.iter().map(|new| Some((new.app.clone(), rows.iter().find(|row| same(new, row))?.id)));
        let inserted = inserted.collect::<Option<_>>()?;
        (is_updated && is_deleted).then_some(inserted)
    }
}

/// Whether the search path leads to the table.
async fn has_table(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('port_configurations') IS NOT NULL";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// Commits so many bytes of its own, with which all commits before it become durable.
async fn sync(client: &Client, bytes: usize) -> Result<(), Error> {
    let sql = format!(
        "BEGIN; SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') = 'off';
         SELECT pg_logical_emit_message(true, 'manage-ports', repeat(' ', {bytes})); COMMIT"
    );
    client.batch_execute(&sql).await
}

/// Gives new rows the ids that the server gave them.
fn identify<'a>(rows: impl Iterator<Item = &'a mut Allocation>, ids: &HashMap<AppId, i64>) {
    for row in rows {
        row.id = ids.get(&row.app).copied().unwrap_or_default();
    }
}
