//! This module keeps the table in a SQLite file, to which the platform writes as well.
//!
//! - Choosing and inserting happen in one `BEGIN IMMEDIATE` transaction, which rolls back on drop.
//! - SQLite's own busy handler is off: every wait goes through [`Retry`]. A COMMIT that readers
//!   hold up is repeated alone; SQLite keeps its PENDING lock meanwhile, so no reader starts anew
//!   (<https://www.sqlite.org/lockingv3.html>).
//! - A database keeps the journal mode it has. A new one gets a write-ahead log, except on a file
//!   system that other machines may share. [`wal`] says how a row becomes durable, and why the file alone
//!   holds every row at rest.
//! - The database file itself is never opened a second time while SQLite has locks on it: to close the
//!   second descriptor would end the locks of the first.
//! - A migration copies the database before it takes the lock, and then makes sure that the copy still has
//!   what the table has. [`copy`] says how, and [`migrate`] what is changed.
//! - A file with a second hard link, or one that is itself a mount point, is read and never written.

mod connect;
mod copy;
mod error;
mod holder;
mod migrate;
mod queue;
mod rows;
mod schema;
mod scratch;
mod storage;
mod wal;

pub(super) use self::scratch::ScratchFolder;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::SignedDuration;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

use self::connect::{Access, connect, create, has_content, newer, real_path};
use self::copy::Copy;
use self::error::damaged;
use self::holder::{READERS, naming_holders};
use self::migrate::{apply, plan};
use self::queue::{Queue, Turn};
use self::rows::{all_rows, delete, existing, has_model, insert, models, taken_ports, update_metadata};
use self::schema::{damage, is_made, make, missing_indexes};
use self::storage::{SecondName, shared_file_system};
use self::wal::{Checkpoint, Wal, checkpoint, create_folder, has_frames, has_log, journal_mode, sync_folder};
use super::api::{Change, Choose, IfMissing, Mode, Plan, Select, Storage, Store, Taken, Waiting};
use super::error::StoreError;
use super::retry::Retry;
use super::settle::{Step, settled, steps};
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::counts::RetryReason;
use crate::core::import::Entry;
use crate::core::migration::Migration;
use crate::core::path::folder_of;
use crate::core::schema::UniqueIndex;

/// A SQLite file. There is no connection if the file was not made yet.
pub(super) struct Sqlite {
    path: PathBuf,
    /// The path beside which SQLite puts its other files: the path of the database itself, not of a link to
    /// it.
    real_path: PathBuf,
    retry: Retry,
    connection: Option<Connection>,
    access: Access,
    /// Tells whether this connection created the log.
    is_log_new: bool,
    /// Tells whether nothing is left to do for the log: it was emptied since our last transaction, another
    /// process will empty it, or the database cannot be used and keeps its log.
    is_log_seen_to: Cell<bool>,
}

/// The most repetitions of a read from the main file alone, if the file changes during each read.
const CHANGES_MAX: u32 = 10;

/// The most tries of a checkpoint while another one is running, and the pause between them.
const CHECKPOINT_TRIES: u32 = 100;
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(10);

/// The most tries to empty the log before the process ends, while a transaction blocks it, and the pause
/// between them. Most transactions end within the first pause. A longer one may belong to another of our
/// processes, which will empty the log itself.
const LEAVING_TRIES: u32 = 5;
const LEAVING_PAUSE: Duration = Duration::from_millis(2);

/// How often a migration copies the database beside other writers. If they changed it after each copy, the last
/// copy is made under the lock.
const COPIES_BESIDE_WRITERS: u32 = 3;

impl Sqlite {
    pub(super) fn open(path: &Path, missing: IfMissing, retry: Retry) -> Result<Self, StoreError> {
        let mut store = Self {
            path: path.to_owned(),
            real_path: path.to_owned(),
            retry,
            connection: None,
            access: Access::Write,
            is_log_new: false,
            is_log_seen_to: Cell::new(false),
        };
        if has_content(&store.path)? {
            store.connect()?;
            match store.read(|connection| is_made(&*connection.unchecked_transaction()?)) {
                Ok(true) => {}
                Ok(false) => store.connection = None,
                Err(err) => {
                    store.connection = None;
                    return Err(newer(path).unwrap_or(err));
                }
            }
        }
        if missing == IfMissing::Fail && store.connection.is_none() {
            return Err(StoreError::Missing);
        }
        Ok(store)
    }

