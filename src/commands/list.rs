//! `list`: shows the allocations.

use std::io::Write;

use clap::ValueEnum;

use super::port_users::listeners;
use super::{Answer, on_database, open_store, unless_interrupted, watch};
use crate::config::Config;
use crate::core::allocation::{Allocation, State};
use crate::core::app::Presence;
use crate::core::glob::Glob;
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::clock;
use crate::output::look::Format;
use crate::output::{csv, json, table};

const AFTER_HELP: &str = "\
With --probe, a port that something listens on is shown with the process's id and program, or as
`unseen` where that is hidden, as it is from other users.

Formats: human, json (one array), csv (with a header), plain (tab-separated, no header)

Examples:
  manage-ports list
  manage-ports list --model 'openai_*' --model 'x-ai_*' --sort backend
  manage-ports list --state orphaned --probe
  manage-ports list --json | jq -r '.[] | select(.app_num == 1) | .backend_port'";

/// Show the allocations, by model and app number
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only models that match this glob, such as 'openai_*'; may be given again
    #[arg(long = "model", value_name = "GLOB", add = super::completions::models())]
    models: Vec<String>,

    /// Only allocations in this state
    #[arg(long, value_name = "STATE")]
    state: Option<StateName>,

    /// What to sort by
    #[arg(long, value_name = "KEY", default_value = "model")]
    sort: SortKey,

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
    let format = config.format(&[Format::Human, Format::Json, Format::Csv, Format::Plain])?;
    let models: Vec<_> = args.models.iter().map(|pattern| glob(pattern)).collect::<Result<_>>()?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;

    let mut rows: Vec<_> =
        rows.iter().filter(|row| models.is_empty() || models.iter().any(|glob| glob.matches(&row.app.model))).collect();
    if let Some(state) = args.state {
        rows = in_state(rows, state, config)?;
    }
    match args.sort {
        SortKey::Model => {}
        SortKey::Backend => rows.sort_by_key(|row| row.backend_port),
        SortKey::Frontend => rows.sort_by_key(|row| row.frontend_port),
        SortKey::Created => rows.sort_by_key(|row| (row.created_at.is_none(), row.created_at)),
    }
    let listeners = args.probe.then(|| listeners(rows.iter().copied(), config));
    let listeners = listeners.as_ref();
    unless_interrupted()?;
    match format {
        Format::Json => json::rows(out, rows, listeners),
        Format::Csv => csv::rows(out, rows, listeners),
        Format::Plain => csv::plain(out, rows, listeners),
        Format::Human | Format::Env | Format::Github => table::rows(out, config.look, &rows, listeners),
    }?;
    Ok(Answer::Yes)
}

fn glob(pattern: &str) -> Result<Glob> {
    Glob::parse(pattern).map_err(|why| Error::usage(format!("--model: {why}")))
}

/// Without an apps directory nothing can be called orphaned, and everything else can be told.
fn in_state<'a>(rows: Vec<&'a Allocation>, wanted: StateName, config: &Config) -> Result<Vec<&'a Allocation>> {
    let wanted = match wanted {
        StateName::Allocated => State::Allocated,
        StateName::Reserved => State::Reserved,
        StateName::Orphaned => State::Orphaned,
    };
    let apps_dir = match AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()) {
        Ok(apps_dir) => Some(apps_dir),
        Err(err) if wanted == State::Orphaned => return Err(Error::new(Kind::AppsDir, err)),
        Err(_) => None,
    };
    let now = clock::now();
    let presence = match apps_dir {
        Some(apps_dir) => apps_dir.presence_of(rows.iter().copied(), watch("apps looked for"))?,
        None => vec![Presence::Present; rows.len()],
    };
    let is_wanted = |(row, presence): &(&Allocation, Presence)| row.state(now, presence) == wanted;
    Ok(rows.into_iter().zip(presence).filter(is_wanted).map(|(row, _)| row).collect())
}
