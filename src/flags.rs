//! The raw global flags, and the few that are read before the command line is parsed.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Arg, ArgAction, ValueEnum, ValueHint, value_parser};

use crate::output::look::{ColorWhen, Format};

/// The position of `--format` among a command's options: it is the last.
const FORMAT_ORDER: usize = 500;

/// Adds `--format` with the given formats to a command. If there are none, the help hides `--format` and
/// `--json`.
pub(crate) fn with_formats(command: clap::Command, formats: &'static [Format]) -> clap::Command {
    let values = formats.iter().filter_map(Format::to_possible_value);
    let format = Arg::new("format")
        .long("format")
        .global(true)
        .hide(formats.is_empty())
        .value_name("FORMAT")
        .value_parser(PossibleValuesParser::new(values).try_map(|name| Format::from_str(&name, false)))
        .display_order(FORMAT_ORDER)
        .help("How to print the answer");
    if !formats.is_empty() {
        return command.arg(format);
    }
    let json = Arg::new("json").long("json").global(true).action(ArgAction::SetTrue).conflicts_with("format");
    command.arg(format.value_parser(value_parser!(Format))).arg(json.hide(true))
}

/// The flags of every command, as given.
#[derive(Clone, Default, clap::Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalArgs {
    /// The database: a path, or a URL such as postgresql://user@host/ports; data/ports.db beside the
    /// configuration file by default [env: MANAGE_PORTS_DATABASE]
    #[arg(long, global = true, hide_short_help = true, value_name = "PATH or URL", value_hint = ValueHint::FilePath)]
    pub(crate) database: Option<OsString>,

    /// The folder that holds <model>/app<N>; generated/apps by default [env: MANAGE_PORTS_APPS_DIR]
    #[arg(long, global = true, hide_short_help = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub(crate) apps_dir: Option<PathBuf>,

    /// The configuration file; manage-ports.toml in this folder or the nearest one above by default
    /// [env: MANAGE_PORTS_CONFIG]
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) config: Option<PathBuf>,

    /// The longest wait for other writers, such as 500ms or 2m; 30s by default [env: MANAGE_PORTS_TIMEOUT]
    #[arg(long, global = true, hide_short_help = true, value_name = "DURATION", allow_hyphen_values = true)]
    pub(crate) timeout: Option<String>,

    /// The file in which commands count what they do, for node_exporter's textfile collector; none by default
    /// [env: MANAGE_PORTS_METRICS_FILE]
    #[arg(long, global = true, hide_short_help = true, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub(crate) metrics_file: Option<OsString>,

    /// How to print the answer; a command's help lists its own formats
    #[arg(long, global = true, hide_possible_values = true, value_name = "FORMAT", display_order = FORMAT_ORDER)]
    pub(crate) format: Option<Format>,

    /// The same as --format json
    #[arg(long, global = true, hide_short_help = true, conflicts_with = "format")]
    pub(crate) json: bool,

    /// When to use colours [env: NO_COLOR, CLICOLOR_FORCE]
    #[arg(long, global = true, hide_short_help = true, value_name = "WHEN")]
    pub(crate) color: Option<ColorWhen>,

    /// Log choices, waits and retries to stderr; twice for slots and timings, too
    #[arg(short, long, global = true, hide_short_help = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub(crate) verbose: u8,

    /// Print nothing but errors to stderr
    #[arg(short, long, global = true, hide_short_help = true)]
    pub(crate) quiet: bool,
}

impl GlobalArgs {
    /// Reads the flags that name the database from an unfinished command line, which need not parse.
    pub(crate) fn of_unfinished(words: &[OsString]) -> Self {
        let value = |flag| value_of(words, flag).map(OsStr::to_owned);
        Self { database: value("--database"), config: value("--config").map(PathBuf::from), ..Self::default() }
    }
}

/// Tells whether to write stderr as JSON. It does not use clap, because the command line may be invalid.
pub(crate) fn asks_for_json(args: &[OsString]) -> bool {
    value_of(args, "--format").is_some_and(|format| format == "json") || before_dashes(args).any(|arg| arg == "--json")
}

/// Returns the value of `--color`, which it finds without clap.
pub(crate) fn color(args: &[OsString]) -> Option<ColorWhen> {
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
