//! A Compose project: which files it is made of, and the services that come out of them.
//!
//! The order of the steps is that of compose-go 2.9:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/loader/loader.go>. In each document of each file
//! variables are replaced, then `extends` is followed, then what `!reset` and `!override` name is removed
//! from what earlier files said, then files are included, and then the document is merged. A path starts at
//! the folder of the project's first file, one in a file that is extended at that file's folder.
//!
//! Unlike Compose, one file or service that cannot be read does not hide the others.

use std::cell::Cell;
use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::bounds::{Budget, CHAIN, INCLUDE_COST};
use super::env::{self, Environment, Variables};
use super::files::{Content, Folder, joined};
use super::interpolate::{NoValue, Variable, interpolate};
use super::problem::{FileName, Problem, Problems, called};
use super::services::{Entry, Extends, Reader, Resets, Service, Services, reset};
use super::yaml::{self, Node, Tag};
use crate::core::declared::ENV_FILE;

/// The names of a project's file; of several, Compose takes the first:
/// <https://github.com/compose-spec/compose-go/blob/v2.9.1/cli/options.go>.
pub(super) const BASE_NAMES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The names of the file that is merged over it; of several, Compose takes the first.
pub(super) const OVERRIDE_NAMES: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];

/// The keys that Compose knows at the top of a file, beside those that begin with `x-`.
const KEYS: [&str; 9] =
    ["configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes"];

/// What could be read of a project.
pub(super) struct Project {
    /// Its services.
    pub(super) services: Services,
    /// Whether all of its files could be read. Where not, any service may be missing or have more ports.
    pub(super) is_complete: bool,
}

/// Reads the files of one app's project.
pub(super) struct Loader<'a> {
    folder: &'a Folder<'a>,
    budget: &'a Budget,
    problems: &'a Problems,
    refused: &'a Problems,
    /// The documents of each file that was read; `None` where that failed, which was told.
    files: HashMap<PathBuf, Option<Rc<Vec<Rc<Node>>>>>,
    /// Whether a file could not be read.
    is_incomplete: Cell<bool>,
    /// Whether anything stands in the project's files.
    has_content: bool,
}

/// What stays the same while one project, or one that it includes, is read.
struct Scope {
    /// The folder at which paths start.
    folder: PathBuf,
    environment: Environment,
    /// The files that are being included, from the outermost on.
    including: Vec<PathBuf>,
    /// The services of files that are extended.
    extended: HashMap<PathBuf, Option<Rc<Extended>>>,
}

/// The services of a file that is extended, not yet extended themselves.
struct Extended {
    services: Services,
    resets: Resets,
    /// How many services and entries of `ports` these are.
    size: usize,
}

/// What one document says.
struct Document {
    services: Services,
    includes: Vec<Include>,
    resets: Resets,
    /// Whether a key stands at its top that `!reset` does not remove.
    has_keys: bool,
}

/// One entry of `include`.
struct Include {
    line: usize,
    paths: Vec<String>,
    project_directory: Option<String>,
    env_files: Vec<String>,
}

/// Where a service that extends another stands.
struct Origin<'o> {
    /// The file.
    file: &'o FileName,
    /// The folder at which the paths of files start.
    folder: &'o Path,
    /// What the file's own `!reset` and `!override` remove from the services that it extends.
    resets: &'o Resets,
}

impl<'a> Loader<'a> {
    /// Reads files of this folder; tells what is wrong with them.
    pub(super) fn new(
        folder: &'a Folder<'a>,
        budget: &'a Budget,
        problems: &'a Problems,
        refused: &'a Problems,
    ) -> Self {
        Self {
            folder,
            budget,
            problems,
            refused,
            files: HashMap::new(),
            is_incomplete: Cell::new(false),
            has_content: false,
        }
    }

    /// The project of the app, `None` where it has none.
    pub(super) fn project(mut self, environment: &Environment) -> Option<Project> {
        let (names, environment) = match self.main_files(environment.clone()) {
            ControlFlow::Continue(found) => found,
            ControlFlow::Break(project) => return project,
        };
        let folder = names[0].parent().unwrap_or(Path::new("")).to_owned();
        let mut scope = Scope { folder, environment, including: Vec::new(), extended: HashMap::new() };
        let services = self.services(&names, &mut scope).unwrap_or_default();
        if !self.has_content && !self.is_incomplete.get() {
            self.problems.add(Problem::of(&name_of(&names[0]), "is empty"));
        }
        if let Variable::Set(name) = scope.environment.get("COMPOSE_PROJECT_NAME")
            && !is_project_name(name)
        {
            self.problems.add(Problem::of(&ENV_FILE.into(), "COMPOSE_PROJECT_NAME is no name that Compose takes"));
        }
        Some(Project { services, is_complete: !self.is_incomplete.get() })
    }

