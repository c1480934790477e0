//! `import`: adds rows for apps that already have ports.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use super::{Answer, on_database, open_store_as, timed, watch};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::app::APPS_MAX;
use crate::core::app_folder::AppFolder;
use crate::core::declared::{Declared, Role, Unpublished};
use crate::core::import::{Entries, Entry, Import, Report, Skipped, plan};
use crate::core::ports::is_browser_blocked;
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::port_config::{self, Reservations};
use crate::output::look::Format;
use crate::output::{human, json};
use crate::store::api::IfMissing;

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
FILE is an array of objects with `model` or `model_name`, `app_number` or `app_num`, `backend_port` \
and `frontend_port`, and `reserved_until` where a pair is held: the platform's port_config.json, or \
what `manage-ports list --json` or `cleanup --json` prints.

With --from-apps, the ports of apps that have no allocation are those that the app's own files \
declare: BACKEND_PORT and FRONTEND_PORT in its .env, or the ports that the services `backend` and \
`frontend` of its Compose files publish; [declared] in the configuration gives them other names. An \
app whose files do not tell is skipped with a warning.

All are imported or none. Ports are taken over as they are, also excluded ones.

Formats: human, json

Examples:
  manage-ports import misc/port_config.json
  manage-ports import --from-apps --skip-conflicts
  manage-ports --database old.db list --json | manage-ports --database new.db import -";

const USAGE: &str = "manage-ports import [OPTIONS] <FILE>\n       manage-ports import [OPTIONS] --from-apps";

/// Take over allocations from a file, or from what the apps' own files declare
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    /// The file with the allocations; - for standard input
    #[arg(value_name = "FILE", required_unless_present = "from_apps", conflicts_with = "from_apps")]
    file: Option<PathBuf>,

    /// Import the ports that the files of apps without an allocation declare
    #[arg(long)]
    from_apps: bool,

    /// Import what can be imported, and only warn of the rest
    #[arg(long)]
    skip_conflicts: bool,

    /// Say what would be imported, and change nothing
    #[arg(long)]
    dry_run: bool,
}

impl Args {
    /// Tells whether ports are to be allocated.
    pub(crate) fn allocates(&self) -> bool {
        !self.dry_run
    }
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let entries = match &args.file {
        Some(file) => {
            let entries = port_config::read(file, Reservations::Needed);
            Some(entries.map_err(|err| Error::new(Kind::Usage, err))?)
        }
        None => None,
    };
    let mut store = open_store_as(config, IfMissing::ReadAsEmpty)?;
    let (entries, unknown) = match entries {
        Some(entries) => (entries, Vec::new()),
        None => declared_entries(&store.snapshot().map_err(|err| on_database(err, config))?, config)?,
    };

