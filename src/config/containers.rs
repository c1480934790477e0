//! Finds the sockets of Docker's API.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Returns the possible sockets of Docker and Podman, given a function that reads environment variables.
///
/// Only the form `unix://PATH` of `DOCKER_HOST` names a socket, see
/// <https://docs.docker.com/reference/cli/docker/#environment-variables>; the others reach over the
/// network. Podman has a socket for root and one for each user, see
/// <https://docs.podman.io/en/latest/markdown/podman-system-service.1.html>.
pub(super) fn sockets(variable: impl Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let docker_host = variable("DOCKER_HOST");
    let named = docker_host.as_ref().and_then(|host| host.as_bytes().strip_prefix(b"unix://"));
    let named = named.filter(|path| !path.is_empty()).map(|path| OsStr::from_bytes(path).into());
    let users = variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("podman/podman.sock"));
    let fixed = ["/var/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    named.into_iter().chain(fixed).chain(users).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sockets_are_those_of_docker_then_of_podman() {
        let fixed = ["/var/run/docker.sock", "/run/podman/podman.sock"];
        let sockets = |docker_host: &str, runtime_dir: &str| {
            sockets(|name| match name {
                "DOCKER_HOST" => Some(docker_host.into()),
                "XDG_RUNTIME_DIR" => Some(runtime_dir.into()),
                _ => None,
            })
        };
        assert_eq!(
            sockets("unix:///a/b.sock", "/run/user/7"),
            ["/a/b.sock", fixed[0], fixed[1], "/run/user/7/podman/podman.sock"].map(PathBuf::from)
        );
        for passed_over in ["tcp://127.0.0.1:2375", "ssh://me@host", "npipe:////./pipe/docker", "/a/b.sock", "unix://"]
        {
            assert_eq!(sockets(passed_over, "/r")[..2], fixed.map(PathBuf::from), "{passed_over}");
        }
        assert_eq!(super::sockets(|_| None), fixed.map(PathBuf::from));
    }
}