    /// The files that are merged, and the variables for them.
    fn main_files(&mut self, environment: Environment) -> ControlFlow<Option<Project>, (Vec<PathBuf>, Environment)> {
        let env: FileName = ENV_FILE.into();
        let unknown = |problem: Problem| {
            self.problems.add(problem);
            ControlFlow::Break(Some(Project { services: Services::new(), is_complete: false }))
        };
        let list = match environment.get("COMPOSE_FILE") {
            Variable::Set(list) => list.to_owned(),
            // A file that could not be read may name others, but mostly it does not.
            Variable::Unknown if !environment.is_unknown() => {
                return unknown(Problem::of(&env, "COMPOSE_FILE has a value that is not known"));
            }
            _ => {
                return match self.default_files() {
                    names if names.is_empty() => ControlFlow::Break(None),
                    names => ControlFlow::Continue((names, environment)),
                };
            }
        };
        let separator = match environment.get("COMPOSE_PATH_SEPARATOR") {
            Variable::Set(separator) if !separator.is_empty() => separator,
            _ => ":",
        };
        let mut names = Vec::new();
        for name in list.split(separator) {
            match self.place(Path::new(""), name) {
                Some(path) if path.as_os_str().is_empty() => {
                    return unknown(Problem::of(&env, "COMPOSE_FILE has an empty name in its list"));
                }
                Some(path) => names.push(path),
                None => {
                    let reason = "COMPOSE_FILE names a file outside the app's directory";
                    return unknown(Problem::of(&env, reason));
                }
            }
        }
        // The project's folder is that of its first file, whose own `.env` counts, too.
        let folder = names[0].parent().unwrap_or(Path::new("")).to_owned();
        let environment = match folder.as_os_str().is_empty() {
            true => environment,
            false => self.with_env_files(&environment, &[folder.join(ENV_FILE)], false),
        };
        ControlFlow::Continue((names, environment))
    }

    /// The file that has the first of the base names, and the override file beside it. One that may be there
    /// is looked at alone.
    fn default_files(&self) -> Vec<PathBuf> {
        let first = |names: [&str; 4]| {
            let mut found = names.into_iter().map(|name| (PathBuf::from(name), self.folder.exists(Path::new(name))));
            found.find(|(_, exists)| *exists != Some(false))
        };
        match first(BASE_NAMES) {
            None => Vec::new(),
            Some((base, None)) => vec![base],
            Some((base, Some(_))) => [base].into_iter().chain(first(OVERRIDE_NAMES).map(|(name, _)| name)).collect(),
        }
    }

    /// The path inside the app's directory that a path in a file leads to; `None` where it leads outside.
    fn place(&self, folder: &Path, path: &str) -> Option<PathBuf> {
        let is_remote = path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/");
        match Path::new(path) {
            _ if is_remote || path == "-" => None,
            path if path.is_absolute() => self.folder.relative(path),
            path => joined(folder, path),
        }
    }

    /// The environment with these `.env` files, which need not be there.
    fn with_env_files(&mut self, environment: &Environment, paths: &[PathBuf], must_exist: bool) -> Environment {
        let mut environment = environment.clone();
        for path in paths {
            let name = name_of(path);
            let (variables, reason) = match self.folder.read(path) {
                Content::Missing if must_exist => (Variables::unknown(), Some("is not there".to_owned())),
                Content::Missing | Content::NotAFile { is_folder: true } => (Variables::default(), None),
                Content::Bytes(bytes) => match env::parse(&bytes, &environment) {
                    Ok(variables) => {
                        for (line, reason) in &variables.problems {
                            self.problems.add(Problem::at(&name, *line, reason));
                        }
                        (variables, None)
                    }
                    Err(reason) => (Variables::unknown(), Some(reason)),
                },
                content => (Variables::unknown(), reason_of(content)),
            };
            if let Some(reason) = reason {
                self.problems.add(Problem::of(&name, reason));
            }
            environment = environment.with(Rc::new(variables));
        }
        environment
    }

