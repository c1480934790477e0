//! Gives apps their ports: the part that `allocate`, `reserve` and `exec` have in common.

use std::io::Write;

use jiff::SignedDuration;

use super::search_log::log_search;
use super::{on_database, open_store_as, timed};
use crate::config::Config;
use crate::core::allocation::{Allocation, Outcome, PortPair};
use crate::core::app::AppId;
use crate::core::hint;
use crate::core::plan::Plans;
use crate::core::policy::{admit, choose};
use crate::core::ports::{PortSet, is_browser_blocked};
use crate::core::refusal::{Reason, Refusal, Shortage, Tally};
use crate::core::text::Shown;
use crate::core::trace::Trace;
use crate::error::{Error, Kind, Result};
use crate::host::containers::PATIENCE;
use crate::host::port_config::{self, Reservations};
use crate::host::port_use::{self, Probe};
use crate::output::look::Format;
use crate::output::{csv, human, json};
use crate::store::api::{IfMissing, Store, Taken};
use crate::store::error::StoreError;

/// The apps that are to get ports, and the conditions.
pub(super) struct Request {
    /// The apps, all of one model.
    pub(super) apps: Vec<AppId>,
    /// The pair that was asked for; only one app may then be named.
    pub(super) pair: Option<PortPair>,
    /// How long the apps are reserved, from now on.
    pub(super) hold: Option<SignedDuration>,
    /// Whether to skip ports that a socket on this machine listens on.
    pub(super) probe: bool,
}

/// The formats that [`print()`] can print in.
pub(crate) const FORMATS: [Format; 5] = [Format::Human, Format::Json, Format::Csv, Format::Plain, Format::Env];

/// Refuses a format that can show only one app if there are several.
pub(super) fn check_format(format: Format, apps: &[AppId]) -> Result<()> {
    if apps.len() > 1 && format == Format::Env {
        return Err(Error::usage("--format env prints the ports of one app, and several are named"));
    }
    Ok(())
}

/// Gives the apps their ports, and returns after the rows are durable.
pub(super) fn give(request: &Request, config: &Config) -> Result<Vec<Outcome>> {
    give_useful(request, config, |_, _| Ok(()))
}

/// Gives the apps their ports durably. If `check` refuses a new pair, no app is given ports.
pub(super) fn give_useful(
    request: &Request,
    config: &Config,
    check: impl Fn(&AppId, PortPair) -> Result<()>,
) -> Result<Vec<Outcome>> {
    let Request { apps, pair, hold, .. } = request;
    let mut store = open_store_as(config, IfMissing::ReadAsEmpty)?;
    // Gathering knowledge is slow in these cases, so the rows are read first: if every app already has a row,
    // nothing else is needed.
    let is_costly = pair.is_some() || config.preconfigured.is_some() || config.containers;
    let are_all_there = is_costly && {
        let found = store.find(apps).map_err(|err| on_database(err, config))?;
        found.iter().all(Option::is_some)
    };
    let mut known = if are_all_there { None } else { Some(Knowledge::gather(request, config)?) };
    let mut is_new_model = false;
    let mut trace = None;
    let outcomes = loop {
        let mut useless = None;
        let mut choose = |wanting: &[&AppId], taken: &Taken| {
            is_new_model = !taken.has_model;
            let pairs = match &known {
                _ if wanting.is_empty() => Vec::new(),
                Some(known) => {
                    // A transaction that is repeated begins a new trace.
                    trace = log::log_enabled!(log::Level::Trace).then(Trace::default);
                    known.choose(wanting, *pair, &taken.ports, config, trace.as_mut())?
                }
                None => return Err(Refusal::NotPrepared),
            };
            useless = wanting.iter().zip(&pairs).find_map(|(app, pair)| check(app, *pair).err());
            if useless.is_some() { Err(Refusal::Useless) } else { Ok(pairs) }
        };
        let allocated = timed("the transaction", || store.allocate(apps, *hold, &mut choose));
        if let (Some(trace), Some(known)) = (&trace, &known) {
            log_search(trace, &known.plans, store.as_mut());
        }
        match allocated {
            // Another process released a row after this process had read it.
            Err(StoreError::Refused(Refusal::NotPrepared)) if known.is_none() => {
                known = Some(Knowledge::gather(request, config)?);
            }
            Err(err) => {
                return Err(useless.unwrap_or_else(|| explain(err, *pair, known.as_ref(), store.as_mut(), config)));
            }
            Ok(outcomes) => break outcomes,
        }
    };

    if let (Some(pair), [Outcome { allocation, .. }]) = (pair, outcomes.as_slice())
        && allocation.ports() != pair.ports().map(i64::from)
    {
        let message = format!(
            "{} has another pair: backend {}, frontend {}",
            allocation.app, allocation.backend_port, allocation.frontend_port
        );
        // The hint to release is of no use if the wanted pair is another app's.
        let others = users_of(*pair, Some(&allocation.app), store.as_mut());
        if !others.is_empty() {
            return Err(Error::msg(Kind::Conflict, format!("{message}; {others}")));
        }
        return Err(Error::msg(Kind::Conflict, message).hint("to change it, release it first"));
    }
    config.counts.add(|done| done.add_outcomes(&outcomes));
    if let Some(outcome) = outcomes.first().filter(|_| is_new_model) {
        hint_at_similar(&outcome.allocation.app.model, store.as_mut());
    }
    if let Some(known) = known {
        outcomes.iter().filter(|outcome| outcome.created).for_each(|outcome| known.warn_of(&outcome.allocation));
    }
    Ok(outcomes)
}

