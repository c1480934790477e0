//! This file defines declared ports: the ports that an app's own files say it uses.
//!
//! An app may be served on other ports than those it was given, because somebody edited its files. A pair can
//! be taken over only if all files agree on it.

use std::fmt::{self, Display, Formatter};
use std::ops::RangeInclusive;

use super::allocation::PortPair;
use super::text::{Shown, listed};

/// The name of the file with an app's variables.
pub(crate) const ENV_FILE: &str = ".env";

/// The part of an app that listens on a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// The backend server.
    Backend,
    /// The server that a browser opens.
    Frontend,
    /// Another service, such as a database. It is given no port.
    Other,
}

impl Role {
    /// The two roles that are given a port.
    pub(crate) const GIVEN: [Self; 2] = [Self::Backend, Self::Frontend];

    /// All roles.
    pub(crate) const ALL: [Self; 3] = [Self::Backend, Self::Frontend, Self::Other];

    /// Returns the role's name.
    #[must_use]
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

/// The names that apps' files use for the backend and the frontend. Of each list, the first name that a file
/// has is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Names {
    /// The variables that hold the backend's port.
    pub(crate) backend_variables: Vec<String>,
    /// The variables that hold the frontend's port.
    pub(crate) frontend_variables: Vec<String>,
    /// The Compose services that are the backend.
    pub(crate) backend_services: Vec<String>,
    /// The Compose services that are the frontend.
    pub(crate) frontend_services: Vec<String>,
}

impl Default for Names {
    fn default() -> Self {
        let list = |name: &str| vec![name.to_owned()];
        Self {
            backend_variables: list("BACKEND_PORT"),
            frontend_variables: list("FRONTEND_PORT"),
            backend_services: list("backend"),
            frontend_services: list("frontend"),
        }
    }
}

impl Names {
    /// Returns the variables that hold a role's port.
    pub(crate) fn variables(&self, role: Role) -> &[String] {
        match role {
            Role::Backend => &self.backend_variables,
            Role::Frontend => &self.frontend_variables,
            Role::Other => &[],
        }
    }

    /// Returns all variables with these ports, those of the backend first.
    pub(crate) fn with_ports<T: Display>(&self, [backend, frontend]: [T; 2]) -> Vec<(&str, String)> {
        let backends = self.backend_variables.iter().map(|name| (name.as_str(), backend.to_string()));
        let frontends = self.frontend_variables.iter().map(|name| (name.as_str(), frontend.to_string()));
        backends.chain(frontends).collect()
    }

    /// Returns the Compose services that have a role.
    pub(crate) fn services(&self, role: Role) -> &[String] {
        match role {
            Role::Backend => &self.backend_services,
            Role::Frontend => &self.frontend_services,
            Role::Other => &[],
        }
    }

    /// Checks that no list is empty, that each name is valid, and that no name is both a backend's and a
    /// frontend's.
    ///
    /// # Errors
    ///
    /// Returns a message that names the key when one of these is not so.
    pub(crate) fn check(&self) -> Result<(), String> {
        for (kind, is_name) in [("variables", is_variable as fn(&str) -> bool), ("services", is_service)] {
            let lists = Role::GIVEN.map(|role| (format!("{role}_{kind}"), self.list(role, kind)));
            for (key, names) in &lists {
                if names.is_empty() {
                    return Err(format!("{key} is empty: expected a name"));
                }
                if let Some(name) = names.iter().find(|name| !is_name(name)) {
                    return Err(format!("{key}: '{}' is not the name of one of an app's {kind}", Shown(name)));
                }
            }
            let [(backend, backends), (frontend, frontends)] = &lists;
            if let Some(name) = backends.iter().find(|name| frontends.contains(name)) {
                return Err(format!("{backend} and {frontend} both have '{}': they must differ", Shown(name)));
            }
        }
        Ok(())
    }

    fn list(&self, role: Role, kind: &str) -> &[String] {
        if kind == "variables" { self.variables(role) } else { self.services(role) }
    }
}

/// Tells whether a shell accepts the text as the name of a variable.
fn is_variable(name: &str) -> bool {
    !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Tells whether Compose accepts the text as the name of a service.
fn is_service(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}

/// A range of ports, from 1 to 65535, that one line of a file names.
///
/// They are stored as a range, because a line may name every port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DeclaredPorts {
    /// The role to which the ports belong.
    pub(crate) role: Role,
    /// The ports on this machine.
    pub(crate) ports: RangeInclusive<u16>,
    /// The file, as a path relative to the app's directory.
    pub(crate) file: String,
    /// The line in the file, from 1.
    pub(crate) line: usize,
}

/// A remark about a file, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// The file, as a path relative to the app's directory.
    pub(crate) file: String,
    /// The line in the file, from 1, if the remark is about one line.
    pub(crate) line: Option<usize>,
    /// The remark, which names the line as well.
    pub(crate) reason: String,
}

