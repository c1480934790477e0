//! This file reads `include`, which adds the services of other files, read as a project of their own.
//!
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/loader/include.go>

use std::collections::HashMap;
use std::path::Path;

use super::bounds::{CHAIN, INCLUDE_COST};
use super::document::Include;
use super::loader::{Loader, Scope};
use super::problem::{FileName, Problem, called};
use super::services::Services;
use crate::core::declared::ENV_FILE;

impl Loader<'_> {
    /// Adds the services of the files that an entry of `include` names.
    pub(super) fn include(&mut self, include: &Include, file: &FileName, scope: &mut Scope, services: &mut Services) {
        let included = self.included(include, scope).unwrap_or_else(|reason| {
            self.is_incomplete.set(true);
            self.problems.add(Problem::at(file, include.line, format!("includes {reason}")));
            Services::new()
        });
        for (name, service) in included {
            match services.get_mut(&name) {
                None => drop(services.insert(name, service)),
                Some(own) if own.is_same(&service) => {}
                Some(own) => {
                    let reason = format!("has a service {} that a file it includes has, too", called(&name));
                    own.problem = Some(Problem::at(file, own.line, reason));
                }
            }
        }
    }

    /// Returns the services of a project that is included.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when the project cannot be read.
    fn included(&mut self, include: &Include, scope: &Scope) -> Result<Services, String> {
        const OUTSIDE: &str = "what is outside the app's directory";
        let mut paths = Vec::new();
        for path in &include.paths {
            paths.push(self.place_of(&scope.folder, path).ok_or(OUTSIDE)?);
        }
        let Some(first) = paths.first() else { return Ok(Services::new()) };
        if scope.including.contains(first) {
            return Err("a file that includes it".to_owned());
        }
        if scope.including.len() >= CHAIN {
            return Err(format!("more than {CHAIN} files in a row"));
        }
        if !self.budget.look_at(INCLUDE_COST) {
            return Err("too many files".to_owned());
        }
        let folder = match &include.project_directory {
            Some(folder) => self.place(&scope.folder, folder).ok_or(OUTSIDE)?,
            None => first.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let environment = if include.env_files.is_empty() && folder.as_os_str().is_empty() {
            // The app's own `.env` was read already.
            scope.environment.clone()
        } else if include.env_files.is_empty() {
            self.with_env_files(&scope.environment, &[folder.join(ENV_FILE)], false)
        } else {
            let place = |path| self.place_of(&scope.folder, path);
            let paths = include.env_files.iter().map(place).collect::<Option<Vec<_>>>().ok_or(OUTSIDE)?;
            self.with_env_files(&scope.environment, &paths, true)
        };
        let including = scope.including.clone();
        let mut scope = Scope { folder, environment, including, extended: HashMap::new() };
        let services = self.services(&paths, &mut scope).unwrap_or_default();
        let entries = services.values().map(|service| 1 + service.ports.len()).sum();
        if self.budget.copy(entries) { Ok(services) } else { Err("too many ports".to_owned()) }
    }
}