/// If the model is new, prints a hint at an existing model with a similar name.
fn hint_at_similar(model: &str, store: &mut dyn Store) {
    if !log::log_enabled!(log::Level::Info) {
        return;
    }
    // The ports are already given, so a failed read only means that no hint is printed.
    let models = store.models().unwrap_or_default();
    if let Some(near) = hint::nearest(model, models.iter().map(String::as_str)) {
        log::info!("{} is a new model: did you mean {}?", Shown(model), Shown(near));
    }
}

/// What choosing ports needs besides the table. It is gathered before the write lock is taken.
struct Knowledge {
    /// The ports that the platform planned for apps.
    plans: Plans,
    /// The test whether a port can be listened on; `None` if the probe is switched off.
    probe: Option<Probe>,
}

impl Knowledge {
    fn gather(request: &Request, config: &Config) -> Result<Self> {
        let plans = match request.pair {
            None => read_plans(config)?,
            Some(_) => Plans::default(),
        };
        let sockets = if config.containers && request.probe { config.container_sockets() } else { Vec::new() };
        let planned = request.apps.iter().filter_map(|app| plans.pair_of(app));
        let wanted = request.pair.into_iter().chain(planned).flat_map(PortPair::ports);
        let probe = request.probe.then(|| Probe::new(wanted, &sockets));
        Ok(Self { plans, probe })
    }

    /// Chooses a pair for each app. It runs inside the write transaction.
    fn choose(
        &self,
        wanting: &[&AppId],
        pair: Option<PortPair>,
        taken: &PortSet,
        config: &Config,
        trace: Option<&mut Trace>,
    ) -> std::result::Result<Vec<PortPair>, Refusal> {
        let mut probe = |port| self.probe.as_ref().and_then(|probe| probe.obstacle(port));
        match pair {
            Some(pair) => wanting.iter().map(|_| admit(&config.limits, pair, taken, &mut probe)).collect(),
            None => choose(&config.limits, wanting, &self.plans, taken, &mut probe, trace),
        }
    }

    /// Warns if a new row has not got its planned ports, or has got planned ports that may be unusable.
    fn warn_of(&self, row: &Allocation) {
        if let Some(pair) = self.plans.pair_of(&row.app) {
            if row.ports() != pair.ports().map(i64::from) {
                let PortPair { backend, frontend } = pair;
                log::warn!("the preconfigured ports {backend} and {frontend} of {} are not free", row.app);
                return;
            }
            for port in pair.ports().into_iter().filter(|&port| is_browser_blocked(port)) {
                log::warn!("the preconfigured port {port} of {} is one that browsers refuse to open", row.app);
            }
        }
        let may_not_bind = |port: &u16| self.probe.as_ref().is_some_and(|probe| probe.may_not_bind(*port));
        for port in row.valid_ports().filter(may_not_bind) {
            log::warn!("this user may not listen on port {port} of {}", row.app);
        }
    }
}

/// Prints the apps with their ports.
pub(super) fn print(out: &mut dyn Write, format: Format, config: &Config, outcomes: &[Outcome]) -> Result<()> {
    match format {
        Format::Json => json::outcomes(out, outcomes),
        Format::Csv => csv::outcomes(out, outcomes),
        Format::Plain => human::plain_outcomes(out, outcomes),
        Format::Env => human::env_outcomes(out, &config.declared, outcomes),
        _ => human::outcomes(out, outcomes),
    }
    .map_err(Error::unwritten)?;
    Ok(())
}

