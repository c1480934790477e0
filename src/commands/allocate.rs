//! `allocate`: gives each app its pair of ports.

use std::io::Write;
use std::path::PathBuf;

use super::env_files::EnvFiles;
use super::give::{FORMATS, Request, check_format, give, give_useful, print};
use super::named::AppsArgs;
use super::{Answer, parse_port};
use crate::config::Config;
use crate::core::allocation::PortPair;
use crate::error::{Error, Result};

const AFTER_HELP: &str = "\
Formats: human, json (one object a line), csv, plain (`5001 8001`), env (one app only)

Examples:
  manage-ports allocate openai_gpt-4.1 3
  manage-ports allocate openai_gpt-4.1 1-50 --json
  manage-ports allocate openai_gpt-4.1 3 --backend-port 5101 --frontend-port 8101
  manage-ports allocate openai_gpt-4.1 1-50 --env-file '{dir}/.env'
  ports=$(manage-ports allocate openai_gpt-4.1 3 --format env) || exit; eval \"$ports\"";

const USAGE: &str = "manage-ports allocate [OPTIONS] <MODEL> <APPS>...
       manage-ports allocate [OPTIONS] <MODEL/appN>...";

const HINT: &str = "manage-ports allocate MODEL APPS, such as `manage-ports allocate openai_gpt-4.1 1-20`";

/// Give apps their ports: the ones they have, or the lowest free pair
///
/// The ports are durable before they are printed. Calling again, from any number of processes,
/// prints the same ports again. Several apps are given ports all together or not at all.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,

    /// Ask for this backend port, for one app
    #[arg(long, value_name = "PORT", requires = "frontend_port", allow_negative_numbers = true, value_parser = parse_port)]
    backend_port: Option<u16>,

    /// Ask for this frontend port, for one app
    #[arg(long, value_name = "PORT", requires = "backend_port", allow_negative_numbers = true, value_parser = parse_port)]
    frontend_port: Option<u16>,

    /// Set the ports in this file, too, and keep all else in it
    ///
    /// In FILE, {model}, {safe_model}, {app} and {dir} (the app's directory) stand for what they are of
    /// each app. What keeps a file from being written is told before ports are given.
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    env_file: Option<PathBuf>,

    /// Hand out ports that something on this machine listens on, too
    #[arg(long)]
    no_probe: bool,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let apps = args.apps.apps(HINT)?;
    let pair = asked_pair(args)?;
    if apps.len() > 1 && pair.is_some() {
        return Err(Error::usage(
            "--backend-port and --frontend-port name the ports of one app, and several are named",
        ));
    }
    check_format(format, &apps)?;
    // Files that cannot be written are found before ports are given. This check may take a while; `write`
    // reads the files again, so that no change made by others in the meantime is lost.
    let env_files = args.env_file.as_deref().map(|file| EnvFiles::inspect(file, &apps, config)).transpose()?;
    let request = Request { apps, pair, hold: None, probe: config.probe && !args.no_probe };
    let outcomes = match &env_files {
        Some(env_files) => give_useful(&request, config, |app, pair| env_files.check(app, pair))?,
        None => give(&request, config)?,
    };
    if let Some(env_files) = env_files {
        env_files.write(&outcomes, config)?;
    }
    print(out, format, config, &outcomes)?;
    Ok(Answer::Yes)
}

fn asked_pair(args: &Args) -> Result<Option<PortPair>> {
    let Some((backend, frontend)) = args.backend_port.zip(args.frontend_port) else { return Ok(None) };
    match PortPair::new(backend, frontend) {
        Some(pair) => Ok(Some(pair)),
        None => Err(Error::usage(format!("--backend-port and --frontend-port are both {backend}: they must differ"))),
    }
}
