//! `show`: prints one app, or the app that has a given port.

use std::io::Write;

use super::named::AppsArgs;
use super::places::{declared_of, places_of};
use super::port_users::listeners;
use super::{Answer, hint_at_missing, on_database, open_store, parse_port};
use crate::config::Config;
use crate::core::allocation::{Allocation, Outcome};
use crate::core::app::AppId;
use crate::core::text::Shown;
use crate::error::{Error, Result};
use crate::host::containers::PATIENCE;
use crate::host::port_use;
use crate::output::look::Format;
use crate::output::{human, json, show};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 4] = [Format::Human, Format::Json, Format::Plain, Format::Env];

const AFTER_HELP: &str = "\
Nothing is made and nothing is changed: `allocate` gives ports to an app that has none.

Formats: human, json, plain (`5001 8001`), env

Examples:
  manage-ports show openai_gpt-4.1 3
  manage-ports show openai_gpt-4.1/app3 --json
  manage-ports show 6351";

const USAGE: &str = "manage-ports show [OPTIONS] <MODEL> <APP>
       manage-ports show [OPTIONS] <MODEL/appN>
       manage-ports show [OPTIONS] <PORT>";

const HINT: &str =
    "manage-ports show MODEL APP, such as `manage-ports show openai_gpt-4.1 3`, or manage-ports show PORT";

/// Show all that is known of one app, or of the app that has a port
///
/// That is its ports, state and directory, what its files declare and who listens. Exits with 1 if there
/// is no such app.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    app: AppsArgs,
}

/// The app or the port that the command line names.
enum Asked {
    App(AppId, Result<()>),
    Port(u16),
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let asked = match args.app.only_word() {
        Some(word) if word.bytes().all(|byte| byte.is_ascii_digit()) && !word.is_empty() => {
            Asked::Port(parse_port(word).map_err(|why| Error::usage(format!("'{word}': {why}")))?)
        }
        _ => {
            let (app, rules) = args.app.app_of_row(HINT)?;
            Asked::App(app, rules)
        }
    };
    let rows = open_store(config).and_then(|mut store| store.snapshot().map_err(|err| on_database(err, config)));
    match asked {
        Asked::App(app, rules) => {
            let rows = match rows {
                Ok(rows) if rows.iter().any(|row| row.app == app) => rows,
                // If another program wrote a row whose name breaks the rules, that name is accepted.
                none => rules.and(none)?,
            };
            let found: Vec<_> = rows.iter().filter(|row| row.app == app).collect();
            if found.is_empty() {
                if format == Format::Human {
                    human::not_found(out, config.look, &app).map_err(Error::unwritten)?;
                }
                hint_at_missing(&app.model, rows.iter().map(|row| &row.app), config);
                return Ok(Answer::No);
            }
            print(out, format, found, config)
        }
        Asked::Port(port) => {
            let rows = rows?;
            let found: Vec<_> = rows.iter().filter(|row| row.ports().contains(&port.into())).collect();
            if found.is_empty() {
                if format == Format::Human {
                    human::no_port(out, config.look, port, &config.database.to_string()).map_err(Error::unwritten)?;
                } else {
                    log::info!("no allocation in {} has port {port}", Shown(&config.database.to_string()));
                }
                tell_users(port, config);
                return Ok(Answer::No);
            }
            print(out, format, found, config)
        }
    }
}

/// Prints which processes and containers use a port that no row has.
fn tell_users(port: u16, config: &Config) {
    for user in port_use::look([port], &config.container_sockets(), PATIENCE).listeners.on(port) {
        log::info!("port {port} is {}", user.use_of_port());
    }
}

/// Prints the rows. There is more than one only if two rows have the same port.
fn print(out: &mut dyn Write, format: Format, rows: Vec<&Allocation>, config: &Config) -> Result<Answer> {
    if matches!(format, Format::Plain | Format::Env) {
        let outcome = |row: &&Allocation| Outcome { allocation: (*row).clone(), created: false };
        super::give::print(out, format, config, &rows.iter().map(outcome).collect::<Vec<_>>())?;
        return Ok(Answer::Yes);
    }
    let listeners = listeners(rows.iter().copied(), config);
    for listed in places_of(rows, config)? {
        let declared = declared_of(&listed, config);
        let app = show::App { listed, declared };
        match format {
            Format::Json => json::shown_app(out, &app, &listeners),
            _ => show::human(out, config.look, &app, &listeners),
        }
        .map_err(Error::unwritten)?;
    }
    Ok(Answer::Yes)
}
