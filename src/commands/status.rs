//! `status`: prints the state of the database and of the apps in ten lines.

use std::fs;
use std::io::Write;

use super::survey::Survey;
use super::{Answer, on_database, open_store};
use crate::config::Config;
use crate::core::conflict::Kind;
use crate::error::{Error, Result};
use crate::output::look::Format;
use crate::output::status::{self, Status};
use crate::store::Database;
use crate::store::api::Store;
use crate::store::error::StoreError;

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
Free slots are counted without asking the system who listens; `manage-ports map` asks. Conflicts and \
warnings are counted as `manage-ports check` counts them.

Formats: human, json

Examples:
  manage-ports status
  manage-ports status --json | jq .free_slots";

/// Show what is in use, how many apps there are, and what to do next
///
/// Exits with 0 unless the database cannot be used.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;
    let database = database(store.as_mut(), config)?;
    let Survey { states, free_slots, findings } = Survey::of(&rows, store.as_mut(), config)?;
    let conflicts = findings.iter().filter(|found| found.kind.is_conflict()).count();
    let status = Status {
        config: config.file.as_ref().map(|path| path.display().to_string()),
        database,
        apps_dir: config.apps_dir.display().to_string(),
        states,
        free_slots,
        conflicts,
        warnings: findings.len() - conflicts,
        is_weak: findings.iter().any(|found| found.kind == Kind::WeakSchema),
    };
    match format {
        Format::Json => status::json(out, &status),
        _ => status::human(out, config.look, &status),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Returns what is known of the database; most is missing if its file does not exist yet.
fn database(store: &mut dyn Store, config: &Config) -> Result<status::Database> {
    let journal_mode = match store.mode() {
        Ok(mode) => Some(mode.journal),
        Err(StoreError::Missing) => None,
        Err(err) => return Err(on_database(err, config)),
    };
    let (kind, bytes) = match &config.database {
        Database::Sqlite(path) => ("sqlite", fs::metadata(path).ok().map(|file| file.len())),
        Database::Postgres(_) => ("postgresql", None),
    };
    let storage = store.storage().describe();
    Ok(status::Database { name: config.database.to_string(), kind, journal_mode, bytes, storage })
}
