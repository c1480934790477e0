//! `status`: prints the state of the database and of the apps in ten lines.

use std::fs;
use std::io::Write;

use super::places::places_of;
use super::{Answer, check, map, on_database, open_store, unless_interrupted};
use crate::config::Config;
use crate::core::allocation::State;
use crate::core::conflict::Kind;
use crate::core::map::Slot;
use crate::core::place::Listed;
use crate::error::{Error, Result};
use crate::output::look::Format;
use crate::output::status::{self, States, Status};
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
    // An unusable apps directory is no error here: the states of the rows show it, and `check` reports it.
    let apps_dir = check::look(config, &rows).ok().flatten();
    unless_interrupted()?;
    let findings = check::find(store.as_mut(), &rows, apps_dir.as_ref(), None, config)?;
    let conflicts = findings.iter().filter(|found| found.kind.is_conflict()).count();
    let listed = places_of(rows.iter().collect(), config)?;
    let status = Status {
        config: config.file.as_ref().map(|path| path.display().to_string()),
        database,
        apps_dir: config.apps_dir.display().to_string(),
        states: states(&listed),
        free_slots: map::draw(&listed, config, |_| false).count(Slot::Free),
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

fn states(rows: &[Listed<'_>]) -> States {
    let mut states = States::default();
    for place in rows.iter().filter_map(|listed| listed.place.as_ref()) {
        *match place.state {
            State::Allocated => &mut states.allocated,
            State::Reserved => &mut states.reserved,
            State::Orphaned => &mut states.orphaned,
            State::Unknown => &mut states.unknown,
        } += 1;
    }
    states
}
