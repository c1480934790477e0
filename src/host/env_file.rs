//! A file of `NAME=value` lines, some of which are set while all others stay as they are.
//!
//! It is replaced whole by a rename, so whoever reads it, and whatever stops this program, finds the
//! old file or the new one. Lines are bytes here: what others wrote need not be text.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use rustix::fs::{Access, access};

use crate::core::path::folder_of;
use crate::host::dotenv::{Assignment, Form, Statement, Statements};

/// A file that can be replaced, as it was when it was opened: what others add later is lost.
pub(crate) struct EnvFile {
    path: PathBuf,
    content: Vec<u8>,
    /// `None` where there is no file yet.
    old: Option<Metadata>,
}

impl EnvFile {
    /// Reads the file; one that does not exist yet is empty.
    ///
    /// # Errors
    ///
    /// When it is no regular file or cannot be read, or does not exist yet in a folder that does not exist
    /// or cannot be written to. One that is there may be as it is to be, and need not be replaced.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let name = || format!("env file {}", path.display());
        // A link stays one: the file that it leads to is replaced.
        let path = &match path.is_symlink() {
            true => fs::canonicalize(path).with_context(name)?,
            false => path.to_owned(),
        };
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                let folder = folder_of(path);
                ensure!(folder.is_dir(), "{}: the folder {} does not exist", name(), folder.display());
                access(folder, Access::WRITE_OK)
                    .with_context(|| format!("{}: the folder {} cannot be written to", name(), folder.display()))?;
                return Ok(Self { path: path.clone(), content: Vec::new(), old: None });
            }
            Err(err) => return Err(err).with_context(name),
        };
        ensure!(metadata.is_file(), "{} is not a regular file", name());
        let content = fs::read(path).with_context(name)?;
        Ok(Self { path: path.clone(), content, old: Some(metadata) })
    }

    /// Sets these variables and makes the file durable; one that has them already is left alone.
    ///
    /// # Errors
    ///
    /// When the file cannot be replaced; it is then as it was.
    pub(crate) fn set(self, variables: &[(&str, String)]) -> Result<()> {
        let content = with_variables(&self.content, variables);
        if self.old.is_some() && content == self.content {
            return Ok(());
        }
        self.replace(&content).with_context(|| format!("env file {} could not be replaced", self.path.display()))
    }

    fn replace(&self, content: &[u8]) -> io::Result<()> {
        let folder = folder_of(&self.path);
        // A new file is as any new file; one that is replaced gets the old one's owner and mode.
        let mode = if self.old.is_some() { 0o600 } else { 0o666 };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".manage-ports-env-").permissions(Permissions::from_mode(mode));
        let mut file = builder.tempfile_in(folder)?;
        if let Some(old) = &self.old {
            // Only root may give a file away; to everyone else it is their own now.
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
            file.as_file().set_permissions(old.permissions())?;
        }
        file.write_all(content)?;
        file.as_file().sync_all()?;
        file.persist(&self.path)?;
        // Where folders cannot be synced the file system sees to it.
        let _ = File::open(folder).and_then(|folder| folder.sync_all());
        Ok(())
    }
}

/// The content with each variable set: in every line that sets it, else in a new line at the end.
fn with_variables(content: &[u8], variables: &[(&str, String)]) -> Vec<u8> {
    let mut set = Vec::with_capacity(content.len() + 64);
    let mut is_there = vec![false; variables.len()];
    for Statement { text, assignment } in Statements::of(content) {
        let found =
            assignment.and_then(|found| Some((variables.iter().position(|(name, _)| *name == found.name)?, found)));
        let Some((index, Assignment { has_equals, start, form, .. })) = found else {
            set.extend_from_slice(text);
            continue;
        };
        // With a colon it is set for Compose only.
        is_there[index] |= has_equals;
        let (before, value) = text.split_at(start);
        set.extend_from_slice(before);
        set.extend_from_slice(variables[index].1.as_bytes());
        set.extend_from_slice(tail(value, form));
    }
    let ending: &[u8] = if content.windows(2).any(|bytes| bytes == b"\r\n") { b"\r\n" } else { b"\n" };
    for ((name, value), _) in variables.iter().zip(is_there).filter(|(_, is_there)| !is_there) {
        if !set.is_empty() && !set.ends_with(b"\n") {
            set.extend_from_slice(ending);
        }
        set.extend_from_slice(format!("{name}={value}").as_bytes());
        set.extend_from_slice(ending);
    }
    set
}

