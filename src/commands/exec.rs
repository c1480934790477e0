//! `exec`: replaces this process by a command, with the app's ports in the environment.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::anyhow;

use super::give::{Request, give};
use super::named::AppsArgs;
use super::port_users::warn_of_listeners;
use super::{Answer, counters, unless_interrupted};
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::{clock, program};
use crate::output::look::Format;

const AFTER_HELP: &str = "\
The command takes the place of this process: signals reach it, and its exit status is the program's.

Examples:
  manage-ports exec openai_gpt-4.1 3 -- npm run dev
  manage-ports exec openai_gpt-4.1 3 -- sh -c 'flask run --port $BACKEND_PORT'";

const USAGE: &str = "manage-ports exec [OPTIONS] <MODEL> <APP> -- <COMMAND>...
       manage-ports exec [OPTIONS] <MODEL/appN> -- <COMMAND>...";

const HINT: &str =
    "manage-ports exec MODEL APP -- COMMAND, such as `manage-ports exec openai_gpt-4.1 3 -- npm run dev`";

/// Run a command with an app's ports in BACKEND_PORT and FRONTEND_PORT
///
/// The app is given ports as by `allocate`, before the command starts.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    app: AppsArgs,

    /// The command and its arguments, after --
    #[arg(value_name = "COMMAND", last = true, num_args = 1..)]
    command: Vec<OsString>,
}

pub(crate) fn run(args: &Args, config: &Config) -> Result<Answer> {
    config.format(&[Format::Human, Format::Json])?;
    let app = args.app.app(HINT)?;
    let [program, arguments @ ..] = args.command.as_slice() else {
        return Err(Error::usage("no COMMAND given: it stands after --").hint(HINT));
    };
    // The command is looked up first: a misspelt one must not cost a pair of ports.
    program::find(program, &config.search_path())
        .map_err(|err| cannot_run(program, err).hint("check its name, its rights and the PATH"))?;
    clock::keep_ignored();
    let outcomes = give(&Request { apps: vec![app], pair: None, hold: None, probe: config.probe }, config)?;
    let rows: Vec<_> = outcomes.iter().map(|outcome| &outcome.allocation).collect();
    warn_of_listeners(&rows, config);
    // The command takes the place of this process, which counts nothing afterwards.
    if let Some(file) = &config.metrics_file {
        counters::record(file, &config.counts.take(), None);
    }
    let mut command = Command::new(program);
    command.args(arguments).envs(rows.iter().flat_map(|row| config.declared.with_ports(row.ports())));
    clock::end_on_interrupt().map_err(|err| Error::msg(Kind::Io, format!("cannot watch for Ctrl-C: {err}")))?;
    unless_interrupted()?;
    // `exec` returns only if it failed.
    Err(cannot_run(program, command.exec()).hint(
        "its app has been given ports; if it is a script, see whether the program that its first line names is there",
    ))
}

/// Returns the error for a command that could not be run, with the exit code that `env(1)` uses.
fn cannot_run(program: &OsStr, err: io::Error) -> Error {
    let name = program.to_string_lossy();
    if err.kind() == io::ErrorKind::NotFound {
        return Error::msg(Kind::NoCommand, format!("command '{name}' was not found"));
    }
    Error::new(Kind::NotExecutable, anyhow!(err).context(format!("command '{name}' cannot be executed")))
}
