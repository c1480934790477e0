//! `release`: deletes the allocations of apps.

use std::collections::HashSet;
use std::io::Write;

use super::named::{AppsArgs, Named};
use super::port_users::warn_of_listeners;
use super::{Answer, hint_at_missing, on_database, open_store, timed};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::app::{AppId, check_model};
use crate::core::text::Shown;
use crate::error::{Error, Result};
use crate::output::look::Format;
use crate::output::{human, json};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
Several apps are released together: all that are found or none. A port that something listens on is \
warned of, and released.

Formats: human, json

Examples:
  manage-ports release openai_gpt-4.1 3
  manage-ports release openai_gpt-4.1 1-20,25
  manage-ports release openai_gpt-4.1/app3 --json
  manage-ports release openai_gpt-4.1 --all --dry-run";

const USAGE: &str = "manage-ports release [OPTIONS] <MODEL> <APPS>...
       manage-ports release [OPTIONS] <MODEL/appN>...
       manage-ports release [OPTIONS] <MODEL> --all";

const HINT: &str = "manage-ports release MODEL APPS, such as `manage-ports release openai_gpt-4.1 1-20`";

/// Release the ports of apps; exit 1 if an app has none
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,

    /// Release every app of the model
    #[arg(long)]
    all: bool,

    /// Print what would be released, and release nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let (wanted, rules) = wanted(args)?;
    let mut known = Vec::new();
    let released = match release(&wanted, args.dry_run, &mut known, config) {
        Ok(released) if !released.is_empty() => released,
        // If another program wrote a row whose name breaks the rules, that name is accepted.
        none => rules.and(none)?,
    };
    let found: HashSet<_> = released.iter().map(|row| &row.app).collect();
    let not_found: Vec<_> = match &wanted {
        Wanted::Apps(apps) => apps.iter().filter(|app| !found.contains(app)).collect(),
        Wanted::Model(_) => Vec::new(),
    };
    warn_of_listeners(&released.iter().collect::<Vec<_>>(), config);
    match (&wanted, not_found.first()) {
        (_, Some(app)) => hint_at_missing(&app.model, &known, config),
        (Wanted::Model(model), None) if released.is_empty() => hint_at_missing(model, &known, config),
        _ => {}
    }
    match (format, &wanted) {
        (Format::Json, _) => json::released(out, args.dry_run, &released, &not_found),
        (_, Wanted::Model(model)) if released.is_empty() => human::not_found(out, config.look, Shown(model)),
        _ => human::released(out, config.look, args.dry_run, &released, &not_found),
    }
    .map_err(Error::unwritten)?;
    Ok(if released.is_empty() || !not_found.is_empty() { Answer::No } else { Answer::Yes })
}

/// The apps whose rows are to be released.
enum Wanted {
    Apps(Vec<AppId>),
    /// Every app of this model.
    Model(String),
}

/// Returns the apps that the command line names, and the error if a name breaks a rule.
fn wanted(args: &Args) -> Result<(Wanted, Result<()>)> {
    if args.all {
        let model = args.apps.whole_model(HINT)?;
        return Ok((Wanted::Model(model.to_owned()), check_model(model).map_err(Error::usage)));
    }
    let Named { apps, rules } = args.apps.apps_of_rows(HINT)?;
    Ok((Wanted::Apps(apps), rules))
}

/// Releases the wanted rows and returns them sorted by app; a dry run only looks them up. The apps of all
/// existing rows are stored in `known`.
fn release(wanted: &Wanted, dry_run: bool, known: &mut Vec<AppId>, config: &Config) -> Result<Vec<Allocation>> {
    let apps: HashSet<_> = match wanted {
        Wanted::Apps(apps) => apps.iter().collect(),
        Wanted::Model(_) => HashSet::new(),
    };
    let is_wanted = |row: &Allocation| match wanted {
        Wanted::Apps(_) => apps.contains(&row.app),
        Wanted::Model(model) => row.app.model == *model,
    };
    let mut select = |rows: Vec<Allocation>| {
        *known = rows.iter().map(|row| row.app.clone()).collect();
        rows.into_iter().filter(is_wanted).collect::<Vec<_>>()
    };
    let mut store = open_store(config)?;
    let released = match dry_run {
        true => store.snapshot().map(&mut select),
        false => {
            timed("the transaction", || store.remove(&mut |rows, _| Some(select(rows)))).map(Option::unwrap_or_default)
        }
    };
    let mut released = released.map_err(|err| on_database(err, config))?;
    if !dry_run {
        config.counts.add(|done| done.released += released.len() as u64);
    }
    released.sort_by(|one, other| (&one.app, one.id).cmp(&(&other.app, other.id)));
    Ok(released)
}
