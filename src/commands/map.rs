//! `map`: draws the port range.

use std::io::Write;

use super::give::read_plans;
use super::places::places_of;
use super::{Answer, on_database, open_store, unless_interrupted};
use crate::config::Config;
use crate::core::allocation::PortPair;
use crate::core::map::Map;
use crate::core::place::Listed;
use crate::core::plan::Plans;
use crate::error::{Error, Result};
use crate::host::containers::PATIENCE;
use crate::host::port_use::{first_permitted_port, look};
use crate::output::look::Format;
use crate::output::map;

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 3] = [Format::Human, Format::Json, Format::Svg];

const AFTER_HELP: &str = "\
A cell is a slot: a backend port and a frontend port that are given together. Each line begins with \
the ports of its first slot. Lines of free slots are folded. Blocked slots are not given: an app of \
another slot has one of the two ports, or one is excluded, planned for an app, refused by browsers, \
or not for this user to listen on.

Formats: human, json, svg

Examples:
  manage-ports map
  manage-ports map --json | jq .counts
  manage-ports map --format svg > ports.svg";

/// Show the port range as a picture, a cell a slot
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let mut store = open_store(config)?;
    let rows = store.snapshot().map_err(|err| on_database(err, config))?;
    let listed = places_of(rows.iter().collect(), config)?;
    let ports = config.limits.slots().flat_map(PortPair::ports);
    let listeners = look(ports, &config.container_sockets(), PATIENCE).listeners;
    unless_interrupted()?;
    let picture = draw(&listed, config, |port| listeners.on(port).next().is_some());
    match format {
        Format::Json => map::json(out, &picture),
        Format::Svg => map::svg(out, &picture),
        _ => map::human(out, config.look, &picture),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Draws the port range with these rows. `is_used` tells whether a port is in use on this machine.
pub(super) fn draw(rows: &[Listed<'_>], config: &Config, is_used: impl Fn(u16) -> bool) -> Map {
    // The map is useful without the plans, so an unreadable file is only a warning.
    let plans = read_plans(config).unwrap_or_else(|err| {
        log::warn!("{:#}; its plans are left out", err.into_cause());
        Plans::default()
    });
    let first_permitted = first_permitted_port();
    Map::new(&config.limits, &plans, rows, is_used, |port| port >= first_permitted)
}
