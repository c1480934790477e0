//! This module sets some of the `NAME=value` lines in a file and leaves everything else unchanged.
//!
//! After [`EnvFile::set`], the following holds. Each point has a test in `tests/it/env_file.rs`:
//! - Every reader finds the values, and every other byte is as it was; else the file was refused before
//!   anything was changed ([`content`]).
//! - Owner, group, mode, ACL, extended attributes, flags and other hard links of the file are as they were;
//!   a symbolic link still leads to it, and a mount point is still one. Nobody who could not read the file
//!   before can read it or a copy of it, not even for a moment.
//! - The file is replaced as a whole where a new file can have all of that ([`replace`]), else it is
//!   changed in place ([`in_place`], which says what a kill or a power cut can leave then).
//! - A file that has the values already is not touched. A new file has the mode that the umask says.
//! - Lines that other programs add at any time stay, and of several calls for one file each one's values
//!   are set in turn ([`lock`], [`watch`]). An exception: a program that keeps the file open for longer
//!   than its replacement takes and writes to it later writes to the old one.
//!
//! Lines are bytes here: what others wrote need not be UTF-8.

mod content;
mod in_place;
mod lock;
mod place;
mod python_dotenv;
#[cfg(target_os = "linux")]
mod replace;
#[cfg(not(target_os = "linux"))]
#[path = "replace_elsewhere.rs"]
mod replace;
mod replaced;
mod rights;
#[cfg(target_os = "linux")]
mod watch;

#[cfg(feature = "internals")]
pub(crate) use self::content::{edit, others};

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use self::place::{Place, read_all};
use self::replaced::{Replaced, Sync};

/// The most times that a file is read again because other programs change it while it is being written.
const ROUNDS: usize = 200;

/// After this many rounds, the file is synced only at the end of a round.
const PATIENT_ROUNDS: usize = 5;

/// A file that can be written, or need not be.
pub(crate) struct EnvFile {
    path: PathBuf,
    /// The folder, without symbolic links, in which the file has to be.
    inside: Option<PathBuf>,
    identity: Identity,
    /// The contents of the file, if this user may read it but not write to it.
    fixed: Option<Vec<u8>>,
}

/// The identity of a file, whatever its names are.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Identity {
    /// The device and the number of the inode.
    Inode(u64, u64),
    /// The path, without symbolic links, of a file that does not exist yet.
    Place(PathBuf),
}

impl EnvFile {
    /// Checks whether anything would prevent setting these variables, whatever their values will be. With
    /// `inside`, no symbolic link may lead out of that folder.
    ///
    /// # Errors
    ///
    /// Fails when the file is not a regular file of text, when a reader would read one of the variables
    /// differently, or when this user may not write to the file or create it.
    pub(crate) fn inspect(path: &Path, inside: Option<&Path>, names: &[&str]) -> Result<Self> {
        let inspect = || {
            let inside = inside.map(fs::canonicalize).transpose()?;
            let place = Place::inside(inside.as_deref(), path)?;
            let mut fixed = None;
            let content = match place.open() {
                Ok(Some(file)) => read_all(&file)?,
                Ok(None) => {
                    place.check_folder(path)?;
                    Vec::new()
                }
                // A file that already has the right values need not be written.
                Err(err) if is_denied(&err) => {
                    let content = place.open_for(false)?.map(|file| read_all(&file)).transpose()?.unwrap_or_default();
                    if !has_values(&content, names) {
                        return Err(err);
                    }
                    fixed.insert(content).clone()
                }
                Err(err) => return Err(err),
            };
            // If one value is refused, a value of another length is refused as well, so one value suffices
            // here.
            let variables: Vec<_> = names.iter().map(|name| (*name, "1".to_owned())).collect();
            content::edit(&content, &variables).map_err(anyhow::Error::msg)?;
            let identity = match fs::symlink_metadata(place.path()) {
                Ok(found) => Identity::Inode(found.dev(), found.ino()),
                Err(_) => Identity::Place(place.path().to_owned()),
            };
            Ok(Self { path: path.to_owned(), inside, identity, fixed })
        };
        inspect().with_context(|| name(path))
    }

    /// Returns the identity of the file.
    pub(crate) fn identity(&self) -> Identity {
        self.identity.clone()
    }

