//! What benchmarks and fuzz targets use of the program's inside; nobody else may rely on it.
//!
//! Everything is a plain value here, so that no other item of the library needs to be public. The checks are
//! those of the fuzz targets in `fuzz/fuzz_targets/`.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use crate::config::{self, Config};
use crate::core::allocation::{Allocation, PortPair, Reservation, parse_until, until_text};
use crate::core::app::{AppId, check_model, parse_app_nums, split_app};
use crate::core::declared::{Declared, Names};
use crate::core::text::ranges;
use crate::error::Error;
use crate::flags::GlobalArgs;
use crate::host::clock::{self, HostClock};
use crate::host::port_config::{self, Reservations};
use crate::host::{declared, env_file};
use crate::metrics::{Found, Totals};
use crate::store::api::{IfMissing, Store};
use crate::store::retry::Retry;
use crate::store::{self, Database};

/// Connects to the PostgreSQL server that a URL names, and asks for two settings.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn connect_to_server(url: &str) -> Result<(), String> {
    let database = Database::postgres(url.strip_prefix("postgresql://").unwrap_or(url), &|_| None, None)?;
    open(&database, IfMissing::ReadAsEmpty).and_then(|mut store| told(store.mode())).map(drop)
}

fn open(database: &Database, missing: IfMissing) -> Result<Box<dyn Store>, String> {
    let retry = Retry::new(Duration::from_secs(30), Box::new(told(HostClock::new())?));
    told(store::open(database, missing, retry))
}

fn told<T, E: std::fmt::Debug>(result: Result<T, E>) -> Result<T, String> {
    result.map_err(|err| format!("{err:?}"))
}

/// Reads lists of app numbers.
///
/// # Errors
///
/// The message for the user.
pub fn app_nums(lists: &[&str]) -> Result<Vec<u32>, String> {
    parse_app_nums(lists)
}

/// Writes app numbers as a list of ranges.
pub fn app_ranges(nums: &[u32]) -> String {
    ranges(&nums.iter().copied().map(i64::from).collect::<BTreeSet<_>>()).join(",")
}

/// Splits `MODEL/appN` into the model and the list of numbers, if the model is one that a user may name.
pub fn app_in_one_word(text: &str) -> Option<(&str, &str)> {
    split_app(text).filter(|(model, _)| check_model(model).is_ok())
}

/// Reads a duration.
///
/// # Errors
///
/// The message for the user.
pub fn duration(text: &str) -> Result<Duration, String> {
    config::parse_duration(text).map(|duration| duration.unsigned_abs())
}

/// A database as a flag names it.
pub struct Named {
    /// What messages show.
    pub shown: String,
    /// The name by which a process of our own opens it.
    pub secret: OsString,
    /// The password for each host of a server.
    pub passwords: Vec<Option<Vec<u8>>>,
}

impl From<Database> for Named {
    fn from(database: Database) -> Self {
        let passwords = database.passwords().into_iter().map(|password| password.map(<[u8]>::to_vec)).collect();
        Self { shown: database.to_string(), secret: database.secret_name(), passwords }
    }
}

/// Reads the name of a database: a path or a URL.
///
/// # Errors
///
/// The message for the user.
pub fn database(name: &OsStr) -> Result<Named, String> {
    let named = config::named_database(&name.to_owned(), Path::new("/"), Error::usage);
    named.map(Named::from).map_err(|err| format!("{:#}", err.into_cause()))
}

/// Reads the part of a PostgreSQL URL that follows `postgresql://`, with this password file.
///
/// # Errors
///
/// The message for the user.
pub fn server_with_passwords(url: &str, passfile: &str) -> Result<Named, String> {
    let variable = |name: &str| (name == "PGPASSFILE").then(|| passfile.to_owned());
    Database::postgres(url, &variable, None).map(Named::from)
}

/// What the files of an app declare.
pub struct DeclaredPair {
    /// The two ports on which the files agree; otherwise the reason why there is no pair.
    pub pair: Result<Option<[u16; 2]>, String>,
    /// Everything that messages may show of the files, beside the pair and the names of files.
    pub shown: String,
}

/// Reads the ports that the files in an app's directory declare.
pub fn declared_pair(directory: &Path) -> DeclaredPair {
    let declared = declared::read(directory, &Names::default());
    let pair = declared.pair().map(|pair| pair.map(PortPair::ports));
    let Declared { unreadable, refused, .. } = declared;
    let shown: Vec<_> = unreadable.into_iter().chain(refused).map(|note| note.reason).collect();
    DeclaredPair { pair, shown: shown.join("; ") }
}

/// Returns the values that Compose reads for these variables in a `.env` file.
pub fn env_values(content: &[u8], names: &[&str]) -> Vec<Option<String>> {
    declared::env_values(content, names)
}

/// Sets variables in the content of a `.env` file.
///
/// # Errors
///
/// The message for the user.
pub fn env_with(content: &[u8], variables: &[(&str, String)]) -> Result<Vec<u8>, String> {
    env_file::edit(content, variables)
}

/// Returns the statements of a `.env` file that set none of these variables.
pub fn env_others<'a>(content: &'a [u8], names: &[&str]) -> Vec<&'a [u8]> {
    env_file::others(content, names)
}

/// An entry of a `port_config.json`.
#[derive(Debug, PartialEq, Eq)]
pub struct PlannedEntry {
    /// The model.
    pub model: String,
    /// The number of the app.
    pub app_num: i64,
    /// The backend's and the frontend's port.
    pub pair: [u16; 2],
    /// The end of the reservation, as it is written.
    pub reserved_until: Option<String>,
}

