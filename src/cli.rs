//! Parses the command line with clap and runs the command in a plain `match`.

use std::ffi::OsString;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::mem;
use std::process::ExitCode;
use std::rc::Rc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::commands::{self, Answer};
use crate::config::{self, Config, is_dumb, wants_colour};
use crate::core::counts::Counts;
use crate::error::{Error, Result, Style};
use crate::flags::{self, GlobalArgs};
use crate::output::{Pipe, log, look};

/// Returns the text at the end of the program's own help.
fn after_help() -> String {
    let codes = commands::man::EXIT_CODES.map(|(code, meaning)| format!("  {code:<5}{meaning}\n"));
    format!(
        "Exit codes:\n{}\n\
         Settings come from flags, then the environment, then the configuration file, then the defaults.",
        codes.concat()
    )
}

/// Gives every generated app a backend and a frontend port of its own
#[derive(Parser)]
#[command(name = "manage-ports", version, after_long_help = after_help(), max_term_width = 100)]
#[command(arg_required_else_help = false, subcommand_required = true, disable_help_subcommand = true)]
struct Root {
    #[command(flatten)]
    global: GlobalArgs,
}

#[derive(Subcommand)]
#[command(defer = true)]
enum Command {
    Allocate(commands::allocate::Args),
    Reserve(commands::reserve::Args),
    Exec(commands::exec::Args),
    Show(commands::show::Args),
    List(commands::list::Args),
    Status(commands::status::Args),
    Check(commands::check::Args),
    Cleanup(commands::cleanup::Args),
    Release(commands::release::Args),
    Import(commands::import::Args),
    Map(commands::map::Args),
    Metrics(commands::metrics::Args),
    Migrate(commands::migrate::Args),
    Init(commands::init::Args),
    Selftest(commands::selftest::Args),
    Completions(commands::completions::Args),
    Man(commands::man::Args),
    Help(commands::help::Args),
}

impl Command {
    /// Tells whether the metrics file counts what the command does: it uses the configured database.
    fn is_counted(&self) -> bool {
        !matches!(self, Self::Init(_) | Self::Selftest(_) | Self::Completions(_) | Self::Man(_) | Self::Help(_))
    }

    /// Tells whether the command is to allocate ports, so that its errors are counted.
    fn allocates(&self) -> bool {
        match self {
            Self::Allocate(_) | Self::Exec(_) => true,
            Self::Reserve(args) => args.allocates(),
            Self::Import(args) => args.allocates(),
            _ => false,
        }
    }
}

/// Runs the program with its arguments, of which the first is the program's name.
///
/// # Errors
///
/// Returns the error that ended the run; it has not been printed yet.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    run_command(args).map_err(|err| err.in_style(stderr_style(args)))
}

fn stderr_style(args: &[OsString]) -> Style {
    Style {
        is_json: flags::asks_for_json(args),
        has_colour: wants_colour(flags::color(args), io::stderr().is_terminal()),
        width: look::width(io::stderr()),
    }
}

fn run_command(args: &[OsString]) -> Result<ExitCode> {
    let mut out = BufWriter::new(Pipe::new(io::stdout().lock()));
    if commands::completions::answer(args, command, &mut out)? {
        out.flush().map_err(Error::unwritten)?;
        return Ok(ExitCode::SUCCESS);
    }
    if args.len() < 2 {
        let has_colour = wants_colour(None, io::stderr().is_terminal());
        commands::help::print(command(), has_colour, &mut io::stderr().lock())?;
        return Ok(ExitCode::from(2));
    }
    let (global, subcommand) = match parse(args) {
        Ok(parsed) => parsed,
        Err(err) if !err.use_stderr() => {
            let text = err.render();
            let has_colour = wants_colour(flags::color(args), io::stdout().is_terminal());
            let written = if has_colour { write!(out, "{}", text.ansi()) } else { write!(out, "{text}") };
            written.and_then(|()| out.flush()).map_err(Error::unwritten)?;
            return Ok(ExitCode::SUCCESS);
        }
        Err(err) => return Err(Error::parsing(&err)),
    };
    let Style { is_json, has_colour, .. } = stderr_style(args);
    log::start(global.verbose, global.quiet, is_json, has_colour, is_dumb());
    let counts = Rc::new(Counts::default());
    let is_counted = subcommand.is_counted();
    let allocates = subcommand.allocates();
    let result = run_subcommand(subcommand, &global, &counts, &mut out).and_then(|answer| {
        commands::timed("writing the answer", || out.flush()).map(|()| answer).map_err(Error::unwritten)
    });
    let result = result.map_err(|err| if counts.has_changes() { err.after_changes() } else { err });
    if let Some(file) = config::metrics_file(&global).filter(|_| is_counted) {
        let error = result.as_ref().err().filter(|_| allocates);
        commands::counters::record(&file, &counts.take(), error.map(Error::kind));
    }
    Ok(match result? {
        Answer::Yes => ExitCode::SUCCESS,
        Answer::No => ExitCode::from(1),
    })
}

