//! There are three kinds of transactions: one that reads; one that locks the table, reads, writes and
//! commits; and one that only makes earlier commits durable.

use std::collections::HashMap;
use std::future::Future;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join3};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::progress::{Phase, Progress};
use super::rows::{ROWS_MAX, delete, insert, insert_one, update_metadata};
use super::wait::{MIN_ANSWER_TIME, WORK_MAX};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;

/// The statements, byte for byte, by which the platform makes its table and indexes.
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

/// The first half of the advisory lock under which a table is made, "port" in ASCII; the other half is
/// the schema in which it is made.
const MAKING_TABLE: i32 = 0x706f_7274;

/// The longest time that a transaction may hold its lock without sending anything, as happens when its
/// process is stopped or its machine is cut off from the server. The work of a process under the lock takes
/// milliseconds.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// The limits that the server puts on a transaction's waits and statements.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// The limit on each wait for a lock, in milliseconds.
    lock_timeout: u128,
    /// The limit on each statement, in milliseconds. It includes the wait for a lock.
    statement_timeout: u128,
}

impl Limits {
    /// Limits each wait for a lock to the rest of `--timeout`, and each statement to far more time than any
    /// statement needs.
    pub(super) fn new(left: Duration) -> Self {
        const MILLISECONDS_MAX: u128 = i32::MAX as u128;
        // Zero would mean no limit. The value is rounded up, so that nothing is left of `--timeout` when the
        // limit is reached.
        let lock_timeout = left.as_micros().div_ceil(1000).clamp(1, MILLISECONDS_MAX);
        Self { lock_timeout, statement_timeout: (lock_timeout + WORK_MAX.as_millis()).min(MILLISECONDS_MAX) }
    }
}

/// The lock that a transaction takes on the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TableLock {
    /// Keeps out all others who write rows.
    ForRows,
    /// Keeps out everybody, as a change of the table's constraints needs it. It is taken at once: whoever has a
    /// weaker lock and waits for this one may wait for a reader that waits, too.
    ForSchema,
}

impl TableLock {
    fn mode(self) -> &'static str {
        match self {
            Self::ForRows => "SHARE ROW EXCLUSIVE",
            Self::ForSchema => "ACCESS EXCLUSIVE",
        }
    }
}

/// The changes that a transaction writes.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) insert: Vec<Allocation>,
    pub(super) update: Vec<Allocation>,
    /// The ids of the rows to delete.
    pub(super) delete: Vec<i64>,
}

/// A transaction that holds its lock.
pub(super) struct Begun<R> {
    /// The result of the read.
    pub(super) read: R,
    /// Tells whether the transaction made the table.
    pub(super) made_table: bool,
    /// The SQL that commits the transaction durably, whatever the default of `synchronous_commit` is.
    pub(super) commit: &'static str,
}

/// Runs one read query, in a transaction of its own and in one round trip.
///
/// The transaction is needed for `lock_timeout`. Without it, the time that a query waits for a lock could not
/// be told from the time that it works.
pub(super) async fn read_only<T>(
    client: &Client,
    progress: &Progress,
    Limits { lock_timeout, statement_timeout }: Limits,
    query: impl AsyncFn(&Client) -> Result<T, Error>,
) -> Result<T, Error> {
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY;
         SET LOCAL lock_timeout = {lock_timeout};
         SET LOCAL statement_timeout = {statement_timeout}"
    );
    let begin = entering(progress, Phase::Working, client.batch_execute(&begin));
    let ((), answer, ()) = try_join3(begin, query(client), client.batch_execute("COMMIT")).await?;
    Ok(answer)
}

/// Begins a transaction, locks the table and reads.
pub(super) async fn begin<R>(
    client: &Client,
    progress: &Progress,
    Limits { lock_timeout, statement_timeout }: Limits,
    lock: TableLock,
    makes_table: bool,
    read: impl AsyncFn(&Client) -> Result<R, Error>,
) -> Result<Begun<R>, Error> {
    let idle = IDLE_MAX.as_millis();
    // If somebody else made the table, its columns may be timestamps without a time zone.
    let begin = format!(
        "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;
         SET LOCAL timezone = 'UTC';
         SET LOCAL lock_timeout = {lock_timeout};
         SET LOCAL statement_timeout = {statement_timeout};
         SET LOCAL idle_in_transaction_session_timeout = {idle}"
    );
    let begin = entering(progress, Phase::Locking, client.batch_execute(&begin));
    let lock = format!("LOCK TABLE port_configurations IN {} MODE; SHOW synchronous_commit", lock.mode());
    let lock = entering(progress, Phase::Working, client.simple_query(&lock));
    let lock_and_read = try_join(lock, read(client));
    let (made_table, (shown, read)) = if makes_table {
        begin.await?;
        let made_table = make_table(client, progress, lock_timeout).await?;
        progress.enter(Phase::Locking);
        (made_table, lock_and_read.await?)
    } else {
        let ((), begun) = try_join(begin, lock_and_read).await?;
        (false, begun)
    };
    let does_not_wait =
        shown.iter().any(|message| matches!(message, SimpleQueryMessage::Row(row) if row.get(0) == Some("off")));
    let commit = if does_not_wait { "SET LOCAL synchronous_commit = on; COMMIT" } else { "COMMIT" };
    Ok(Begun { read, made_table, commit })
}

