//! `metrics`: prints the state of the allocations for Prometheus.

use std::collections::BTreeMap;
use std::io::Write;

use super::survey::Survey;
use super::{Answer, on_database, open_store};
use crate::config::Config;
use crate::core::conflict::Kind;
use crate::core::text::Shown;
use crate::error::{Error, Result};
use crate::metrics::State;
use crate::output::look::Format;

const AFTER_HELP: &str = "\
The format is Prometheus's text format, version 0.0.4. Slots are counted without asking the system who \
listens, conflicts as `manage-ports check` counts them. manage_ports_orphans is left out while \
directories cannot be read. The command prints no counters: with --metrics-file, every command adds to \
those in that file.

The textfile collector of node_exporter may read a file at any moment: write it under another name and \
rename it, as in the second example.

Examples:
  manage-ports metrics
  manage-ports metrics > state.prom.new && mv state.prom.new state.prom";

/// Print the state as metrics for Prometheus
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    config.format(&[Format::Human])?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;
    let Survey { states, free_slots, findings } = Survey::of(&rows, store.as_mut(), config)?;
    let mut state = State {
        reserved: states.reserved,
        available_slots: free_slots,
        conflicts: Kind::CONFLICTS.into_iter().map(|kind| (kind.name(), 0)).collect(),
        orphans: (states.unknown == 0).then_some(states.orphaned),
        allocations: BTreeMap::new(),
    };
    for row in &rows {
        *state.allocations.entry(Shown(&row.app.model).to_string()).or_default() += 1;
    }
    for found in findings.iter().filter(|found| found.kind.is_conflict()) {
        *state.conflicts.entry(found.kind.name()).or_default() += 1;
    }
    if states.unknown > 0 {
        log::warn!(
            "manage_ports_orphans is left out, as the directories of {} allocation(s) cannot be read in {}",
            states.unknown,
            config.apps_dir.display()
        );
    }
    let text = state.encode().map_err(Error::unwritten)?;
    out.write_all(text.as_bytes()).map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}
