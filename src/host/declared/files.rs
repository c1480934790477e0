//! This file opens files inside an app's directory, and no others.

use std::cell::OnceCell;
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::bounds::Budget;

/// The most entries of a directory that are read to see which files it lacks.
const ENTRIES_MAX: usize = 64;

/// An app's directory.
pub(super) struct Folder<'a> {
    path: &'a Path,
    canonical: OnceCell<Option<PathBuf>>,
    names: OnceCell<Option<Vec<OsString>>>,
    budget: &'a Budget,
}

/// The file at a path.
pub(super) enum Content {
    /// There is no file, or a link that leads nowhere.
    Missing,
    /// A regular file inside the app's directory, with these contents.
    Bytes(Vec<u8>),
    /// A folder, pipe, socket or device.
    NotAFile {
        /// Tells whether it is a folder. Compose ignores a folder named `.env`.
        is_folder: bool,
    },
    /// The path leads outside the app's directory, and the file is not opened.
    Outside,
    /// A file that was not read, for this reason in words.
    Unreadable(String),
}

impl<'a> Folder<'a> {
    /// Makes a reader for the directory at this path.
    pub(super) fn new(path: &'a Path, budget: &'a Budget) -> Self {
        Self { path, canonical: OnceCell::new(), names: OnceCell::new(), budget }
    }

    /// Reads the file at a path that [`joined`] made.
    pub(super) fn read(&self, relative: &Path) -> Content {
        self.content(relative)
            .unwrap_or_else(|err| if is_nothing(&err) { Content::Missing } else { Content::Unreadable(shown(&err)) })
    }

    /// Tells whether there is a file at this path, or `None` if that cannot be seen. Links are followed.
    pub(super) fn exists(&self, relative: &Path) -> Option<bool> {
        if self.lacks(relative) {
            return Some(false);
        }
        match fs::metadata(self.path.join(relative)) {
            Ok(_) => Some(true),
            Err(err) if is_nothing(&err) || is_circle(&err) => Some(false),
            Err(_) => None,
        }
    }

    /// Returns a path relative to this directory, if the absolute path leads into it.
    pub(super) fn relative(&self, absolute: &Path) -> Option<PathBuf> {
        let below = |folder: &Path| absolute.strip_prefix(folder).ok().map(Path::to_owned);
        let below = below(self.path).or_else(|| below(self.canonical()?))?;
        joined(Path::new(""), &below)
    }

    fn canonical(&self) -> Option<&Path> {
        self.canonical.get_or_init(|| fs::canonicalize(self.path).ok()).as_deref()
    }

    /// Tells whether the list of the directory's entries shows that there is no file at this path. Of the many
    /// names that Compose looks for, an app has a few, and to read the list once is quicker than to look for
    /// each. A file system may ignore case.
    fn lacks(&self, relative: &Path) -> bool {
        let mut parts = relative.components();
        let (Some(Component::Normal(name)), None) = (parts.next(), parts.next()) else { return false };
        if !name.is_ascii() {
            return false;
        }
        let names = self.names.get_or_init(|| {
            let entries = fs::read_dir(self.path).ok()?.take(ENTRIES_MAX + 1);
            let names = entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<io::Result<Vec<_>>>();
            names.ok().filter(|names| names.len() <= ENTRIES_MAX)
        });
        names.as_ref().is_some_and(|names| !names.iter().any(|entry| entry.eq_ignore_ascii_case(name)))
    }

    fn content(&self, relative: &Path) -> io::Result<Content> {
        if self.lacks(relative) {
            return Ok(Content::Missing);
        }
        let mut path = self.path.join(relative);
        // Opening a pipe or a device may block or do harm, so its type is checked first.
        let mut metadata = fs::symlink_metadata(&path)?;
        // A name without folders that is not a link cannot lead elsewhere, so it needs no check.
        if metadata.is_symlink() || relative.components().count() > 1 {
            path = fs::canonicalize(&path)?;
            if !self.canonical().is_some_and(|folder| path.starts_with(folder)) {
                return Ok(Content::Outside);
            }
            metadata = fs::symlink_metadata(&path)?;
        }
        if !metadata.is_file() {
            return Ok(Content::NotAFile { is_folder: metadata.is_dir() });
        }
        let Some(most) = self.budget.file() else {
            return Ok(Content::Unreadable("is not opened, as the app has too many files".to_owned()));
        };
        // If another file takes its place in between, the flags keep it from blocking or leading elsewhere.
        let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len().min(most)).unwrap_or(0) + 1);
        file.take(most + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > most {
            let reason = match most {
                super::bounds::FILE_BYTES => "is larger than 1 MiB",
                _ => "is not read, as the app's files are larger than 2 MiB",
            };
            return Ok(Content::Unreadable(reason.to_owned()));
        }
        self.budget.read(bytes.len() as u64);
        Ok(Content::Bytes(bytes))
    }
}

/// Tells whether an error means that there is no file at a path.
fn is_nothing(err: &io::Error) -> bool {
    matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

/// Describes an error in words.
fn shown(err: &io::Error) -> String {
    if is_circle(err) { "is a link in a circle".to_owned() } else { err.to_string() }
}

fn is_circle(err: &io::Error) -> bool {
    err.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}

/// Joins a path to a folder inside the app's directory, without `.` and `..`. Returns `None` if it leads out
/// of the app's directory. Both are processed as text, as by Go's `filepath.Join`, which Compose uses.
pub(super) fn joined(folder: &Path, path: &Path) -> Option<PathBuf> {
    let mut joined = folder.to_owned();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => joined.push(name),
            Component::ParentDir => {
                if !joined.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(joined)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_found_beside_few_and_beside_many_others() {
        let root = tempfile::tempdir().unwrap();
        let budget = Budget::full();
        let found = || {
            let folder = Folder::new(root.path(), &budget);
            ["compose.yaml", ".env", "link", "sub/file", ".", "no.yaml"].map(|name| folder.exists(Path::new(name)))
        };
        assert_eq!(found(), [false, false, false, false, true, false].map(Some));
        fs::write(root.path().join("compose.yaml"), "").unwrap();
        symlink("compose.yaml", root.path().join("link")).unwrap();
        fs::create_dir(root.path().join("sub")).unwrap();
        fs::write(root.path().join("sub/file"), "").unwrap();
        let expected = [true, false, true, true, true, false].map(Some);
        assert_eq!(found(), expected);
        for k in 0..2 * ENTRIES_MAX {
            fs::write(root.path().join(k.to_string()), "").unwrap();
        }
        assert_eq!(found(), expected);
    }

    #[test]
    fn a_path_is_joined_as_text_and_does_not_leave_the_directory() {
        for (folder, path, expected) in [
            ("", "a.yml", Some("a.yml")),
            ("sub", "./a.yml", Some("sub/a.yml")),
            ("sub", "../a.yml", Some("a.yml")),
            ("sub", "x/../../b/a.yml", Some("b/a.yml")),
            ("", ".", Some("")),
            ("", "../a.yml", None),
            ("sub", "../../sub/a.yml", None),
            ("", "/etc/passwd", None),
        ] {
            let joined = joined(Path::new(folder), Path::new(path));
            assert_eq!(joined.as_deref(), expected.map(Path::new), "{folder} {path}");
        }
    }
}
