//! This file reads `extends`, by which a service inherits from another service of the same file or of another
//! file.
//!
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/loader/extends.go>

use std::path::Path;
use std::rc::Rc;

use super::bounds::CHAIN;
use super::document::Document;
use super::loader::{Extended, Loader, Scope, name_of};
use super::problem::{FileName, Problem, called};
use super::services::{Entry, Extends, Resets, Service, Services, reset};

/// The place of a service that extends another.
pub(super) struct Origin<'o> {
    /// The file.
    pub(super) file: &'o FileName,
    /// The folder to which file paths are relative.
    pub(super) folder: &'o Path,
    /// The places that the file's own `!reset` and `!override` remove from the services that it extends.
    pub(super) resets: &'o Resets,
}

impl Loader<'_> {
    /// Merges a service over the service that it extends. `chain` holds the services that extend one another
    /// down to this one.
    pub(super) fn extend(
        &mut self,
        name: &str,
        services: &mut Services,
        origin: &Origin<'_>,
        scope: &mut Scope,
        chain: &mut Vec<(FileName, String)>,
    ) {
        let Some(extends) = services.get(name).and_then(|service| service.extends.clone()) else { return };
        let here = (Rc::clone(origin.file), name.to_owned());
        let base = if chain.contains(&here) {
            Err("itself".to_owned())
        } else if chain.len() >= CHAIN {
            Err(format!("more than {CHAIN} others in a row"))
        } else {
            chain.push(here);
            let base = self.base(&extends, services, origin, scope, chain);
            chain.pop();
            base
        };
        let Some(service) = services.remove(name) else { return };
        let service = Service { extends: None, ..service };
        let merged = match base {
            Ok(base) => {
                let mut base = Services::from([(name.to_owned(), base)]);
                reset(&mut base, origin.resets);
                let (file, line) = (Rc::clone(&service.file), service.line);
                match base.remove(name) {
                    Some(base) => Service { file, line, ..base.merged_with(service) },
                    None => service,
                }
            }
            Err(reason) => {
                let reason = format!("has a service {} that extends {reason}", called(name));
                Service { problem: Some(Problem::at(origin.file, extends.line, reason)), ..service }
            }
        };
        services.insert(name.to_owned(), merged);
    }

    /// Returns the service that another one extends, merged with everything that it extends itself.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when there is no such service.
    fn base(
        &mut self,
        extends: &Extends,
        services: &mut Services,
        origin: &Origin<'_>,
        scope: &mut Scope,
        chain: &mut Vec<(FileName, String)>,
    ) -> Result<Service, String> {
        let base = match &extends.file {
            None => {
                self.extend(&extends.service, services, origin, scope, chain);
                services.get(&extends.service).cloned()
            }
            Some(path) => {
                let path = self.place_of(origin.folder, path).ok_or("one outside the app's directory")?;
                let extended = self.extended(&path, scope).ok_or("one in a file that could not be read")?;
                if !self.budget.copy(extended.size) {
                    return Err("too many services".to_owned());
                }
                let mut services = extended.services.clone();
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                let origin = Origin { file: &name_of(&path), folder: &folder, resets: &extended.resets };
                self.extend(&extends.service, &mut services, &origin, scope, chain);
                services.remove(&extends.service)
            }
        };
        let base = base.ok_or("one that is not there")?;
        if !self.budget.copy(base.ports.len()) {
            return Err("too many ports".to_owned());
        }
        match base.fault() {
            Some(_) => Err("one that could not be read".to_owned()),
            None => Ok(base),
        }
    }

    /// Returns the services of a file that is extended.
    fn extended(&mut self, path: &Path, scope: &mut Scope) -> Option<Rc<Extended>> {
        if let Some(found) = scope.extended.get(path) {
            return found.clone();
        }
        let name = name_of(path);
        let extended = self.documents(path).map(|documents| {
            let mut extended = Extended { services: Services::new(), resets: Resets::new(), size: 0 };
            for node in documents.iter() {
                let Document { services, resets, .. } = self.document(&name, node, &scope.environment);
                reset(&mut extended.services, &resets);
                for (name, service) in services {
                    let merged = match extended.services.remove(&name) {
                        Some(earlier) => Service {
                            extends: service.extends.clone().or_else(|| earlier.extends.clone()),
                            ..earlier.merged_with(service)
                        },
                        None => service,
                    };
                    extended.services.insert(name, merged);
                }
                extended.resets = resets;
            }
            extended.size = extended.services.values().map(|service| 1 + service.ports.len()).sum();
            // Compose reads all ports of the file, including those of services that nothing extends.
            let entries = extended.services.values().flat_map(|service| &service.ports);
            entries.filter_map(Entry::refused).for_each(|problem| self.refused.add(problem));
            Rc::new(extended)
        });
        scope.extended.insert(path.to_owned(), extended.clone());
        extended
    }
}
