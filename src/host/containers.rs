//! This file asks Docker or Podman which ports running containers publish.
//!
//! A port can be published by NAT alone, without a socket on the host (`userland-proxy: false`). Inside a
//! container, the host's sockets cannot be seen, but the socket of Docker's API often can. One call of that
//! API returns the ports: `GET /containers/json`
//! (<https://docs.docker.com/reference/api/engine/version/v1.57/operations/ContainerList/>). Podman serves it
//! as well (<https://docs.podman.io/en/latest/_static/api.html>).

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

/// The longest wait for an answer when rows are removed because nobody is seen to use their ports.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(5);

/// The result of asking the servers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// The ports that running containers publish over TCP.
    Published(Vec<(u16, Listener)>),
    /// There is no socket, or none to which this user may connect and on which a server listens.
    NoServer,
    /// A server is there but gave no usable answer, for this reason. The published ports are unknown.
    Unusable(String),
}

/// Asks the servers behind these sockets in turn and returns the first answer.
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

/// Returns the sockets that exist, in reverse order. A socket with two names counts once.
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

/// A container in the API's answer.
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
    /// Tells whether the container runs. A paused container keeps its ports, and so does one without a state.
    fn is_running(&self) -> bool {
        // These are Docker's words, then Podman's.
        const NOT_RUNNING: [&str; 7] =
            ["created", "exited", "dead", "removing", "configured", "initialized", "stopped"];
        !self.state.as_deref().is_some_and(|state| NOT_RUNNING.iter().any(|other| state.eq_ignore_ascii_case(other)))
    }

    fn listener(&self) -> Listener {
        let name = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        let name = name.filter(|name| !name.is_empty()).map(shortened);
        let short_id = || self.id.chars().take(12).collect();
        let labels = self.labels.as_ref();
        let project = ["com.docker.compose.project", "io.podman.compose.project"]
            .into_iter()
            .find_map(|label| labels?.get(label).filter(|project| !project.is_empty()));
        Listener {
            container: Some(name.unwrap_or_else(short_id)),
            project: project.map(|project| shortened(project)),
            ..Listener::default()
        }
    }

    /// Returns the TCP ports that the container publishes on its host.
    fn published_ports(&self) -> impl Iterator<Item = u16> {
        let is_tcp = |port: &&Port| port.protocol.as_deref().is_none_or(|name| name.eq_ignore_ascii_case("tcp"));
        self.ports.iter().flatten().filter(is_tcp).filter_map(|port| port.public_port.and_then(as_port))
    }
}

/// Returns at most the first 200 characters of a name. A label may be as long as the whole answer, and each port
/// carries the names of its container.
fn shortened(name: &str) -> String {
    name.chars().take(200).collect()
}

/// Reads the published ports from an answer, each with the container that publishes it.
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
