//! The table `[declared]` of the configuration file: what apps' files call the two ports.

use std::collections::HashSet;

use serde::Deserialize;

use crate::core::declared::Names;

/// The table as it is written.
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

/// The names, if they can be names.
///
/// # Errors
///
/// In words that name the key, when a list is empty, a name cannot be one, or two lists share one.
pub(super) fn names(declared: Declared) -> Result<Names, String> {
    let Declared { backend_variables, frontend_variables, backend_services, frontend_services } = declared;
    let [backend_variables, frontend_variables, backend_services, frontend_services] =
        [backend_variables, frontend_variables, backend_services, frontend_services].map(once);
    let names = Names { backend_variables, frontend_variables, backend_services, frontend_services };
    names.check().map(|()| names)
}

/// Each name once, in their order.
fn once(mut names: Vec<String>) -> Vec<String> {
    let mut seen = HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}
