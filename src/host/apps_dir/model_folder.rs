//! This file reads one model's folder: where its apps are, and what could not be read.
//!
//! Each folder is read once and completely, because a separate look-up of every possible app name would cost
//! a system call for each.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use crate::core::app::Presence;
use crate::core::app_folder::{NameForm, parse_folder_name};

/// The contents of one model's folder.
#[derive(Debug, Default)]
pub(super) struct ModelFolder {
    /// The places of each app, in the order of [`Place`].
    places: BTreeMap<i64, Vec<Place>>,
    /// The apps at whose path there is a file that the system refuses to describe, with the path and the
    /// reason.
    untold: BTreeMap<i64, (PathBuf, String)>,
    /// The folders that could not be read, each with the reason. Any app could be in one of them.
    pub(super) unreadable: Vec<(PathBuf, String)>,
}

/// A place where an app is. The order is that in which the platform searches: places directly in the model's
/// folder before those in a folder between, `app<N>` before `app_<N>`, then by the name of the folder
/// between.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    is_nested: bool,
    form: NameForm,
    /// The path relative to the model's folder.
    pub(super) path: PathBuf,
    /// Tells whether the place is a folder or a link to one. Otherwise it is another kind of file.
    pub(super) is_folder: bool,
}

impl ModelFolder {
    /// Reads the folder at this path. Also reads the folders in it that are not apps, unless
    /// `is_models_alone` is false: the path may then be the apps directory, whose folders belong to other
    /// models. `step` is called for each entry and may end the search.
    ///
    /// # Errors
    ///
    /// Returns the error of `step`.
    pub(super) fn read<E>(path: &Path, is_models_alone: bool, step: impl Fn() -> Result<(), E>) -> Result<Self, E> {
        let mut folder = Self::default();
        let mut between = Vec::new();
        match entries(path, &mut folder.unreadable) {
            Ok(entries) => {
                for entry in entries {
                    step()?;
                    if !folder.add_app(None, &entry) && is_models_alone {
                        between.extend(folder.folder_between(path, &entry));
                    }
                }
            }
            // The model's folder may be a link to a volume that is not mounted.
            Err(err) if is_nothing(&err) && path.is_symlink() && !path.exists() => {
                folder.unreadable.push((path.to_owned(), format!("the link {} leads nowhere", path.display())));
            }
            Err(err) if is_nothing(&err) => {}
            Err(err) => folder.unreadable.push((path.to_owned(), err.to_string())),
        }
        for name in between {
            let between = path.join(&name);
            match entries(&between, &mut folder.unreadable) {
                Ok(entries) => {
                    for entry in entries {
                        step()?;
                        folder.add_app(Some(&name), &entry);
                    }
                }
                // The folder existed a moment ago. If it is gone, it holds nothing.
                Err(err) if is_nothing(&err) => {}
                Err(err) => folder.unreadable.push((between, err.to_string())),
            }
        }
        folder.places.values_mut().for_each(|places| places.sort());
        Ok(folder)
    }

    /// Adds an entry if it has an app's name, and tells whether it has one. An entry that is gone by now, or
    /// a link that leads nowhere, is not added.
    fn add_app(&mut self, between: Option<&OsString>, entry: &DirEntry) -> bool {
        let name = entry.file_name();
        let Some((form, app_num)) = name.to_str().and_then(parse_folder_name) else { return false };
        match is_folder(entry) {
            Ok(is_folder) => {
                let path = between.map_or_else(PathBuf::new, PathBuf::from).join(name);
                let place = Place { is_nested: between.is_some(), form, path, is_folder };
                self.places.entry(app_num).or_default().push(place);
            }
            Err(err) if is_nothing(&err) => {}
            Err(err) => {
                self.untold.insert(app_num, (entry.path(), err.to_string()));
            }
        }
        true
    }

    /// Returns the name of an entry if it is a folder in which apps may be. Records an entry that may be such
    /// a folder but cannot be read.
    fn folder_between(&mut self, path: &Path, entry: &DirEntry) -> Option<OsString> {
        let name = entry.file_name();
        match is_folder(entry) {
            Ok(true) => return Some(name),
            Ok(false) => {}
            Err(err) if is_nothing(&err) => {
                // The entry is gone, or is a link to a folder that may not be mounted.
                let link = path.join(&name);
                if link.is_symlink() {
                    self.unreadable.push((link, "it is a link that leads nowhere".to_owned()));
                }
            }
            Err(err) => self.unreadable.push((path.join(&name), err.to_string())),
        }
        None
    }

    /// Tells whether an app is in the folder, whose path is `path`.
    pub(super) fn presence(&self, path: &Path, app_num: i64) -> Presence {
        if self.places.contains_key(&app_num) {
            return Presence::Present;
        }
        if let Some((_, why)) = self.untold.get(&app_num) {
            return Presence::Unreadable(why.clone());
        }
        match self.unreadable.first() {
            None => Presence::Absent,
            Some((unread, why)) if unread == path => Presence::Unreadable(why.clone()),
            Some((unread, why)) => Presence::Unreadable(format!("{}: {why}", unread.display())),
        }
    }

    /// Returns the folders of an app.
    pub(super) fn folders(&self, app_num: i64) -> impl Iterator<Item = &Place> {
        self.places.get(&app_num).into_iter().flatten().filter(|place| place.is_folder)
    }

    /// Returns the folders of all apps, with the apps' numbers.
    pub(super) fn all_folders(&self) -> impl Iterator<Item = (i64, &Place)> {
        self.places.keys().flat_map(|&app_num| self.folders(app_num).map(move |place| (app_num, place)))
    }

    /// Tells whether there is any app in the model's folder.
    pub(super) fn has_apps(&self) -> bool {
        self.places.keys().any(|&app_num| app_num > 0)
    }

    /// Returns the paths that could not be read: folders, and files at apps' places.
    pub(super) fn all_unreadable(&self) -> impl Iterator<Item = &(PathBuf, String)> {
        self.untold.values().chain(&self.unreadable)
    }
}

/// Returns the entries of a folder. If the reading breaks off, adds the reason to `unreadable`.
///
/// # Errors
///
/// Fails when the folder cannot be opened.
pub(super) fn entries(path: &Path, unreadable: &mut Vec<(PathBuf, String)>) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        match entry {
            Ok(entry) => entries.push(entry),
            Err(err) => unreadable.push((path.to_owned(), err.to_string())),
        }
    }
    Ok(entries)
}

/// Tells whether an entry is a folder or a link to one.
///
/// # Errors
///
/// Fails when the entry is gone, see [`is_nothing`], or when the system does not tell its type.
pub(super) fn is_folder(entry: &DirEntry) -> io::Result<bool> {
    let file_type = entry.file_type()?;
    if file_type.is_symlink() { Ok(fs::metadata(entry.path())?.is_dir()) } else { Ok(file_type.is_dir()) }
}

/// Tells whether the error means that there is no file at the path: it is gone, or a link leads nowhere.
pub(super) fn is_nothing(err: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, NotADirectory, NotFound};
    // A name that is too long for the file system cannot exist, and links in a circle lead nowhere.
    matches!(err.kind(), NotFound | NotADirectory | InvalidFilename)
        || err.raw_os_error() == Some(Errno::LOOP.raw_os_error())
}