/// Reads the pairs that the platform planned for apps. There are none if no such file is configured.
pub(super) fn read_plans(config: &Config) -> Result<Plans> {
    let Some(path) = &config.preconfigured else { return Ok(Plans::default()) };
    let entries = port_config::read(path, Reservations::PassedOver);
    let entries = entries.map_err(|err| Error::new(Kind::Config, err.context("preconfigured")))?;
    Ok(entries.iter().map(|entry| (entry.app, entry.pair)).collect())
}

/// Turns a refusal into an error message; if a port was taken, it looks up which app has it.
fn explain(
    err: StoreError,
    pair: Option<PortPair>,
    known: Option<&Knowledge>,
    store: &mut dyn Store,
    config: &Config,
) -> Error {
    let (port, reason) = match err {
        StoreError::Refused(Refusal::Port { port, reason }) => (port, reason),
        StoreError::Refused(Refusal::Exhausted(tally)) => return exhausted(tally, known),
        other => return on_database(other, config),
    };
    let (why, hint) = match reason {
        Reason::Taken => {
            let users = pair.map(|pair| users_of(pair, None, store)).unwrap_or_default();
            let message = if users.is_empty() { format!("port {port} is taken") } else { users };
            return Error::msg(Kind::Conflict, message);
        }
        Reason::Excluded => ("excluded", "see `exclude` in manage-ports.toml"),
        Reason::BrowserBlocked => {
            ("one that browsers refuse to open", "`allow_browser_blocked` in manage-ports.toml allows such ports")
        }
        Reason::InUse => return in_use(port, config),
        Reason::Planned => ("planned for another app", "see the file that `preconfigured` names in manage-ports.toml"),
        Reason::NotPermitted => ("one that this user may not listen on", "--no-probe hands it out all the same"),
    };
    Error::msg(Kind::Conflict, format!("port {port} is {why}")).hint(hint)
}

/// Says which apps other than `app` have the ports of a pair. The text is empty if no other app has them, or if
/// the rows cannot be read.
fn users_of(pair: PortPair, app: Option<&AppId>, store: &mut dyn Store) -> String {
    let rows = store.snapshot().unwrap_or_default();
    let users = pair.ports().into_iter().filter_map(|port| {
        let has_port = |row: &&Allocation| row.ports().contains(&i64::from(port)) && Some(&row.app) != app;
        let row = rows.iter().find(has_port)?;
        let role = if row.backend_port == i64::from(port) { "backend" } else { "frontend" };
        Some(format!("port {port} is the {role} of {}", row.app))
    });
    users.collect::<Vec<_>>().join(", ")
}

/// Returns the error for a requested port that is in use, and names the process or container that uses it.
fn in_use(port: u16, config: &Config) -> Error {
    let sockets = if config.containers { config.container_sockets() } else { Vec::new() };
    let listeners = port_use::look([port], &sockets, PATIENCE).listeners;
    let users: Vec<_> = listeners.on(port).map(|user| format!("{user} {} it", user.verb())).collect();
    let message = if users.is_empty() {
        format!("the system refuses to let anyone listen on port {port}, although nothing is seen to use it")
    } else {
        format!("port {port} is in use: {}", users.join(", "))
    };
    Error::msg(Kind::Conflict, message).hint("--no-probe hands it out all the same")
}

/// Returns the error for too few free slots, with the reasons why slots could not be used.
fn exhausted(mut tally: Tally, known: Option<&Knowledge>) -> Error {
    if !tally.in_use.is_empty()
        && let Some(used) = known.and_then(|known| known.probe.as_ref()?.ports_seen_in_use())
    {
        tally.set_refused_apart(|port| used.contains(port));
    }
    let left = if tally.free == 0 { "no free pair is left" } else { "no free pair is left for each of them" };
    let (why, hint) = match tally.shortage() {
        Shortage::Full => {
            ("", "remove what is no longer needed with `manage-ports cleanup`, or widen [ports] in manage-ports.toml")
        }
        Shortage::Refused => (
            "the system refuses nearly every port although nothing listens on it; ",
            "WSL does so in its mirrored network mode; `allocate --no-probe`, or `probe = false` under [ports] in \
             manage-ports.toml, gives ports without asking the system",
        ),
        Shortage::NotPermitted => (
            "this user may listen on hardly any of the ports; ",
            "set higher ones under [ports] in manage-ports.toml; `allocate --no-probe` gives these without asking \
             the system",
        ),
    };
    Error::msg(Kind::Exhausted, format!("{left}: {why}{tally}")).hint(hint)
}