    /// Checks that these variables can be set. A file to which this user may not write must have them
    /// already.
    ///
    /// # Errors
    ///
    /// Fails when the file must be changed and cannot be.
    pub(crate) fn check(&self, variables: &[(&str, String)]) -> Result<()> {
        let has_them = |content: &Vec<u8>| content::edit(content, variables).is_ok_and(|edited| edited == *content);
        if self.fixed.as_ref().is_some_and(|content| !has_them(content)) {
            let values: Vec<_> = variables.iter().map(|(name, value)| format!("{name}={value}")).collect();
            bail!("{}: it cannot be written to, and does not hold {}", name(&self.path), values.join(" and "));
        }
        Ok(())
    }

    /// Sets these variables and makes the file durable. A file that has them already is not written. Waits up
    /// to `patience` for other calls that write to the file.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written. The file is then unchanged.
    pub(crate) fn set(&self, variables: &[(&str, String)], patience: Duration) -> Result<()> {
        write(&self.path, self.inside.as_deref(), variables, patience).with_context(|| name(&self.path))
    }
}

/// Writes until the file at the path has the variables.
fn write(path: &Path, inside: Option<&Path>, variables: &[(&str, String)], patience: Duration) -> Result<()> {
    let set = |content: &[u8]| content::edit(content, variables).map_err(anyhow::Error::msg);
    // What another program wrote during the replacement, and the content that replaced it.
    let mut overtaken: Option<(Vec<u8>, Vec<u8>)> = None;
    for round in 0..ROUNDS {
        let place = Place::inside(inside, path)?;
        let file = match place.open() {
            Ok(Some(file)) => file,
            Ok(None) => {
                if replace::create(&place, &set(b"")?)? {
                    return Ok(());
                }
                continue;
            }
            Err(err) => {
                let content = place.open_for(false).ok().flatten().and_then(|file| read_all(&file).ok());
                return if content.is_some_and(|content| set(&content).is_ok_and(|edited| edited == content)) {
                    Ok(())
                } else {
                    Err(err)
                };
            }
        };
        lock::wait(&file, patience)?;
        // The file may have been replaced meanwhile.
        if !place.holds(&file) {
            continue;
        }
        replace::remove_leftover(&place, &file);
        let edit = |content: &[u8]| match &overtaken {
            Some((written, theirs)) if written == content => set(theirs),
            _ => set(content),
        };
        let content = read_all(&file)?;
        if edit(&content)? == content {
            return Ok(());
        }
        let sync = if round < PATIENT_ROUNDS { Sync::Before } else { Sync::After };
        match replace::replace(&place, &file, &content, &edit, sync)? {
            Replaced::Yes | Replaced::Changed => {}
            Replaced::Overtaken { written, theirs } => overtaken = Some((written, theirs)),
            Replaced::Not => in_place::write(&file, &content, &edit)?,
        }
    }
    bail!("other programs change it all the time")
}

/// Tells whether a content sets every one of the variables to some port.
fn has_values(content: &[u8], names: &[&str]) -> bool {
    let values = crate::host::declared::env_values(content, names);
    values.iter().all(|value| value.as_ref().is_some_and(|value| value.parse().is_ok_and(|port: u16| port > 0)))
}

/// Tells whether an error says that this user may not write.
fn is_denied(err: &anyhow::Error) -> bool {
    let kind = err.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem))
}

