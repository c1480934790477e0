//! This file describes the problems in an app's files in words.

use std::cell::RefCell;
use std::collections::HashSet;
use std::rc::Rc;

use crate::core::text::Shown;

/// The name of a file: its path relative to the app's directory.
pub(super) type FileName = Rc<str>;

/// A part of a file that could not be read, or that Compose refuses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Problem {
    /// The file.
    pub(super) file: FileName,
    /// The line, from 1, if the problem is in one line.
    pub(super) line: Option<usize>,
    /// What is wrong, in words that show no value.
    pub(super) reason: String,
}

impl Problem {
    /// Makes a problem at a line of a file.
    pub(super) fn at(file: &FileName, line: usize, reason: impl Into<String>) -> Self {
        Self { file: Rc::clone(file), line: Some(line), reason: reason.into() }
    }

    /// Makes a problem with a whole file.
    pub(super) fn of(file: &FileName, reason: impl Into<String>) -> Self {
        Self { file: Rc::clone(file), line: None, reason: reason.into() }
    }
}

/// Formats a name from a file for a message: without control characters, and shortened if it is long.
pub(super) fn called(name: &str) -> String {
    const LONGEST: usize = 60;
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", Shown(&name[..end])),
        None => Shown(name).to_string(),
    }
}

/// Problems without duplicates, in the order in which they were found.
#[derive(Default)]
pub(super) struct Problems {
    found: RefCell<(Vec<Problem>, HashSet<Problem>)>,
}

impl Problems {
    /// Adds a problem.
    pub(super) fn add(&self, problem: Problem) {
        let (list, seen) = &mut *self.found.borrow_mut();
        if seen.insert(problem.clone()) {
            list.push(problem);
        }
    }

    /// Returns all problems.
    pub(super) fn into_list(self) -> Vec<Problem> {
        self.found.into_inner().0
    }
}