    /// The services that come out of files merged one over another; `None` where one could not be read, as
    /// a later file may remove what an earlier one says.
    fn services(&mut self, paths: &[PathBuf], scope: &mut Scope) -> Option<Services> {
        let mut services = Services::new();
        let mut is_known = true;
        for path in paths {
            let Some(documents) = self.documents(path) else {
                is_known = false;
                continue;
            };
            let name = name_of(path);
            for document in documents.iter() {
                self.add_document(&name, path, document, scope, &mut services);
            }
        }
        is_known.then_some(services)
    }

    /// Merges a document over what was read before.
    fn add_document(&mut self, name: &FileName, path: &Path, node: &Node, scope: &mut Scope, services: &mut Services) {
        let Document { services: mut own, includes, resets, has_keys } = self.document(name, node, &scope.environment);
        let names: Vec<_> =
            own.iter().filter(|(_, service)| service.extends.is_some()).map(|(name, _)| name.clone()).collect();
        let folder = scope.folder.clone();
        for service in names {
            let origin = Origin { file: name, folder: &folder, resets: &resets };
            self.extend(&service, &mut own, &origin, scope, &mut Vec::new());
        }
        reset(services, &resets);
        self.has_content = (self.has_content && !resets.iter().any(Vec::is_empty)) || has_keys;
        for include in includes {
            scope.including.push(path.to_owned());
            self.include(&include, name, scope, &mut own);
            scope.including.pop();
        }
        for (name, service) in own {
            let merged = match services.remove(&name) {
                Some(earlier) => earlier.merged_with(service),
                None => service,
            };
            services.insert(name, merged);
        }
    }

    /// What a document says, with its variables replaced.
    fn document(&self, name: &FileName, node: &Node, environment: &Environment) -> Document {
        let lookup = |name: &str| match environment.get(name) {
            // Compose sets it, to a name that it makes of the folder's.
            Variable::NotSet if name == "COMPOSE_PROJECT_NAME" => Variable::Unknown,
            found => found,
        };
        let mut reader = Reader { file: name, lookup: &lookup, problems: self.problems, resets: Resets::new() };
        let mut document =
            Document { services: Services::new(), includes: Vec::new(), resets: Resets::new(), has_keys: false };
        if !self.budget.look_at(node.size) {
            self.is_incomplete.set(true);
            self.problems.add(Problem::of(name, "is not read again, as the app's files are read too often"));
            return document;
        }
        let Some(entries) = node.entries() else {
            self.problems.add(Problem::at(name, node.line, "has a document that is no mapping"));
            return document;
        };
        for (key, node) in entries {
            document.has_keys |= node.tag != Tag::Reset;
            match key {
                "services" => match reader.services(node) {
                    Some(services) => document.services = services,
                    None => self.is_incomplete.set(true),
                },
                "include" => match includes(node, &lookup) {
                    Ok(includes) => document.includes = includes,
                    Err(reason) => {
                        self.is_incomplete.set(true);
                        self.problems.add(Problem::at(name, node.line, reason));
                    }
                },
                key => {
                    if !KEYS.contains(&key) && !key.starts_with("x-") {
                        let reason = "has a key at its top that Compose does not know";
                        self.problems.add(Problem::at(name, node.line, reason));
                    }
                    reader.check_variables(node);
                }
            }
        }
        document.resets = reader.resets;
        document
    }

    /// Puts what a service extends under it; `chain` are those that extend one another down to it.
    fn extend(
        &mut self,
        name: &str,
        services: &mut Services,
        origin: &Origin<'_>,
        scope: &mut Scope,
        chain: &mut Vec<(FileName, String)>,
    ) {
        let Some(extends) = services.get(name).and_then(|service| service.extends.clone()) else { return };
        let here = (Rc::clone(origin.file), name.to_owned());
        let base = if chain.contains(&here) {
            Err("itself".to_owned())
        } else if chain.len() >= CHAIN {
            Err(format!("more than {CHAIN} others in a row"))
        } else {
            chain.push(here);
            let base = self.base(&extends, services, origin, scope, chain);
            chain.pop();
            base
        };
        let Some(service) = services.remove(name) else { return };
        let service = Service { extends: None, ..service };
        let merged = match base {
            Ok(base) => {
                let mut base = Services::from([(name.to_owned(), base)]);
                reset(&mut base, origin.resets);
                let (file, line) = (Rc::clone(&service.file), service.line);
                match base.remove(name) {
                    Some(base) => Service { file, line, ..base.merged_with(service) },
                    None => service,
                }
            }
            Err(reason) => {
                let reason = format!("has a service {} that extends {reason}", called(name));
                Service { problem: Some(Problem::at(origin.file, extends.line, reason)), ..service }
            }
        };
        services.insert(name.to_owned(), merged);
    }

