//! What benchmarks and fuzz targets use of the program's inside; nobody else may rely on it.

use std::time::Duration;

use crate::host::clock::HostClock;
use crate::store::api::IfMissing;
use crate::store::retry::Retry;
use crate::store::{self, Database};

/// Connects to the PostgreSQL server that a URL names, and asks for two settings.
///
/// # Errors
///
/// What went wrong, in debug form.
pub fn connect_to_server(url: &str) -> Result<(), String> {
    let database = Database::postgres(url.strip_prefix("postgresql://").unwrap_or(url), &|_| None, None)?;
    let clock = HostClock::new().map_err(|err| err.to_string())?;
    let retry = Retry::new(Duration::from_secs(30), Box::new(clock));
    let mode = store::open(&database, IfMissing::ReadAsEmpty, retry).and_then(|mut store| store.mode());
    mode.map(drop).map_err(|err| format!("{err:?}"))
}
