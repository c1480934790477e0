//! `man`: the manual pages.

use std::io::Write;

use clap_mangen::Man;

use super::Answer;
use crate::error::{Error, Result};

const AFTER_HELP: &str = "\
Examples:
  manage-ports man > manage-ports.1
  manage-ports man allocate | man -l -";

/// Print a manual page
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The command whose page to print; without it, the program's own
    #[arg(value_name = "COMMAND")]
    command: Option<String>,
}

pub(crate) fn run(args: &Args, mut root: clap::Command, out: &mut dyn Write) -> Result<Answer> {
    root.build();
    let page = match &args.command {
        None => root,
        Some(name) => {
            root.find_subcommand(name).cloned().ok_or_else(|| Error::usage(format!("there is no command '{name}'")))?
        }
    };
    Man::new(page).render(out)?;
    Ok(Answer::Yes)
}