fn name(path: &Path) -> String {
    format!("env file {}", path.display())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::rights::Rights;
    use super::*;

    const NAMES: [&str; 2] = ["BACKEND_PORT", "FRONTEND_PORT"];
    const BOTH: &str = "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n";

    fn both() -> [(&'static str, String); 2] {
        [(NAMES[0], "5001".to_owned()), (NAMES[1], "8001".to_owned())]
    }

    fn set(path: &Path) -> Result<()> {
        EnvFile::inspect(path, None, &NAMES)?.set(&both(), Duration::ZERO)
    }

    fn names(folder: &Path) -> Vec<std::ffi::OsString> {
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
    }

    #[test]
    fn a_file_is_replaced_by_one_with_its_rights() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".env");
        fs::write(&path, "A=1\nBACKEND_PORT=1\n").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
        let old = fs::File::open(&path).unwrap();
        set(&path).unwrap();
        let new = fs::File::open(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        assert_eq!(read_all(&old).unwrap(), b"A=1\nBACKEND_PORT=1\n");
        assert_eq!(Rights::of(&new).unwrap(), Rights::of(&old).unwrap());
        assert_eq!(new.metadata().unwrap().mode() & 0o7777, 0o640);
        assert_eq!(names(root.path()), [".env"]);
        // What is right already is not written again.
        set(&path).unwrap();
        assert!(place::is_same(&fs::metadata(&path).unwrap(), &new.metadata().unwrap()));
    }

    #[test]
    fn a_file_that_is_not_there_is_made() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".env");
        set(&path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names(root.path()).len()), (BOTH, 1));
        let other = root.path().join("other");
        fs::write(&other, "").unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode();
        assert_eq!(mode(&path), mode(&other));
    }

    #[test]
    fn a_file_with_two_names_keeps_both() {
        let root = tempfile::tempdir().unwrap();
        let paths = ["a", "b"].map(|name| root.path().join(name));
        for (old, new) in [("A=1", "A=1\n"), ("BACKEND_PORT=123456\nA=1\n", ""), ("BACKEND_PORT=1\nA=1\n", "")] {
            fs::write(&paths[0], old).unwrap();
            let _ = fs::hard_link(&paths[0], &paths[1]);
            set(&paths[0]).unwrap();
            let expected = match new {
                "" => "BACKEND_PORT=5001\nA=1\nFRONTEND_PORT=8001\n".to_owned(),
                start => format!("{start}{BOTH}"),
            };
            for path in &paths {
                assert_eq!(fs::read_to_string(path).unwrap(), expected);
            }
        }
    }

    #[test]
    fn two_names_of_one_file_have_one_identity() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        let identity = |name: &str| EnvFile::inspect(&path(name), None, &NAMES).unwrap().identity();
        fs::write(path("a"), "").unwrap();
        fs::hard_link(path("a"), path("b")).unwrap();
        fs::write(path("c"), "").unwrap();
        assert_eq!(identity("a"), identity("b"));
        assert_ne!(identity("a"), identity("c"));
        assert_eq!(identity("no"), identity("./no"));
        assert_ne!(identity("no"), identity("none"));
    }

    #[test]
    fn a_file_that_this_user_may_only_read_must_have_the_values() {
        let file = |content: Option<&str>| EnvFile {
            path: "/x/.env".into(),
            inside: None,
            identity: Identity::Inode(1, 1),
            fixed: content.map(|content| content.as_bytes().to_vec()),
        };
        for content in [None, Some(BOTH), Some("BACKEND_PORT='5001'\nA=1\nFRONTEND_PORT=8001")] {
            let has_them = content.is_none_or(|content| !content.contains('\''));
            assert_eq!(file(content).check(&both()).is_ok(), has_them, "{content:?}");
        }
        let why = file(Some("BACKEND_PORT=5001\n")).check(&both()).unwrap_err().to_string();
        let expected =
            "env file /x/.env: it cannot be written to, and does not hold BACKEND_PORT=5001 and FRONTEND_PORT=8001";
        assert_eq!(why, expected);
        for (content, expected) in [
            (BOTH, true),
            ("BACKEND_PORT=1\nFRONTEND_PORT=65535\n", true),
            ("BACKEND_PORT=0\nFRONTEND_PORT=1\n", false),
            ("BACKEND_PORT=1\nFRONTEND_PORT=65536\n", false),
            ("BACKEND_PORT=1\n", false),
        ] {
            assert_eq!(has_values(content.as_bytes(), &NAMES), expected, "{content}");
        }
        for (kind, expected) in [
            (io::ErrorKind::PermissionDenied, true),
            (io::ErrorKind::ReadOnlyFilesystem, true),
            (io::ErrorKind::NotFound, false),
        ] {
            let err = anyhow::Error::from(io::Error::from(kind)).context("it cannot be written to");
            assert_eq!(is_denied(&err), expected, "{kind:?}");
        }
        assert!(!is_denied(&anyhow::anyhow!("it is not a regular file")));
    }
}
