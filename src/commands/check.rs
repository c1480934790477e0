//! `check`: finds what is wrong with the allocations and changes nothing.

use std::io::Write;

use super::port_users::listeners;
use super::{Answer, on_database, open_store, unless_interrupted, watch};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::apps_dir::AppsDirView;
use crate::core::conflict::{self, Snapshot};
use crate::error::Result;
use crate::host::apps_dir::AppsDir;
use crate::host::{clock, ephemeral};
use crate::output::look::Format;
use crate::output::{github, human, json};

const AFTER_HELP: &str = "\
Formats: human, json, github (workflow annotations)

Conflicts: duplicate_backend_port, duplicate_frontend_port, cross_role_port, duplicate_app,
  invalid_port, directory_clash, declared_ports_differ, declared_clash
Warnings: orphaned, orphan_listening, unallocated_app, browser_blocked_port, ephemeral_port,
  expired_reservation, weak_schema, weak_storage, unreadable

What apps declare is read from their .env and Compose files, in the apps directory.

Examples:
  manage-ports check
  manage-ports check --strict --format github
  manage-ports check --json | jq '.conflicts[].message'";

/// Find conflicts among the allocations; exit 1 if there are any
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,

    /// Tell who listens on allocated ports on this machine, and warn of those of apps that are gone
    #[arg(long)]
    probe: bool,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&[Format::Human, Format::Json, Format::Github])?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;
    store.verify().map_err(|err| on_database(err, config))?;
    let storage = store.storage();
    let missing_indexes = store.missing_indexes().map_err(|err| on_database(err, config))?;
    // The directory checks run where there is an apps directory.
    let apps_dir = match config.apps_dir.try_exists() {
        Ok(false) => None,
        _ => Some(look(config, &rows)?),
    };
    let listeners = args.probe.then(|| listeners(&rows, config));
    unless_interrupted()?;
    let findings = conflict::find(&Snapshot {
        rows: &rows,
        missing_indexes: &missing_indexes,
        shared_storage: storage.shared_type(),
        apps_dir: apps_dir.as_ref(),
        listeners: listeners.as_ref(),
        ephemeral_ports: ephemeral::range(),
        reserved_ports: ephemeral::reserved(),
        allow_browser_blocked: config.limits.allow_browser_blocked,
        now: clock::now(),
    });
    let is_ok = if args.strict { findings.is_empty() } else { !findings.iter().any(|found| found.kind.is_conflict()) };
    match format {
        Format::Json => json::findings(out, is_ok, &findings, &rows, listeners.as_ref()),
        Format::Github => github::findings(out, &config.apps_dir, &findings),
        _ => human::findings(out, config.look, &findings, &rows, listeners.as_ref()),
    }?;
    Ok(if is_ok { Answer::Yes } else { Answer::No })
}

/// What the apps directory holds; one that cannot be used is a finding as well.
fn look(config: &Config, rows: &[Allocation]) -> Result<AppsDirView> {
    match AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()) {
        Ok(apps_dir) => {
            apps_dir.view_with_declared(rows, &config.declared, watch("apps looked for"), watch("apps read"))
        }
        Err(err) => Ok(AppsDirView {
            unreadable: vec![(config.apps_dir.display().to_string(), format!("{err:#}"))],
            ..AppsDirView::default()
        }),
    }
}