/// Ports that a Compose service names but does not publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unpublished {
    /// The role of the service.
    pub(crate) role: Role,
    /// The name of the service.
    pub(crate) service: String,
    /// The ports that the service names, in ascending order.
    pub(crate) ports: Vec<RangeInclusive<u16>>,
    /// The reason why the service does not publish them.
    pub(crate) why: WhyUnpublished,
    /// The file, as a path relative to the app's directory.
    pub(crate) file: String,
    /// The line in the file, from 1.
    pub(crate) line: usize,
}

/// The reason why a Compose service publishes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WhyUnpublished {
    /// The service uses the network of this machine.
    HostNetwork,
    /// The service has no network.
    NoNetwork,
    /// The service uses the network of another container.
    SharedNetwork,
    /// The service has no container.
    NoReplicas,
    /// None of these profiles is active, and the service needs one.
    Profiles(Vec<String>),
}

/// Everything that one app's files declare.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Declared {
    /// The ports. Those of one file and role are in ascending order.
    pub(crate) ports: Vec<DeclaredPorts>,
    /// The roles whose port in `.env` could not be read.
    pub(crate) unknown_in_env: Vec<Role>,
    /// The roles that may have more ports in the Compose files, because something could not be read.
    pub(crate) unknown_in_compose: Vec<Role>,
    /// The parts of files that could not be read.
    pub(crate) unreadable: Vec<Note>,
    /// Entries of `ports` that Compose refuses.
    pub(crate) refused: Vec<Note>,
    /// The ports that services name but do not publish.
    pub(crate) unpublished: Vec<Unpublished>,
    /// The number of files that were read.
    pub(crate) files: usize,
}

impl Declared {
    /// Combines the declarations of the files in several folders of one app.
    pub(crate) fn of_all<'a>(folders: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = Self::default();
        for folder in folders {
            all.ports.extend_from_slice(&folder.ports);
            all.unknown_in_env.extend_from_slice(&folder.unknown_in_env);
            all.unknown_in_compose.extend_from_slice(&folder.unknown_in_compose);
            all.unreadable.extend_from_slice(&folder.unreadable);
            all.refused.extend_from_slice(&folder.refused);
            all.unpublished.extend_from_slice(&folder.unpublished);
            all.files += folder.files;
        }
        all
    }

    /// Returns the ports of one role.
    pub(crate) fn of(&self, role: Role) -> impl Iterator<Item = &DeclaredPorts> {
        self.ports.iter().filter(move |declared| declared.role == role)
    }

    /// Returns the pair on which the files agree, or `None` if they name no port.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when a port of a role may be missing, only one role has a port, a role has
    /// several ports, or both roles have the same port.
    pub(crate) fn pair(&self) -> Result<Option<PortPair>, String> {
        let unknown = || self.unknown_in_env.iter().chain(&self.unknown_in_compose);
        if unknown().any(|role| Role::GIVEN.contains(role)) {
            let note = self.unreadable.first().map(|note| format!(": {}: {}", note.file, note.reason));
            return Err(format!("its files could not all be read{}", note.unwrap_or_default()));
        }
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

    /// Returns the one port that a role has in all files.
    fn only(&self, role: Role) -> Result<Option<u16>, String> {
        let ranges = union(self.of(role).map(|declared| declared.ports.clone()).collect());
        let count = ranges.iter().map(ExactSizeIterator::len).sum();
        let mut ports = ranges.into_iter().flatten();
        if count <= 1 {
            return Ok(ports.next());
        }
        let place = |port| {
            let files = self.of(role).filter(|declared| declared.ports.contains(&port));
            let mut files: Vec<_> = files.map(|declared| Shown(&declared.file).to_string()).collect();
            files.dedup();
            format!("{port} in {}", files.join(" and "))
        };
        Err(format!("{count} {role} ports are declared: {}", listed(ports.map(place), count)))
    }
}

