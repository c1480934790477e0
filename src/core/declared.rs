//! Declared ports: what an app's own files say it uses.
//!
//! An app may be served on other ports than it was given, because somebody edited its files. Only
//! what all files agree on is a pair that could be taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

use super::allocation::PortPair;

/// Which half of an app listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The server behind.
    Backend,
    /// What a browser opens.
    Frontend,
}

impl Role {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Backend, Self::Frontend];

    /// The word for it, which is also the name of its Compose service.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Backend => "backend",
            Self::Frontend => "frontend",
        }
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A port that one file names, from 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeclaredPort {
    /// Whose port it is.
    pub role: Role,
    /// The port on this machine.
    pub port: u16,
    /// The name of the file inside the app's directory.
    pub file: String,
}

/// All that one app's files say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Declared {
    /// The ports, in the order of the files; no file names one twice for a role.
    pub ports: Vec<DeclaredPort>,
    /// What could not be read: the name of a file and the reason, in words and on one line.
    pub unreadable: Vec<(String, String)>,
}

impl Declared {
    /// The ports of one role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &DeclaredPort> {
        self.ports.iter().filter(move |port| port.role == role)
    }

    /// The pair that the files agree on; `None` where they name no port.
    ///
    /// # Errors
    ///
    /// In words, when only one role has a port, a role has several, or both have the same one.
    pub fn pair(&self) -> Result<Option<PortPair>, String> {
        let [backend, frontend] = Role::ALL.map(|role| self.only(role));
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
        /// So many ports are listed at most: a range may hold thousands.
        const LISTED: usize = 5;
        let mut files = BTreeMap::<u16, BTreeSet<&str>>::new();
        for found in self.of(role) {
            files.entry(found.port).or_default().insert(&found.file);
        }
        if files.len() <= 1 {
            return Ok(files.into_keys().next());
        }
        let place = |(port, files): (&u16, &BTreeSet<&str>)| {
            format!("{port} in {}", files.iter().copied().collect::<Vec<_>>().join(" and "))
        };
        let mut places: Vec<_> = files.iter().take(LISTED).map(place).collect();
        if files.len() > LISTED {
            places.push(format!("{} more", files.len() - LISTED));
        }
        Err(format!("{} {role} ports are declared: {}", files.len(), places.join(", ")))
    }
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
                Err("7 frontend ports are declared: 1 in .env, 2 in .env, 3 in .env, 4 in .env, 5 in .env, 2 more"),
            ),
        ] {
            let ports: Vec<_> =
                ports.into_iter().map(|(role, port, file)| DeclaredPort { role, port, file: file.into() }).collect();
            let declared = Declared { ports, unreadable: Vec::new() };
            assert_eq!(declared.pair(), expected.map_err(str::to_owned), "{:?}", declared.ports);
        }
    }
}