/// Runs one command, which counts what it does and writes its answer.
fn run_subcommand(
    subcommand: Command,
    global: &GlobalArgs,
    counts: &Rc<Counts>,
    out: &mut dyn Write,
) -> Result<Answer> {
    let config = || {
        let mut config = Config::resolve(global)?;
        config.counts = Rc::clone(counts);
        Ok::<_, Error>(config)
    };
    match subcommand {
        Command::Allocate(args) => commands::allocate::run(&args, &config()?, out),
        Command::Reserve(args) => commands::reserve::run(&args, &config()?, out),
        Command::Exec(args) => commands::exec::run(&args, &config()?),
        Command::Show(args) => commands::show::run(&args, &config()?, out),
        Command::List(args) => commands::list::run(&args, &config()?, out),
        Command::Status(args) => commands::status::run(&args, &config()?, out),
        Command::Check(args) => commands::check::run(&args, &config()?, out),
        Command::Cleanup(args) => commands::cleanup::run(&args, &config()?, out),
        Command::Release(args) => commands::release::run(&args, &config()?, out),
        Command::Import(args) => commands::import::run(&args, &config()?, out),
        Command::Map(args) => commands::map::run(&args, &config()?, out),
        Command::Migrate(args) => commands::migrate::run(&args, &config()?, out),
        Command::Metrics(args) => commands::metrics::run(&args, &config()?, out),
        Command::Init(args) => commands::init::run(&args, global, out),
        Command::Selftest(args) => commands::selftest::run(&args, &config()?, out),
        Command::Completions(args) => commands::completions::run(&args, &command(), out),
        Command::Man(args) => commands::man::run(&args, command(), out),
        Command::Help(args) => {
            let has_colour = wants_colour(global.color, io::stdout().is_terminal());
            commands::help::run(&args, command(), has_colour, out)
        }
    }
}

/// Builds the whole command line with all commands.
fn command() -> clap::Command {
    let mut command = Command::augment_subcommands(Root::command());
    for subcommand in command.get_subcommands_mut() {
        *subcommand = with_its_formats(mem::take(subcommand));
    }
    command
}

/// Adds `--format` to a command, with the formats that the command can print in.
fn with_its_formats(command: clap::Command) -> clap::Command {
    let formats: &[_] = match command.get_name() {
        "allocate" | "reserve" => &commands::give::FORMATS,
        "show" => &commands::show::FORMATS,
        "list" => &commands::list::FORMATS,
        "status" => &commands::status::FORMATS,
        "check" => &commands::check::FORMATS,
        "cleanup" => &commands::cleanup::FORMATS,
        "release" => &commands::release::FORMATS,
        "import" => &commands::import::FORMATS,
        "map" => &commands::map::FORMATS,
        "migrate" => &commands::migrate::FORMATS,
        "init" => &commands::init::FORMATS,
        "selftest" => &commands::selftest::FORMATS,
        _ => &[],
    };
    flags::with_formats(command, formats)
}

/// Parses the arguments with only the one command that they name. Building all commands and copying the
/// global flags to each would take longer than the rest of the parsing. If this fails, all commands are
/// built, so that clap can give a good error message.
fn parse(args: &[OsString]) -> clap::error::Result<(GlobalArgs, Command)> {
    let commands = Command::augment_subcommands(clap::Command::default());
    let named = args.iter().skip(1).find_map(|arg| commands.find_subcommand(arg));
    let parsed = named
        .and_then(|named| Root::command().subcommand(with_its_formats(named.clone())).try_get_matches_from(args).ok());
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
