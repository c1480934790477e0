//! `reserve`: gives a batch of planned apps their ports, and keeps them for some time from `cleanup`.

use std::collections::{HashMap, HashSet};
use std::io::Write;

use jiff::SignedDuration;

use super::give::{FORMATS, Request, check_format, give, print};
use super::named::{AppsArgs, Named};
use super::{Answer, hint_at_missing, on_database, open_store};
use crate::config::{Config, parse_duration};
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::error::{Error, Result};
use crate::host::clock;
use crate::output::human;
use crate::output::look::Format;

const AFTER_HELP: &str = "\
An app that is not made yet has no directory, and a cleanup would take its ports for free. Until the \
time is over it leaves reserved ones alone. `manage-ports list --state reserved` shows them.

Formats: human, json (one object a line), csv, plain (`5001 8001`), env (one app only)

Examples:
  manage-ports reserve openai_gpt-4.1 1-50 --for 2h
  manage-ports reserve openai_gpt-4.1 1-50 --for 1d --json
  manage-ports reserve openai_gpt-4.1 1-50 --cancel";

const USAGE: &str = "manage-ports reserve [OPTIONS] --for <DURATION> <MODEL> <APPS>...
       manage-ports reserve [OPTIONS] --for <DURATION> <MODEL/appN>...
       manage-ports reserve [OPTIONS] --cancel <MODEL> <APPS>...";

const HINT: &str = "manage-ports reserve MODEL APPS, such as `manage-ports reserve openai_gpt-4.1 1-20 --for 2h`";

/// Give a planned batch its ports, and hold them for some time
///
/// All apps are given ports or none. Reserving again extends the time, and never shortens it.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,

    /// How long to hold them, from now on, such as 30m, 2h or 1d
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    #[arg(required_unless_present = "cancel")]
    duration: Option<SignedDuration>,

    /// End the hold of the apps, and keep their ports; exit 1 if an app has none
    #[arg(long, conflicts_with = "duration")]
    cancel: bool,
}

impl Args {
    /// Tells whether ports are to be allocated.
    pub(crate) fn allocates(&self) -> bool {
        !self.cancel
    }
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let Some(duration) = args.duration else {
        let Named { apps, rules } = args.apps.apps_of_rows(HINT)?;
        check_format(format, &apps)?;
        return cancel(&apps, rules, format, config, out);
    };
    let apps = args.apps.apps(HINT)?;
    check_format(format, &apps)?;
    if duration.is_zero() {
        return Err(Error::usage("--for: a reservation lasts longer than no time: expected one such as 30m, 2h or 1d"));
    }
    clock::now()
        .checked_add(duration)
        .map_err(|_| Error::usage(format!("--for: {duration:#} is too long: it ends after the year 9999")))?;
    let outcomes = give(&Request { apps, pair: None, hold: Some(duration), probe: config.probe }, config)?;
    match format {
        Format::Human => human::reserved(out, &outcomes).map_err(Error::unwritten)?,
        _ => print(out, format, config, &outcomes)?,
    }
    Ok(Answer::Yes)
}

/// Ends the reservations of apps, and prints the row of each app.
fn cancel(apps: &[AppId], rules: Result<()>, format: Format, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let asked: HashMap<_, _> = apps.iter().zip(0..).collect();
    let mut rows = Vec::new();
    let cancelled = open_store(config).and_then(|mut store| {
        let mut change = |all: Vec<Allocation>| {
            rows = all;
            let mut changed = Vec::new();
            for row in rows.iter_mut().filter(|row| asked.contains_key(&row.app)) {
                if row.cancel()? {
                    changed.push(row.clone());
                }
            }
            Ok(changed)
        };
        store.update(&mut change).map_err(|err| on_database(err, config))
    });
    let is_asked = |row: &&Allocation| asked.contains_key(&row.app);
    let cancelled = match cancelled {
        Ok(cancelled) if rows.iter().any(|row| is_asked(&row)) => cancelled,
        // If another program wrote a row whose name breaks the rules, that name is accepted.
        none => rules.and(none)?,
    };
    let changed: HashMap<_, _> = cancelled.into_iter().map(|row| (row.id, row)).collect();
    let mut outcomes: Vec<_> = rows
        .iter()
        .filter(is_asked)
        .map(|row| Outcome { allocation: changed.get(&row.id).unwrap_or(row).clone(), created: false })
        .collect();
    // The store's order is its own; the answer has the order of the command line.
    outcomes.sort_by_key(|outcome| asked.get(&outcome.allocation.app));
    match format {
        Format::Human => human::no_longer_reserved(out, &outcomes).map_err(Error::unwritten)?,
        _ => print(out, format, config, &outcomes)?,
    }
    let found: HashSet<_> = outcomes.iter().map(|outcome| &outcome.allocation.app).collect();
    let missing: Vec<_> = apps.iter().filter(|app| !found.contains(app)).collect();
    for app in &missing {
        log::warn!("no allocation found for {app}");
    }
    if let Some(app) = missing.first() {
        hint_at_missing(&app.model, rows.iter().map(|row| &row.app), config);
    }
    Ok(if missing.is_empty() { Answer::Yes } else { Answer::No })
}