    /// The service that another extends, with all that it extends itself.
    ///
    /// # Errors
    ///
    /// In words, when it cannot be had.
    fn base(
        &mut self,
        extends: &Extends,
        services: &mut Services,
        origin: &Origin<'_>,
        scope: &mut Scope,
        chain: &mut Vec<(FileName, String)>,
    ) -> Result<Service, String> {
        let base = match &extends.file {
            None => {
                self.extend(&extends.service, services, origin, scope, chain);
                services.get(&extends.service).cloned()
            }
            Some(path) => {
                let path = self.place(origin.folder, path).ok_or("one outside the app's directory")?;
                let extended = self.extended(&path, scope).ok_or("one in a file that could not be read")?;
                if !self.budget.copy(extended.size) {
                    return Err("too many services".to_owned());
                }
                let mut services = extended.services.clone();
                let folder = path.parent().unwrap_or(Path::new("")).to_owned();
                let origin = Origin { file: &name_of(&path), folder: &folder, resets: &extended.resets };
                self.extend(&extends.service, &mut services, &origin, scope, chain);
                services.remove(&extends.service)
            }
        };
        let base = base.ok_or("one that is not there")?;
        if !self.budget.copy(base.ports.len()) {
            return Err("too many ports".to_owned());
        }
        match base.fault() {
            Some(_) => Err("one that could not be read".to_owned()),
            None => Ok(base),
        }
    }

    /// The services of a file that is extended.
    fn extended(&mut self, path: &Path, scope: &mut Scope) -> Option<Rc<Extended>> {
        if let Some(found) = scope.extended.get(path) {
            return found.clone();
        }
        let name = name_of(path);
        let extended = self.documents(path).map(|documents| {
            let mut extended = Extended { services: Services::new(), resets: Resets::new(), size: 0 };
            for node in documents.iter() {
                let Document { services, resets, .. } = self.document(&name, node, &scope.environment);
                reset(&mut extended.services, &resets);
                for (name, service) in services {
                    let merged = match extended.services.remove(&name) {
                        Some(earlier) => Service {
                            extends: service.extends.clone().or_else(|| earlier.extends.clone()),
                            ..earlier.merged_with(service)
                        },
                        None => service,
                    };
                    extended.services.insert(name, merged);
                }
                extended.resets = resets;
            }
            extended.size = extended.services.values().map(|service| 1 + service.ports.len()).sum();
            // Compose reads all ports of the file, also those of services that nothing extends.
            let entries = extended.services.values().flat_map(|service| &service.ports);
            entries.filter_map(Entry::refused).for_each(|problem| self.refused.add(problem));
            Rc::new(extended)
        });
        scope.extended.insert(path.to_owned(), extended.clone());
        extended
    }

    /// Adds the services of the files that an entry of `include` names.
    fn include(&mut self, include: &Include, file: &FileName, scope: &mut Scope, services: &mut Services) {
        let included = self.included(include, scope).unwrap_or_else(|reason| {
            self.is_incomplete.set(true);
            self.problems.add(Problem::at(file, include.line, format!("includes {reason}")));
            Services::new()
        });
        for (name, service) in included {
            match services.get_mut(&name) {
                None => drop(services.insert(name, service)),
                Some(own) if own.is_same(&service) => {}
                Some(own) => {
                    let reason = format!("has a service {} that a file it includes has, too", called(&name));
                    own.problem = Some(Problem::at(file, own.line, reason));
                }
            }
        }
    }

    /// The services of a project that is included.
    ///
    /// # Errors
    ///
    /// In words, when it cannot be had.
    fn included(&mut self, include: &Include, scope: &Scope) -> Result<Services, String> {
        const OUTSIDE: &str = "what is outside the app's directory";
        let mut paths = Vec::new();
        for path in &include.paths {
            paths.push(self.place(&scope.folder, path).ok_or(OUTSIDE)?);
        }
        let Some(first) = paths.first() else { return Ok(Services::new()) };
        if scope.including.contains(first) {
            return Err("a file that includes it".to_owned());
        }
        if scope.including.len() >= CHAIN {
            return Err(format!("more than {CHAIN} files in a row"));
        }
        if !self.budget.look_at(INCLUDE_COST) {
            return Err("too many files".to_owned());
        }
        let folder = match &include.project_directory {
            Some(folder) => self.place(&scope.folder, folder).ok_or(OUTSIDE)?,
            None => first.parent().unwrap_or(Path::new("")).to_owned(),
        };
        let environment = if include.env_files.is_empty() {
            self.with_env_files(&scope.environment, &[folder.join(ENV_FILE)], false)
        } else {
            let place = |path: &String| self.place(&scope.folder, path);
            let paths = include.env_files.iter().map(place).collect::<Option<Vec<_>>>().ok_or(OUTSIDE)?;
            self.with_env_files(&scope.environment, &paths, true)
        };
        let including = scope.including.clone();
        let mut scope = Scope { folder, environment, including, extended: HashMap::new() };
        let services = self.services(&paths, &mut scope).unwrap_or_default();
        let entries = services.values().map(|service| 1 + service.ports.len()).sum();
        if self.budget.copy(entries) { Ok(services) } else { Err("too many ports".to_owned()) }
    }

