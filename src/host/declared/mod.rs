//! This module reads the ports that an app's own files declare: its `.env` and its Compose files, as Compose
//! 2.40 reads them.
//!
//! Anybody may have written these files, so their size, kind and text are not trusted. Apart from the two
//! ports and the names of further files, their contents may be secret and are never shown. A value is known,
//! not set, or unknown. If a value needs something that could not be read, it is unknown, and no default
//! replaces it.
//!
//! If Compose refuses a file, the valid parts are still reported: an invalid service or entry hides no other.
//! The other needs of a project, such as an image for each service, are not checked.

mod bounds;
mod document;
mod env;
mod extends;
mod files;
mod include;
mod interpolate;
mod loader;
mod ports;
mod problem;
mod project;
mod publish;
mod reader;
mod services;
mod yaml;

use std::path::Path;
use std::rc::Rc;

use self::bounds::Budget;
use self::env::{Environment, Variables};
use self::files::{Content, Folder};
use self::interpolate::NoValue;
use self::loader::{Loader, reason_of};
use self::problem::{Problem, Problems};
use self::publish::add_published;
use crate::core::declared::{Declared, DeclaredPorts, ENV_FILE, Names, Note, Role};
use crate::core::ports::parse_port;

/// Reads the ports that the files of the app in this directory declare.
pub(crate) fn read(directory: &Path, names: &Names) -> Declared {
    let budget = Budget::full();
    let folder = Folder::new(directory, &budget);
    let (problems, refused) = (Problems::default(), Problems::default());
    let mut declared = Declared::default();

    let EnvFile { variables, pipe } = env_file(&folder, &problems);
    add_variables(&mut declared, &variables, names, &problems);
    let environment = variables.for_compose().unwrap_or_else(|reason| {
        problems.add(Problem::of(&ENV_FILE.into(), reason));
        Variables::unknown()
    });
    let environment = Environment::default().with(Rc::new(environment));
    let loader = Loader::new(&folder, &budget, &problems, &refused);
    if let Some(project) = loader.project(&environment) {
        add_published(&mut declared, &project, names, &environment, &problems, &refused);
    }
    // A path that is not a regular file cannot be made readable. If no value needs it, it is not reported.
    let is_settled = |role| declared.of(role).next().is_some() && !declared.unknown_in_compose.contains(&role);
    if let Some(problem) = pipe.filter(|_| !Role::GIVEN.into_iter().all(is_settled)) {
        problems.add(problem);
    }
    declared.unreadable = notes(problems);
    declared.refused = notes(refused);
    declared.files = budget.opened();
    declared
}

/// Returns the values that Compose reads for these variables in a `.env` file with this content. A value is
/// `None` if Compose finds none or refuses the value.
pub(crate) fn env_values(content: &[u8], names: &[&str]) -> Vec<Option<String>> {
    let variables = env::parse(content, &Environment::default()).unwrap_or_default();
    let value = |name: &&str| variables.assigned(name)?.value.clone().ok();
    names.iter().map(value).collect()
}

/// The app's `.env`.
struct EnvFile {
    variables: Variables,
    /// The problem with the path, if it is not a regular file but a folder, pipe, socket or device.
    pipe: Option<Problem>,
}

fn env_file(folder: &Folder<'_>, problems: &Problems) -> EnvFile {
    let name = ENV_FILE.into();
    let content = folder.read(Path::new(ENV_FILE));
    let reason = match &content {
        Content::Missing => return EnvFile { variables: Variables::default(), pipe: None },
        Content::Bytes(bytes) => match env::parse(bytes, &Environment::default()) {
            Ok(variables) => {
                for (line, reason) in &variables.problems {
                    problems.add(Problem::at(&name, *line, reason));
                }
                return EnvFile { variables, pipe: None };
            }
            Err(reason) => reason,
        },
        Content::NotAFile { is_folder } => {
            let variables = if *is_folder { Variables::default() } else { Variables::unknown() };
            return EnvFile { variables, pipe: reason_of(content).map(|reason| Problem::of(&name, reason)) };
        }
        Content::Outside | Content::Unreadable(_) => reason_of(content).unwrap_or_default(),
    };
    problems.add(Problem::of(&name, reason));
    EnvFile { variables: Variables::unknown(), pipe: None }
}

/// Adds the ports that the variables of `.env` hold.
fn add_variables(declared: &mut Declared, variables: &Variables, names: &Names, problems: &Problems) {
    for role in Role::GIVEN {
        let assigned = names.variables(role).iter().find_map(|name| Some((name, variables.assigned(name)?)));
        let Some((name, assigned)) = assigned else { continue };
        let line = assigned.line;
        let reason = match &assigned.value {
            Ok(value) if value.is_empty() => continue,
            Ok(value) => match parse_port(value) {
                Some(port) => {
                    let file = ENV_FILE.to_owned();
                    declared.ports.push(DeclaredPorts { role, ports: port..=port, file, line });
                    continue;
                }
                // The value may contain the value of another variable, so it is not shown.
                None => Some("is not a port from 1 to 65535"),
            },
            Err(NoValue::Unknown(reason)) => Some(reason.as_str()),
            // This was reported with the other reasons why Compose refuses the file.
            Err(NoValue::Refused(_)) => None,
        };
        declared.unknown_in_env.push(role);
        if let Some(reason) = reason {
            problems.add(Problem::at(&ENV_FILE.into(), line, format!("{name} {reason}")));
        }
    }
}

/// Converts problems to one note for each file. The first problem is described and the others are counted,
/// because a file may have as many problems as lines.
fn notes(problems: Problems) -> Vec<Note> {
    let mut notes: Vec<(Note, usize)> = Vec::new();
    for Problem { file, line, reason } in problems.into_list() {
        match notes.iter_mut().find(|(note, _)| note.file == *file) {
            Some((_, more)) => *more += 1,
            None => {
                let has_subject = !["has ", "includes ", "is "].iter().any(|verb| reason.starts_with(verb));
                let reason = match line {
                    Some(line) if has_subject => format!("line {line}: {reason}"),
                    Some(line) => format!("line {line} {reason}"),
                    None => reason,
                };
                notes.push((Note { file: file.to_string(), line, reason }, 0));
            }
        }
    }
    let told = |(note, more): (Note, usize)| match more {
        0 => note,
        more => Note { reason: format!("{}, and {more} more", note.reason), ..note },
    };
    notes.into_iter().map(told).collect()
}

#[cfg(test)]
mod corpus;
#[cfg(test)]
mod tests;
