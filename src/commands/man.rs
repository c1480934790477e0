//! `man`: prints the manual pages.

mod page;
mod roff;
mod texts;

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use self::page::{CONFIG_PAGE, of_command, of_config, of_program};
pub(crate) use self::texts::EXIT_CODES;
use super::Answer;
use crate::error::{Error, Kind, Result};

const AFTER_HELP: &str = "\
Examples:
  manage-ports man > manage-ports.1
  manage-ports man allocate | man -l -
  manage-ports man manage-ports.toml > manage-ports.toml.5
  manage-ports man --dir man";

/// Print a manual page, or write all of them
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// The command whose page to print, or manage-ports.toml; without it, the program's own
    #[arg(value_name = "COMMAND", add = super::completions::commands())]
    command: Option<String>,

    /// Write every page into this folder, which is made if it is missing
    #[arg(long, value_name = "DIR", conflicts_with = "command", value_hint = clap::ValueHint::DirPath)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args, mut root: clap::Command, out: &mut dyn Write) -> Result<Answer> {
    root.build();
    if let Some(dir) = &args.dir {
        write_all(dir, &root).map_err(|err| Error::new(Kind::Io, err))?;
        return Ok(Answer::Yes);
    }
    let page = match args.command.as_deref() {
        None => of_program(&root),
        Some(CONFIG_PAGE) => of_config(),
        Some(name) => match root.find_subcommand(name) {
            Some(command) => of_command(&root, command),
            None => return Err(Error::usage(format!("there is no command '{name}'"))),
        },
    };
    out.write_all(page.as_bytes()).map_err(Error::unwritten)?;
    Ok(Answer::Yes)
}

/// Writes all pages into a folder.
fn write_all(dir: &Path, root: &clap::Command) -> anyhow::Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("cannot make the folder {}", dir.display()))?;
    let name = root.get_name();
    let commands = root.get_subcommands().map(|command| {
        let file = format!("{name}-{}.1", command.get_name());
        (file, of_command(root, command))
    });
    let others = [(format!("{name}.1"), of_program(root)), (format!("{CONFIG_PAGE}.5"), of_config())];
    for (file, page) in others.into_iter().chain(commands) {
        let path = dir.join(file);
        replace(dir, &path, &page).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// Writes a file in a folder. What was at its path is replaced: a link is not followed.
fn replace(dir: &Path, path: &Path, page: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(0o666)).tempfile_in(dir)?;
    file.write_all(page.as_bytes())?;
    file.persist(path)?;
    Ok(())
}
