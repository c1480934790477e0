//! Reads the table `[ports]` of the configuration file, which limits the ports that may be given.

use serde::Deserialize;

use crate::core::policy::Limits;
use crate::core::ports::{PortSet, as_port, parse_port};

/// The table `[ports]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ports {
    backend_base: i64,
    frontend_base: i64,
    step: i64,
    max: i64,
    exclude: Vec<toml::Value>,
    allow_browser_blocked: bool,
    pub(super) probe: bool,
    pub(super) containers: bool,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            backend_base: 5001,
            frontend_base: 8001,
            step: 2,
            max: 65535,
            exclude: Vec::new(),
            allow_browser_blocked: false,
            probe: true,
            containers: false,
        }
    }
}

/// Converts the table, and checks its numbers.
///
/// # Errors
///
/// Returns a message with the key, its value and the expected values.
pub(super) fn limits(ports: &Ports) -> std::result::Result<Limits, String> {
    let port = |name: &str, value: i64| {
        as_port(value).ok_or_else(|| format!("{name} = {value}: expected a number from 1 to 65535"))
    };
    let mut excluded = PortSet::new();
    for value in &ports.exclude {
        let wrong = || format!("exclude = {value}: expected a port such as 5432 or a range such as \"7000-7010\"");
        let (first, last) = match value {
            toml::Value::Integer(port) => (port.to_string(), port.to_string()),
            toml::Value::String(text) => text.split_once('-').map_or_else(
                || (text.clone(), text.clone()),
                |(first, last)| (first.trim().to_owned(), last.trim().to_owned()),
            ),
            _ => return Err(wrong()),
        };
        let parse = |text: String| parse_port(&text).ok_or_else(wrong);
        let (first, last) = (parse(first)?, parse(last)?);
        if first > last {
            return Err(wrong());
        }
        excluded.extend(first..=last);
    }
    let limits = Limits {
        backend_base: port("backend_base", ports.backend_base)?,
        frontend_base: port("frontend_base", ports.frontend_base)?,
        step: port("step", ports.step)?,
        max: port("max", ports.max)?,
        excluded,
        allow_browser_blocked: ports.allow_browser_blocked,
    };
    if limits.backend_base == limits.frontend_base {
        return Err(format!("backend_base and frontend_base are both {}: they must differ", limits.backend_base));
    }
    Ok(limits)
}