/// Reads a `port_config.json`. `needs_reservations` tells whether an end of a reservation that cannot be read
/// is an error.
///
/// # Errors
///
/// The message for the user.
pub fn planned_entries(path: &Path, needs_reservations: bool) -> Result<Vec<PlannedEntry>, String> {
    let reservations = if needs_reservations { Reservations::Needed } else { Reservations::PassedOver };
    let entries = port_config::read(path, reservations).map_err(|err| format!("{err:#}"))?;
    let entry = |entry: crate::core::import::Entry| PlannedEntry {
        model: entry.app.model,
        app_num: entry.app.app_num,
        pair: entry.pair.ports(),
        reserved_until: entry.until.map(until_text),
    };
    Ok(entries.iter().map(entry).collect())
}

/// A row's metadata, and what a reservation makes of it.
pub struct Metadata(Allocation);

/// The reservation in a row's metadata.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// There is none.
    No,
    /// It ends at this time, as it is written.
    Until(String),
    /// Its end cannot be read.
    Unreadable,
}

impl Metadata {
    /// Makes a row with this metadata.
    pub fn new(text: Option<&str>) -> Self {
        Self(Allocation {
            id: 1,
            app: AppId::new("m", 1),
            backend_port: 5001,
            frontend_port: 8001,
            is_available: true,
            metadata: text.map(str::to_owned),
            created_at: None,
            created_at_is_unreadable: false,
            updated_at: None,
        })
    }

    /// The text of the metadata.
    pub fn text(&self) -> Option<&str> {
        self.0.metadata.as_deref()
    }

    /// The reservation, and what messages show of one that cannot be read.
    pub fn held(&self) -> (Held, Option<String>) {
        let held = match self.0.reservation() {
            Reservation::None => Held::No,
            Reservation::Until(until) => Held::Until(until_text(until)),
            Reservation::Unreadable => Held::Unreadable,
        };
        (held, self.0.unreadable_reservation())
    }

    /// Reserves the row until this time, in whole microseconds as the clock gives them; `None` if the time cannot
    /// be read. Returns whether the row changed.
    pub fn hold(&mut self, until: &str) -> Option<Result<bool, String>> {
        parse_until(&until_text(parse_until(until)?)).map(|until| told(self.0.hold(until)))
    }

    /// Ends the reservation. Returns whether the row changed.
    ///
    /// # Errors
    ///
    /// What is in the way, in debug form.
    pub fn cancel(&mut self) -> Result<bool, String> {
        told(self.0.cancel())
    }

    /// Tells whether the row is reserved now.
    pub fn is_held_now(&self) -> bool {
        self.0.is_reserved(clock::now())
    }
}

/// Resolves the settings from a configuration file, and returns the name of the database that messages show.
///
/// # Errors
///
/// The message for the user.
pub fn configured_database(path: &Path) -> Result<String, String> {
    let flags = GlobalArgs { config: Some(path.to_owned()), ..GlobalArgs::default() };
    match Config::resolve(&flags) {
        Ok(config) => Ok(config.database.to_string()),
        Err(err) => Err(format!("{:#}", err.into_cause())),
    }
}

/// Reads all of a SQLite database as the commands read it, and returns how many rows it has.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn read_sqlite(path: &Path) -> Result<usize, String> {
    let mut store = open(&Database::Sqlite(path.to_owned()), IfMissing::Fail)?;
    let rows = told(store.snapshot())?;
    told(store.models())?;
    told(store.find(&[AppId::new("m", 1)]))?;
    told(store.missing_indexes())?;
    told(store.mode())?;
    Ok(rows.len())
}

/// Checks every page of a SQLite database.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn verify_sqlite(path: &Path) -> Result<(), String> {
    let mut store = open(&Database::Sqlite(path.to_owned()), IfMissing::Fail)?;
    told(store.verify())
}

/// Allocates a pair in a SQLite database, and returns it.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn allocate_in_sqlite(path: &Path, model: &str, app_num: u32) -> Result<[i64; 2], String> {
    let mut store = open(&Database::Sqlite(path.to_owned()), IfMissing::Fail)?;
    let outcomes = store.allocate(&[AppId::new(model, app_num)], None, &mut |apps, taken| {
        let free = (5001..u16::MAX).step_by(2).filter_map(|backend| PortPair::new(backend, backend.checked_add(3000)?));
        Ok(free.filter(|pair| !pair.ports().iter().any(|port| taken.ports.contains(*port))).take(apps.len()).collect())
    });
    told(outcomes)?.first().map(|outcome| outcome.allocation.ports()).ok_or_else(|| "no row".to_owned())
}

/// Releases an app in a SQLite database, and returns how many rows were removed.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn release_in_sqlite(path: &Path, model: &str, app_num: u32) -> Result<usize, String> {
    let mut store = open(&Database::Sqlite(path.to_owned()), IfMissing::Fail)?;
    let app = AppId::new(model, app_num);
    let removed = store.remove(&mut |rows, _| Some(rows.into_iter().filter(|row| row.app == app).collect()));
    Ok(told(removed)?.map_or(0, |rows| rows.len()))
}

/// What a metrics file holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Counters {
    /// Counters, as they are written again.
    Ours(String),
    /// Nothing.
    Nothing,
    /// Counters of this program that are damaged.
    Damaged,
    /// Something that this program did not write.
    Foreign,
}

/// Reads a metrics file, and adds `times` its own counters to the counters that it holds.
pub fn counters(content: &[u8], times: usize) -> Counters {
    match Totals::read(content) {
        Found::Totals(totals) => {
            let mut sum = totals.clone();
            (0..times).for_each(|_| sum.add(&totals));
            Counters::Ours(sum.encode().unwrap_or_default())
        }
        Found::Nothing => Counters::Nothing,
        Found::Damaged => Counters::Damaged,
        Found::Foreign => Counters::Foreign,
    }
}
