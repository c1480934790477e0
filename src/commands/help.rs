//! `help`: prints the help of the program or of one command.

use std::io::Write;

use super::Answer;
use crate::error::{Error, Result};

const AFTER_HELP: &str = "\
Examples:
  manage-ports help
  manage-ports help allocate";

/// Print the help of the program or of a command
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The command whose help to print; without it, the program's own
    #[arg(value_name = "COMMAND", add = super::completions::commands())]
    command: Option<String>,
}

pub(crate) fn run(args: &Args, mut root: clap::Command, has_colour: bool, out: &mut dyn Write) -> Result<Answer> {
    root.build();
    let text = match &args.command {
        None => root.render_long_help(),
        Some(name) => match root.find_subcommand_mut(name) {
            Some(command) => command.render_long_help(),
            None => {
                let message = format!("there is no command '{name}'");
                return Err(Error::usage(message).hint("`manage-ports help` lists the commands"));
            }
        },
    };
    if has_colour { write!(out, "{}", text.ansi()) } else { write!(out, "{text}") }.map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Prints the program's help, for a call without arguments.
pub(crate) fn print(root: clap::Command, has_colour: bool, out: &mut dyn Write) -> Result<()> {
    run(&Args { command: None }, root, has_colour, out).map(|_| ())
}
