//! The ports that an app's own files say it uses: its `.env` and its Compose files, as Compose 2.40 reads
//! them.
//!
//! Anybody may have written these files, so nothing in them is trusted: not their size, not their kind, not
//! their text. What they hold beside the two ports may be secret and is never shown. A value is known, not
//! set or not known: what needs something that could not be read is not known, and never a default.
//!
//! Of a Compose file that Compose refuses, what can be told is told: one service or entry that is wrong hides
//! no other. What a project needs beside ports, such as an image for each service, is not looked at.

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
use self::ports::port;
use self::problem::{Problem, Problems};
use self::publish::add_published;
use crate::core::declared::{Declared, DeclaredPorts, ENV_FILE, Names, Note, Role};

/// Reads what the files of the app in this directory declare.
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
    // What is no file cannot be made readable. If nothing needs it, nothing is wrong.
    let is_settled = |role| declared.of(role).next().is_some() && !declared.unknown_in_compose.contains(&role);
    if let Some(problem) = pipe.filter(|_| !Role::GIVEN.into_iter().all(is_settled)) {
        problems.add(problem);
    }
    declared.unreadable = notes(problems);
    declared.refused = notes(refused);
    declared.files = budget.opened();
    declared
}

/// The values that Compose finds for these variables in a `.env` file with this content; `None` where it
/// finds none or refuses what stands there.
pub(crate) fn env_values(content: &[u8], names: &[&str]) -> Vec<Option<String>> {
    let variables = env::parse(content, &Environment::default()).unwrap_or_default();
    let value = |name: &&str| variables.assigned(name)?.value.clone().ok();
    names.iter().map(value).collect()
}

/// The app's `.env`.
struct EnvFile {
    variables: Variables,
    /// What is wrong with it, if it is no file but a folder, pipe, socket or device.
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

/// Adds the ports that the variables of `.env` name.
fn add_variables(declared: &mut Declared, variables: &Variables, names: &Names, problems: &Problems) {
    for role in Role::GIVEN {
        let assigned = names.variables(role).iter().find_map(|name| Some((name, variables.assigned(name)?)));
        let Some((name, assigned)) = assigned else { continue };
        let line = assigned.line;
        let reason = match &assigned.value {
            Ok(value) if value.is_empty() => continue,
            Ok(value) => match port(value) {
                Some(port) => {
                    let file = ENV_FILE.to_owned();
                    declared.ports.push(DeclaredPorts { role, ports: port..=port, file, line });
                    continue;
                }
                // The value may hold another variable's, so it is not shown.
                None => Some("is not a port from 1 to 65535"),
            },
            Err(NoValue::Unknown(reason)) => Some(reason.as_str()),
            // It was told with what else Compose refuses in the file.
            Err(NoValue::Refused(_)) => None,
        };
        declared.unknown_in_env.push(role);
        if let Some(reason) = reason {
            problems.add(Problem::at(&ENV_FILE.into(), line, format!("{name} {reason}")));
        }
    }
}

/// The problems of each file: the first is told and the others are counted, as a file may have as many as
/// lines.
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
