//! `allocate`: gives each app its pair.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use jiff::SignedDuration;

use super::{Answer, on_database, open_store_as};
use crate::cli::Format;
use crate::config::Config;
use crate::core::allocation::PortPair;
use crate::core::app::{AppId, check_model, parse_app_nums};
use crate::core::policy::{Reason, Refusal, admit, choose};
use crate::core::ports::{as_port, is_browser_blocked};
use crate::core::store::{Missing, Outcome, Store, StoreError};
use crate::error::{Error, Kind, Result};
use crate::host::env_file::EnvFile;
use crate::host::{listeners, port_config};
use crate::output::human::env_variables;
use crate::output::{csv, human, json};

const AFTER_HELP: &str = "\
Formats: human, json (one object a line), csv, plain (`5001 8001`), env (one app only)

Examples:
  manage-ports allocate --model openai_gpt-4.1 --app 3
  manage-ports allocate --model openai_gpt-4.1 --app 1-50 --json
  manage-ports allocate --model openai_gpt-4.1 --app 3 --backend-port 5101 --frontend-port 8101
  manage-ports allocate --model openai_gpt-4.1 --app 3 --env-file openai_gpt-4.1/app3/.env
  eval \"$(manage-ports allocate --model openai_gpt-4.1 --app 3 --format env)\"";

/// Give apps their ports: the ones they have, or the lowest free pair
///
/// The ports are durable before they are printed. Calling again, from any number of processes,
/// prints the same ports again. Several apps are given ports all together or not at all.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,

    /// Ask for this backend port, for one app
    #[arg(long, value_name = "PORT", requires = "frontend_port", allow_negative_numbers = true, value_parser = parse_port)]
    backend_port: Option<u16>,

    /// Ask for this frontend port, for one app
    #[arg(long, value_name = "PORT", requires = "backend_port", allow_negative_numbers = true, value_parser = parse_port)]
    frontend_port: Option<u16>,

    /// Set BACKEND_PORT and FRONTEND_PORT in this file, too, and keep its other lines; for one app
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    env_file: Option<PathBuf>,

    /// Hand out ports that something on this machine listens on, too
    #[arg(long)]
    no_probe: bool,
}

/// The apps that are given ports.
#[derive(clap::Args)]
pub(super) struct AppsArgs {
    /// The model, 1 to 200 characters
    #[arg(long, value_name = "MODEL", add = super::completions::models())]
    model: String,

    /// The apps: numbers, ranges and lists such as 1,3,5-9; may be given again
    #[arg(long = "app", value_name = "APPS", required = true, allow_negative_numbers = true)]
    apps: Vec<String>,
}

impl AppsArgs {
    /// The apps, all of one model.
    pub(super) fn ids(&self) -> Result<Vec<AppId>> {
        check_model(&self.model).map_err(Error::usage)?;
        let app_nums = parse_app_nums(&self.apps).map_err(Error::usage)?;
        Ok(app_nums.into_iter().map(|app_num| AppId::new(&self.model, app_num)).collect())
    }
}

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

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let apps = args.apps.ids()?;
    let pair = asked_pair(args)?;
    if apps.len() > 1 && pair.is_some() {
        return Err(Error::usage("--backend-port and --frontend-port name the ports of one app, --app names several"));
    }
    if apps.len() > 1 && args.env_file.is_some() {
        return Err(Error::usage("--env-file holds the ports of one app, --app names several"));
    }
    check_format(format, &apps)?;
    // What keeps the file from being written is found before ports are given. That may take its time,
    // and what others write to the file meanwhile stays: it is read anew.
    if let Some(path) = &args.env_file {
        EnvFile::open(path).map_err(|err| Error::new(Kind::Io, err))?;
    }
    let outcomes = give(&Request { apps, pair, hold: None, probe: config.probe && !args.no_probe }, config)?;
    if let (Some(path), [Outcome { allocation, .. }]) = (&args.env_file, outcomes.as_slice()) {
        let written = EnvFile::open(path).and_then(|file| file.set(&env_variables(allocation)));
        written.map_err(|err| {
            let app = &allocation.app;
            Error::new(Kind::Io, err).hint(format!("{app} has its ports; the same call again writes the file"))
        })?;
    }
    print(out, format, &outcomes)?;
    Ok(Answer::Yes)
}

/// Refuses a format that shows one app for several.
pub(super) fn check_format(format: Format, apps: &[AppId]) -> Result<()> {
    if apps.len() > 1 && format == Format::Env {
        return Err(Error::usage("--format env prints the ports of one app, --app names several"));
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
    let mut store = open_store_as(config, Missing::Empty)?;
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

fn parse_port(text: &str) -> std::result::Result<u16, String> {
    text.parse().ok().and_then(as_port).ok_or_else(|| "expected a port from 1 to 65535".to_owned())
}

fn asked_pair(args: &Args) -> Result<Option<PortPair>> {
    let Some((backend, frontend)) = args.backend_port.zip(args.frontend_port) else { return Ok(None) };
    match PortPair::new(backend, frontend) {
        Some(pair) => Ok(Some(pair)),
        None => Err(Error::usage(format!("--backend-port and --frontend-port are both {backend}: they must differ"))),
    }
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
