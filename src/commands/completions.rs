//! `completions`: prints scripts with which a shell completes commands, models, apps and ports.

mod typed;

use std::collections::HashSet;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate, PathCompleter, ValueCompleter, complete};
use clap_complete::env::Shells;

use self::typed::Typed;
use super::{Answer, open_store};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::error::{Error, Result};
use crate::flags::GlobalArgs;

/// The variable in which a completion script passes the shell's name when it asks for candidates.
const COMPLETE_VARIABLE: &str = "MANAGE_PORTS_COMPLETE";

const AFTER_HELP: &str = "\
The script asks the program itself, so it completes models, apps and ports from the database.

Examples:
  manage-ports completions bash > ~/.local/share/bash-completion/completions/manage-ports
  manage-ports completions zsh > ~/.zfunc/_manage-ports
  manage-ports completions fish > ~/.config/fish/completions/manage-ports.fish";

/// The longest wait for a locked database after the user pressed Tab.
const PATIENCE: Duration = Duration::from_millis(200);

/// Print the completion script for a shell
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    Power,
    Zsh,
}

/// The parsed completion request. It is global, because clap passes no context to the functions that list
/// candidates.
#[derive(Default)]
struct Request {
    typed: Typed,
    /// The model that the command line already names.
    model: Option<String>,
    /// The names of all commands.
    commands: Vec<String>,
}

static REQUEST: OnceLock<Request> = OnceLock::new();

pub(crate) fn run(args: &Args, command: &clap::Command, out: &mut dyn Write) -> Result<Answer> {
    let script = match args.shell {
        Shell::Bash => include_str!("completions/register.bash"),
        Shell::Fish => include_str!("completions/register.fish"),
        Shell::Zsh => include_str!("completions/register.zsh"),
        Shell::Elvish | Shell::Power => {
            let name = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let shells = Shells::builtins();
            let shell = shells.completer(&name).ok_or_else(|| Error::usage(format!("no completions for '{name}'")))?;
            let name = command.get_name();
            shell.write_registration(COMPLETE_VARIABLE, name, name, name, out).map_err(Error::unwritten)?;
            return Ok(Answer::Yes);
        }
    };
    out.write_all(script.as_bytes()).map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Prints the candidates for the last word if a completion script asks for them; else returns `false`.
pub(crate) fn answer(args: &[OsString], command: impl FnOnce() -> clap::Command, out: &mut dyn Write) -> Result<bool> {
    let Some(shell) = env::var_os(COMPLETE_VARIABLE).filter(|shell| !shell.is_empty()) else { return Ok(false) };
    let shell = shell.to_str().and_then(|name| Shell::from_str(name, true).ok());
    let shell = shell.ok_or_else(|| Error::usage(format!("{COMPLETE_VARIABLE} names no shell")))?;
    let mut command = command();
    command.build();
    // The script passes the words of the command line after the first `--`.
    let mut words = args.iter().skip_while(|word| *word != "--").skip(1).cloned();
    let typed = match shell {
        Shell::Bash => {
            let mut text = || words.next().unwrap_or_default().to_string_lossy().into_owned();
            Typed::of_bash(&text(), &text())
        }
        _ => Typed::of_words(words),
    };
    let request = Request {
        model: named_model(&command, &typed.words),
        commands: command.get_subcommands().map(|command| command.get_name().to_owned()).collect(),
        typed,
    };
    let Request { typed, .. } = REQUEST.get_or_init(|| request);
    for candidate in candidates(&mut command, &typed.words) {
        let value = candidate.get_value().to_string_lossy();
        let help = candidate.get_help().map(|help| help.to_string().lines().next().unwrap_or_default().to_owned());
        match (shell, help) {
            (Shell::Bash, _) => writeln!(out, "{}", typed.to_insert(&value)),
            (Shell::Zsh, help) => {
                let value = value.replace('\\', "\\\\").replace(':', "\\:");
                match help {
                    Some(help) => writeln!(out, "{value}:{help}"),
                    None => writeln!(out, "{value}"),
                }
            }
            // PowerShell inserts a value without quoting it, so only values that need no quotes are offered.
            (Shell::Power, _) if value.contains(' ') || !is_harmless(&value) => Ok(()),
            (Shell::Fish | Shell::Power, Some(help)) => writeln!(out, "{value}\t{help}"),
            _ => writeln!(out, "{value}"),
        }
        .map_err(Error::unwritten)?;
    }
    Ok(true)
}

/// Returns the candidates for the last word; on an error there are none.
fn candidates(command: &mut clap::Command, words: &[String]) -> Vec<CompletionCandidate> {
    let (Some(last), folder) = (words.len().checked_sub(1), env::current_dir().ok()) else { return Vec::new() };
    // clap would take the command of `exec` for one more app, so it is completed here.
    match words[..last].iter().position(|word| word == "--") {
        Some(dashes) if last == dashes + 1 && !words[last].contains('/') => programs(&words[last]),
        Some(_) => PathCompleter::any().complete(OsStr::new(&words[last])),
        None => {
            let words = words.iter().map(OsString::from).collect();
            complete(command, words, last, folder.as_deref()).unwrap_or_default()
        }
    }
}

/// Returns the programs on the `PATH` whose names begin with `start`.
fn programs(start: &str) -> Vec<CompletionCandidate> {
    let path = env::var_os("PATH").unwrap_or_default();
    let entries = env::split_paths(&path).filter_map(|folder| folder.read_dir().ok()).flatten().flatten();
    let is_program = |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file();
    let names = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (name.starts_with(start) && is_program(&entry.path())).then_some(name)
    });
    let mut names: Vec<_> = names.collect();
    names.sort();
    as_candidates(names.into_iter().map(|name| (name, None)))
}

