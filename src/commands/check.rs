//! `check`: reports problems in the allocations, and changes nothing.

use std::io::{self, Write};
use std::path::{Component, Path, PathBuf, absolute};

use super::port_users::listeners;
use super::{Answer, on_database, open_store, unless_interrupted, watch};
use crate::config::{Config, Github};
use crate::core::allocation::Allocation;
use crate::core::apps_dir::AppsDirView;
use crate::core::conflict::{self, Examined, Finding, Report, Snapshot};
use crate::core::listener::Listeners;
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::{clock, ephemeral, job_summary};
use crate::output::look::Format;
use crate::output::{check, github, json};
use crate::store::api::Store;

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 3] = [Format::Human, Format::Json, Format::Github];

const AFTER_HELP: &str = "\
Formats: human, json, github (workflow annotations, and the job's summary)

Conflicts: duplicate_backend_port, duplicate_frontend_port, cross_role_port, duplicate_app,
  invalid_port, directory_clash, declared_ports_differ, declared_clash
Warnings: orphaned, orphan_listening, unallocated_app, browser_blocked_port, ephemeral_port,
  expired_reservation, weak_schema, weak_storage, no_apps_dir, not_published, refused_port,
  unreadable

What apps declare is read from their .env and Compose files, in the apps directory. For people, what \
concerns several apps of a model is told in one line; -v gives each finding a line.

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
    let format = config.format(&FORMATS)?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;
    store.verify().map_err(|err| on_database(err, config))?;
    let apps_dir = look(config, &rows)?;
    let listeners = args.probe.then(|| listeners(&rows, config));
    unless_interrupted()?;
    let findings = find(store.as_mut(), &rows, apps_dir.as_ref(), listeners.as_ref(), config)?;
    let examined = Examined::new(&rows, apps_dir.as_ref());
    let report = Report { findings: &findings, rows: &rows, listeners: listeners.as_ref(), examined };
    let is_ok = if args.strict { findings.is_empty() } else { report.of(true).is_empty() };
    match format {
        Format::Json => json::check(out, is_ok, &report),
        Format::Github => annotate(out, config, &report),
        _ => check::report(out, config.look, &report, log::log_enabled!(log::Level::Debug)),
    }
    .map_err(Error::unwritten)?;
    Ok(if is_ok { Answer::Yes } else { Answer::No })
}

/// Finds the problems in these rows, given the contents of the apps directory and the listeners.
pub(super) fn find(
    store: &mut dyn Store,
    rows: &[Allocation],
    apps_dir: Option<&AppsDirView>,
    listeners: Option<&Listeners>,
    config: &Config,
) -> Result<Vec<Finding>> {
    let missing_indexes = store.missing_indexes().map_err(|err| on_database(err, config))?;
    Ok(conflict::find(&Snapshot {
        rows,
        missing_indexes: &missing_indexes,
        shared_storage: store.storage().shared_type(),
        missing_apps_dir: apps_dir.is_none().then(|| config.apps_dir.display().to_string()),
        apps_dir,
        listeners,
        ephemeral_ports: ephemeral::range(),
        reserved_ports: ephemeral::reserved(),
        allow_browser_blocked: config.limits.allow_browser_blocked,
        now: clock::now(),
    }))
}

/// Reads the apps directory. If it exists and cannot be used, that is a finding. Returns `None` if the
/// default apps directory does not exist.
pub(super) fn look(config: &Config, rows: &[Allocation]) -> Result<Option<AppsDirView>> {
    let is_missing = matches!(config.apps_dir.try_exists(), Ok(false));
    if is_missing && config.apps_dir_is_default { Ok(None) } else { look_inside(config, rows).map(Some) }
}

fn look_inside(config: &Config, rows: &[Allocation]) -> Result<AppsDirView> {
    match AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()) {
        Ok(apps_dir) => {
            apps_dir.view_with_declared(rows, &config.declared, watch("apps looked for"), watch("apps read"))
        }
        Err(err) if matches!(config.apps_dir.try_exists(), Ok(false)) => {
            Err(Error::new(Kind::AppsDir, err).hint("check --apps-dir, and that its volume is mounted"))
        }
        Err(err) => Ok(AppsDirView {
            unreadable: vec![(config.apps_dir.display().to_string(), format!("{err:#}"))],
            ..AppsDirView::default()
        }),
    }
}

/// Writes the annotations of a GitHub workflow's job, and its summary if the job has a summary file.
fn annotate(out: &mut dyn Write, config: &Config, report: &Report<'_>) -> io::Result<()> {
    let Github { workspace, step_summary } = Github::of_job();
    let apps_dir = workspace.and_then(|workspace| inside(&config.apps_dir, &workspace));
    let apps_dir = apps_dir.as_deref().unwrap_or(&config.apps_dir);
    github::annotations(out, apps_dir, report)?;
    if let Some(path) = step_summary
        && let Err(err) =
            job_summary::append(&path, github::SUMMARY_MAX, |room| github::summary(apps_dir, report, room))
    {
        log::warn!("the job's summary {} cannot be written: {err}", path.display());
    }
    Ok(())
}

/// Returns the path of a folder relative to `outer`, if it is inside. Symbolic links are resolved if need be.
fn inside(folder: &Path, outer: &Path) -> Option<PathBuf> {
    let strip = |folder: PathBuf, outer: PathBuf| {
        let inner = folder.strip_prefix(outer).ok()?.to_owned();
        inner.components().all(|part| matches!(part, Component::Normal(_))).then_some(inner)
    };
    strip(absolute(folder).ok()?, absolute(outer).ok()?)
        .or_else(|| strip(folder.canonicalize().ok()?, outer.canonicalize().ok()?))
}