    /// The documents of a file; `None` where it cannot be read, which is told.
    fn documents(&mut self, path: &Path) -> Option<Rc<Vec<Rc<Node>>>> {
        if let Some(found) = self.files.get(path) {
            return found.clone();
        }
        let name = name_of(path);
        let text = match self.folder.read(path) {
            Content::Bytes(bytes) => text_of(bytes).map_err(|reason| (None, reason)),
            content => Err((None, reason_of(content).unwrap_or_default())),
        };
        let documents = match text.and_then(|text| yaml::parse(&text)) {
            Ok((documents, faults)) => {
                for (line, reason) in faults {
                    self.problems.add(Problem::at(&name, line, reason));
                }
                Some(Rc::new(documents))
            }
            Err((line, reason)) => {
                self.is_incomplete.set(true);
                self.problems.add(Problem { file: name, line, reason });
                None
            }
        };
        self.files.insert(path.to_owned(), documents.clone());
        documents
    }
}

/// Whether Compose takes a text for the name of a project; an empty one counts as none.
fn is_project_name(name: &str) -> bool {
    let is_part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-';
    name.chars().all(is_part) && !name.starts_with(['_', '-'])
}

/// The name that a path is told by.
fn name_of(path: &Path) -> FileName {
    path.to_string_lossy().into()
}

/// Why there are no bytes to read, in words.
pub(super) fn reason_of(content: Content) -> Option<String> {
    Some(match content {
        Content::Bytes(_) => return None,
        Content::Missing => "is not there".to_owned(),
        Content::NotAFile { .. } => "is not a regular file".to_owned(),
        Content::Outside => "leads outside the app's directory".to_owned(),
        Content::Unreadable(reason) => reason,
    })
}

/// The text of a YAML file, which may be UTF-16 with a mark at its beginning.
fn text_of(bytes: Vec<u8>) -> Result<String, String> {
    let from_units = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks();
        let units = units.iter().map(|&bytes| unit(bytes));
        char::decode_utf16(units).collect::<Result<String, _>>().ok().filter(|_| rest.is_empty())
    };
    let text = match bytes.as_slice() {
        [0xff, 0xfe, rest @ ..] => from_units(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => from_units(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => str::from_utf8(rest).ok().map(str::to_owned),
        _ => String::from_utf8(bytes).ok(),
    };
    text.ok_or_else(|| "is not UTF-8 text".to_owned())
}

/// The entries of `include`.
///
/// # Errors
///
/// In words, when Compose refuses them.
fn includes<'v>(node: &Node, lookup: &dyn Fn(&str) -> Variable<'v>) -> Result<Vec<Include>, String> {
    const WRONG: &str = "has an include that is no list of paths";
    let text = |node: &Node| match interpolate(node.text().ok_or(WRONG)?, lookup) {
        Ok(text) => Ok(text),
        Err(NoValue::Refused(reason) | NoValue::Unknown(reason)) => Err(format!("has an include that {reason}")),
    };
    let list = |node: &Rc<Node>| match node.items() {
        Some(items) => items.iter().map(|item| text(item)).collect(),
        None => text(node).map(|text| vec![text]),
    };
    if node.is_null() {
        return Ok(Vec::new());
    }
    let mut includes = Vec::new();
    for node in node.items().ok_or(WRONG)? {
        let line = node.line;
        let mut include = Include { line, paths: Vec::new(), project_directory: None, env_files: Vec::new() };
        match node.entries() {
            None => include.paths.push(text(node)?),
            Some(entries) => {
                for (key, node) in entries {
                    match key {
                        "path" => include.paths = list(node)?,
                        "env_file" => include.env_files = list(node)?,
                        "project_directory" => include.project_directory = Some(text(node)?),
                        _ => {}
                    }
                }
            }
        }
        includes.push(include);
    }
    Ok(includes)
}
