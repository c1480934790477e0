//! This file loads the files of one app's project, and keeps those that were read.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::bounds::Budget;
use super::document::{Document, includes};
use super::env::{self, Environment, Variables};
use super::files::{Content, Folder, joined};
use super::interpolate::Variable;
use super::problem::{FileName, Problem, Problems};
use super::reader::Reader;
use super::services::{PathText, Resets, Services};
use super::yaml::{self, Node, Tag};

/// The keys that Compose knows at the top of a file, beside those that begin with `x-`.
const KEYS: [&str; 9] =
    ["configs", "include", "models", "name", "networks", "secrets", "services", "version", "volumes"];

/// Reads the files of one app's project.
pub(super) struct Loader<'a> {
    pub(super) folder: &'a Folder<'a>,
    pub(super) budget: &'a Budget,
    pub(super) problems: &'a Problems,
    pub(super) refused: &'a Problems,
    /// The documents of each file that was read, or `None` if the file could not be read and this was
    /// reported.
    pub(super) files: HashMap<PathBuf, Option<Rc<Vec<Rc<Node>>>>>,
    /// The paths that contain the value of a variable, each as it is written.
    written: HashMap<PathBuf, FileName>,
    /// Whether a file could not be read.
    pub(super) is_incomplete: Cell<bool>,
    /// Tells whether the project's files have any content.
    pub(super) has_content: bool,
}

/// The settings that stay the same while one project, or an included one, is read.
pub(super) struct Scope {
    /// The folder to which paths are relative.
    pub(super) folder: PathBuf,
    pub(super) environment: Environment,
    /// The files that are being included, from the outermost to the innermost.
    pub(super) including: Vec<PathBuf>,
    /// The services of files that are extended.
    pub(super) extended: HashMap<PathBuf, Option<Rc<Extended>>>,
}

/// The services of a file that is extended, before their own `extends` is applied.
pub(super) struct Extended {
    pub(super) services: Services,
    pub(super) resets: Resets,
    /// The number of these services and of their entries of `ports`.
    pub(super) size: usize,
}

impl<'a> Loader<'a> {
    /// Makes a loader for the files of this folder, which reports problems to `problems`.
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
            written: HashMap::new(),
            is_incomplete: Cell::new(false),
            has_content: false,
        }
    }

    /// Resolves a path in a file to a path inside the app's directory. Returns `None` if it leads outside.
    pub(super) fn place(&self, folder: &Path, path: &str) -> Option<PathBuf> {
        let is_remote = path.contains("://") || path.starts_with("git@") || path.starts_with("github.com/");
        match Path::new(path) {
            _ if is_remote || path == "-" => None,
            path if path.is_absolute() => self.folder.relative(path),
            path => joined(folder, path),
        }
    }

    /// Resolves a path like [`Loader::place`], and notes how it is written.
    pub(super) fn place_of(&mut self, folder: &Path, path: &PathText) -> Option<PathBuf> {
        let place = self.place(folder, &path.path)?;
        if path.written != path.path {
            self.written.insert(place.clone(), path.written.as_str().into());
        }
        Some(place)
    }

    /// Returns the name in messages of a file that was not read: its path as it is written, because the value of
    /// a variable may be secret.
    fn unread_name_of(&self, path: &Path) -> FileName {
        self.written.get(path).cloned().unwrap_or_else(|| name_of(path))
    }

    /// Returns the environment with these `.env` files, which may be missing.
    pub(super) fn with_env_files(
        &mut self,
        environment: &Environment,
        paths: &[PathBuf],
        must_exist: bool,
    ) -> Environment {
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
                self.problems.add(Problem::of(&self.unread_name_of(path), reason));
            }
            environment = environment.with(Rc::new(variables));
        }
        environment
    }

    /// Reads a document and replaces its variables.
    pub(super) fn document(&self, name: &FileName, node: &Node, environment: &Environment) -> Document {
        let lookup = |name: &str| match environment.get(name) {
            // Compose sets this variable itself, to a name that it derives from the folder's name.
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

    /// Returns the documents of a file, or `None` if the file cannot be read, which is reported.
    pub(super) fn documents(&mut self, path: &Path) -> Option<Rc<Vec<Rc<Node>>>> {
        if let Some(found) = self.files.get(path) {
            return found.clone();
        }
        let mut name = name_of(path);
        let text = match self.folder.read(path) {
            Content::Bytes(bytes) => text_of(bytes).map_err(|reason| (None, reason)),
            content => {
                name = self.unread_name_of(path);
                Err((None, reason_of(content).unwrap_or_default()))
            }
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

/// Returns the name of a path in messages.
pub(super) fn name_of(path: &Path) -> FileName {
    path.to_string_lossy().into()
}

/// Returns the reason, in words, why a file has no bytes to read.
pub(super) fn reason_of(content: Content) -> Option<String> {
    Some(match content {
        Content::Bytes(_) => return None,
        Content::Missing => "is not there".to_owned(),
        Content::NotAFile { .. } => "is not a regular file".to_owned(),
        Content::Outside => "leads outside the app's directory".to_owned(),
        Content::Unreadable(reason) => reason,
    })
}

/// Decodes the text of a YAML file, which may be UTF-16 with a byte order mark.
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