/// Makes the table if it does not exist, and returns whether it made it. If several processes want to make
/// the table in the same schema, one does so and the others wait.
async fn make_table(client: &Client, progress: &Progress, lock_timeout: u128) -> Result<bool, Error> {
    let lock = format!(
        "SELECT pg_advisory_xact_lock({MAKING_TABLE}, oid::int) FROM pg_namespace WHERE nspname = current_schema()"
    );
    entering(progress, Phase::Working, client.batch_execute(&lock)).await?;
    let is_missing = !has_table(client).await?;
    if is_missing {
        // Every `CREATE TABLE` changes the same catalogues, under locks that last an instant. The wait for
        // those locks counts as work.
        let lock_timeout = lock_timeout.max(MIN_ANSWER_TIME.as_millis());
        client.batch_execute(&format!("SET LOCAL lock_timeout = {lock_timeout}; {SCHEMA}")).await?;
    }
    Ok(is_missing)
}

/// Waits for an answer and notes which phase begins with it.
async fn entering<T>(
    progress: &Progress,
    next: Phase,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = answer.await?;
    progress.enter(next);
    Ok(answer)
}

impl Writes {
    /// Writes and commits, and returns the ids of new rows. Returns `None` and commits nothing if the table
    /// did not store all rows unchanged.
    pub(super) async fn commit(
        &self,
        client: &Client,
        progress: &Progress,
        commit: &str,
    ) -> Result<Option<HashMap<AppId, i64>>, Error> {
        let ids: HashMap<_, _> = if let ([row], [], []) = (&*self.insert, &*self.update, &*self.delete) {
            // The commit is sent with the statement, because the statement itself fails if the row is not
            // stored unchanged.
            let insert = entering(progress, Phase::Committing, insert_one(client, row));
            let (id, ()) = try_join(insert, client.batch_execute(commit)).await?;
            id.map(|id| (row.app.clone(), id)).into_iter().collect()
        } else {
            let insert = try_join_all(self.insert.chunks(ROWS_MAX).map(|rows| insert(client, rows)));
            let writes = try_join3(insert, update_metadata(client, &self.update), delete(client, &self.delete));
            let (inserted, updated, deleted) = writes.await?;
            let ids: HashMap<_, _> = inserted.into_iter().flatten().collect();
            let is_taken = |row: &Allocation| ids.contains_key(&(row.app.clone(), row.ports()));
            if (updated, deleted) != (self.update.len(), self.delete.len()) || !self.insert.iter().all(is_taken) {
                return Ok(None);
            }
            progress.enter(Phase::Committing);
            client.batch_execute(commit).await?;
            ids.into_iter().map(|((app, _), id)| (app, id)).collect()
        };
        // If the one row was silently left out, the commit had nothing to commit.
        Ok((ids.len() >= self.insert.len()).then_some(ids))
    }

    /// Returns the ids of new rows, if these rows are the state after a commit of these changes.
    pub(super) fn found_in(&self, rows: &[Allocation]) -> Option<HashMap<AppId, i64>> {
        let same = |new: &Allocation, row: &Allocation| Allocation { id: row.id, ..new.clone() } == *row;
        let by_id: HashMap<_, _> = rows.iter().map(|row| (row.id, row)).collect();
        let by_ports: HashMap<_, _> = rows.iter().map(|row| ((&row.app, row.ports()), row)).collect();
        let is_updated = self.update.iter().all(|new| by_id.get(&new.id).is_some_and(|row| same(new, row)));
        let is_deleted = self.delete.iter().all(|id| !by_id.contains_key(id));
        let id = |new: &Allocation| {
            let row = by_ports.get(&(&new.app, new.ports())).filter(|row| same(new, row))?;
            Some((new.app.clone(), row.id))
        };
        let ids = self.insert.iter().map(id).collect::<Option<_>>()?;
        (is_updated && is_deleted).then_some(ids)
    }
}

/// Returns how long the transaction has waited for its lock: the time from its begin to its first query, less
/// one millisecond that the server needs to begin.
pub(super) async fn lock_wait(client: &Client) -> Result<Duration, Error> {
    let sql = "SELECT extract(epoch FROM clock_timestamp() - now())::float8";
    let seconds: f64 = client.query_typed_one(sql, &[]).await?.try_get(0)?;
    Ok(Duration::try_from_secs_f64(seconds - 0.001).unwrap_or_default())
}

/// Tells whether the table is in a schema of the search path.
pub(super) async fn has_table(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('port_configurations') IS NOT NULL";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// Returns the SQL that commits this many bytes of unused data, which makes all earlier commits durable.
pub(super) fn sync(bytes: usize) -> String {
    format!(
        "BEGIN; SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') = 'off';
         SELECT pg_logical_emit_message(true, 'manage-ports', repeat(' ', {bytes})); COMMIT"
    )
}
