//! Reads the table `[declared]` of the configuration file: the names that apps' files use for the two ports.

use std::collections::HashSet;

use serde::Deserialize;

use crate::core::declared::Names;

/// The table `[declared]` as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Declared {
    backend_variables: Vec<String>,
    frontend_variables: Vec<String>,
    backend_services: Vec<String>,
    frontend_services: Vec<String>,
}

impl Default for Declared {
    fn default() -> Self {
        let Names { backend_variables, frontend_variables, backend_services, frontend_services } = Names::default();
        Self { backend_variables, frontend_variables, backend_services, frontend_services }
    }
}

/// Returns the names, after a check that they are valid.
///
/// # Errors
///
/// Returns a message that names the key, if a list is empty, a name is invalid, or two lists share a name.
pub(super) fn names(declared: Declared) -> Result<Names, String> {
    let Declared { backend_variables, frontend_variables, backend_services, frontend_services } = declared;
    let [backend_variables, frontend_variables, backend_services, frontend_services] =
        [backend_variables, frontend_variables, backend_services, frontend_services].map(once);
    let names = Names { backend_variables, frontend_variables, backend_services, frontend_services };
    names.check().map(|()| names)
}

/// Removes duplicate names and keeps the order.
fn once(mut names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
