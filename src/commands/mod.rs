//! One file a command: its arguments, its help and one `run`.

pub(crate) mod allocate;
pub(crate) mod check;
pub(crate) mod cleanup;
pub(crate) mod completions;
mod env_files;
pub(crate) mod exec;
pub(crate) mod give;
pub(crate) mod help;
pub(crate) mod import;
pub(crate) mod init;
pub(crate) mod list;
pub(crate) mod man;
pub(crate) mod map;
mod named;
mod places;
mod port_users;
pub(crate) mod release;
pub(crate) mod reserve;
pub(crate) mod selftest;
pub(crate) mod show;
pub(crate) mod status;

use crate::config::Config;
use crate::core::app::AppId;
use crate::core::hint;
use crate::core::ports::as_port;
use crate::error::{Error, Kind, Result};
use crate::host::clock::{self, HostClock};
use crate::output::progress::Progress;
use crate::store;
use crate::store::api::{IfMissing, Store};
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// What a command's answer is, apart from what it printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Done, or nothing found to complain of.
    Yes,
    /// Conflicts found, or nothing found to release.
    No,
}

/// Opens the configured database; one that nobody named may be missing.
fn open_store(config: &Config) -> Result<Box<dyn Store>> {
    open_store_as(config, if config.database_is_default { IfMissing::ReadAsEmpty } else { IfMissing::Fail })
}

fn open_store_as(config: &Config, missing: IfMissing) -> Result<Box<dyn Store>> {
    store::open(&config.database, missing, retry(config)?).map_err(|err| on_database(err, config))
}

/// The patience of one command.
fn retry(config: &Config) -> Result<Retry> {
    let clock = HostClock::new().map_err(|err| Error::msg(Kind::Io, format!("cannot watch for Ctrl-C: {err}")))?;
    Ok(Retry::new(config.timeout, Box::new(clock)))
}

/// Counts the apps of a long look, and ends the look when the user asks to stop.
fn watch(what: &'static str) -> impl Fn() -> Result<()> + Sync {
    let progress = Progress::new(what);
    move || {
        progress.step();
        unless_interrupted()
    }
}

/// Fails when the user has asked to stop: for those who wait for no lock, which would tell them.
fn unless_interrupted() -> Result<()> {
    if clock::is_interrupted() { Err(Error::msg(Kind::Interrupted, "interrupted")) } else { Ok(()) }
}

fn on_database(err: StoreError, config: &Config) -> Error {
    Error::store(err, &config.database)
}

/// Says of a model, or of an app of it, that no row has it, and what there is instead.
fn hint_at_missing<'a>(model: &str, known: impl IntoIterator<Item = &'a AppId>, config: &Config) {
    log::info!("{}", hint::about_missing(model, known, &config.database.to_string()));
}

/// Reads a port for clap.
fn parse_port(text: &str) -> std::result::Result<u16, String> {
    text.parse().ok().and_then(as_port).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}
