//! The table in a SQLite file that the platform writes too.
//!
//! - Choosing and inserting happen in one `BEGIN IMMEDIATE` transaction, which rolls back on drop.
//! - SQLite's own busy handler is off: every wait goes through [`Retry`]. A COMMIT that readers
//!   hold up is repeated alone; SQLite keeps its PENDING lock meanwhile, so no reader starts anew
//!   (<https://www.sqlite.org/lockingv3.html>).
//! - A database keeps the journal mode it has; new ones get a write-ahead log. How each becomes
//!   durable is told in [`durable`].
//! - The database file itself is never opened a second time while SQLite has locks on it: closing it
//!   would drop them.
//! - Reading changes nothing: the last reader out does not checkpoint somebody else's log. Where there is
//!   no log, or no index of one, a reader who may not write makes none: it would be theirs and lock the
//!   owner out.

mod connect;
mod error;
mod rows;
mod schema;
mod scratch;
mod wal;

pub(super) use self::scratch::ScratchFolder;

use std::path::{Path, PathBuf};

use jiff::SignedDuration;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use self::connect::{Rest, at_rest, configured, connect, has_content, newer, real_path};
use self::rows::{all_rows, delete, existing, insert, taken_ports, update_metadata};
use self::schema::{is_made, make};
use self::wal::{
    CHECKPOINT_FRAMES, Queue, Turn, Wal, checkpoint, create_folder, frames, is_on_network, journal_mode, sync_folder,
};
use super::api::{Choose, IfMissing, Mode, Plan, Select, Store, Waiting};
use super::error::StoreError;
use super::retry::Retry;
use super::settle::{Step, settled, steps};
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::import::Entry;
use crate::core::path::folder_of;
use crate::core::ports::PortSet;
use crate::core::schema::UniqueIndex;

/// A SQLite file; without a connection while it was not made yet.
pub(super) struct Sqlite {
    path: PathBuf,
    /// Where SQLite's other files stand: beside the database itself, not beside a link to it.
    real_path: PathBuf,
    retry: Retry,
    connection: Option<Connection>,
    /// Where the file is read as one that nobody writes to: as it was then.
    at_rest: Option<Rest>,
}

/// How often a file at rest may have changed while it was read.
const CHANGES_MAX: u32 = 10;

impl Sqlite {
    pub(super) fn open(path: &Path, missing: IfMissing, retry: Retry) -> Result<Self, StoreError> {
        let mut store =
            Self { path: path.to_owned(), real_path: path.to_owned(), retry, connection: None, at_rest: None };
        if has_content(&store.path)? {
            store.connect()?;
            match store.read(|connection| is_made(&*connection.unchecked_transaction()?)) {
                Ok(true) => {}
                Ok(false) => store.connection = None,
                Err(err) => {
                    drop(store);
                    return Err(newer(path).unwrap_or(err));
                }
            }
        }
        if missing == IfMissing::Fail && store.connection.is_none() {
            return Err(StoreError::Missing);
        }
        Ok(store)
    }

    /// Connects to a file that is there.
    fn connect(&mut self) -> Result<(), StoreError> {
        self.real_path = real_path(&self.path);
        self.at_rest = at_rest(&self.real_path);
        self.connection = Some(connect(&self.path, &self.real_path, self.at_rest.is_some())?);
        Ok(())
    }

    /// Reads what a database holds, nothing where it was not made yet.
    fn read<T: Default>(&mut self, look: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        for _ in 0..CHANGES_MAX {
            let Some(connection) = &self.connection else { return Ok(T::default()) };
            let looked = self.retry.run(|| look(connection));
            if self.at_rest.is_none() || self.at_rest == at_rest(&self.real_path) {
                return looked;
            }
            // Somebody wrote to it meanwhile: whatever was seen may be neither old nor new.
            self.connect()?;
        }
        Err(StoreError::Busy("writers to let go of it"))
    }