/// Returns the model that a command line names before its last word, by a flag or as the command's first
/// argument.
fn named_model(root: &clap::Command, words: &[String]) -> Option<String> {
    let (_, before) = words.split_last()?;
    let mut words = before.iter().skip(1);
    let mut command = root;
    let mut first = None;
    while let Some(word) = words.next() {
        if let Some(flag) = word.strip_prefix("--") {
            let (name, mut value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let takes_value = |arg: &&clap::Arg| arg.get_long() == Some(name) && arg.get_action().takes_values();
            if value.is_none() && command.get_arguments().any(|arg| takes_value(&arg)) {
                value = words.next().map(String::as_str);
            }
            if name == "model" && value.is_some() {
                return value.map(str::to_owned);
            }
        } else if let Some(found) = command.find_subcommand(word) {
            command = found;
        } else if !word.starts_with('-') && first.is_none() {
            first = Some(word.clone());
        }
    }
    first
}

/// Completes models that are in the database.
pub(super) fn models() -> ArgValueCandidates {
    ArgValueCandidates::new(|| model_names(&rows()))
}

/// Completes the numbers of the apps that the named model has in the database.
pub(super) fn apps() -> ArgValueCandidates {
    ArgValueCandidates::new(app_nums)
}

/// Completes a first argument: apps if `--model` is given; else models, and `MODEL/appN` after a model is
/// typed.
pub(super) fn models_or_apps() -> ArgValueCandidates {
    ArgValueCandidates::new(first_arguments)
}

/// Completes ports that are allocated.
pub(super) fn ports() -> ArgValueCandidates {
    ArgValueCandidates::new(|| port_numbers(&rows()))
}

/// Completes the names of commands.
pub(super) fn commands() -> ArgValueCandidates {
    ArgValueCandidates::new(|| {
        let commands = REQUEST.get().map(|request| request.commands.clone()).unwrap_or_default();
        as_candidates(commands.into_iter().map(|name| (name, None)))
    })
}

fn first_arguments() -> Vec<CompletionCandidate> {
    let Some(request) = REQUEST.get() else { return Vec::new() };
    if request.model.is_some() {
        return app_nums();
    }
    let rows = rows();
    let of_app = |row: &&Allocation| {
        let rest = request.typed.current().strip_prefix(&row.app.model);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let mut candidates = model_names(&rows);
    candidates.extend(as_candidates(rows.iter().filter(of_app).map(|row| (row.app.to_string(), None))));
    // Of the commands that take an app, only `show` also takes a port.
    if request.typed.words.iter().any(|word| word == "show") {
        candidates.extend(port_numbers(&rows));
    }
    candidates
}

fn model_names(rows: &[Allocation]) -> Vec<CompletionCandidate> {
    as_candidates(rows.iter().map(|row| (row.app.model.clone(), None)))
}

fn app_nums() -> Vec<CompletionCandidate> {
    let model = REQUEST.get().and_then(|request| request.model.as_ref());
    let rows = rows();
    let is_named = |row: &&Allocation| model.is_none_or(|model| *model == row.app.model);
    as_candidates(rows.iter().filter(is_named).map(|row| (row.app.app_num.to_string(), None)))
}

fn port_numbers(rows: &[Allocation]) -> Vec<CompletionCandidate> {
    let with_role = |row: &Allocation| {
        let of_app = |port: i64, role| (port.to_string(), Some(format!("{role} of {}", row.app)));
        [of_app(row.backend_port, "backend"), of_app(row.frontend_port, "frontend")]
    };
    as_candidates(rows.iter().flat_map(with_role))
}

/// Makes candidates in the given order without duplicates. A value with a special character of shells is left
/// out.
fn as_candidates(values: impl Iterator<Item = (String, Option<String>)>) -> Vec<CompletionCandidate> {
    let mut seen = HashSet::new();
    let values = values.filter(|(value, _)| is_harmless(value) && seen.insert(value.clone()));
    let candidate = |(order, (value, help)): (usize, (String, Option<String>))| {
        CompletionCandidate::new(value).help(help.map(Into::into)).display_order(Some(order))
    };
    values.enumerate().map(candidate).collect()
}

/// Tells whether a value has no special character of any shell, apart from blanks.
fn is_harmless(value: &str) -> bool {
    value.chars().all(|c| c.is_alphanumeric() || "_-./:@%+,= ".contains(c))
}

/// Reads the rows of the database that the unfinished command line names. On an error it returns none,
/// because a completion cannot print a message.
fn rows() -> Vec<Allocation> {
    let words = REQUEST.get().map(|request| request.typed.words.iter().map(OsString::from).collect::<Vec<_>>());
    let Ok(mut config) = Config::resolve(&GlobalArgs::of_unfinished(&words.unwrap_or_default())) else {
        return Vec::new();
    };
    config.timeout = config.timeout.min(PATIENCE);
    open_store(&config).ok().and_then(|mut store| store.snapshot().ok()).unwrap_or_default()
}