/// Merges the ranges and returns their ports without overlaps, in ascending order.
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
            let one = |(role, port, file): (_, _, &str)| DeclaredPorts {
                role,
                ports: port..=port,
                file: file.to_owned(),
                line: 1,
            };
            let declared = Declared { ports: ports.into_iter().map(one).collect(), ..Declared::default() };
            assert_eq!(declared.pair(), expected.map_err(str::to_owned), "{:?}", declared.ports);
        }
    }

    #[test]
    fn a_wide_range_is_counted_and_not_listed() {
        let of = |ports, file: &str| DeclaredPorts { role: Role::Backend, ports, file: file.to_owned(), line: 1 };
        let ports = vec![of(9..=9, ".env"), of(8..=65535, "compose.yml")];
        let expected = "65528 backend ports are declared: 8 in compose.yml, 9 in .env and compose.yml, \
                        10 in compose.yml, 11 in compose.yml, 12 in compose.yml and 65523 more";
        assert_eq!(Declared { ports, ..Declared::default() }.pair(), Err(expected.to_owned()));
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

    fn names(lists: [&[&str]; 4]) -> Names {
        let [backend_variables, frontend_variables, backend_services, frontend_services] =
            lists.map(|names| names.iter().copied().map(str::to_owned).collect());
        Names { backend_variables, frontend_variables, backend_services, frontend_services }
    }

    #[test]
    fn each_role_has_its_names_and_other_services_have_none() {
        let names = names([&["A", "B"], &["C"], &["api"], &["web", "ui"]]);
        assert_eq!(Role::ALL.map(|role| names.variables(role).join(" ")), ["A B", "C", ""]);
        assert_eq!(Role::ALL.map(|role| names.services(role).join(" ")), ["api", "web ui", ""]);
        let variables: Vec<_> = [("A", "5001"), ("B", "5001"), ("C", "8001")].map(|(a, b)| (a, b.to_owned())).into();
        assert_eq!(names.with_ports([5001, 8001]), variables);
    }

    #[test]
    fn names_are_those_that_a_shell_or_compose_accepts_and_each_stands_for_one_role() {
        assert_eq!(Names::default().check(), Ok(()));
        assert_eq!(names([&["_a1", "B"], &["c_"], &["1.a_b-C"], &["-"]]).check(), Ok(()));
        // A variable may be called like a service.
        assert_eq!(names([&["a"], &["b"], &["b"], &["a"]]).check(), Ok(()));
        for (lists, why) in [
            ([&[][..], &["B"], &["a"], &["b"]], "backend_variables is empty: expected a name"),
            ([&["A"], &["B"], &["a"], &[]], "frontend_services is empty: expected a name"),
            (
                [&["A"], &["B", "C", "A"], &["a"], &["b"]],
                "backend_variables and frontend_variables both have 'A': they must differ",
            ),
            (
                [&["A"], &["B"], &["a", "b"], &["b"]],
                "backend_services and frontend_services both have 'b': they must differ",
            ),
        ] {
            assert_eq!(names(lists).check(), Err(why.to_owned()));
        }
        for wrong in ["", "1A", "A-B", "A.B", "A B", "é", "A\u{1b}"] {
            let why = names([&["A"], &["B", wrong], &["a"], &["b"]]).check().unwrap_err();
            let expected =
                format!("frontend_variables: '{}' is not the name of one of an app's variables", Shown(wrong));
            assert_eq!(why, expected);
        }
        for wrong in ["", "a b", "é", "a/b", "a\n"] {
            let why = names([&["A"], &["B"], &[wrong], &["b"]]).check().unwrap_err();
            let expected = format!("backend_services: '{}' is not the name of one of an app's services", Shown(wrong));
            assert_eq!(why, expected);
        }
    }

    #[test]
    fn an_unknown_port_of_a_given_role_stands_in_the_way_of_a_pair() {
        let unreadable = vec![Note { file: "a.yml".into(), line: None, reason: "is a folder".into() }];
        let why = "its files could not all be read";
        for (declared, expected) in [
            (Declared { unknown_in_env: vec![Role::Backend], ..Declared::default() }, Err(why.to_owned())),
            (
                Declared { unknown_in_compose: vec![Role::Frontend], unreadable, ..Declared::default() },
                Err(format!("{why}: a.yml: is a folder")),
            ),
            (Declared { unknown_in_compose: vec![Role::Other], ..Declared::default() }, Ok(None)),
        ] {
            assert_eq!(declared.pair(), expected);
        }
    }

    #[test]
    fn what_several_folders_declare_is_combined() {
        let note = |file: &str| Note { file: file.to_owned(), line: None, reason: "?".into() };
        let unpublished = |n: u16| Unpublished {
            role: Role::Other,
            service: format!("s{n}"),
            ports: Vec::new(),
            why: WhyUnpublished::NoNetwork,
            file: "compose.yml".into(),
            line: 1,
        };
        let folder = |n: u16, role| Declared {
            ports: vec![DeclaredPorts { role, ports: n..=n, file: ".env".into(), line: 1 }],
            unknown_in_env: vec![role],
            unknown_in_compose: vec![role],
            unreadable: vec![note(&format!("a{n}"))],
            refused: vec![note(&format!("b{n}"))],
            unpublished: vec![unpublished(n)],
            files: n.into(),
        };
        let [one, other] = [folder(1, Role::Backend), folder(2, Role::Other)];
        let all = Declared::of_all([&one, &other]);
        assert_eq!(all.ports, [one.ports, other.ports].concat());
        assert_eq!(all.unknown_in_env, [Role::Backend, Role::Other]);
        assert_eq!(all.unknown_in_compose, [Role::Backend, Role::Other]);
        assert_eq!(all.unreadable, ["a1", "a2"].map(note));
        assert_eq!(all.refused, ["b1", "b2"].map(note));
        assert_eq!(all.unpublished, [1, 2].map(unpublished));
        assert_eq!(all.files, 3);
    }
}
