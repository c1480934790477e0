//! `init`: writes a first configuration file.

use std::io::Write;

use super::Answer;
use crate::config::{Config, template};
use crate::error::{Error, Result};
use crate::flags::GlobalArgs;
use crate::output::look::Format;
use crate::output::{human, json};

/// The formats that the command can print in.
pub(crate) const FORMATS: [Format; 2] = [Format::Human, Format::Json];

const AFTER_HELP: &str = "\
The file is manage-ports.toml in the current folder. It holds --database, --apps-dir and --timeout as \
they are given, and every other key as a comment with its default. A file that is there is left as it \
is.

Formats: human, json

Examples:
  manage-ports init
  manage-ports init --database instance/app.db --apps-dir generated/apps
  manage-ports init --database postgresql://ports@db.example.org/ports";

/// Write a configuration file with the settings given, and say what is chosen
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {}

pub(crate) fn run(_: &Args, flags: &GlobalArgs, out: &mut dyn Write) -> Result<Answer> {
    let path = template::write_file(flags)?;
    // The new file is loaded once; if a setting in it is invalid, the file is removed again.
    let flags = GlobalArgs { config: Some(path.clone()), ..flags.clone() };
    let config = Config::resolve(&flags)
        .and_then(|config| config.format(&FORMATS).map(|format| (config, format)))
        .inspect_err(|_| template::remove(&path));
    let (config, format) = config?;
    match format {
        Format::Json => json::init(out, &path, &config.database.to_string(), &config.apps_dir),
        _ => human::init(out, config.look, &path, &config.database.to_string(), &config.apps_dir),
    }
    .map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}
