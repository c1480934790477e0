//! The command line: every flag as a clap type, and a plain `match` to the commands.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::CompleteEnv;

use crate::commands::{self, Answer};
use crate::config::{Config, wants_colour};
use crate::error::{Error, Result};
use crate::output::{Pipe, log};

/// The variable by which a shell's completion script asks for candidates.
pub(crate) const COMPLETE_VARIABLE: &str = "MANAGE_PORTS_COMPLETE";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    the answer is no: conflicts found, nothing to release
  2    bad usage or configuration
  3    the database cannot be used
  4    no free pair is left
  5    the apps directory cannot be used
  6    the ports asked for are taken or refused
  130  interrupted

Settings come from flags, then the environment, then the configuration file, then the defaults.";

/// Gives every generated app a backend and a frontend port of its own
#[derive(Parser)]
#[command(name = "manage-ports", version, styles = STYLES, after_help = AFTER_HELP, max_term_width = 100)]
#[command(arg_required_else_help = false, subcommand_required = true, disable_help_subcommand = true)]
struct Root {
    #[command(flatten)]
    global: GlobalArgs,
}

/// The flags of every command, as given.
#[derive(clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The database: a path, or a URL such as postgresql://user@host/ports; data/ports.db beside the
    /// configuration file by default [env: MANAGE_PORTS_DATABASE]
    #[arg(long, global = true, value_name = "PATH or URL", value_hint = ValueHint::FilePath)]
    pub(crate) database: Option<OsString>,

    /// The folder that holds <model>/app<N>; generated/apps by default [env: MANAGE_PORTS_APPS_DIR]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) apps_dir: Option<PathBuf>,

    /// The configuration file; manage-ports.toml in this folder or the nearest one above by default
    /// [env: MANAGE_PORTS_CONFIG]
    #[arg(long, global = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,

    /// The longest wait for other writers, such as 500ms or 2m; 30s by default [env: MANAGE_PORTS_TIMEOUT]
    #[arg(long, global = true, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) timeout: Option<String>,

    /// How to print the answer; each command has some of these
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) format: Option<Format>,

    /// The same as --format json
    #[arg(long, global = true, conflicts_with = "format")]
    pub(crate) json: bool,

    /// When to use colours [env: NO_COLOR, CLICOLOR_FORCE]
    #[arg(long, global = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorWhen>,

    /// Log waits and retries to stderr; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Print nothing but errors to stderr
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// JSON
    Json,
    /// Comma-separated values with a header
    Csv,
    /// Bare values for scripts
    Plain,
    /// Shell variables
    Env,
    /// GitHub workflow annotations
    Github,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// Where a terminal reads them
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Allocate(commands::allocate::Args),
    Reserve(commands::reserve::Args),
    Exec(commands::exec::Args),
    List(commands::list::Args),
    Check(commands::check::Args),
    Cleanup(commands::cleanup::Args),
    Release(commands::release::Args),
    Import(commands::import::Args),
    Selftest(commands::selftest::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
}

/// Runs the program on its arguments, the program's name first.
///
/// # Errors
///
/// The one failure that ended it, not yet printed.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let completing = CompleteEnv::with_factory(command)
        .var(COMPLETE_VARIABLE)
        .try_complete(args, std::env::current_dir().ok().as_deref());
    match completing {
        Ok(false) => {}
        Ok(true) => return Ok(ExitCode::SUCCESS),
        Err(err) => return Err(Error::usage(err)),
    }

    let mut out = BufWriter::new(Pipe::new(io::stdout().lock()));
    let (global, command) = match parse(args) {
        Ok(parsed) => parsed,
        Err(err) if !err.use_stderr() => {
            let text = err.render();
            if wants_colour(colour_flag(args), io::stdout().is_terminal()) {
                write!(out, "{}", text.ansi())?;
            } else {
                write!(out, "{text}")?;
            }
            out.flush()?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(err) => return Err(Error::parsing(&err)),
    };
    log::start(global.verbose, global.quiet, wants_colour(global.color, io::stderr().is_terminal()));
    let config = || Config::resolve(&global);
    let answer = match command {
        Command::Allocate(args) => commands::allocate::run(&args, &config()?, &mut out),
        Command::Reserve(args) => commands::reserve::run(&args, &config()?, &mut out),
        Command::Exec(args) => commands::exec::run(&args, &config()?),
        Command::List(args) => commands::list::run(&args, &config()?, &mut out),
        Command::Check(args) => commands::check::run(&args, &config()?, &mut out),
        Command::Cleanup(args) => commands::cleanup::run(&args, &config()?, &mut out),
        Command::Release(args) => commands::release::run(&args, &config()?, &mut out),
        Command::Import(args) => commands::import::run(&args, &config()?, &mut out),
        Command::Selftest(args) => commands::selftest::run(&args, &config()?, &mut out),
        Command::Completions(args) => commands::completions::run(&args, &mut out),
        Command::Man(args) => commands::man::run(&args, &mut out),
    }?;
    out.flush()?;
    Ok(match answer {
        Answer::Yes => ExitCode::SUCCESS,
        Answer::No => ExitCode::from(1),
    })
}

/// The whole command line.
pub(crate) fn command() -> clap::Command {
    Command::augment_subcommands(Root::command())
}

/// Parses with the command alone that the arguments name: to build all of them, and to copy the
/// global flags to each, takes longer than the rest of the parsing. If that fails, all are built to
/// say what is wrong.
fn parse(args: &[OsString]) -> clap::error::Result<(GlobalArgs, Command)> {
    let commands = Command::augment_subcommands(clap::Command::default());
    let named = args.iter().skip(1).find_map(|arg| commands.find_subcommand(arg));
    let parsed = named.and_then(|named| Root::command().subcommand(named.clone()).try_get_matches_from(args).ok());
    let matches = match parsed {
        Some(matches) => matches,
        None => {
            let mut command = command();
            command.build();
            command.try_get_matches_from(args)?
        }
    };
    Ok((GlobalArgs::from_arg_matches(&matches)?, Command::from_arg_matches(&matches)?))
}

/// Whether an error is to be printed as JSON, judged without parsing: parsing may be what failed.
#[must_use]
pub fn asks_for_json(args: &[OsString]) -> bool {
    value_of(args, "--format").is_some_and(|format| format == "json") || before_dashes(args).any(|arg| arg == "--json")
}

/// Whether an error is to be printed in colour, judged likewise.
#[must_use]
pub fn colours_stderr(args: &[OsString]) -> bool {
    wants_colour(colour_flag(args), io::stderr().is_terminal())
}

fn colour_flag(args: &[OsString]) -> Option<ColorWhen> {
    value_of(args, "--color").and_then(|when| ColorWhen::from_str(when.to_str()?, true).ok())
}

fn before_dashes(args: &[OsString]) -> impl Iterator<Item = &OsStr> {
    args.iter().map(OsString::as_os_str).take_while(|arg| *arg != "--")
}

fn value_of<'a>(args: &'a [OsString], flag: &str) -> Option<&'a OsStr> {
    let mut args = before_dashes(args);
    while let Some(arg) = args.next() {
        if arg == flag {
            return args.next();
        }
        let value = arg.to_str().and_then(|arg| arg.strip_prefix(flag)?.strip_prefix('='));
        if let Some(value) = value {
            return Some(OsStr::new(value));
        }
    }
    None
}
