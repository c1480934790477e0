//! This file represents the services of a Compose file, as far as ports go, and merges them as Compose does.
//!
//! Only what decides about ports is kept of a service. Variables are replaced at once, file by file, as
//! Compose does, since a file that is included has variables of its own. `ports` and `profiles` of two
//! files are joined, and of everything else the later one counts:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/override/merge.go>. Compose drops an entry of
//! `ports` that stands twice with the same content, which changes no set of ports.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;
use std::rc::Rc;

use super::interpolate::NoValue;
use super::problem::{FileName, Problem};

/// Services by their names.
pub(super) type Services = BTreeMap<String, Service>;

/// A value that may be unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known<T> {
    /// The value is known.
    Value(T),
    /// The value needs something that could not be read.
    Unknown(Problem),
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Service {
    /// The file in which the service begins. If several files name it, this is the first.
    pub(super) file: FileName,
    /// The line in `file`.
    pub(super) line: usize,
    /// The entries of its `ports`.
    pub(super) ports: Vec<Entry>,
    /// Its `network_mode`.
    pub(super) network_mode: Option<Known<String>>,
    /// Whether it names networks.
    pub(super) has_networks: bool,
    /// Its `profiles`.
    pub(super) profiles: Vec<Profile>,
    /// Its `scale`.
    pub(super) scale: Option<Known<i64>>,
    /// Its `deploy.replicas`.
    pub(super) replicas: Option<Known<i64>>,
    /// The service that it extends.
    pub(super) extends: Option<Extends>,
    /// Tells whether the service has nothing but a name. Compose accepts that only if an earlier file says
    /// more.
    pub(super) is_empty: bool,
    /// Those keys that have a value and decide about ports.
    pub(super) present: Vec<&'static str>,
    /// The keys without a value. Compose accepts these only if an earlier file gives a value.
    pub(super) nulls: Vec<(&'static str, Problem)>,
    /// The problems for which Compose refuses the service, but which do not concern its ports.
    pub(super) notes: Vec<Problem>,
    /// The reason why the service could not be read, if so. Its ports are then unknown.
    pub(super) problem: Option<Problem>,
}

/// A profile of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Profile {
    /// The name after variables are replaced.
    pub(super) name: Known<String>,
    /// The name as it is written. Messages show this one, because the value of a variable may be secret.
    pub(super) written: String,
}

/// One entry of `ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    /// The file that it stands in.
    pub(super) file: FileName,
    /// The line that it stands on.
    pub(super) line: usize,
    /// The name of the entry in messages: its number in the list of its service.
    pub(super) name: EntryName,
    /// The fixed ports that the entry publishes on this machine, if any.
    pub(super) published: Result<Option<RangeInclusive<u16>>, NoValue>,
}

impl Entry {
    /// Returns the problem with the entry, if Compose refuses it.
    pub(super) fn refused(&self) -> Option<Problem> {
        match &self.published {
            Err(NoValue::Refused(reason)) => Some(self.problem(reason)),
            _ => None,
        }
    }

    /// Makes a problem at this entry.
    pub(super) fn problem(&self, reason: &str) -> Problem {
        Problem::at(&self.file, self.line, format!("{} {reason}", self.name))
    }
}

/// The name of an entry of `ports` in messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntryName {
    /// The name of the service in its file.
    pub(super) service: Rc<str>,
    /// The number of the entry, from 1.
    pub(super) number: usize,
}

impl Display for EntryName {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "entry {} of the ports of {}", self.number, self.service)
    }
}

/// A path in a Compose file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PathText {
    /// The path after variables are replaced.
    pub(super) path: String,
    /// The path as it is written. Messages show this one, because the value of a variable may be secret.
    pub(super) written: String,
}

/// The service that `extends` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extends {
    /// The line.
    pub(super) line: usize,
    /// The name of the service.
    pub(super) service: String,
    /// The file of that service, if it is another file.
    pub(super) file: Option<PathText>,
}

/// The places in a file that have the tag `!reset` or `!override`. Values at these places from other files
/// and from extended services are removed before the file is merged.
pub(super) type Resets = Vec<Vec<String>>;

impl Service {
    /// Makes a service without any settings.
    pub(super) fn new(file: &FileName, line: usize) -> Self {
        Self {
            file: Rc::clone(file),
            line,
            ports: Vec::new(),
            network_mode: None,
            has_networks: false,
            profiles: Vec::new(),
            scale: None,
            replicas: None,
            extends: None,
            is_empty: false,
            present: Vec::new(),
            nulls: Vec::new(),
            notes: Vec::new(),
            problem: None,
        }
    }

    /// Merges a later definition over this service: one from a later file, or one that extends this service.
    pub(super) fn merged_with(mut self, later: Self) -> Self {
        if later.is_empty {
            return self;
        }
        self.ports.extend(later.ports);
        self.profiles.extend(later.profiles);
        self.notes.extend(later.notes);
        self.nulls.extend(later.nulls.into_iter().filter(|(key, _)| !self.present.contains(key)));
        self.present.extend(later.present);
        Self {
            network_mode: later.network_mode.or(self.network_mode),
            has_networks: self.has_networks || later.has_networks,
            scale: later.scale.or(self.scale),
            replicas: later.replicas.or(self.replicas),
            problem: self.problem.or(later.problem),
            ..self
        }
    }

    /// Returns the reason why the service could not be read, if so.
    pub(super) fn fault(&self) -> Option<&Problem> {
        self.problem.as_ref().or_else(|| self.nulls.first().map(|(_, problem)| problem))
    }

    /// Tells whether two files define a service alike, as far as ports go.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        let published = |entry: &Entry| entry.published.clone();
        self.ports.iter().map(published).eq(other.ports.iter().map(published))
            && self.network_mode == other.network_mode
            && self.profiles == other.profiles
            && (&self.scale, &self.replicas) == (&other.scale, &other.replicas)
            && self.fault().is_some() == other.fault().is_some()
    }
}

/// Removes the values at the places that `!reset` and `!override` name.
pub(super) fn reset(services: &mut Services, places: &Resets) {
    for place in places {
        let place: Vec<_> = place.iter().map(String::as_str).collect();
        match place.as_slice() {
            [] => services.clear(),
            [name] => drop(services.remove(*name)),
            [name, rest @ ..] => {
                if let Some(service) = services.get_mut(*name) {
                    reset_key(service, rest);
                }
            }
        }
    }
}

fn reset_key(service: &mut Service, place: &[&str]) {
    match place {
        ["ports"] => service.ports.clear(),
        ["network_mode"] => service.network_mode = None,
        ["networks"] => service.has_networks = false,
        ["profiles"] => service.profiles.clear(),
        ["scale"] => service.scale = None,
        ["deploy"] | ["deploy", "replicas"] => service.replicas = None,
        ["extends"] => service.extends = None,
        _ => {}
    }
    if let [key] = place {
        service.present.retain(|present| present != key);
    }
}
