//! This file finds the ports that the services of a project publish: it decides which services run, and on
//! which network.
//!
//! A service runs if it has no profile or an active one, and has a container. Its ports are not published if
//! it uses the network of the host or of another container, or no network:
//! <https://docs.docker.com/reference/compose-file/services/#network_mode>.

use super::env::Environment;
use super::interpolate::{NoValue, Variable};
use super::problem::{Problem, Problems, called};
use super::project::Project;
use super::services::{Known, Service};
use crate::core::declared::{Declared, DeclaredPorts, Names, Role, Unpublished, WhyUnpublished, union};

/// Whether the ports of a service are published.
enum State {
    /// The ports are published.
    Published,
    /// The ports are not published, for this reason.
    Unpublished(WhyUnpublished),
    /// The state needs something that could not be read, or Compose refuses the service.
    Unknown(Problem),
}

/// Adds the ports that the services of a project publish. Reports unknown values and entries that Compose
/// refuses.
pub(super) fn add_published(
    declared: &mut Declared,
    project: &Project,
    names: &Names,
    environment: &Environment,
    problems: &Problems,
    refused: &Problems,
) {
    let service_of = |role| names.services(role).iter().find(|name| project.services.contains_key(*name));
    let services = Role::GIVEN.map(|role| (role, service_of(role)));
    for (role, service) in services {
        if service.is_none() && !project.is_complete {
            declared.unknown_in_compose.push(role);
        }
    }
    for (name, service) in &project.services {
        let is_its = |(_, found): &&(Role, Option<&String>)| *found == Some(name);
        let role = services.iter().find(is_its).map_or(Role::Other, |(role, _)| *role);
        service.notes.iter().for_each(|note| problems.add(note.clone()));
        let state = state(name, service, environment);
        if let State::Unknown(problem) = state {
            problems.add(problem);
            declared.unknown_in_compose.push(role);
            continue;
        }
        let ports = ports(role, service, declared, problems, refused);
        let State::Unpublished(why) = state else {
            declared.ports.extend(ports);
            continue;
        };
        if let Some(DeclaredPorts { file, line, .. }) = ports.first() {
            let (file, line) = (file.clone(), *line);
            let ports = union(ports.into_iter().map(|declared| declared.ports).collect());
            declared.unpublished.push(Unpublished { role, service: name.clone(), ports, why, file, line });
        }
    }
}

/// Returns the ports that a service names, in ascending order and without those that another entry covers.
fn ports(
    role: Role,
    service: &Service,
    declared: &mut Declared,
    problems: &Problems,
    refused: &Problems,
) -> Vec<DeclaredPorts> {
    let mut ports = Vec::new();
    for entry in &service.ports {
        match &entry.published {
            Ok(None) => {}
            Ok(Some(range)) => {
                ports.push(DeclaredPorts {
                    role,
                    ports: range.clone(),
                    file: entry.file.to_string(),
                    line: entry.line,
                });
            }
            Err(NoValue::Refused(reason)) => refused.add(entry.problem(reason)),
            Err(NoValue::Unknown(reason)) => {
                problems.add(entry.problem(reason));
                declared.unknown_in_compose.push(role);
            }
        }
    }
    ports.sort_by_key(|declared| (*declared.ports.start(), u16::MAX - declared.ports.end()));
    let mut covered = 0;
    ports.retain(|declared| {
        let is_new = *declared.ports.end() > covered;
        covered = covered.max(*declared.ports.end());
        is_new
    });
    ports
}

fn state(name: &str, service: &Service, environment: &Environment) -> State {
    if let Some(problem) = service.fault() {
        return State::Unknown(problem.clone());
    }
    let refused = |what: &str| {
        State::Unknown(Problem::at(&service.file, service.line, format!("has a service {} {what}", called(name))))
    };
    match is_on(name, service, environment) {
        Ok(true) => {}
        Ok(false) => {
            let written = service.profiles.iter().map(|profile| profile.written.clone()).collect();
            return State::Unpublished(WhyUnpublished::Profiles(written));
        }
        Err(problem) => return State::Unknown(problem),
    }
    let network_mode = match &service.network_mode {
        None => "",
        Some(Known::Value(mode)) => mode,
        Some(Known::Unknown(problem)) => return State::Unknown(problem.clone()),
    };
    if !network_mode.is_empty() && service.has_networks {
        return refused("with both network_mode and networks");
    }
    let count = match (&service.scale, &service.replicas) {
        (Some(Known::Unknown(problem)), _) | (_, Some(Known::Unknown(problem))) => {
            return State::Unknown(problem.clone());
        }
        (Some(Known::Value(scale)), Some(Known::Value(replicas))) if scale != replicas => {
            return refused("with a scale that differs from its replicas");
        }
        (Some(Known::Value(count)), _) | (None, Some(Known::Value(count))) => *count,
        (None, None) => 1,
    };
    match network_mode {
        _ if count == 0 => State::Unpublished(WhyUnpublished::NoReplicas),
        "host" => State::Unpublished(WhyUnpublished::HostNetwork),
        "none" => State::Unpublished(WhyUnpublished::NoNetwork),
        mode if mode.starts_with("service:") || mode.starts_with("container:") => {
            State::Unpublished(WhyUnpublished::SharedNetwork)
        }
        _ => State::Published,
    }
}

/// Tells whether a service has no profile or one that `COMPOSE_PROFILES` activates.
fn is_on(name: &str, service: &Service, environment: &Environment) -> Result<bool, Problem> {
    if service.profiles.is_empty() {
        return Ok(true);
    }
    let on = match environment.get("COMPOSE_PROFILES") {
        Variable::Set(list) => list,
        Variable::NotSet => "",
        Variable::Unknown => {
            let reason =
                format!("has a service {} with profiles, and COMPOSE_PROFILES could not be read", called(name));
            return Err(Problem::at(&service.file, service.line, reason));
        }
    };
    let is_on = |profile: &str| on.split(',').map(str::trim).any(|on| on == "*" || on == profile);
    let mut unknown = None;
    for profile in &service.profiles {
        match &profile.name {
            Known::Value(profile) if is_on(profile) => return Ok(true),
            Known::Value(_) => {}
            Known::Unknown(problem) => unknown = Some(problem.clone()),
        }
    }
    unknown.map_or(Ok(false), Err)
}
