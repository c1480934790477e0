//! Which ports running containers publish, asked of Docker or Podman.
//!
//! NAT alone can publish a port, without a socket on the host (`userland-proxy: false`); and inside a
//! container the host's sockets are not to be seen, while the socket of Docker's API often is. One call
//! of that API tells: `GET /containers/json`
//! (<https://docs.docker.com/reference/api/engine/version/v1.57/operations/ContainerList/>),
//! which Podman serves, too (<https://docs.podman.io/en/latest/_static/api.html>).

use std::collections::{BTreeMap, HashSet};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fs, io};

use serde::Deserialize;

use super::unix_http::{self, GetError};
use crate::core::listener::Listener;
use crate::core::ports::as_port;

/// The longest wait for an answer.
pub(crate) const PATIENCE: Duration = Duration::from_millis(500);

/// The longest wait of those who remove what nobody is seen to use.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// What came of asking.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The ports that running containers publish over TCP.
    Published(Vec<(u16, Listener)>),
    /// No socket is there, or none that this user may connect to and that a server listens on.
    NoServer,
    /// A server is there and gave no usable answer, for this reason: what containers publish is unknown.
    Unusable(String),
}

/// Asks the servers behind these sockets in turn; the first that answers counts.
///
/// All of them together have `patience`: each server gets an equal share of what is left.
pub(crate) fn published(sockets: &[PathBuf], patience: Duration) -> Answer {
    let deadline = Instant::now() + patience;
    let mut left = present(sockets);
    let mut unusable = None;
    while let Some(socket) = left.pop() {
        let share = deadline.saturating_duration_since(Instant::now()) / (left.len() as u32 + 1);
        let body = unix_http::get(socket, "/containers/json", Instant::now() + share);
        let answer = body.and_then(|body| parse(&body).map_err(GetError::BadAnswer));
        let name = socket.display();
        match answer {
            Ok(published) => {
                log::debug!("{name}: running containers publish {} port(s)", published.len());
                return Answer::Published(published);
            }
            Err(GetError::NoServer(err)) => log::debug!("no answer about containers from {name}: {err}"),
            Err(GetError::BadAnswer(err)) => {
                log::debug!("no answer about containers from {name}: {err}");
                unusable.get_or_insert_with(|| format!("{name}: {err}"));
            }
        }
    }
    unusable.map_or(Answer::NoServer, Answer::Unusable)
}

/// Those of the sockets that are there, the first of them last; one with two names counts once.
fn present(sockets: &[PathBuf]) -> Vec<&Path> {
    let mut seen = HashSet::new();
    let mut present: Vec<_> = sockets.iter().map(PathBuf::as_path).collect();
    present.retain(|path| match fs::metadata(path) {
        Ok(found) if found.file_type().is_socket() => seen.insert((found.dev(), found.ino())),
        Ok(_) => {
            log::debug!("no answer about containers from {}: it is no socket", path.display());
            false
        }
        Err(err) => {
            log::debug!("no answer about containers from {}: {err}", path.display());
            false
        }
    });
    present.reverse();
    present
}

/// A container as the API tells of it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    names: Option<Vec<String>>,
    state: Option<String>,
    labels: Option<BTreeMap<String, String>>,
    ports: Option<Vec<Port>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Port {
    public_port: Option<i64>,
    #[serde(rename = "Type")]
    protocol: Option<String>,
}

impl Container {
    /// Whether it runs: a paused one keeps its ports, and so does one whose state is not told.
    fn is_running(&self) -> bool {
        // Docker's words, then Podman's.
        const NOT_RUNNING: [&str; 7] =
            ["created", "exited", "dead", "removing", "configured", "initialized", "stopped"];
        !self.state.as_deref().is_some_and(|state| NOT_RUNNING.iter().any(|other| state.eq_ignore_ascii_case(other)))
    }

    fn listener(&self) -> Listener {
        let name = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        let short_id = || self.id.chars().take(12).collect();
        let labels = self.labels.as_ref();
        let project = ["com.docker.compose.project", "io.podman.compose.project"]
            .into_iter()
            .find_map(|label| labels?.get(label).filter(|project| !project.is_empty()));
        Listener { container: Some(name.unwrap_or_else(short_id)), project: project.cloned(), ..Listener::default() }
    }

    /// The ports that it publishes on its host over TCP.
    fn published_ports(&self) -> impl Iterator<Item = u16> {
        let is_tcp = |port: &&Port| port.protocol.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
        self.ports.iter().flatten().filter(is_tcp).filter_map(|port| port.public_port.and_then(as_port))
    }
}

/// The ports that an answer names, each with the container that publishes it.
fn parse(body: &[u8]) -> io::Result<Vec<(u16, Listener)>> {
    let containers: Vec<Container> = serde_json::from_slice(body).map_err(|err| {
        io::Error::new(io::ErrorKind::InvalidData, format!("the answer is no list of containers: {err}"))
    })?;
    let published = containers.iter().filter(|container| container.is_running()).flat_map(|container| {
        let listener = container.listener();
        container.published_ports().map(move |port| (port, listener.clone()))
    });
    Ok(published.collect())
}
