//! This file finds the place of an env file after every symbolic link is resolved, and opens the file there.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{Access, AtFlags, CWD, OFlags, accessat, fstat};

use super::content::MAX_SIZE;
use crate::core::path::folder_of;

/// The most symbolic links that are followed, as on Linux: see `path_resolution(7)`.
const MAX_LINKS: usize = 40;

/// The place of an env file: a name in a folder, neither of them a symbolic link.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Place {
    path: PathBuf,
}

impl Place {
    /// Resolves a path that has to lead into this folder, if one is given.
    ///
    /// # Errors
    ///
    /// Fails in the cases of [`Place::of`], and when a symbolic link leads out of the folder.
    pub(super) fn inside(folder: Option<&Path>, path: &Path) -> Result<Self> {
        let place = Self::of(path)?;
        if let Some(folder) = folder {
            ensure!(place.path.starts_with(folder), "a link leads out of the folder {}", folder.display());
        }
        Ok(place)
    }

    /// Resolves a path.
    ///
    /// # Errors
    ///
    /// Fails when there is no such folder, or when the path leads to a place where no file can be: a link
    /// that leads nowhere, or a file that some process has open (`/dev/stdout`, `/proc/self/fd/1`).
    pub(super) fn of(path: &Path) -> Result<Self> {
        ensure!(!path.as_os_str().as_bytes().ends_with(b"/"), "it names a folder");
        let mut path = path.to_owned();
        for followed in 0..MAX_LINKS {
            let Some(name) = path.file_name() else { bail!("it names a folder") };
            let folder = folder_of(&path);
            let found = fs::canonicalize(folder).with_context(|| match folder.exists() {
                true => format!("the folder {}", folder.display()),
                false => format!("the folder {} does not exist", folder.display()),
            })?;
            ensure!(!found.starts_with("/proc"), "it is no file of its own, but one that a process has open");
            let place = found.join(name);
            match fs::read_link(&place) {
                Ok(target) => path = found.join(target),
                Err(_) => {
                    let leads_nowhere = followed > 0 && fs::symlink_metadata(&place).is_err();
                    ensure!(!leads_nowhere, "it is a link that leads nowhere");
                    return Ok(Self { path: place });
                }
            }
        }
        bail!("it is a link in a circle of links")
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the folder of the file.
    pub(super) fn folder(&self) -> &Path {
        folder_of(&self.path)
    }

    /// Opens the file for reading and writing. Returns `None` if there is none.
    ///
    /// # Errors
    ///
    /// Fails when the path is not a regular file, or this user may not write to it.
    pub(super) fn open(&self) -> Result<Option<File>> {
        self.open_for(true)
    }

    /// Opens the file for reading and, if `write` is set, for writing.
    ///
    /// # Errors
    ///
    /// Fails in the cases of [`Place::open`].
    pub(super) fn open_for(&self, write: bool) -> Result<Option<File>> {
        // Opening a pipe or a device may block or do harm, so the type is checked first. If another file
        // takes the place in between, opening it does not block.
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) => ensure_regular(&metadata)?,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err.into()),
        }
        let flags = OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
        let mut options = OpenOptions::new();
        let file = options.read(true).write(write).custom_flags(flags.bits().cast_signed()).open(&self.path);
        let file = match file {
            Ok(file) => file,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(err) => return Err(err).context(if write { "it cannot be written to" } else { "it cannot be read" }),
        };
        let metadata = file.metadata()?;
        ensure_regular(&metadata)?;
        ensure!(metadata.len() <= MAX_SIZE, "it is larger than {} MiB, which no env file is", MAX_SIZE >> 20);
        for (stream, name) in [(io::stdout().as_fd(), "stdout"), (io::stderr().as_fd(), "stderr")] {
            ensure!(!is_open_as(stream, &metadata), "it is the file that {name} goes to");
        }
        Ok(Some(file))
    }

    /// Tells whether this open file is the one at the path.
    pub(super) fn holds(&self, file: &File) -> bool {
        let Ok(metadata) = file.metadata() else { return false };
        fs::symlink_metadata(&self.path).is_ok_and(|found| is_same(&found, &metadata))
    }

    /// Checks that a file can be created there.
    ///
    /// # Errors
    ///
    /// Fails when this user may not create a file in the folder.
    pub(super) fn check_folder(&self, shown: &Path) -> Result<()> {
        accessat(CWD, self.folder(), Access::WRITE_OK | Access::EXEC_OK, AtFlags::EACCESS)
            .with_context(|| format!("the folder {} cannot be written to", folder_of(shown).display()))
    }
}

fn ensure_regular(metadata: &Metadata) -> Result<()> {
    ensure!(metadata.is_file(), "it is not a regular file");
    Ok(())
}

