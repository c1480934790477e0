//! Prints answers as JSON; an allocation has the same keys in every answer.

use std::borrow::Cow;
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::show::App;
use crate::core::allocation::{Allocation, Outcome, until_text};
use crate::core::app::AppId;
use crate::core::conflict::{self, Examined, Finding};
use crate::core::listener::{Listener, Listeners};
use crate::core::migration::Migration;
use crate::core::orphan::Sweep;
use crate::core::place::{DeclaredLine, Listed, Place};
use crate::core::schema::UniqueIndex;
use crate::core::text::escape_json;
use crate::core::{import, promise};

/// An allocation as a JSON object.
#[derive(Serialize)]
struct AllocationObject<'a> {
    #[serde(flatten)]
    app: AppObject<'a>,
    backend_port: i64,
    frontend_port: i64,
    is_available: bool,
    created_at: Option<String>,
    updated_at: Option<String>,
    reserved_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<bool>,
    #[serde(flatten)]
    place: Option<PlaceObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    declared: Option<Vec<DeclaredObject<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    listeners: Option<Vec<ListenerObject<'a>>>,
}

#[derive(Serialize)]
struct DeclaredObject<'a> {
    file: &'a str,
    line: usize,
    backend_ports: Vec<u16>,
    frontend_ports: Vec<u16>,
}

#[derive(Serialize)]
struct PlaceObject<'a> {
    state: &'static str,
    directory: Option<&'a str>,
}

#[derive(Serialize)]
struct ListenerObject<'a> {
    port: u16,
    pid: Option<u32>,
    program: Option<&'a str>,
    container: Option<&'a str>,
    project: Option<&'a str>,
}

#[derive(Serialize)]
struct AppObject<'a> {
    model: &'a str,
    app_num: i64,
}

#[derive(Serialize)]
struct FindingObject<'a> {
    kind: &'static str,
    message: &'a str,
    hint: &'static str,
    ports: &'a [i64],
    apps: Vec<AppObject<'a>>,
    file: Option<&'a str>,
    line: Option<usize>,
}

#[derive(Serialize)]
struct KeptObject<'a> {
    #[serde(flatten)]
    app: AppObject<'a>,
    reason: &'static str,
}

/// Writes the ports that apps were given, as one object per line.
pub(crate) fn outcomes(out: &mut dyn Write, outcomes: &[Outcome]) -> io::Result<()> {
    for outcome in outcomes {
        let object = AllocationObject { created: Some(outcome.created), ..allocation(&outcome.allocation) };
        line(out, &object)?;
    }
    Ok(())
}

/// Writes rows as an array, with directories and listeners if these were looked up.
pub(crate) fn rows(out: &mut dyn Write, rows: &[Listed<'_>], listeners: Option<&Listeners>) -> io::Result<()> {
    line(out, &rows.iter().map(|listed| listed_object(listed, listeners)).collect::<Vec<_>>())
}

/// Writes one app with everything that is known of it.
pub(crate) fn shown_app(out: &mut dyn Write, shown: &App<'_>, listeners: &Listeners) -> io::Result<()> {
    let declared = shown.declared.iter().map(|DeclaredLine { file, line, backend, frontend }| DeclaredObject {
        file,
        line: *line,
        backend_ports: backend.iter().cloned().flatten().collect(),
        frontend_ports: frontend.iter().cloned().flatten().collect(),
    });
    let declared = Some(declared.collect());
    line(out, &AllocationObject { declared, ..listed_object(&shown.listed, Some(listeners)) })
}

/// Writes the findings and totals of a check, and the users of the ports if these were looked up.
pub(crate) fn check(out: &mut dyn Write, is_ok: bool, report: &conflict::Report<'_>) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        conflicts: Vec<FindingObject<'a>>,
        warnings: Vec<FindingObject<'a>>,
        examined: ExaminedObject,
        #[serde(skip_serializing_if = "Option::is_none")]
        listeners: Option<Vec<ListenerObject<'a>>>,
    }
    #[derive(Serialize)]
    struct ExaminedObject {
        allocations: usize,
        directories: usize,
        files: usize,
    }
    let Examined { allocations, directories, files } = report.examined;
    let examined = ExaminedObject { allocations, directories, files };
    let listeners = report.listeners;
    let listeners = listeners.map(|used| report.rows.iter().flat_map(|row| used.of(row).map(listener)).collect());
    let objects = |is_conflict| report.of(is_conflict).into_iter().map(finding).collect();
    line(out, &Report { ok: is_ok, conflicts: objects(true), warnings: objects(false), examined, listeners })
}

/// Writes the rows that a cleanup removes and the rows that it keeps.
pub(crate) fn cleanup(out: &mut dyn Write, dry_run: bool, sweep: &Sweep) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        dry_run: bool,
        removed: Vec<AllocationObject<'a>>,
        kept: Vec<KeptObject<'a>>,
    }
    let removed = sweep.orphans.iter().map(allocation).collect();
    let kept = sweep.kept.iter().map(|kept| KeptObject { app: app(&kept.app), reason: kept.reason.name() }).collect();
    line(out, &Report { dry_run, removed, kept })
}

/// Writes the rows that were released, and the apps that had none.
pub(crate) fn released(
    out: &mut dyn Write,
    dry_run: bool,
    released: &[Allocation],
    not_found: &[&AppId],
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Report<'a> {
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        dry_run: bool,
        released: Vec<AllocationObject<'a>>,
        not_found: Vec<AppObject<'a>>,
    }
    let released = released.iter().map(allocation).collect();
    line(out, &Report { dry_run, released, not_found: not_found.iter().map(|not_found| app(not_found)).collect() })
}

