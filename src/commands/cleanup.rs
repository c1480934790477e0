//! `cleanup`: removes the allocations of apps that are gone.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io::Write;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::{Answer, on_database, open_store, unless_interrupted, unless_misnamed, watch};
use crate::config::{Config, parse_duration};
use crate::core::allocation::{Allocation, until_text};
use crate::core::app::{Presence, check_model};
use crate::core::listener::Listeners;
use crate::core::orphan::{Kept, KeptReason, Verdict, judge};
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::containers::LONG_PATIENCE;
use crate::host::{clock, port_use};
use crate::output::look::Format;
use crate::output::{human, json};

const AFTER_HELP: &str = "\
An allocation is an orphan if nothing stands at <apps-dir>/<model>/app<N>. If the apps directory
itself is missing, cannot be read or lacks its `apps_dir_marker`, nothing is removed. An orphan
whose port something on this machine listens on is kept: its app may still run.

Formats: human, json

Examples:
  manage-ports cleanup --dry-run
  manage-ports cleanup openai_gpt-4.1
  manage-ports cleanup --min-age 1h --json";

/// Remove the allocations of apps whose directory is gone
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only this model's
    #[arg(value_name = "MODEL", add = super::completions::models())]
    model: Option<String>,

    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Keep allocations younger than this, such as 1h or 7d
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    min_age: Option<SignedDuration>,

    /// Remove orphans whose ports something listens on, too
    #[arg(long)]
    include_listening: bool,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&[Format::Human, Format::Json])?;
    let named = args.model.as_deref().map_or(Ok(()), |model| check_model(model).map_err(Error::usage));
    let (mut store, rows) = unless_misnamed(
        named,
        open_store(config).and_then(|mut store| {
            let mut rows = store.snapshot().map_err(|err| on_database(err, config))?;
            rows.retain(|row| args.model.as_ref().is_none_or(|model| row.app.model == *model));
            Ok((store, rows))
        }),
        |(_, rows)| !rows.is_empty(),
    )?;

    let apps_dir = AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()).map_err(unusable)?;
    match &args.model {
        None => log::info!("Cleaning up all orphaned allocations..."),
        Some(model) => log::info!("Cleaning up orphaned allocations for model: {model}"),
    }
    let presence = apps_dir.presence_of(&rows, watch("apps looked for"))?;
    apps_dir.ensure_unchanged().map_err(unusable)?;

    let look = |rows: &[&Allocation], sockets: &[PathBuf]| {
        if args.include_listening {
            return Listeners::default();
        }
        port_use::look(rows.iter().flat_map(|row| row.valid_ports()), sockets, LONG_PATIENCE).listeners
    };
    let absent = rows.iter().zip(&presence).filter(|(_, presence)| **presence == Presence::Absent);
    let listeners = look(&absent.map(|(row, _)| row).collect::<Vec<_>>(), &config.container_sockets());

    unless_interrupted()?;

    let now = clock::now();
    let mut orphans = Vec::new();
    let mut kept = Vec::new();
    for (row, presence) in rows.into_iter().zip(presence) {
        match judge(&row, &presence, &listeners, now, args.min_age) {
            Verdict::InUse => {}
            Verdict::Orphan => orphans.push(row),
            Verdict::Kept(reason) => kept.push(keep(&row, reason, &presence, &listeners)),
        }
    }
    if args.dry_run {
        log::info!("Dry run: nothing is removed");
    } else if !orphans.is_empty() {
        // Only rows that are still as they were seen, and for which neither a directory nor a listener
        // has come meanwhile; one that is gone is nobody's any more.
        let mut kept_late = Vec::new();
        let removed = store.remove(&mut |current, _| {
            let current: HashMap<_, _> = current.into_iter().map(|row| (row.id, row)).collect();
            let (same, mut changed): (Vec<_>, Vec<_>) = orphans
                .iter()
                .filter_map(|seen| Some((seen, current.get(&seen.id)?)))
                .partition(|(seen, current)| seen == current);
            let rows = same.iter().map(|(seen, _)| *seen);
            let presence = apps_dir.presence_of(rows, || Ok::<_, Infallible>(())).unwrap_or_default();
            let mut presence = presence.into_iter();
            let (same, came): (Vec<_>, Vec<_>) =
                same.into_iter().partition(|_| presence.next() == Some(Presence::Absent));
            changed.extend(came);
            let same: Vec<_> = same.into_iter().map(|(seen, _)| seen).collect();
            let listeners = look(&same, &[]);
            let (busy, quiet): (Vec<_>, Vec<_>) = same.into_iter().partition(|row| listeners.of(row).next().is_some());
            let changed = changed.into_iter().map(|(seen, _)| (seen, KeptReason::Changed));
            kept_late = changed
                .chain(busy.into_iter().map(|seen| (seen, KeptReason::Listening)))
                .map(|(seen, reason)| keep(seen, reason, &Presence::Absent, &listeners))
                .collect();
            Some(quiet.into_iter().cloned().collect())
        });
        orphans = removed.map_err(|err| on_database(err, config))?.unwrap_or_default();
        kept.extend(kept_late);
    }
    match format {
        Format::Json => json::cleanup(out, args.dry_run, &orphans, &kept),
        _ => human::cleanup(out, config.look, &orphans, &kept),
    }?;
    Ok(Answer::Yes)
}

fn unusable(err: anyhow::Error) -> Error {
    Error::new(Kind::AppsDir, err).hint("nothing was removed; check --apps-dir, and that its volume is mounted")
}

fn keep(row: &Allocation, reason: KeptReason, presence: &Presence, listeners: &Listeners) -> Kept {
    let why = match (reason, presence) {
        (KeptReason::Reserved, _) => match row.reserved_until() {
            Some(until) => format!("reserved until {}", until_text(until)),
            None => "its metadata names a reservation that could not be read".into(),
        },
        (KeptReason::TooRecent, _) => match row.created_at.or(row.updated_at) {
            Some(made) => format!("made {}, later than --min-age allows", json::moment(made)),
            None => "the row does not say how old it is".into(),
        },
        (KeptReason::Listening, _) => {
            let each = listeners.of(row).map(|(port, listener)| format!("port {port} is {}", listener.use_of_port()));
            each.collect::<Vec<_>>().join(", ")
        }
        (KeptReason::Unreadable, Presence::Unreadable(why)) => format!("its directory could not be read: {why}"),
        (KeptReason::Unreadable, _) => "its directory could not be read".into(),
        (KeptReason::Changed, _) => "it changed meanwhile".into(),
    };
    Kept { app: row.app.clone(), reason, why }
}
