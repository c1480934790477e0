//! `list`: shows the allocations.

use std::collections::HashSet;
use std::io::Write;

use clap::ValueEnum;

use super::places::{open_apps_dir, places_of};
use super::port_users::listeners;
use super::{Answer, hint_at_missing, on_database, open_store, parse_port, unless_interrupted};
use crate::config::Config;
use crate::core::allocation::{Allocation, State};
use crate::core::app::parse_app_nums;
use crate::core::glob::Models;
use crate::core::hint;
use crate::core::place::Listed;
use crate::error::{Error, Result};
use crate::host::clock;
use crate::output::look::Format;
use crate::output::{csv, human, json, table};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 4] = [Format::Human, Format::Json, Format::Csv, Format::Plain];

const AFTER_HELP: &str = "\
With --probe, a port that something listens on is shown with the process's id and program, or as \
`unseen` where that is hidden, as it is from other users.

Formats: human, json (one array), csv (with a header), plain (tab-separated, no header)

Examples:
  manage-ports list
  manage-ports list 'openai_*' 'x-ai_*' --sort backend
  manage-ports list --port 6351 --long
  manage-ports list --state orphaned --probe
  manage-ports list --json | jq -r '.[] | select(.app_num == 1) | .backend_port'";

/// Show the allocations, by model and app number
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only models that match one of these globs, such as 'openai_*'
    #[arg(value_name = "MODEL GLOB", add = super::completions::models())]
    models: Vec<String>,

    /// The same; may be given again
    #[arg(long = "model", value_name = "GLOB", add = super::completions::models())]
    model_flags: Vec<String>,

    /// Only apps with these numbers, such as 1,3,5-9; may be given again
    #[arg(long = "app", value_name = "APPS", allow_negative_numbers = true, add = super::completions::apps())]
    apps: Vec<String>,

    /// Only the app that has this backend or frontend port
    #[arg(long, value_name = "PORT", allow_negative_numbers = true, value_parser = parse_port, add = super::completions::ports())]
    port: Option<u16>,

    /// Only allocations in this state
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,

    /// What to sort by
    #[arg(long, value_name = "KEY", default_value = "model")]
    sort: SortKey,

    /// Show the state and the directory of each app, too
    #[arg(long)]
    long: bool,

    /// Show which processes listen on the ports now
    #[arg(long)]
    probe: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StateName {
    /// The app has a directory
    Allocated,
    /// Held for a planned app
    Reserved,
    /// The app has no directory
    Orphaned,
}

#[derive(Clone, Copy, ValueEnum)]
enum SortKey {
    /// By model, then app number
    Model,
    /// By backend port
    Backend,
    /// By frontend port
    Frontend,
    /// Oldest first
    Created,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let all = open_store(config).and_then(|mut store| store.snapshot().map_err(|err| on_database(err, config)));
    let filter = Filter::new(args, all.as_deref().unwrap_or_default())?;
    let all = all?;

    let rows: Vec<_> = all.iter().filter(|row| filter.matches(row)).collect();
    if rows.is_empty() {
        filter.hint(args, &all, config);
    }
    let mut rows = match (args.state, args.long) {
        (None, false) => rows.into_iter().map(|row| Listed { row, place: None }).collect(),
        (state, is_long) => {
            let mut listed = places_of(rows, config)?;
            if let Some(state) = state {
                listed = in_state(listed, state, config)?;
            }
            listed.iter_mut().filter(|_| !is_long).for_each(|listed| listed.place = None);
            listed
        }
    };
    match args.sort {
        SortKey::Model => {}
        SortKey::Backend => rows.sort_by_key(|listed| listed.row.backend_port),
        SortKey::Frontend => rows.sort_by_key(|listed| listed.row.frontend_port),
        SortKey::Created => rows.sort_by_key(|listed| (listed.row.created_at.is_none(), listed.row.created_at)),
    }
    let listeners = args.probe.then(|| listeners(rows.iter().map(|listed| listed.row), config));
    let listeners = listeners.as_ref();
    unless_interrupted()?;
    match format {
        Format::Json => json::rows(out, &rows, listeners),
        Format::Csv => csv::rows(out, &rows, listeners),
        Format::Plain => csv::plain(out, &rows, listeners),
        _ if rows.is_empty() => human::nothing_found(out, &config.database.to_string()),
        _ => table::rows(out, config.look, clock::now(), &rows, listeners),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// The filter on model, app number and port.
struct Filter {
    models: Vec<Models>,
    app_nums: HashSet<i64>,
    port: Option<i64>,
}

impl Filter {
    fn new(args: &Args, rows: &[Allocation]) -> Result<Self> {
        let positional = args.models.iter().map(|pattern| ("MODEL GLOB", pattern));
        let flags = args.model_flags.iter().map(|pattern| ("--model", pattern));
        let meant = |(name, pattern): (_, &String)| {
            Models::meant_by(pattern, rows.iter().map(|row| row.app.model.as_str()))
                .map_err(|why| Error::usage(format!("{name}: {why}")))
        };
        let app_nums = parse_app_nums(&args.apps).map_err(Error::usage)?;
        Ok(Self {
            models: positional.chain(flags).map(meant).collect::<Result<_>>()?,
            app_nums: app_nums.into_iter().map(i64::from).collect(),
            port: args.port.map(i64::from),
        })
    }

    fn matches(&self, row: &Allocation) -> bool {
        (self.models.is_empty() || self.models.iter().any(|meant| meant.matches(&row.app.model)))
            && (self.app_nums.is_empty() || self.app_nums.contains(&row.app.app_num))
            && self.port.is_none_or(|port| row.ports().contains(&port))
    }

    /// Prints a hint for each named model whose listed apps have no row, or that looks like a misspelt name.
    fn hint(&self, args: &Args, rows: &[Allocation], config: &Config) {
        for (name, meant) in args.models.iter().chain(&args.model_flags).zip(&self.models) {
            let models = || rows.iter().map(|row| row.app.model.as_str());
            let has_other_apps = !self.app_nums.is_empty() && models().any(|model| model == name);
            let is_misspelt = !models().any(|model| meant.matches(model)) && hint::nearest(name, models()).is_some();
            if has_other_apps || is_misspelt {
                hint_at_missing(name, rows.iter().map(|row| &row.app), config);
            }
        }
    }
}

/// Returns the rows in this state. It needs the apps directory, except for reserved rows.
fn in_state<'a>(rows: Vec<Listed<'a>>, wanted: StateName, config: &Config) -> Result<Vec<Listed<'a>>> {
    let wanted = match wanted {
        StateName::Allocated => State::Allocated,
        StateName::Reserved => State::Reserved,
        StateName::Orphaned => State::Orphaned,
    };
    // Only the state `reserved` can be read from the row alone; the others need the apps directory.
    if wanted != State::Reserved {
        open_apps_dir(config)?;
    }
    let has = |listed: &Listed<'_>, state| listed.place.as_ref().is_some_and(|place| place.state == state);
    let unknown = rows.iter().filter(|listed| has(listed, State::Unknown)).count();
    if unknown > 0 && wanted != State::Reserved {
        log::warn!("the directories of {unknown} app(s) could not be read: they are not shown; see `list --long`");
    }
    Ok(rows.into_iter().filter(|listed| has(listed, wanted)).collect())
}
