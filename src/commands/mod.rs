//! The commands, one file each with its arguments, its help and one `run`.

pub(crate) mod allocate;
pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod completions;
pub(crate) mod counters;
mod env_files;
pub(crate) mod exec;
pub(crate) mod give;
pub(crate) mod help;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod map;
pub(crate) mod metrics;
pub(crate) mod migrate;
mod named;
mod places;
mod port_users;
pub(crate) mod release;
pub(crate) mod reserve;
mod search_log;
pub(crate) mod selftest;
pub(crate) mod show;
pub(crate) mod status;
mod survey;

use std::rc::Rc;
use std::time::Instant;

use crate::config::Config;
use crate::core::app::AppId;
use crate::core::hint;
use crate::core::ports;
use crate::error::{Error, Kind, Result};
use crate::host::clock::{self, HostClock};
use crate::output::progress::Progress;
use crate::store;
use crate::store::api::{IfMissing, Store};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The result of a command that succeeded; it determines the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The command did its work, or found no problem.
    Yes,
    /// The command found conflicts, or found nothing to release.
    No,
}

/// Opens the configured database. If it is only the default and its file is missing, it reads as empty.
fn open_store(config: &Config) -> Result<Box<dyn Store>> {
    open_store_as(config, if config.database_is_default { IfMissing::ReadAsEmpty } else { IfMissing::Fail })
}

fn open_store_as(config: &Config, missing: IfMissing) -> Result<Box<dyn Store>> {
    let retry = retry(config)?;
    let opened = timed("opening the database", || store::open(&config.database, missing, retry));
    opened.map_err(|err| on_database(err, config))
}

/// Returns the retry policy of one command, which ends at the configured timeout.
fn retry(config: &Config) -> Result<Retry> {
    let clock = HostClock::new().map_err(|err| Error::msg(Kind::Io, format!("cannot watch for Ctrl-C: {err}")))?;
    Ok(Retry::new(config.timeout, Box::new(clock)).counted(Rc::clone(&config.counts)))
}

/// Runs something, and with `-vv` logs how long it took.
pub(crate) fn timed<T>(what: &str, run: impl FnOnce() -> T) -> T {
    if !log::log_enabled!(log::Level::Trace) {
        return run();
    }
    let start = Instant::now();
    let value = run();
    log::trace!("{what} took {:.1?}", start.elapsed());
    value
}

/// Returns a callback that counts one app of a long scan, and fails after Ctrl-C.
fn watch(what: &'static str) -> impl Fn() -> Result<()> + Sync {
    let progress = Progress::new(what);
    move || {
        progress.step();
        unless_interrupted()
    }
}

/// Fails if the user has pressed Ctrl-C. Waiting for a lock checks this itself; other long work has to call
/// this.
fn unless_interrupted() -> Result<()> {
    if clock::is_interrupted() { Err(Error::msg(Kind::Interrupted, "interrupted")) } else { Ok(()) }
}

fn on_database(err: StoreError, config: &Config) -> Error {
    Error::store(err, &config.database)
}

/// Prints a hint that no row has this model or app, with similar names if there are any.
fn hint_at_missing<'a>(model: &str, known: impl IntoIterator<Item = &'a AppId>, config: &Config) {
    log::info!("{}", hint::about_missing(model, known, &config.database.to_string()));
}

/// Parses a port; it is a value parser of clap.
fn parse_port(text: &str) -> std::result::Result<u16, String> {
    ports::parse_port(text).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}
