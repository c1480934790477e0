//! `release`: gives up the allocations of apps.

use std::collections::HashSet;
use std::io::Write;

use super::named::{AppsArgs, Named};
use super::port_users::warn_of_listeners;
use super::{Answer, hint_at_missing, on_database, open_store, unless_misnamed};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::error::Result;
use crate::output::look::Format;
use crate::output::{human, json};

const AFTER_HELP: &str = "\
Formats: human, json

Examples:
  manage-ports release openai_gpt-4.1 3
  manage-ports release openai_gpt-4.1 1-20,25
  manage-ports release openai_gpt-4.1/app3 --json";

const USAGE: &str = "manage-ports release [OPTIONS] <MODEL> <APPS>...
       manage-ports release [OPTIONS] <MODEL/appN>...";

const HINT: &str = "manage-ports release MODEL APPS, such as `manage-ports release openai_gpt-4.1 1-20`";

/// Release the ports of apps; exit 1 if an app has none
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&[Format::Human, Format::Json])?;
    let Named { apps, rules } = args.apps.apps_of_rows(HINT)?;
    let wanted: HashSet<_> = apps.iter().cloned().collect();
    let mut known = Vec::new();
    let released = open_store(config).and_then(|mut store| {
        let mut named = |rows: Vec<Allocation>, _| {
            known = rows.iter().map(|row| row.app.clone()).collect();
            Some(rows.into_iter().filter(|row| wanted.contains(&row.app)).collect())
        };
        Ok(store.remove(&mut named).map_err(|err| on_database(err, config))?.unwrap_or_default())
    });
    let released = unless_misnamed(rules, released, |released: &Vec<_>| !released.is_empty())?;
    let found: HashSet<_> = released.iter().map(|row| &row.app).collect();
    let not_found: Vec<_> = apps.into_iter().filter(|app| !found.contains(app)).collect();
    warn_of_listeners(&released.iter().collect::<Vec<_>>(), config);
    if let Some(app) = not_found.first() {
        hint_at_missing(&app.model, &known, config);
    }
    match format {
        Format::Json => json::released(out, &released, &not_found),
        _ => human::released(out, config.look, &released, &not_found),
    }?;
    Ok(if not_found.is_empty() { Answer::Yes } else { Answer::No })
}
