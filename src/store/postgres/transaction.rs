//! One write transaction: its begin with the lock on the table, what it writes, and its commit.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all, try_join3};
use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::rows::{ROWS_MAX, delete, insert, update_metadata};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;

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

/// What a transaction writes.
#[derive(Default)]
pub(super) struct Writes {
    pub(super) insert: Vec<Allocation>,
    pub(super) update: Vec<Allocation>,
    /// Ids.
    pub(super) delete: Vec<i64>,
}

/// A transaction that holds its lock.
pub(super) struct Begun<R> {
    /// What it read.
    pub(super) read: R,
    /// Whether it made the table.
    pub(super) made_table: bool,
    /// What commits it and waits for the disk, even where the server lets others not wait.
    pub(super) commit: &'static str,
}

/// Begins a transaction, locks the table and reads.
pub(super) async fn begin<R>(
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
    pub(super) async fn commit(&self, client: &Client, commit: &str) -> Result<Option<HashMap<AppId, i64>>, Error> {
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
    pub(super) fn found_in(&self, rows: &[Allocation]) -> Option<HashMap<AppId, i64>> {
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

/// How long the transaction has waited for its lock: the time since its begin, asked in its first query.
pub(super) async fn lock_wait(client: &Client) -> Result<Duration, Error> {
    let sql = "SELECT extract(epoch FROM clock_timestamp() - now())::float8";
    let seconds: f64 = client.query_typed_one(sql, &[]).await?.try_get(0)?;
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}

/// Whether the search path leads to the table.
pub(super) async fn has_table(client: &Client) -> Result<bool, Error> {
    let sql = "SELECT to_regclass('port_configurations') IS NOT NULL";
    client.query_typed_one(sql, &[]).await?.try_get(0)
}

/// Commits so many bytes of its own, with which all commits before it become durable.
pub(super) async fn sync(client: &Client, bytes: usize) -> Result<(), Error> {
    let sql = format!(
        "BEGIN; SELECT set_config('synchronous_commit', 'on', true)
          WHERE current_setting('synchronous_commit') = 'off';
         SELECT pg_logical_emit_message(true, 'manage-ports', repeat(' ', {bytes})); COMMIT"
    );
    client.batch_execute(&sql).await
}
