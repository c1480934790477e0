//! `cleanup`: removes the allocations of apps whose directory is gone.

use std::io::Write;
use std::time::Duration;

use jiff::SignedDuration;

use super::{Answer, hint_at_missing, on_database, open_store, timed, unless_interrupted, watch};
use crate::config::{Config, parse_duration};
use crate::core::allocation::Allocation;
use crate::core::app::check_model;
use crate::core::glob::Models;
use crate::core::orphan::Sweep;
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::clock;
use crate::host::containers::LONG_PATIENCE;
use crate::host::port_use::{self, Containers, hidden_namespace};
use crate::output::look::Format;
use crate::output::{human, json};
use crate::store::api::Store;

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
An allocation is an orphan if its app stands nowhere: not at <apps-dir>/<model>/app<N>, not at \
.../app_<N>, and at neither name in a folder between, such as a template's. If the apps directory \
itself is missing, cannot be read, lacks its `apps_dir_marker` or holds not a single app, nothing is \
removed. An orphan is kept while it is reserved, younger than --min-age, or while something on this \
machine listens on its ports or a container publishes them: its app may still run. Run it where the \
apps' ports are published.

Formats: human, json

Examples:
  manage-ports cleanup --dry-run
  manage-ports cleanup 'openai_*'
  manage-ports cleanup --min-age 1h --json";

/// Remove the allocations of apps whose directory is gone
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// Only this model's, or those of the models that match a glob such as 'openai_*'
    #[arg(value_name = "MODEL", add = super::completions::models())]
    model: Option<String>,

    /// Print what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,

    /// Keep allocations made less than this ago, such as 1h or 7d; 10m or `cleanup_min_age` by default
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    min_age: Option<SignedDuration>,

    /// Remove orphans whose ports are in use, too
    #[arg(long)]
    include_listening: bool,

    /// Remove orphans even if the apps directory holds not a single app
    #[arg(long)]
    allow_empty: bool,
}

/// The first attempt to remove rows must get the write lock at once; otherwise the directories are read
/// again. The second attempt may wait this long, and each later one twice as long as the one before, up to
/// [`LONGEST_STALE`], so that constant writes by other processes cannot block the cleanup forever.
const SHORTEST_STALE: Duration = Duration::from_millis(1);
const LONGEST_STALE: Duration = Duration::from_secs(1);

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let mut store = open_store(config)?;
    let mut rows = store.snapshot().map_err(|err| on_database(err, config))?;
    let known: Vec<_> = rows.iter().map(|row| row.app.clone()).collect();
    if let Some(pattern) = &args.model {
        rows = of_models(rows, pattern)?;
    }
    let apps_dir = AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()).map_err(unusable)?;
    match &args.model {
        None => log::info!("Cleaning up all orphaned allocations..."),
        Some(model) => log::info!("Cleaning up orphaned allocations for model: {model}"),
    }
    if let Some(model) = args.model.as_ref().filter(|_| rows.is_empty()) {
        hint_at_missing(model, &known, config);
    }
    let look = Look { args, config, apps_dir };
    let mut sweep = look.first(rows)?;
    if args.dry_run {
        log::info!("Dry run: nothing is removed");
    } else {
        remove(store.as_mut(), &mut sweep, &look)?;
        config.counts.add(|done| done.cleaned += sweep.orphans.len() as u64);
    }
    match format {
        Format::Json => json::cleanup(out, args.dry_run, &sweep),
        _ => human::cleanup(out, config.look, args.dry_run, &sweep),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Returns the rows of the models that a pattern means.
fn of_models(rows: Vec<Allocation>, pattern: &str) -> Result<Vec<Allocation>> {
    let meant = Models::meant_by(pattern, rows.iter().map(|row| row.app.model.as_str()));
    let is_wanted = |row: &Allocation| meant.as_ref().is_ok_and(|meant| meant.matches(&row.app.model));
    let wanted: Vec<_> = rows.into_iter().filter(is_wanted).collect();
    if wanted.is_empty() {
        // A name that breaks the rules is accepted if another program wrote a row with it. No row has this
        // name.
        check_model(pattern).and(meant.map(drop)).map_err(Error::usage)?;
    }
    Ok(wanted)
}

/// Removes the orphans whose rows have not changed. Directories and listeners are read without the write
/// lock. If the wait for the lock was too long, the lock is given back and they are read again, because an
/// app may have come back in the meantime.
fn remove(store: &mut dyn Store, sweep: &mut Sweep, look: &Look<'_>) -> Result<()> {
    let mut stale = Duration::ZERO;
    while !sweep.orphans.is_empty() {
        let mut compared = Sweep::default();
        let mut select = |current, waited| {
            compared = sweep.clone();
            compared.keep_changed(current);
            (waited <= stale).then(|| compared.orphans.clone())
        };
        let removed = timed("the transaction", || store.remove(&mut select));
        let removed = removed.map_err(|err| on_database(err, look.config))?;
        *sweep = compared;
        if removed.is_some() {
            break;
        }
        log::debug!("looking again at {} orphan(s), as the lock was waited for", sweep.orphans.len());
        stale = (stale * 2).clamp(SHORTEST_STALE, LONGEST_STALE);
        look.again(sweep)?;
    }
    Ok(())
}

/// What a cleanup reads, all of it without a lock.
struct Look<'a> {
    args: &'a Args,
    config: &'a Config,
    apps_dir: AppsDir<'a>,
}