/// What stays after a value: a comment and the line's ending.
fn tail(value: &[u8], form: Form) -> &[u8] {
    let start = match form {
        Form::Bare => 0,
        Form::Quoted(length) => length,
        Form::Open => value.trim_ascii_end().len(),
    };
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let is_end = |index: &usize| {
        let rest = &value[*index..];
        let is_comment = rest.iter().find(|byte| !is_blank(byte)) == Some(&b'#');
        rest.trim_ascii().is_empty() || is_comment && is_blank(&rest[0])
    };
    &value[(start..value.len()).find(is_end).unwrap_or(value.len())..]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::core::allocation::PortPair;
    use crate::host::declared;

    #[track_caller]
    fn sets(before: &str, after: &str) {
        let variables = [("BACKEND_PORT", "5001".to_owned()), ("FRONTEND_PORT", "8001".to_owned())];
        let set = with_variables(before.as_bytes(), &variables);
        assert_eq!(String::from_utf8(set.clone()).unwrap(), after);
        assert_eq!(with_variables(&set, &variables), set, "once more changes nothing");
    }

    #[test]
    fn missing_variables_come_at_the_end() {
        sets("", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A=1", "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A=1\r\n", "A=1\r\nBACKEND_PORT=5001\r\nFRONTEND_PORT=8001\r\n");
        sets("FRONTEND_PORT=1\nA", "FRONTEND_PORT=8001\nA\nBACKEND_PORT=5001\n");
        sets(
            "#BACKEND_PORT=1\nMY_BACKEND_PORT=2\nBACKEND_PORTS=3\n",
            "#BACKEND_PORT=1\nMY_BACKEND_PORT=2\nBACKEND_PORTS=3\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n",
        );
    }

    #[test]
    fn a_line_that_sets_one_keeps_all_but_the_value() {
        for (before, after) in [
            ("BACKEND_PORT=1", "BACKEND_PORT=5001"),
            ("BACKEND_PORT=\n", "BACKEND_PORT=5001\n"),
            ("BACKEND_PORT=1 \r\n", "BACKEND_PORT=5001 \r\n"),
            ("export BACKEND_PORT = '1' # mine\n", "export BACKEND_PORT = 5001 # mine\n"),
            ("\tBACKEND_PORT=\"a\\\"b\"#x\n", "\tBACKEND_PORT=5001\n"),
            ("BACKEND_PORT=a#b c # d\n", "BACKEND_PORT=5001 # d\n"),
            ("BACKEND_PORT=1\nBACKEND_PORT=2\n", "BACKEND_PORT=5001\nBACKEND_PORT=5001\n"),
            ("\u{feff}BACKEND_PORT=1\n", "\u{feff}BACKEND_PORT=5001\n"),
        ] {
            sets(&format!("FRONTEND_PORT=8001\n{before}"), &format!("FRONTEND_PORT=8001\n{after}"));
        }
    }

    #[test]
    fn lines_inside_quotes_are_not_variables() {
        for key in [
            "KEY=\"-----\nBACKEND_PORT=1\n-----\"\n",
            "KEY: '-----\nBACKEND_PORT=1\n-----'\n",
            "KEY='it\\'s\nBACKEND_PORT=1\n'\n",
            "KEY='\\\\'\nOTHER=\"\\\"\nBACKEND_PORT=1\n\"\n",
        ] {
            sets(&format!("{key}BACKEND_PORT=2\n"), &format!("{key}BACKEND_PORT=5001\nFRONTEND_PORT=8001\n"));
        }
    }

    #[test]
    fn after_a_quote_that_is_not_closed_each_line_is_one() {
        sets("A=\"x\nBACKEND_PORT=1\nFRONTEND_PORT=2\n", "A=\"x\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A='x\\'\nBACKEND_PORT=\"1\n", "A='x\\'\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("BACKEND_PORT=\"1 # x\r\nB=2\r\n", "BACKEND_PORT=5001\r\nB=2\r\nFRONTEND_PORT=8001\r\n");
    }

    #[test]
    fn a_value_of_several_lines_is_replaced_whole() {
        sets("BACKEND_PORT='1\n2' # x\nFRONTEND_PORT=8001\n", "BACKEND_PORT=5001 # x\nFRONTEND_PORT=8001\n");
    }

    #[test]
    fn what_only_compose_takes_for_a_variable_is_set_beside_it() {
        sets("BACKEND_PORT: 1\n", "BACKEND_PORT: 5001\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    }

    proptest! {
        #[test]
        fn what_was_set_is_declared_and_setting_it_again_changes_nothing(
            lines in prop::collection::vec("(export )?(A|BACKEND_PORT|FRONTEND_PORT) ?[=:] ?[12 \"'#\\\\$\t\r\u{c}é]{0,6}\n?", 0..6)
        ) {
            let before = lines.concat();
            let variables = [("BACKEND_PORT", "5001".to_owned()), ("FRONTEND_PORT", "8001".to_owned())];
            let set = with_variables(before.as_bytes(), &variables);
            prop_assert_eq!(with_variables(&set, &variables), set.clone());
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(".env"), &set).unwrap();
            let declared = declared::read(folder.path());
            prop_assert_eq!(declared.pair(), Ok(PortPair::new(5001, 8001)), "{}", String::from_utf8_lossy(&set));
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let set = with_variables(b"A=\xff\nBACKEND_PORT=1\n", &[("BACKEND_PORT", "5001".to_owned())]);
        assert_eq!(set, b"A=\xff\nBACKEND_PORT=5001\n");
    }
}