/// Writes the path of the new configuration file and the settings that it leads to.
pub(crate) fn init(out: &mut dyn Write, file: &Path, database: &str, apps_dir: &Path) -> io::Result<()> {
    let [file, apps_dir] = [file, apps_dir].map(Path::to_string_lossy);
    line(out, &serde_json::json!({"config": file, "database": database, "apps_dir": apps_dir}))
}

/// Writes how many allocations were imported, and the skipped apps with the reasons.
pub(crate) fn import(out: &mut dyn Write, report: &import::Report) -> io::Result<()> {
    #[derive(Serialize)]
    struct Skipped<'a> {
        #[serde(flatten)]
        app: AppObject<'a>,
        reason: &'a str,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        dry_run: bool,
        imported: usize,
        existing: usize,
        skipped: usize,
        skipped_apps: Vec<Skipped<'a>>,
    }
    let import::Report { is_dry_run, imported, existing, skipped, skipped_apps } = report;
    let apps = skipped_apps.iter().map(|(skipped, reason)| Skipped { app: app(skipped), reason }).collect();
    let (dry_run, imported, existing, skipped) = (*is_dry_run, *imported, *existing, *skipped);
    line(out, &Report { dry_run, imported, existing, skipped, skipped_apps: apps })
}

/// Writes the indexes that a migration added or would add, the rows that are in its way, and the path of the copy.
pub(crate) fn migration(out: &mut dyn Write, dry_run: bool, migration: &Migration) -> io::Result<()> {
    #[derive(Serialize)]
    struct Index {
        name: &'static str,
        columns: &'static [&'static str],
    }
    #[derive(Serialize)]
    struct Report<'a> {
        dry_run: bool,
        added: Vec<Index>,
        replaced: Vec<Index>,
        conflicts: Vec<FindingObject<'a>>,
        copy: Option<Cow<'a, str>>,
    }
    let indexes = |indexes: &[UniqueIndex]| {
        indexes.iter().map(|index| Index { name: index.name(), columns: index.columns() }).collect()
    };
    let Migration { added, replaced, obstacles, copy } = migration;
    let conflicts = obstacles.iter().map(finding).collect();
    let copy = copy.as_ref().map(|copy| copy.to_string_lossy());
    line(out, &Report { dry_run, added: indexes(added), replaced: indexes(replaced), conflicts, copy })
}

/// Writes the result of a self-test.
pub(crate) fn selftest(out: &mut dyn Write, report: &promise::Report) -> io::Result<()> {
    #[derive(Serialize)]
    struct Promise<'a> {
        promise: &'a str,
        ok: bool,
        broken: Option<&'a str>,
    }
    #[derive(Serialize)]
    struct Report<'a> {
        ok: bool,
        promises: Vec<Promise<'a>>,
        allocations_per_second: f64,
        p50_seconds: f64,
        p99_seconds: f64,
        sync_seconds: Option<f64>,
        journal_mode: Option<&'a str>,
        waiting: Option<&'a str>,
        storage: Option<&'a str>,
    }
    let promises: Vec<_> = report
        .promises
        .iter()
        .map(|(promise, broken)| Promise { promise, ok: broken.is_none(), broken: broken.as_deref() })
        .collect();
    let object = Report {
        ok: promises.iter().all(|promise| promise.ok),
        promises,
        allocations_per_second: report.per_second,
        p50_seconds: report.p50.as_secs_f64(),
        p99_seconds: report.p99.as_secs_f64(),
        sync_seconds: report.sync.map(|sync| sync.as_secs_f64()),
        journal_mode: report.mode.as_ref().map(|mode| mode.journal.as_str()),
        waiting: report.mode.as_ref().map(|mode| mode.waiting),
        storage: report.mode.as_ref().map(|mode| mode.storage.as_str()),
    };
    line(out, &object)
}

/// Formats a row's time as RFC 3339 in UTC with microseconds, the precision of the table.
pub(crate) fn moment(moment: Timestamp) -> String {
    format!("{moment:.6}")
}

fn app(app: &AppId) -> AppObject<'_> {
    AppObject { model: &app.model, app_num: app.app_num }
}

fn allocation(row: &Allocation) -> AllocationObject<'_> {
    AllocationObject {
        app: app(&row.app),
        backend_port: row.backend_port,
        frontend_port: row.frontend_port,
        is_available: row.is_available,
        created_at: row.created_at.map(moment),
        updated_at: row.updated_at.map(moment),
        reserved_until: row.reserved_until().map(until_text).or_else(|| row.unreadable_reservation()),
        created: None,
        place: None,
        declared: None,
        listeners: None,
    }
}

fn listed_object<'a>(listed: &'a Listed<'_>, listeners: Option<&'a Listeners>) -> AllocationObject<'a> {
    let Listed { row, place } = listed;
    AllocationObject {
        place: place
            .as_ref()
            .map(|Place { state, directory }| PlaceObject { state: state.name(), directory: directory.as_deref() }),
        listeners: listeners.map(|listeners| listeners.of(row).map(listener).collect()),
        ..allocation(row)
    }
}

fn listener((port, listener): (u16, &Listener)) -> ListenerObject<'_> {
    ListenerObject {
        port,
        pid: listener.pid,
        program: listener.program.as_deref(),
        container: listener.container.as_deref(),
        project: listener.project.as_deref(),
    }
}

fn finding(found: &Finding) -> FindingObject<'_> {
    FindingObject {
        kind: found.kind.name(),
        message: &found.message,
        hint: found.kind.advice(),
        ports: &found.ports,
        apps: found.apps.iter().map(app).collect(),
        file: found.file.as_deref(),
        line: found.line,
    }
}

/// Writes one value as one line.
fn line(out: &mut dyn Write, value: &impl Serialize) -> io::Result<()> {
    writeln!(out, "{}", escape_json(&serde_json::to_string(value)?))
}
