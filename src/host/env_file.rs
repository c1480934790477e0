//! A file of `NAME=value` lines, some of which are set while all others stay as they are.
//!
//! It is replaced whole by a rename, so whoever reads it, and whatever stops this program, finds the
//! old file or the new one. Lines are bytes here: what others wrote need not be text.

use std::fs::{self, File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

/// A file that can be replaced, as it was when it was opened.
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
    /// When it is no regular file, cannot be read, or stands in a folder that does not exist.
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
                ensure!(
                    folder_of(path).is_dir(),
                    "{}: the folder {} does not exist",
                    name(),
                    folder_of(path).display()
                );
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

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The content with each variable set: in every line that sets it, else in a new line at the end.
fn with_variables(content: &[u8], variables: &[(&str, String)]) -> Vec<u8> {
    let mut set = Vec::with_capacity(content.len() + 64);
    let mut is_there = vec![false; variables.len()];
    let mut open_quote = None;
    for line in content.split_inclusive(|&byte| byte == b'\n') {
        // Inside a quoted value of several lines nothing is a variable.
        if let Some(quote) = open_quote {
            open_quote = (!closes(line, quote)).then_some(quote);
            set.extend_from_slice(line);
            continue;
        }
        let Some((name, value)) = assignment(line) else {
            set.extend_from_slice(line);
            continue;
        };
        let quote = value.first().copied().filter(|byte| matches!(byte, b'"' | b'\'' | b'`'));
        let is_open = quote.is_some_and(|quote| !closes(&value[1..], quote));
        match variables.iter().position(|(variable, _)| variable.as_bytes() == name) {
            Some(index) if !is_open => {
                is_there[index] = true;
                set.extend_from_slice(&line[..line.len() - value.len()]);
                set.extend_from_slice(variables[index].1.as_bytes());
                set.extend_from_slice(tail(value, quote));
            }
            _ => {
                open_quote = quote.filter(|_| is_open);
                set.extend_from_slice(line);
            }
        }
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

/// The name that a line sets, and the rest of the line from the value on; `export` may come before.
fn assignment(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    let equals = line.iter().position(|&byte| byte == b'=')?;
    let name = line[..equals].trim_ascii();
    let name = match name.strip_prefix(b"export") {
        Some(rest) if rest.starts_with(b" ") || rest.starts_with(b"\t") => rest.trim_ascii(),
        _ => name,
    };
    let is_name =
        !name.is_empty() && name.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    // What stands between the sign and the value stays: only blanks of the same line.
    let value = &line[equals + 1..];
    let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    is_name.then_some((name, &value[blanks..]))
}

/// Whether a quote ends in this text; a backslash keeps it from doing so, except in single quotes.
fn closes(text: &[u8], quote: u8) -> bool {
    end_of_quote(text, quote).is_some()
}

fn end_of_quote(text: &[u8], quote: u8) -> Option<usize> {
    let mut is_escaped = false;
    text.iter().position(|&byte| {
        let ends = byte == quote && !is_escaped;
        is_escaped = byte == b'\\' && quote != b'\'' && !is_escaped;
        ends
    })
}

/// What stays after a value: a comment and the line's ending.
fn tail(value: &[u8], quote: Option<u8>) -> &[u8] {
    let quoted = quote.and_then(|quote| end_of_quote(&value[1..], quote)).map_or(0, |end| end + 2);
    let is_end = |index: &usize| {
        let rest = &value[*index..];
        let text = rest.trim_ascii_start();
        text.is_empty() || text.len() < rest.len() && text.starts_with(b"#")
    };
    &value[(quoted..value.len()).find(is_end).unwrap_or(value.len())..]
}

#[cfg(test)]
mod tests {
    use super::*;

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
        let key = "KEY=\"-----\nBACKEND_PORT=1\n-----\"\nOTHER='a\\'\n";
        sets(&format!("{key}BACKEND_PORT=2\n"), &format!("{key}BACKEND_PORT=5001\nFRONTEND_PORT=8001\n"));
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let set = with_variables(b"A=\xff\nBACKEND_PORT=1\n", &[("BACKEND_PORT", "5001".to_owned())]);
        assert_eq!(set, b"A=\xff\nBACKEND_PORT=5001\n");
    }
}
