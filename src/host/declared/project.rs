//! This file reads a Compose project: it finds the files of the project and merges their services.
//!
//! The order of the steps is that of compose-go 2.9:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/loader/loader.go>. In each document of each file
//! variables are replaced, then `extends` is followed, then what `!reset` and `!override` name is removed
//! from what earlier files said, then files are included, and then the document is merged. A path starts at
//! the folder of the project's first file, one in a file that is extended at that file's folder.
//!
//! Unlike Compose, one file or service that cannot be read does not hide the others.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use super::document::Document;
use super::env::Environment;
use super::extends::Origin;
use super::interpolate::Variable;
use super::loader::{Loader, Scope, name_of};
use super::problem::{FileName, Problem};
use super::services::{Services, reset};
use super::yaml::Node;
use crate::core::declared::ENV_FILE;

/// The possible names of a project's file. If several exist, Compose uses the first:
/// <https://github.com/compose-spec/compose-go/blob/v2.9.1/cli/options.go>.
pub(super) const BASE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The possible names of the file that is merged over it. If several exist, Compose uses the first.
pub(super) const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The parts of a project that could be read.
pub(super) struct Project {
    /// Its services.
    pub(super) services: Services,
    /// Tells whether all of its files could be read. If not, any service may be missing or have more ports.
    pub(super) is_complete: bool,
}

impl Loader<'_> {
    /// Returns the project of the app, or `None` if it has none.
    pub(super) fn project(mut self, environment: &Environment) -> Option<Project> {
        let (names, environment) = match self.main_files(environment.clone()) {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(project) => return project,
        };
        let folder = names[0].parent().unwrap_or(Path::new("")).to_owned();
        let mut scope = Scope { folder, environment, including: Vec::new(), extended: HashMap::new() };
        let services = self.services(&names, &mut scope).unwrap_or_default();
        if !self.has_content && !self.is_incomplete.get() {
            self.problems.add(Problem::of(&name_of(&names[0]), "is empty"));
        }
        if let Variable::Set(name) = scope.environment.get("COMPOSE_PROJECT_NAME")
            && !is_project_name(name)
        {
            self.problems.add(Problem::of(&ENV_FILE.into(), "COMPOSE_PROJECT_NAME is no name that Compose takes"));
        }
        Some(Project { services, is_complete: !self.is_incomplete.get() })
    }

    /// Returns the files to merge, and the variables for them.
    fn main_files(&mut self, environment: Environment) -> ControlFlow<Option<Project>, (Vec<PathBuf>, Environment)> {
        let env: FileName = ENV_FILE.into();
        let unknown = |problem: Problem| {
            self.problems.add(problem);
            ControlFlow::Break(Some(Project { services: Services::new(), is_complete: false }))
        };
        let list = match environment.get("COMPOSE_FILE") {
            Variable::Set(list) => list.to_owned(),
            // A file that could not be read may name other files, but mostly it does not.
            Variable::Unknown if !environment.is_unknown() => {
                return unknown(Problem::of(&env, "COMPOSE_FILE has a value that is not known"));
            }
            _ => {
                return match self.default_files() {
                    names if names.is_empty() => ControlFlow::Break(None),
                    names => ControlFlow::Continue((names, environment)),
                };
            }
        };
        let separator = match environment.get("COMPOSE_PATH_SEPARATOR") {
            Variable::Set(separator) if !separator.is_empty() => separator,
            _ => ":",
        };
        let mut names = Vec::new();
        for name in list.split(separator) {
            match self.place(Path::new(""), name) {
                Some(path) if path.as_os_str().is_empty() => {
                    return unknown(Problem::of(&env, "COMPOSE_FILE has an empty name in its list"));
                }
                Some(path) => names.push(path),
                None => {
                    let reason = "COMPOSE_FILE names a file outside the app's directory";
                    return unknown(Problem::of(&env, reason));
                }
            }
        }
        // The project's folder is that of its first file, whose own `.env` counts, too.
        let folder = names[0].parent().unwrap_or(Path::new("")).to_owned();
        let environment = match folder.as_os_str().is_empty() {
            true => environment,
            false => self.with_env_files(&environment, &[folder.join(ENV_FILE)], false),
        };
        ControlFlow::Continue((names, environment))
    }

    /// Returns the file that has the first of the base names, and the override file beside it. If the
    /// existence of a base file is unknown, returns that file alone.
    fn default_files(&self) -> Vec<PathBuf> {
        let first = |names: [&str; 4]| {
            let mut found = names.into_iter().map(|name| (PathBuf::from(name), self.folder.exists(Path::new(name))));
            found.find(|(_, exists)| *exists != Some(false))
        };
        match first(BASE_NAMES) {
            None => Vec::new(),
            Some((base, None)) => vec![base],
            Some((base, Some(_))) => [base].into_iter().chain(first(OVERRIDE_NAMES).map(|(name, _)| name)).collect(),
        }
    }

    /// Returns the services after the files are merged in order. Returns `None` if a file could not be read,
    /// because a later file may remove services of an earlier one.
    pub(super) fn services(&mut self, paths: &[PathBuf], scope: &mut Scope) -> Option<Services> {
        let mut services = Services::new();
        let mut is_known = true;
        for path in paths {
            let Some(documents) = self.documents(path) else {
                is_known = false;
                continue;
            };
            let name = name_of(path);
            for document in documents.iter() {
                self.add_document(&name, path, document, scope, &mut services);
            }
        }
        is_known.then_some(services)
    }

    /// Merges a document over the services that were read before.
    fn add_document(&mut self, name: &FileName, path: &Path, node: &Node, scope: &mut Scope, services: &mut Services) {
        let Document { services: mut own, includes, resets, has_keys } = self.document(name, node, &scope.environment);
        let names: Vec<_> =
            own.iter().filter(|(_, service)| service.extends.is_some()).map(|(name, _)| name.clone()).collect();
        let folder = scope.folder.clone();
        for service in names {
            let origin = Origin { file: name, folder: &folder, resets: &resets };
            self.extend(&service, &mut own, &origin, scope, &mut Vec::new());
        }
        reset(services, &resets);
        self.has_content = (self.has_content && !resets.iter().any(Vec::is_empty)) || has_keys;
        for include in includes {
            scope.including.push(path.to_owned());
            self.include(&include, name, scope, &mut own);
            scope.including.pop();
        }
        for (name, service) in own {
            let merged = match services.remove(&name) {
                Some(earlier) => earlier.merged_with(service),
                None => service,
            };
            services.insert(name, merged);
        }
    }
}

/// Tells whether Compose accepts a text as the name of a project. An empty name counts as none.
fn is_project_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    name.chars().all(is_part) && !name.starts_with(['_', '-'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_named_in_lower_case_from_a_letter_or_digit_on() {
        for (name, expected) in [
            ("", true),
            ("app_1-b", true),
            ("1", true),
            ("_app", false),
            ("-app", false),
            ("App", false),
            ("a b", false),
            ("é", false),
        ] {
            assert_eq!(is_project_name(name), expected, "{name}");
        }
    }
}
