//! Finds the directories of apps for `list --long`, `show`, `status` and `map`.

use std::path::PathBuf;

use super::watch;
use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::app::Presence;
use crate::core::place::{DeclaredLine, Listed, Place, declared_lines};
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::{clock, declared};

/// Opens the apps directory.
pub(super) fn open_apps_dir(config: &Config) -> Result<AppsDir<'_>> {
    AppsDir::open(&config.apps_dir, config.apps_dir_marker.as_deref()).map_err(|err| Error::new(Kind::AppsDir, err))
}

/// Finds the directory of each row's app. If the apps directory cannot be used, every state is unknown.
pub(super) fn places_of<'a>(rows: Vec<&'a Allocation>, config: &Config) -> Result<Vec<Listed<'a>>> {
    let unknown = || vec![(Presence::Unreadable(String::new()), None); rows.len()];
    let places = match open_apps_dir(config) {
        Ok(apps_dir) => apps_dir.places_of(rows.iter().copied(), watch("apps looked for"))?,
        Err(_) => unknown(),
    };
    let now = clock::now();
    let listed = |(row, (presence, directory)): (&'a Allocation, (Presence, Option<PathBuf>))| {
        let directory = directory.map(|path| path.display().to_string());
        Listed { row, place: Some(Place { state: row.state(now, &presence), directory }) }
    };
    Ok(rows.iter().copied().zip(places).map(listed).collect())
}

/// Returns the ports that the files of an app declare, in each of its directories.
pub(super) fn declared_of(listed: &Listed<'_>, config: &Config) -> Vec<DeclaredLine> {
    let Ok(apps_dir) = open_apps_dir(config) else { return Vec::new() };
    let directories = apps_dir.directories(&listed.row.app);
    let lines = |directory: &PathBuf| declared_lines(&declared::read(directory, &config.declared));
    directories.iter().flat_map(lines).collect()
}
