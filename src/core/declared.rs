//! Declared ports: what an app's own files say it uses.
//!
//! An app may be served on other ports than it was given, because somebody edited its files. Only
//! what all files agree on is a pair that could be taken over.

use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

use super::allocation::PortPair;
use super::text::listed;

/// Which part of an app listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The server behind.
    Backend,
    /// What a browser opens.
    Frontend,
    /// Another service, such as a database, which is given no port.
    Other,
}

impl Role {
    /// The two that are given a port.
    pub(crate) const GIVEN: [Self; 2] = [Self::Backend, Self::Frontend];

    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Backend, Self::Frontend, Self::Other];

    /// The role of a Compose service of this name.
    pub(crate) fn of_service(name: &str) -> Self {
        Self::GIVEN.into_iter().find(|role| role.name() == name).unwrap_or(Self::Other)
    }

    /// The word for it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Frontend => "frontend",
            Self::Other => "other",
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Ports that one file names in a row, from 1 to 65535.
///
/// A line may name all there are, so they stay a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredPorts {
    /// Whose ports they are.
    pub(crate) role: Role,
    /// The ports on this machine.
    pub(crate) ports: RangeInclusive<u16>,
    /// The name of the file inside the app's directory.
    pub(crate) file: &'static str,
}

/// All that one app's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// The ports, in the order of the files, those of one file and role rising and each once.
    pub(crate) ports: Vec<DeclaredPorts>,
    /// What could not be read: the name of a file and the reason, in words and on one line.
    pub(crate) unreadable: Vec<(&'static str, String)>,
}

impl Declared {
    /// What the files in several folders of one app say together.
    pub(crate) fn of_all<'a>(folders: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for folder in folders {
            all.ports.extend_from_slice(&folder.ports);
            all.unreadable.extend_from_slice(&folder.unreadable);
        }
        all
    }

    /// The ports of one role.
    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = &DeclaredPorts> {
        self.ports.iter().filter(move |declared| declared.role == role)
    }

    /// The pair that the files agree on; `None` where they name no port.
    ///
    /// # Errors
    ///
    /// In words, when only one role has a port, a role has several, or both have the same one.
    pub(crate) fn pair(&self) -> Result<Option<PortPair>, String> {
        let [backend, frontend] = Role::GIVEN.map(|role| self.only(role));
        match (backend?, frontend?) {
            (None, None) => Ok(None),
            (Some(port), None) => Err(format!("backend port {port} is declared, but no frontend port")),
            (None, Some(port)) => Err(format!("frontend port {port} is declared, but no backend port")),
            (Some(backend), Some(frontend)) => PortPair::new(backend, frontend)
                .map(Some)
                .ok_or_else(|| format!("port {backend} is declared as backend and as frontend")),
        }
    }

    /// The one port that a role has over all files.
    fn only(&self, role: Role) -> Result<Option<u16>, String> {
        let ranges = union(self.of(role).map(|declared| declared.ports.clone()).collect());
        let count = ranges.iter().map(ExactSizeIterator::len).sum();
        let mut ports = ranges.into_iter().flatten();
        if count <= 1 {
            return Ok(ports.next());
        }
        let place = |port| {
            let files = self.of(role).filter(|declared| declared.ports.contains(&port)).map(|declared| declared.file);
            format!("{port} in {}", files.collect::<Vec<_>>().join(" and "))
        };
        Err(format!("{count} {role} ports are declared: {}", listed(ports.map(place), count)))
    }
}

/// The ports in any of the ranges, each once and rising.
pub(crate) fn union(mut ranges: Vec<RangeInclusive<u16>>) -> Vec<RangeInclusive<u16>> {
    ranges.sort_unstable_by_key(|range| *range.start());
    let mut union: Vec<RangeInclusive<u16>> = Vec::new();
    for range in ranges {
        match union.last_mut() {
            Some(last) if *range.start() <= last.end().saturating_add(1) => {
                *last = *last.start()..=*last.end().max(range.end());
            }
            _ => union.push(range),
        }
    }
    union
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_what_all_files_agree_on() {
        use Role::{Backend, Frontend};
        let (env, compose) = (".env", "compose.yaml");
        let pair = |backend, frontend| Ok(PortPair::new(backend, frontend));
        for (ports, expected) in [
            (vec![], Ok(None)),
            (vec![(Backend, 5001, env), (Frontend, 8001, env)], pair(5001, 8001)),
            (vec![(Frontend, 8001, compose), (Backend, 5001, env)], pair(5001, 8001)),
            (
                vec![(Backend, 5001, env), (Frontend, 8001, env), (Backend, 5001, compose), (Frontend, 8001, compose)],
                pair(5001, 8001),
            ),
            (vec![(Backend, 5001, env)], Err("backend port 5001 is declared, but no frontend port")),
            (vec![(Frontend, 8001, env)], Err("frontend port 8001 is declared, but no backend port")),
            (
                vec![(Backend, 5001, env), (Frontend, 5001, compose)],
                Err("port 5001 is declared as backend and as frontend"),
            ),
            (
                vec![(Backend, 5003, env), (Backend, 5001, compose), (Backend, 5003, compose), (Frontend, 1, env)],
                Err("2 backend ports are declared: 5001 in compose.yaml, 5003 in .env and compose.yaml"),
            ),
            (
                (1..=7).map(|port| (Frontend, port, env)).collect(),
                Err("7 frontend ports are declared: 1 in .env, 2 in .env, 3 in .env, 4 in .env, 5 in .env and 2 more"),
            ),
        ] {
            let one = |(role, port, file)| DeclaredPorts { role, ports: port..=port, file };
            let declared = Declared { ports: ports.into_iter().map(one).collect(), unreadable: Vec::new() };
            assert_eq!(declared.pair(), expected.map_err(str::to_owned), "{:?}", declared.ports);
        }
    }

    #[test]
    fn a_wide_range_is_counted_and_not_listed() {
        let of = |ports, file| DeclaredPorts { role: Role::Backend, ports, file };
        let ports = vec![of(9..=9, ".env"), of(8..=65535, "compose.yml")];
        let expected = "65528 backend ports are declared: 8 in compose.yml, 9 in .env and compose.yml, \
                        10 in compose.yml, 11 in compose.yml, 12 in compose.yml and 65523 more";
        assert_eq!(Declared { ports, unreadable: Vec::new() }.pair(), Err(expected.to_owned()));
    }

    #[test]
    fn a_union_has_each_port_once_in_as_few_ranges_as_may_be() {
        for (ranges, expected) in [
            (vec![], vec![]),
            (vec![5..=20, 8..=9, 6..=6], vec![5..=20]),
            (vec![3..=4, 1..=2, 6..=6], vec![1..=4, 6..=6]),
            (vec![1..=65535, 65535..=65535], vec![1..=65535]),
        ] {
            assert_eq!(union(ranges), expected);
        }
    }
}