/// Tells whether two metadata are of the same file.
pub(super) fn is_same(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Tells whether this process has a file open under this descriptor.
fn is_open_as(stream: BorrowedFd<'_>, metadata: &Metadata) -> bool {
    fstat(stream).is_ok_and(|found| (found.st_dev, found.st_ino) == (metadata.dev(), metadata.ino()))
}

/// Reads the whole file from its beginning.
pub(super) fn read_all(file: &File) -> io::Result<Vec<u8>> {
    let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
    // One byte more than the length, so that the end of the file is found without another buffer.
    let mut content = Vec::with_capacity(length + 1);
    FromStart { file, position: 0 }.take(MAX_SIZE + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// A reader that starts at the beginning of a file, whatever the file's own position is.
struct FromStart<'a> {
    file: &'a File,
    position: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use rustix::fs::{FileType, Mode, fcntl_getfl, mknodat};

    use super::*;

    fn why(result: Result<impl Sized>) -> String {
        result.err().map(|err| format!("{err:#}")).unwrap_or_default()
    }

    #[test]
    fn a_path_leads_to_a_file_or_to_where_one_can_be() {
        let root = tempfile::tempdir().unwrap();
        let root = &root.path().canonicalize().unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        fs::write(root.join("sub/file"), "A=1\n").unwrap();
        for (link, target) in
            [("link", "sub/file"), ("link2", "link"), ("broken", "no"), ("circle", "circle"), ("up", "..")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        for (path, expected) in [("sub/file", "sub/file"), ("link2", "sub/file"), ("new", "new"), ("sub/../new", "new")]
        {
            let place = Place::of(&root.join(path)).unwrap();
            assert_eq!(
                (place.path(), place.folder()),
                (root.join(expected).as_path(), root.join(expected).parent().unwrap())
            );
        }
        for (path, expected) in [
            ("broken", "it is a link that leads nowhere"),
            ("circle", "it is a link in a circle of links"),
            ("sub/", "it names a folder"),
            ("no/file", "does not exist"),
        ] {
            assert!(why(Place::of(&root.join(path))).contains(expected), "{path}");
        }
        assert!(Place::inside(Some(&root.join("sub")), &root.join("link")).is_ok());
        assert!(why(Place::inside(Some(&root.join("sub")), &root.join("new"))).contains("a link leads out of"));
        assert!(Place::inside(None, &root.join("new")).is_ok());
    }

    #[test]
    fn only_a_regular_file_that_may_be_an_env_file_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let open = |name: &str| Place::of(&root.path().join(name)).unwrap().open();
        assert!(open("new").unwrap().is_none());
        fs::write(root.path().join("file"), "A=1\n").unwrap();
        let file = open("file").unwrap().unwrap();
        assert_eq!(read_all(&file).unwrap(), b"A=1\n");
        assert_eq!(read_all(&file).unwrap(), b"A=1\n", "from its beginning again");
        // If another file takes its place, opening it neither blocks nor leads elsewhere.
        assert!(fcntl_getfl(&file).unwrap().contains(OFlags::NONBLOCK | OFlags::NOFOLLOW));
        fs::create_dir(root.path().join("folder")).unwrap();
        mknodat(CWD, root.path().join("pipe"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        for name in ["folder", "pipe"] {
            assert_eq!(why(open(name)), "it is not a regular file");
        }
        file.set_len(MAX_SIZE).unwrap();
        assert_eq!(read_all(&open("file").unwrap().unwrap()).unwrap().len() as u64, MAX_SIZE);
        file.set_len(MAX_SIZE + 1).unwrap();
        assert_eq!(why(open("file")), "it is larger than 16 MiB, which no env file is");
        // A file that grows while it is open is read as far as to see that it is too large.
        file.set_len(MAX_SIZE + 2).unwrap();
        assert_eq!(read_all(&file).unwrap().len() as u64, MAX_SIZE + 1);
        assert!(open(&"x".repeat(300)).is_err());
        // Linux lets nobody write to this file.
        let fixed = Path::new("/sys/kernel/uevent_seqnum");
        if fixed.exists() {
            let fixed = Place::of(fixed).unwrap();
            assert!(why(fixed.open()).contains("it cannot be written to"));
            assert!(fixed.open_for(false).unwrap().is_some());
        }
    }

    #[test]
    fn a_place_holds_the_file_that_stands_there_now() {
        let root = tempfile::tempdir().unwrap();
        let place = Place::of(&root.path().join("file")).unwrap();
        fs::write(place.path(), "").unwrap();
        let file = place.open().unwrap().unwrap();
        assert_eq!(read_all(&file).unwrap(), b"");
        assert!(place.holds(&file));
        assert!(is_open_as(file.as_fd(), &file.metadata().unwrap()));
        fs::write(root.path().join("other"), "").unwrap();
        let other = File::open(root.path().join("other")).unwrap();
        assert!(!is_open_as(other.as_fd(), &file.metadata().unwrap()));
        fs::rename(root.path().join("other"), place.path()).unwrap();
        assert!(!place.holds(&file) && place.holds(&other));
        fs::remove_file(place.path()).unwrap();
        assert!(!place.holds(&other));
        assert!(place.check_folder(place.path()).is_ok());
        drop(root);
        assert!(why(place.check_folder(Path::new("app/.env"))).contains("the folder app cannot be written to"));
    }
}
