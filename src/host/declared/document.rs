//! This file reads one document of a Compose file and replaces its variables.

use std::rc::Rc;

use super::interpolate::{Lookup, NoValue, interpolate};
use super::services::{PathText, Resets, Services};
use super::yaml::Node;

/// The contents of one document.
pub(super) struct Document {
    pub(super) services: Services,
    pub(super) includes: Vec<Include>,
    pub(super) resets: Resets,
    /// Tells whether the top level has a key that `!reset` does not remove.
    pub(super) has_keys: bool,
}

/// One entry of `include`.
pub(super) struct Include {
    pub(super) line: usize,
    pub(super) paths: Vec<PathText>,
    pub(super) project_directory: Option<String>,
    pub(super) env_files: Vec<PathText>,
}

/// Returns the entries of `include`.
///
/// # Errors
///
/// Returns the reason in words when Compose refuses them.
pub(super) fn includes(node: &Node, lookup: Lookup<'_, '_>) -> Result<Vec<Include>, String> {
    const WRONG: &str = "has an include that is no list of paths";
    let text = |node: &Node| match interpolate(node.text().ok_or(WRONG)?, lookup) {
        Ok(text) => Ok(text),
        Err(NoValue::Refused(reason) | NoValue::Unknown(reason)) => Err(format!("has an include that {reason}")),
    };
    let path = |node: &Node| {
        let written = node.text().unwrap_or_default().to_owned();
        text(node).map(|path| PathText { path, written })
    };
    let list = |node: &Rc<Node>| match node.items() {
        Some(items) => items.iter().map(|item| path(item)).collect(),
        None => path(node).map(|path| vec![path]),
    };
    if node.is_null() {
        return Ok(Vec::new());
    }
    let mut includes = Vec::new();
    for node in node.items().ok_or(WRONG)? {
        let line = node.line;
        let mut include = Include { line, paths: Vec::new(), project_directory: None, env_files: Vec::new() };
        match node.entries() {
            None => include.paths.push(path(node)?),
            Some(entries) => {
                for (key, node) in entries {
                    match key {
                        "path" => include.paths = list(node)?,
                        "env_file" => include.env_files = list(node)?,
                        "project_directory" => include.project_directory = Some(text(node)?),
                        _ => {}
                    }
                }
            }
        }
        includes.push(include);
    }
    Ok(includes)
}
