//! `exec`: becomes a command that finds its app's ports in the environment.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::anyhow;

use super::Answer;
use super::give::{Request, give};
use super::named::AppsArgs;
use crate::config::Config;
use crate::error::{Error, Kind, Result};
use crate::host::clock;
use crate::output::human::env_variables;
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
    // A misspelt command must not cost a pair of ports.
    if !is_found(program) {
        let message = format!("command '{}' was not found, or is no program", program.to_string_lossy());
        return Err(Error::usage(message).hint("check its name, or the PATH"));
    }
    clock::keep_ignored();
    let outcomes = give(&Request { apps: vec![app], pair: None, hold: None, probe: config.probe }, config)?;
    let mut command = Command::new(program);
    command.args(arguments).envs(outcomes.iter().flat_map(|outcome| env_variables(&outcome.allocation)));
    // It returns only if it failed.
    let err = anyhow!(command.exec()).context(format!("could not run '{}'", program.to_string_lossy()));
    Err(Error::new(Kind::Usage, err).hint("its app has been given ports"))
}

/// Whether there is such a command: a path, or a name on the `PATH`.
fn is_found(program: &OsStr) -> bool {
    let is_program =
        |path: &Path| path.metadata().is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
    if program.as_bytes().contains(&b'/') {
        return is_program(Path::new(program));
    }
    // Without a PATH the system looks here: see execvp(3).
    let path = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}
