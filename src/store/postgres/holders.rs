//! This file finds the sessions that hold the lock for which a call waited in vain.

use tokio_postgres::{Client, Error, Row};

use super::error::WAITING_FOR_WRITERS;
use super::link::Link;
use super::progress::Phase;
use super::transaction::TableLock;
use super::values::Text;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// Adds the sessions that hold the lock to the error of a wait that timed out, if the connection still works
/// and the server shows the sessions.
pub(super) fn naming_holders(err: StoreError, wanted: TableLock, link: &mut Link, retry: &Retry) -> StoreError {
    let is_about_writers = matches!(&err, StoreError::Locked { what, .. } if what == WAITING_FOR_WRITERS);
    if !is_about_writers {
        return err;
    }
    let holders = link.ask_connected(retry, Phase::Answering, async |client, _| holders(client, wanted).await);
    err.held_by(&holders.unwrap_or_default())
}

/// Returns the sessions that hold a lock on the table which conflicts with the wanted one. The server shows a
/// session's name and activity only to the session's own role and to superusers.
async fn holders(client: &Client, wanted: TableLock) -> Result<Vec<String>, Error> {
    let harmless = match wanted {
        TableLock::ForRows => "'AccessShareLock', 'RowShareLock'",
        TableLock::ForSchema => "''",
    };
    let sql = format!(
        "SELECT DISTINCT pid, usename::text, application_name, state FROM pg_locks JOIN pg_stat_activity USING (pid)
         WHERE relation = to_regclass('port_configurations') AND granted AND pid <> pg_backend_pid()
          AND mode NOT IN ({harmless}) ORDER BY pid"
    );
    let describe = |row: &Row| {
        let pid: i32 = row.try_get(0)?;
        let text = |column| row.try_get::<_, Text>(column).map(|Text(text)| text);
        let (user, program, state) = (text(1)?, text(2)?, text(3)?);
        let details = [program, state].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ");
        let details = if details.is_empty() { details } else { format!(" ({details})") };
        Ok(format!("process {pid} of user {user}{details}"))
    };
    client.query_typed(&sql, &[]).await?.iter().map(describe).collect()
}