    /// Connects to an existing file.
    fn connect(&mut self) -> Result<(), StoreError> {
        self.real_path = real_path(&self.path);
        self.access = Access::to(&self.real_path)?;
        self.is_log_new = !has_log(&self.real_path);
        self.connection = Some(connect(&self.real_path, self.access)?);
        Ok(())
    }

    /// Reads from the database. Returns the default value if the database was not made yet.
    fn read<T: Default>(&mut self, look: impl Fn(&Connection) -> Result<T, StoreError>) -> Result<T, StoreError> {
        for _ in 0..CHANGES_MAX {
            let Some(connection) = &self.connection else { return Ok(T::default()) };
            let looked = self.retry.run(|| look(connection));
            if self.access.still_holds(&self.real_path) {
                return looked.inspect_err(|err| self.keep_off(err)).map_err(|err| self.named(err));
            }
            // Another process wrote to the file during the read, so the data may be a mix of old and new.
            self.connect()?;
        }
        Err(self.retry.locked("writers to let go of it", CHANGES_MAX))
    }

    /// Waits for its turn, runs `decide` in one write transaction, and makes the changes durable.
    fn write<T>(
        &self,
        turn: Turn,
        queue: &Queue,
        mut decide: impl FnMut(&Connection) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        if self.is_log_new {
            sync_folder(folder_of(&self.real_path))?;
        }
        let value = self.retry.run(|| {
            // The journal mode decides, not the file: an empty -wal file may lie beside a database in another
            // mode.
            let mode = journal_mode(connection)?;
            connection.execute_batch(match mode.as_str() {
                "wal" => "PRAGMA synchronous=NORMAL",
                _ => "PRAGMA synchronous=EXTRA",
            })?;
            let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
            if journal_mode(&transaction)? != mode {
                return Err(StoreError::Busy(RetryReason::JournalMode, "its owner to change the journal mode"));
            }
            self.refuse_second_name()?;
            let value = decide(&transaction)?;
            self.retry.run(|| {
                transaction.execute_batch("COMMIT").map_err(|err| match StoreError::from(err) {
                    StoreError::Busy(..) => StoreError::Busy(RetryReason::Readers, READERS),
                    other => other,
                })
            })?;
            Ok(value)
        });
        let value = value.map_err(|err| self.named(err));
        // A refused row is no reason to leave the log to others, but a damaged database is.
        let value = value.inspect_err(|err| {
            if matches!(err, StoreError::Unusable { .. }) && !matches!(damage(connection), Ok(None)) {
                self.keep_off(err);
            }
        })?;
        // With a rollback journal, COMMIT has made the rows durable.
        if journal_mode(connection)? == "wal" && has_frames(&self.real_path) {
            let comes_another = queue.is_awaited();
            let is_empty = !comes_another && self.empty_log(connection, queue)? == Checkpoint::Done;
            self.is_log_seen_to.set(comes_another || is_empty);
            drop(turn);
            if !is_empty && let Some(log) = Wal::open(&self.real_path)? {
                log.sync()?;
            }
        }
        Ok(value)
    }

    /// Empties the log. Waits for another checkpoint, unless another process joins the queue meanwhile.
    fn empty_log(&self, connection: &Connection, queue: &Queue) -> Result<Checkpoint, StoreError> {
        let mut outcome = checkpoint(connection)?;
        for _ in 0..CHECKPOINT_TRIES {
            if outcome != Checkpoint::OtherRunning || queue.is_awaited() {
                break;
            }
            self.retry.pause(CHECKPOINT_PAUSE);
            outcome = checkpoint(connection)?;
        }
        Ok(outcome)
    }

    /// Adds to the error of a wait that timed out which processes hold the lock.
    fn named(&self, err: StoreError) -> StoreError {
        naming_holders(err, &self.real_path)
    }

    /// Leaves all files unchanged if the error says that the database cannot be used.
    fn keep_off(&self, err: &StoreError) {
        if matches!(err, StoreError::Unusable { .. }) {
            self.is_log_seen_to.set(true);
        }
    }

    /// Empties the log after the last transaction, unless another process will do so later.
    fn leave(&self) -> Result<(), StoreError> {
        let Some(connection) = self.connection.as_ref().filter(|_| self.access == Access::Write) else {
            return Ok(());
        };
        if self.is_log_seen_to.get() || !has_frames(&self.real_path) || journal_mode(connection)? != "wal" {
            return Ok(());
        }
        let queue = Queue::find(&self.real_path);
        // While we hold the turn, our other writers do not retry for SQLite's lock.
        let _turn = queue.try_enter();
        for _ in 0..LEAVING_TRIES {
            if queue.is_awaited() || self.empty_log(connection, &queue)? == Checkpoint::Done {
                break;
            }
            self.retry.pause(LEAVING_PAUSE);
        }
        Ok(())
    }

