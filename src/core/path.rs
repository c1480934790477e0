//! Derives paths from other paths, without looking at the file system.

use std::path::{Path, PathBuf};

/// Returns the parent folder of a path, which is `.` for a bare name.
pub(crate) fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Returns the path with `suffix` appended to the file's name, such as `-wal`.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_in_the_current_folder() {
        for (path, folder) in [("data/ports.db", "data"), ("/ports.db", "/"), ("ports.db", "."), ("", ".")] {
            assert_eq!(folder_of(Path::new(path)), Path::new(folder), "{path:?}");
        }
    }

    #[test]
    fn a_suffix_follows_the_files_whole_name() {
        assert_eq!(beside(Path::new("data/ports.db"), "-wal"), Path::new("data/ports.db-wal"));
    }
}