    /// Runs `decide` in one write transaction, in its turn, and makes what it wrote durable.
    fn write<T>(
        &self,
        turn: Turn,
        mut decide: impl FnMut(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        // The mode decides, not the file: an empty log may lie beside a database that has none.
        let log = match self.retry.run(|| journal_mode(connection))?.as_str() {
            "wal" => Wal::open(&self.real_path)?,
            _ => None,
        };
        if let Some(log) = &log {
            log.prepare()?;
            // The last writer out does not copy the log: that is done when it is long.
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
            if turn.came_at_once() && frames(connection) >= CHECKPOINT_FRAMES {
                checkpoint(connection);
            }
        }
        let value = self.retry.run(|| {
            connection.execute_batch(match log {
                Some(_) => "PRAGMA synchronous=NORMAL",
                None => "PRAGMA synchronous=EXTRA",
            })?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            let value = decide(&transaction)?;
            self.retry.run(|| {
                transaction.execute_batch("COMMIT").map_err(|err| match StoreError::from(err) {
                    StoreError::Busy(_) => StoreError::Busy("readers to finish"),
                    other => other,
                })
            })?;
            Ok(value)
        })?;
        if let Some(log) = log {
            drop(turn);
            log.sync()?;
        }
        Ok(value)
    }

    /// Waits for a turn to write.
    fn enter(&self) -> Result<Turn, StoreError> {
        Queue::open(&self.real_path).enter(&self.retry)
    }

    /// Opens a database that was not made yet, making its file and folders as far as they are missing.
    ///
    /// The table follows with the first allocation, in its transaction.
    fn create(&mut self) -> Result<Turn, StoreError> {
        create_folder(folder_of(&self.path))?;
        let turn = self.enter()?;
        let is_empty = !has_content(&self.path)?;
        let connection =
            configured(&self.path, &self.real_path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE)?;
        self.real_path = real_path(&self.path);
        self.at_rest = None;
        if is_empty && !is_on_network(folder_of(&self.path)) {
            self.retry.run(|| Ok(connection.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?))?;
        }
        // The log comes with the first look, and stays as long as the connection.
        self.retry.run(|| is_made(&*connection.unchecked_transaction()?))?;
        self.connection = Some(connection);
        Ok(turn)
    }

    fn announce(&self, is_new_database: bool) {
        if is_new_database {
            log::info!("Created database {}", self.path.display());
        }
    }

    /// Makes rows durable that others may have committed without syncing.
    fn sync_rows_of_others(&self) -> Result<(), StoreError> {
        if let Some(log) = Wal::open(&self.real_path)? {
            log.sync()?;
        }
        Ok(sync_folder(folder_of(&self.real_path))?)
    }
}

impl Store for Sqlite {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let mut rows = self.read(all_rows)?;
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn find(&mut self, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError> {
        if self.connection.is_none() {
            return Ok(vec![None; apps.len()]);
        }
        self.read(|connection| existing(&*connection.unchecked_transaction()?, apps))
    }

    fn allocate(
        &mut self,
        apps: &[AppId],
        hold: Option<SignedDuration>,
        choose: &mut Choose<'_>,
    ) -> Result<Vec<Outcome>, StoreError> {
        if self.connection.is_some() {
            let found = self.find(apps)?;
            if let Some(outcomes) = settled(found, self.retry.timestamp(), hold) {
                self.sync_rows_of_others()?;
                return Ok(outcomes);
            }
        }
        let turn = if self.connection.is_some() {
            self.enter()?
        } else {
            // What would be refused anyway must not leave a database behind.
            choose(&apps.iter().collect::<Vec<_>>(), &PortSet::new()).map_err(StoreError::Refused)?;
            self.create()?
        };
        let (is_new_database, outcomes) = self.write(turn, |transaction| {
            let is_new_database = make(transaction)?;
            let found = existing(transaction, apps)?;
            let now = self.retry.timestamp();
            let mut steps = steps(apps, found, now, hold, &taken_ports(transaction)?, choose)?;
            for step in &mut steps {
                match step {
                    Step::Keep(_) => {}
                    Step::Hold(row) => update_metadata(transaction, row)?,
                    Step::Insert(row) => row.id = insert(transaction, row)?,
                }
            }
            let outcomes: Vec<_> = steps.into_iter().map(Step::into_outcome).collect();
            Ok((is_new_database, outcomes))
        })?;
        self.announce(is_new_database);
        if outcomes.iter().all(|outcome| !outcome.created) {
            self.sync_rows_of_others()?;
        }
        Ok(outcomes)
    }

    fn add(&mut self, plan: &mut Plan<'_>) -> Result<Vec<Allocation>, StoreError> {
        let turn = if self.connection.is_some() {
            self.enter()?
        } else if plan(&[]).is_empty() {
            return Ok(Vec::new());
        } else {
            self.create()?
        };
        let (is_new_database, added) = self.write(turn, |transaction| {
            let rows = if is_made(transaction)? { all_rows(transaction)? } else { Vec::new() };
            let rows = plan(&rows);
            if rows.is_empty() {
                return Ok((false, Vec::new()));
            }
            let is_new_database = make(transaction)?;
            let now = self.retry.timestamp();
            let mut added: Vec<_> =
                rows.into_iter().map(|Entry { app, pair, until }| Allocation::new(app, pair, until, now)).collect();
            for row in &mut added {
                row.id = insert(transaction, row)?;
            }
            Ok((is_new_database, added))
        })?;
        self.announce(is_new_database);
        self.sync_rows_of_others()?;
        Ok(added)
    }

    fn remove(&mut self, select: &mut Select<'_>) -> Result<Option<Vec<Allocation>>, StoreError> {
        if self.connection.is_none() {
            return Ok(Some(Vec::new()));
        }
        let before = self.retry.waited();
        let turn = self.enter()?;
        self.write(turn, |transaction| {
            let waited = self.retry.waited().saturating_sub(before);
            let selected = select(all_rows(transaction)?, waited);
            selected.iter().flatten().try_for_each(|row| delete(transaction, row))?;
            Ok(selected)
        })
    }

    fn mode(&mut self) -> Result<Mode, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        let journal = self.retry.run(|| journal_mode(connection))?;
        let has_queue = Queue::open(&self.real_path).is_kept();
        Ok(Mode { journal, waiting: if has_queue { Waiting::LockFile } else { Waiting::Retrying } })
    }

    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError> {
        if self.connection.is_none() {
            return Ok(Vec::new());
        }
        let present: Vec<String> = self.read(|connection| {
            let mut indexes = connection.prepare(
                "SELECT group_concat(columns.name ORDER BY columns.name)
                 FROM pragma_index_list('port_configurations') AS indexes, pragma_index_info(indexes.name) AS columns
                 WHERE indexes.\"unique\" AND NOT indexes.partial GROUP BY indexes.name
                 HAVING count(*) = count(columns.name)",
            )?;
            Ok(indexes.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?)
        })?;
        Ok(UniqueIndex::missing_from(&present))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::time::{Duration, SystemTime};

    use super::schema::SCHEMA;
    use super::*;
    use crate::core::clock::Clock;

    /// A clock that nobody waits for.
    struct Still;

    impl Clock for Still {
        fn now(&self) -> Duration {
            Duration::ZERO
        }
        fn timestamp(&self) -> jiff::Timestamp {
            jiff::Timestamp::UNIX_EPOCH
        }
        fn sleep(&self, _: Duration) {}
        fn is_interrupted(&self) -> bool {
            false
        }
    }

    #[test]
    fn what_was_seen_while_somebody_wrote_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ports.db");
        Connection::open(&path).unwrap().execute_batch(SCHEMA).unwrap();
        let mut store = Sqlite::open(&path, IfMissing::Fail, Retry::new(Duration::ZERO, Box::new(Still))).unwrap();
        for seen in [Ok(vec![1]), Err(StoreError::unusable("is damaged"))] {
            // It was another file when it was opened.
            store.at_rest = Some((0, SystemTime::UNIX_EPOCH));
            let first = Cell::new(Some(seen));
            let read = store.read(|_| first.take().unwrap_or(Ok(vec![2])));
            assert_eq!(read.unwrap(), [2]);
        }
    }
}