    /// Refuses a file that has a second name.
    fn refuse_second_name(&self) -> Result<(), StoreError> {
        SecondName::of(&self.real_path)?.map_or(Ok(()), |name| Err(name.into()))
    }

    /// Warns that a file with a second name is only read.
    fn warn_of_second_name(&self) {
        if let Ok(Some(name)) = SecondName::of(&self.real_path) {
            log::warn!("database {} is only read: it {}; {}", self.path.display(), name.describe(), name.hint());
        }
    }

    /// Opens the queue and waits for a turn to write. First creates the database's file and folders if they
    /// are missing.
    ///
    /// The table is created later, in the transaction that inserts the first rows.
    fn enter(&mut self) -> Result<(Turn, Queue), StoreError> {
        let is_new = self.connection.is_none();
        if is_new {
            create_folder(folder_of(&self.path))?;
        }
        self.retry.takes_lock();
        let queue = Queue::open(&self.real_path);
        let turn = queue.enter(&self.retry)?;
        if is_new {
            self.refuse_second_name()?;
            let connection = create(&self.path, &self.retry)?;
            self.real_path = real_path(&self.path);
            self.access = Access::Write;
            self.is_log_new = true;
            // SQLite creates the log at the first read, and keeps it as long as the connection is open.
            self.retry.run(|| is_made(&*connection.unchecked_transaction()?))?;
            self.connection = Some(connection);
        }
        Ok((turn, queue))
    }

    /// Copies the database, then takes the lock and migrates the table. If another process wrote to the database
    /// in between, copies it again under the lock, or returns `None` unless `is_last` is set.
    fn migrate_unless_changed(&mut self, is_last: bool) -> Result<Option<Migration>, StoreError> {
        let (turn, queue) = self.enter()?;
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        let version = |connection: &Connection| -> Result<i64, StoreError> {
            Ok(connection.pragma_query_value(None, "data_version", |row| row.get(0))?)
        };
        self.refuse_second_name()?;
        let seen = self.retry.run(|| version(connection))?;
        let mut copied = Some(Copy::make(&self.real_path, &self.retry)?);
        let mut kept = None;
        let migrated = self.write(turn, &queue, |transaction| {
            let planned = plan(transaction)?;
            if !planned.has_work() {
                return Ok(Some(planned));
            }
            let is_unchanged = version(transaction)? == seen;
            let copy = match copied.take() {
                Some(copy) if is_unchanged => copy,
                _ if !is_last => return Ok(None),
                _ => Copy::make(&self.real_path, &self.retry)?,
            };
            let copy = copy.named(&self.real_path, self.retry.timestamp())?;
            apply(transaction, &planned)?;
            kept = Some(copy);
            Ok(Some(planned))
        });
        match (migrated, kept) {
            (Ok(Some(done)), Some(copy)) => Ok(Some(Migration { copy: Some(copy.keep()), ..done })),
            // A commit that failed may have taken place. Any other error leaves the table as it was.
            (Err(err @ StoreError::Unusable { .. }), Some(copy)) => {
                let planned = self.read(|connection| plan(&*connection.unchecked_transaction()?));
                if !planned.is_ok_and(|planned| planned.has_work()) {
                    log::warn!("a copy of the database as it was is {}", copy.keep().display());
                }
                Err(err)
            }
            (migrated, _) => migrated,
        }
    }

    fn announce(&self, is_new_database: bool) {
        if is_new_database {
            let path = std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone());
            log::info!("Created database {}", path.display());
        }
    }

    /// Makes rows durable that others may have committed without syncing.
    fn sync_rows_of_others(&self) -> Result<(), StoreError> {
        if has_frames(&self.real_path)
            && let Some(log) = Wal::open(&self.real_path)?
        {
            log.sync()?;
        }
        Ok(sync_folder(folder_of(&self.real_path))?)
    }
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // The answer does not depend on this step: the rows are durable already.
        if let Err(err) = self.leave() {
            log::debug!("the log was left as it is: {err:?}");
        }
    }
}

impl Store for Sqlite {
    fn snapshot(&mut self) -> Result<Vec<Allocation>, StoreError> {
        let mut rows = self.read(all_rows)?;
        self.warn_of_second_name();
        rows.sort_by(|a, b| (&a.app, a.id).cmp(&(&b.app, b.id)));
        Ok(rows)
    }

