//! `completions`: scripts that let a shell complete commands, models and apps.

use std::collections::HashSet;
use std::env;
use std::ffi::OsString;
use std::io::Write;
use std::time::Duration;

use clap::ValueEnum;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;

use super::{Answer, open_store};
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::error::{Error, Result};
use crate::flags::GlobalArgs;

/// The variable by which a shell's completion script asks for candidates.
pub(crate) const COMPLETE_VARIABLE: &str = "MANAGE_PORTS_COMPLETE";

const AFTER_HELP: &str = "\
The script asks the program itself, so it completes models and apps from the database.

Examples:
  manage-ports completions bash > ~/.local/share/bash-completion/completions/manage-ports
  manage-ports completions zsh > ~/.zfunc/_manage-ports
  manage-ports completions fish > ~/.config/fish/completions/manage-ports.fish";

/// How long somebody who pressed Tab is kept waiting for a locked database.
const PATIENCE: Duration = Duration::from_millis(200);

/// Print the completion script for a shell
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    #[value(name = "powershell")]
    Power,
    Zsh,
}

pub(crate) fn run(args: &Args, command: &clap::Command, out: &mut dyn Write) -> Result<Answer> {
    let shell = args.shell.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let shells = Shells::builtins();
    let completer =
        shells.completer(&shell).ok_or_else(|| Error::usage(format!("no completions for the shell '{shell}'")))?;
    let name = command.get_name();
    completer.write_registration(COMPLETE_VARIABLE, name, name, name, out)?;
    Ok(Answer::Yes)
}

/// Completes the models that the database holds.
pub(super) fn models() -> ArgValueCandidates {
    ArgValueCandidates::new(model_names)
}

/// Completes the numbers of the apps that the database holds, of the model if one is named.
pub(super) fn apps() -> ArgValueCandidates {
    ArgValueCandidates::new(app_nums)
}

/// Completes a first argument: the apps of the model that `--model` named, else the models.
pub(super) fn models_or_apps() -> ArgValueCandidates {
    let names_model =
        || words().any(|word| word.to_str().is_some_and(|word| word.split('=').next() == Some("--model")));
    ArgValueCandidates::new(move || if names_model() { app_nums() } else { model_names() })
}

fn model_names() -> Vec<CompletionCandidate> {
    candidates(rows().into_iter().map(|row| row.app.model))
}

fn app_nums() -> Vec<CompletionCandidate> {
    let rows = rows();
    let of_flag = |word: &str| word.strip_prefix("--model=").unwrap_or(word).to_owned();
    let words: Vec<_> = words().map(|word| of_flag(&word.to_string_lossy())).collect();
    let is_named = |row: &&Allocation| words.contains(&row.app.model);
    let of_models: Vec<_> = rows.iter().filter(is_named).collect();
    let rows = if of_models.is_empty() { rows.iter().collect() } else { of_models };
    candidates(rows.into_iter().map(|row| row.app.app_num.to_string()))
}

fn candidates(names: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    // Shells insert a candidate as it is: a name that would have to be quoted is not offered.
    let is_bare = |name: &String| name.chars().all(|c| c.is_alphanumeric() || "_-./:@%+,=".contains(c));
    let mut seen = HashSet::new();
    let names = names.filter(|name| is_bare(name) && seen.insert(name.clone()));
    names.zip(0..).map(|(name, order)| CompletionCandidate::new(name).display_order(Some(order))).collect()
}

/// The rows of the database that the unfinished command line names; none if that fails, for there
/// is nowhere to say so.
fn rows() -> Vec<Allocation> {
    let flags = GlobalArgs::of_unfinished(&words().collect::<Vec<_>>());
    let Ok(mut config) = Config::resolve(&flags) else { return Vec::new() };
    config.timeout = config.timeout.min(PATIENCE);
    open_store(&config).ok().and_then(|mut store| store.snapshot().ok()).unwrap_or_default()
}

/// The words of the unfinished command line, which the shell's script passes after `--`.
fn words() -> impl Iterator<Item = OsString> {
    env::args_os().skip_while(|word| word != "--").skip(1)
}
