//! This file finds a command that can be executed.

use std::ffi::OsStr;
use std::io::{Error, ErrorKind, Result};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::{env, fs};

use rustix::fs::{Access, access};

/// Looks for a command as `execvp(3)` does: `program` is a path, or a name in one of the folders of
/// `search_path`.
///
/// # Errors
///
/// Returns an error of the kind `NotFound` if there is no such command, and of another kind if this user may
/// not execute it.
pub(crate) fn find(program: &OsStr, search_path: &OsStr) -> Result<()> {
    if program.as_bytes().contains(&b'/') {
        return check(Path::new(program));
    }
    let mut failure = Error::from(ErrorKind::NotFound);
    for folder in env::split_paths(search_path).filter(|_| !program.is_empty()) {
        match check(&folder.join(program)) {
            Ok(()) => return Ok(()),
            Err(err) if err.kind() == ErrorKind::PermissionDenied => failure = err,
            Err(_) => {}
        }
    }
    Err(failure)
}

fn check(path: &Path) -> Result<()> {
    if !fs::metadata(path)?.is_file() {
        return Err(Error::new(ErrorKind::PermissionDenied, "it is no file"));
    }
    Ok(access(path, Access::EXEC_OK)?)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_command_is_found_as_the_system_finds_it() {
        let folder = tempfile::tempdir().unwrap();
        let [plain, program] = ["plain", "program"].map(|name| folder.path().join(name));
        for (path, mode) in [(&plain, 0o644), (&program, 0o755)] {
            fs::write(path, "").unwrap();
            fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        }
        let search_path = env::join_paths([Path::new("/nowhere"), &plain, folder.path()]).unwrap();
        let find = |program: &Path| find(program.as_os_str(), &search_path).map_err(|err| err.kind());
        for name in ["program", "missing", "plain", "", "."] {
            let expected = match name {
                "program" => Ok(()),
                "missing" | "" => Err(ErrorKind::NotFound),
                _ => Err(ErrorKind::PermissionDenied),
            };
            assert_eq!(find(Path::new(name)), expected, "{name}");
        }
        assert_eq!(find(&program), Ok(()));
        assert_eq!(find(&plain), Err(ErrorKind::PermissionDenied));
        assert_eq!(find(folder.path()), Err(ErrorKind::PermissionDenied));
        assert_eq!(find(&folder.path().join("missing")), Err(ErrorKind::NotFound));
        assert_eq!(find(&plain.join("below")), Err(ErrorKind::NotADirectory));
    }
}