    fn models(&mut self) -> Result<Vec<String>, StoreError> {
        self.read(models)
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
                self.warn_of_second_name();
                self.sync_rows_of_others()?;
                return Ok(outcomes);
            }
        } else {
            // A request that would be refused anyway must not create a database.
            choose(&apps.iter().collect::<Vec<_>>(), &Taken::default()).map_err(StoreError::Refused)?;
        }
        let (turn, queue) = self.enter()?;
        let (is_new_database, outcomes) = self.write(turn, &queue, |transaction| {
            let is_new_database = make(transaction)?;
            let found = existing(transaction, apps)?;
            let now = self.retry.timestamp();
            let taken = Taken { ports: taken_ports(transaction)?, has_model: has_model(transaction, apps)? };
            let mut steps = steps(apps, found, now, hold, &taken, choose)?;
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
        if self.connection.is_none() && plan(&[]).is_empty() {
            return Ok(Vec::new());
        }
        let (turn, queue) = self.enter()?;
        let (is_new_database, added) = self.write(turn, &queue, |transaction| {
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
        let (turn, queue) = self.enter()?;
        self.write(turn, &queue, |transaction| {
            let waited = self.retry.waited().saturating_sub(before);
            let selected = select(all_rows(transaction)?, waited);
            selected.iter().flatten().try_for_each(|row| delete(transaction, row))?;
            Ok(selected)
        })
    }

    fn update(&mut self, change: &mut Change<'_>) -> Result<Vec<Allocation>, StoreError> {
        if self.connection.is_none() {
            return Ok(Vec::new());
        }
        let (turn, queue) = self.enter()?;
        self.write(turn, &queue, |transaction| {
            let mut changed = change(all_rows(transaction)?)?;
            let now = self.retry.timestamp();
            for row in &mut changed {
                row.updated_at = Some(now);
                update_metadata(transaction, row)?;
            }
            Ok(changed)
        })
    }

    fn mode(&mut self) -> Result<Mode, StoreError> {
        let Some(connection) = &self.connection else { return Err(StoreError::Missing) };
        let journal = match &self.access {
            // SQLite does not look for the log of a file that was opened as immutable. Only files in WAL mode
            // are read in this way.
            Access::ReadFile(_) => "wal".to_owned(),
            _ => self.retry.run(|| journal_mode(connection))?,
        };
        let waiting = if Queue::is_possible(&self.real_path) { Waiting::LockFile } else { Waiting::Retrying };
        Ok(Mode { journal, waiting, storage: self.storage() })
    }

    fn storage(&self) -> Storage {
        // The folder may be missing. The nearest existing folder above it is on the same file system.
        let folder = self.real_path.ancestors().skip(1).find(|folder| folder.is_dir());
        shared_file_system(folder.unwrap_or(Path::new("."))).map_or(Storage::Local, Storage::Shared)
    }

    fn verify(&mut self) -> Result<(), StoreError> {
        let found = self.read(damage)?;
        found.map_or(Ok(()), |found| {
            let err = damaged(&found);
            self.keep_off(&err);
            Err(err)
        })
    }

    fn missing_indexes(&mut self) -> Result<Vec<UniqueIndex>, StoreError> {
        self.read(missing_indexes)
    }

    fn migrate(&mut self, dry_run: bool) -> Result<Migration, StoreError> {
        if self.connection.is_none() {
            return Ok(Migration::default());
        }
        let planned = self.read(|connection| plan(&*connection.unchecked_transaction()?))?;
        if dry_run || !planned.has_work() {
            if !dry_run {
                self.sync_rows_of_others()?;
            }
            return Ok(planned);
        }
        if self.access != Access::Write {
            self.refuse_second_name()?;
            return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), None).into());
        }
        self.verify()?;
        for _ in 1..COPIES_BESIDE_WRITERS {
            if let Some(done) = self.migrate_unless_changed(false)? {
                return Ok(done);
            }
            log::debug!("copying again, as another process wrote to the database");
        }
        self.migrate_unless_changed(true).map(Option::unwrap_or_default)
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
            // The file was another one when it was opened.
            store.access = Access::ReadFile((0, SystemTime::UNIX_EPOCH));
            let first = Cell::new(Some(seen));
            let read = store.read(|_| first.take().unwrap_or(Ok(vec![2])));
            assert_eq!(read.unwrap(), [2]);
        }
    }
}