impl Look<'_> {
    /// Decides for each row whether it is an orphan.
    fn first(&self, rows: Vec<Allocation>) -> Result<Sweep> {
        let presence = self.apps_dir.presence_of(&rows, watch("apps looked for"))?;
        let min_age = self.args.min_age.unwrap_or(self.config.cleanup_min_age);
        let mut sweep = Sweep::new(rows, &presence, clock::now(), min_age);
        match self.finish(&mut sweep)? {
            Containers::Known => {}
            Containers::NoServer => note_hidden_listeners(&sweep),
            Containers::Unknown(why) => log::warn!(
                "the ports that containers publish are not known, and what may be in use is kept unless \
                 --include-listening is given: {why}"
            ),
        }
        Ok(sweep)
    }

    /// Reads the directories of the orphans again, and keeps those that have come back.
    fn again(&self, sweep: &mut Sweep) -> Result<()> {
        let presence = self.apps_dir.presence_of(&sweep.orphans, watch("apps looked for again"))?;
        sweep.keep_arrived(&presence);
        self.finish(sweep).map(drop)
    }

    /// Makes sure that the apps directory can be trusted, and keeps the orphans whose ports are in use.
    /// Returns whether the published ports of containers are known.
    fn finish(&self, sweep: &mut Sweep) -> Result<Containers> {
        self.apps_dir.ensure_unchanged().map_err(unusable)?;
        let containers = if self.args.include_listening { Containers::Known } else { self.keep_used(sweep) };
        unless_interrupted()?;
        let is_trusted = self.args.allow_empty || self.config.apps_dir_marker.is_some();
        if !sweep.orphans.is_empty() && !is_trusted {
            self.ensure_right_level(&sweep.orphans)?;
        }
        Ok(containers)
    }

    /// Fails if the apps directory holds no app, or is one level too high for these orphans.
    fn ensure_right_level(&self, orphans: &[Allocation]) -> Result<()> {
        let apps_dir = self.config.apps_dir.display();
        if !self.apps_dir.has_apps(watch("apps looked for"))? {
            let message = format!("apps directory {apps_dir} is empty: not a single app stands in it");
            return Err(Error::msg(Kind::AppsDir, message).hint(
                "nothing was removed; check that its volume is mounted, or remove the allocations with --allow-empty",
            ));
        }
        match self.apps_dir.apps_dir_below(orphans, watch("apps looked for"))? {
            None => Ok(()),
            Some((below, app)) => {
                let below = below.display();
                let message = format!("apps directory {apps_dir} is one level too high: {app} stands in {below}");
                let hint = format!("nothing was removed; set --apps-dir or `apps_dir` to {below}");
                Err(Error::msg(Kind::AppsDir, message).hint(hint))
            }
        }
    }

    fn keep_used(&self, sweep: &mut Sweep) -> Containers {
        let ports = sweep.orphans.iter().flat_map(Allocation::valid_ports);
        let seen = port_use::look(ports, &self.config.container_sockets(), LONG_PATIENCE);
        let unknown = match &seen.containers {
            Containers::Unknown(why) => Some(why.as_str()),
            Containers::Known | Containers::NoServer => None,
        };
        sweep.keep_used(&seen.listeners, unknown);
        seen.containers
    }
}

/// If rows are about to be removed, prints a notice about listeners that this process may not see.
fn note_hidden_listeners(sweep: &Sweep) {
    if let Some(why) = hidden_namespace().filter(|_| !sweep.orphans.is_empty()) {
        log::info!(
            "note: {why}, and no container API answered: what listens outside of it cannot be seen; \
             run cleanup where the apps' ports are published"
        );
    }
}

fn unusable(err: anyhow::Error) -> Error {
    Error::new(Kind::AppsDir, err).hint("nothing was removed; check --apps-dir, and that its volume is mounted")
}