    let mut import = Import::default();
    let mut choose = |rows: &[Allocation]| {
        import = plan(&entries, rows);
        if import.conflicts.is_empty() || args.skip_conflicts { import.new.clone() } else { Vec::new() }
    };
    let imported = if args.dry_run {
        store.snapshot().map(|rows| choose(&rows).len())
    } else {
        timed("the transaction", || store.add(&mut choose)).map(|added| added.len())
    };
    let imported = imported.map_err(|err| on_database(err, config))?;
    if !import.conflicts.is_empty() && !args.skip_conflicts {
        return Err(refused(&entries, &import));
    }
    if !args.dry_run {
        config.counts.add(|done| {
            done.created += imported as u64;
            done.existing += import.existing as u64;
        });
    }
    warn_of_blocked_ports(&import.new);
    let report = report(&entries, &import, unknown, imported, args.dry_run);
    match format {
        Format::Json => json::import(out, &report),
        _ => human::import(out, config.look, &report),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// The most conflicts that are listed.
const LISTED: usize = 100;

/// The most skipped apps that are named in JSON.
const LISTED_IN_JSON: usize = APPS_MAX;

/// Returns the error that nothing was imported, with the first conflicts.
fn refused(entries: &Entries, import: &Import) -> Error {
    let message = format!("{} conflict(s), nothing was imported:", import.conflicts.len());
    let listed = conflicts(entries, import).take(LISTED).map(|(app, why)| format!("- {app}: {why}"));
    let more = import.conflicts.len().saturating_sub(LISTED);
    let more = (more > 0).then(|| format!("and {more} more"));
    Error::msg(Kind::Conflict, message).details(listed.chain(more)).hint("--skip-conflicts imports the others")
}

/// Returns the apps that cannot be added, each with a message that gives the reason.
fn conflicts(entries: &Entries, import: &Import) -> impl Iterator<Item = Skipped> {
    import.conflicts.iter().filter_map(|&(index, why)| {
        let entry = entries.get(usize::try_from(index).ok()?)?;
        Some((entry.app, import.told(why).to_string()))
    })
}

/// Builds the report, and prints a warning for each skipped app.
fn report(entries: &Entries, import: &Import, unknown: Vec<Skipped>, imported: usize, is_dry_run: bool) -> Report {
    let skipped = unknown.len() + import.conflicts.len();
    let skipped_apps: Vec<_> = unknown.into_iter().chain(conflicts(entries, import)).take(LISTED_IN_JSON).collect();
    for (app, why) in skipped_apps.iter().take(LISTED) {
        log::warn!("{app} is skipped: {why}");
    }
    if skipped > LISTED {
        log::warn!("{} more apps are skipped", skipped - LISTED);
    }
    Report { is_dry_run, imported, existing: import.existing, skipped, skipped_apps }
}

fn warn_of_blocked_ports(new: &[Entry]) {
    for Entry { app, pair, .. } in new {
        for port in pair.ports().into_iter().filter(|&port| is_browser_blocked(port)) {
            log::warn!("the port {port} of {app} is one that browsers refuse to open");
        }
    }
}

/// Returns a message that says why the files of an app declare no pair.
fn no_pair(found: &Declared) -> String {
    match found.unpublished.iter().find(|unpublished| unpublished.role != Role::Other) {
        Some(Unpublished { service, file, .. }) => {
            format!("its files declare no ports: the service {service} in {file} does not publish its own")
        }
        None => "its files declare no ports".to_owned(),
    }
}

/// Returns the pairs that the files of apps declare, and the apps whose files declare none.
///
/// If an app has a row, the row's name is used, because several names can map to one directory.
fn declared_entries(rows: &[Allocation], config: &Config) -> Result<(Entries, Vec<Skipped>)> {
    let apps_dir = AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref())
        .map_err(|err| Error::new(Kind::AppsDir, err).hint("nothing was imported; check --apps-dir"))?;
    let view = apps_dir.view_with_declared(&[], &config.declared, watch("apps looked for"), watch("apps read"))?;
    for (path, why) in &view.unreadable {
        log::warn!("{path} could not be read: {why}");
    }
    let allocated: HashMap<_, _> = rows.iter().map(|row| (AppFolder::of(&row.app), row)).collect();
    let mut entries = Entries::default();
    let mut skipped = Vec::new();
    for (folder, found) in view.apps() {
        let row = allocated.get(folder);
        let pair = found.pair().and_then(|pair| pair.ok_or_else(|| no_pair(&found)));
        let (app, pair) = match (row, pair) {
            (Some(row), Ok(pair)) if row.ports() == pair.ports().map(i64::from) => (row.app.clone(), Ok(pair)),
            // The app has a row already; `check` reports whether its files agree with it.
            (Some(_), _) => continue,
            (None, pair) => {
                let checked = folder.check().map_err(|why| format!("its directory is no app's: {why}"));
                (folder.app(), checked.and(pair))
            }
        };
        let app_num = u32::try_from(app.app_num).map_err(|err| err.to_string());
        match pair.and_then(|pair| Ok((pair, app_num?))) {
            Ok((pair, app_num)) => entries.push(&app.model, app_num, pair, None),
            Err(why) => skipped.push((app, why)),
        }
    }
    Ok((entries, skipped))
}
