//! `migrate`: gives an old table the unique indexes that it lacks.

use std::io::Write;

use super::{Answer, on_database, open_store};
use crate::config::Config;
use crate::core::text::Shown;
use crate::error::{Error, Result};
use crate::output::look::Format;
use crate::output::{human, json};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
The table gets the unique constraint on (model, app_num) and the unique index on each port column, \
under the names that the platform gives them; everything else of it stays as it is. An index that has \
such a name and is not unique on these columns is replaced. If rows are in the way, they are listed, \
nothing is changed, and the exit code is 1: release the apps concerned and run it again.

A SQLite database is first copied to NAME.before-migrate-TIME in its folder, and the copy is checked. \
All changes are one transaction. Other programs may go on writing: they wait for a moment. On \
PostgreSQL, the role must own the table.

Formats: human, json

Examples:
  manage-ports migrate --dry-run
  manage-ports migrate
  manage-ports migrate --json | jq -r .copy";

/// Add the unique indexes that an old table lacks; exit 1 if rows are in the way
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Print what would be added, and change nothing; exit 1 if there is anything to do
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let mut store = open_store(config)?;
    let migration = store.migrate(args.dry_run).map_err(|err| on_database(err, config))?;
    if let Some(copy) = &migration.copy {
        log::info!("Copied the database as it was to {}", Shown(&copy.to_string_lossy()));
    }
    match format {
        Format::Json => json::migration(out, args.dry_run, &migration),
        _ => human::migration(out, config.look, args.dry_run, &config.database.to_string(), &migration),
    }
    .map_err(Error::unwritten)?;
    if !migration.obstacles.is_empty() {
        log::info!("nothing was changed; `manage-ports release MODEL APPS` frees an app's ports, then migrate again");
    }
    let is_done = migration.obstacles.is_empty() && !(args.dry_run && migration.has_work());
    Ok(if is_done { Answer::Yes } else { Answer::No })
}
