//! Giving apps their ports: what `allocate`, `reserve` and `exec` share.

use std::collections::HashMap;
use std::io::Write;

use jiff::SignedDuration;

use super::{on_database, open_store_as};
use crate::config::Config;
use crate::core::allocation::{Outcome, PortPair};
use crate::core::app::AppId;
use crate::core::policy::{Reason, Refusal, admit, choose};
use crate::core::ports::is_browser_blocked;
use crate::error::{Error, Kind, Result};
use crate::host::{listeners, port_config};
use crate::output::look::Format;
use crate::output::{csv, human, json};
use crate::store::api::{IfMissing, Store};
use crate::store::error::StoreError;

/// Which apps are to have ports, and how.
pub(super) struct Request {
    /// The apps, all of one model.
    pub(super) apps: Vec<AppId>,
    /// The pair that the one app is to have and no other.
    pub(super) pair: Option<PortPair>,
    /// How long they are held.
    pub(super) hold: Option<SignedDuration>,
    /// Whether to skip ports that something listens on.
    pub(super) probe: bool,
}

/// The formats of what [`print()`] prints.
pub(super) const FORMATS: [Format; 5] = [Format::Human, Format::Json, Format::Csv, Format::Plain, Format::Env];

/// Refuses a format that shows one app for several.
pub(super) fn check_format(format: Format, apps: &[AppId]) -> Result<()> {
    if apps.len() > 1 && format == Format::Env {
        return Err(Error::usage("--format env prints the ports of one app, and several are named"));
    }
    Ok(())
}

/// Gives the apps their ports, durably.
pub(super) fn give(request: &Request, config: &Config) -> Result<Vec<Outcome>> {
    let Request { apps, pair, hold, probe } = request;
    let preconfigured = match (pair, apps.first()) {
        (None, Some(app)) => preconfigured_pairs(config, &app.model)?,
        _ => HashMap::new(),
    };
    let mut store = open_store_as(config, IfMissing::ReadAsEmpty)?;
    let mut is_listening = |port| *probe && listeners::is_listening(port);
    let outcomes = store
        .allocate(apps, *hold, &mut |wanting, taken| match *pair {
            Some(pair) => wanting.iter().map(|_| admit(&config.limits, pair, taken, &mut is_listening)).collect(),
            None => {
                let preferred: Vec<_> = wanting.iter().map(|app| preconfigured.get(*app).copied()).collect();
                choose(&config.limits, &preferred, taken, &mut is_listening)
            }
        })
        .map_err(|err| explain(err, *pair, store.as_mut(), config))?;

    if let (Some(pair), [Outcome { allocation, .. }]) = (pair, outcomes.as_slice())
        && allocation.ports() != pair.ports().map(i64::from)
    {
        let message = format!(
            "{} has another pair: backend {}, frontend {}",
            allocation.app, allocation.backend_port, allocation.frontend_port
        );
        return Err(Error::msg(Kind::Conflict, message).hint("to change it, release it first"));
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.created) {
        warn_of_preconfigured(outcome, &preconfigured);
    }
    Ok(outcomes)
}

/// Prints apps with their ports.
pub(super) fn print(out: &mut dyn Write, format: Format, outcomes: &[Outcome]) -> Result<()> {
    match format {
        Format::Json => json::outcomes(out, outcomes),
        Format::Csv => csv::outcomes(out, outcomes),
        Format::Plain => human::plain_outcomes(out, outcomes),
        Format::Env => human::env_outcomes(out, outcomes),
        Format::Human | Format::Github => human::outcomes(out, outcomes),
    }?;
    Ok(())
}

/// The pairs that the platform planned for this model's apps; the first where one is named twice.
fn preconfigured_pairs(config: &Config, model: &str) -> Result<HashMap<AppId, PortPair>> {
    let mut pairs = HashMap::new();
    if let Some(path) = &config.preconfigured {
        let entries = port_config::read(path).map_err(|err| Error::new(Kind::Config, err.context("preconfigured")))?;
        for entry in entries.into_iter().filter(|entry| entry.app.model == model) {
            pairs.entry(entry.app).or_insert(entry.pair);
        }
    }
    Ok(pairs)
}

fn warn_of_preconfigured(outcome: &Outcome, preconfigured: &HashMap<AppId, PortPair>) {
    let row = &outcome.allocation;
    let Some(pair) = preconfigured.get(&row.app) else { return };
    if row.ports() != pair.ports().map(i64::from) {
        let PortPair { backend, frontend } = pair;
        log::warn!("the preconfigured ports {backend} and {frontend} of {} are not free", row.app);
        return;
    }
    for port in pair.ports().into_iter().filter(|&port| is_browser_blocked(port)) {
        log::warn!("the preconfigured port {port} of {} is one that browsers refuse to open", row.app);
    }
}

/// Tells a refusal in words, for which it looks up who has the ports asked for.
fn explain(err: StoreError, pair: Option<PortPair>, store: &mut dyn Store, config: &Config) -> Error {
    let (port, reason) = match err {
        StoreError::Refused(Refusal::Port { port, reason }) => (port, reason),
        StoreError::Refused(Refusal::Exhausted(tally)) => {
            let left = if tally.free == 0 { "no free pair is left" } else { "no free pair is left for each of them" };
            return Error::msg(Kind::Exhausted, format!("{left}: {tally}")).hint(
                "remove what is no longer needed with `manage-ports cleanup`, or widen [ports] in manage-ports.toml",
            );
        }
        other => return on_database(other, config),
    };
    let (why, hint) = match reason {
        Reason::Taken => {
            let rows = store.snapshot().unwrap_or_default();
            let users = pair.into_iter().flat_map(PortPair::ports).filter_map(|port| {
                let row = rows.iter().find(|row| row.ports().contains(&i64::from(port)))?;
                let role = if row.backend_port == i64::from(port) { "backend" } else { "frontend" };
                Some(format!("port {port} is the {role} of {}", row.app))
            });
            let users = users.collect::<Vec<_>>().join(", ");
            let message = if users.is_empty() { format!("port {port} is taken") } else { users };
            return Error::msg(Kind::Conflict, message);
        }
        Reason::Excluded => ("excluded", "see `exclude` in manage-ports.toml"),
        Reason::BrowserBlocked => {
            ("one that browsers refuse to open", "`allow_browser_blocked` in manage-ports.toml allows such ports")
        }
        Reason::Listening => {
            ("in use: something on this machine listens on it", "--no-probe hands it out all the same")
        }
    };
    Error::msg(Kind::Conflict, format!("port {port} is {why}")).hint(hint)
}
