//! This file reads a variable as python-dotenv does, so that a file which python-dotenv would read
//! differently is found before it is written.
//!
//! This follows `parse_stream` of [parser.py][new] statement by statement. Releases before 1.2.3 end a
//! value in quotes elsewhere ([parser.py of 1.0.1][old]) and keep a byte order mark in the first name;
//! both are in use, so both are asked.
//!
//! [new]: https://github.com/theskumar/python-dotenv/blob/main/src/dotenv/parser.py
//! [old]: https://github.com/theskumar/python-dotenv/blob/v1.0.1/src/dotenv/parser.py

/// The two ways in which releases of python-dotenv differ here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Release {
    /// A backslash escapes only a quote, and only if another quote follows. A byte order mark is part of the
    /// first name.
    Old,
    /// A backslash escapes any character. A byte order mark is skipped.
    New,
}

/// The last statement about a variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binding {
    /// The line that the statement begins on.
    pub(super) line: usize,
    /// The value; `None` for a name without `=`, which python-dotenv takes for "no value".
    pub(super) value: Option<String>,
}

/// Returns what python-dotenv reads for each of the names; `None` for one that it does not find.
pub(super) fn read(content: &[u8], names: &[&str], release: Release) -> Vec<Option<Binding>> {
    // The file is opened as text, in which Python turns each line ending into a newline.
    let text = String::from_utf8_lossy(content).replace("\r\n", "\n").replace('\r', "\n");
    let text = if release == Release::New { text.strip_prefix('\u{feff}').unwrap_or(&text) } else { &text };
    let mut found = vec![None; names.len()];
    let (mut rest, mut line) = (text, 1);
    while !rest.is_empty() {
        let before = rest;
        rest = rest.trim_start_matches(is_space);
        line += newlines(before, rest);
        let start = rest;
        match statement(&mut rest, release) {
            Ok(Some((name, value))) => {
                if let Some(index) = names.iter().position(|known| *known == name) {
                    found[index] = Some(Binding { line, value });
                }
            }
            Ok(None) => {}
            Err(NoMatch) => skip_line(&mut rest),
        }
        line += newlines(start, rest);
    }
    found
}

/// The error for a malformed statement, whose line is skipped.
struct NoMatch;

/// Reads one statement: a name and its value, or nothing but a comment or the end of the file.
fn statement<'a>(rest: &mut &'a str, release: Release) -> Result<Option<(&'a str, Option<String>)>, NoMatch> {
    if rest.is_empty() {
        return Ok(None);
    }
    if let Some(after) = rest.strip_prefix("export").filter(|after| after.starts_with(is_blank)) {
        *rest = after.trim_start_matches(is_blank);
    }
    let name = name(rest)?;
    *rest = rest.trim_start_matches(is_blank);
    let mut bound = None;
    if let Some(after) = rest.strip_prefix('=') {
        *rest = after.trim_start_matches(is_blank);
        bound = Some(value(rest, release)?);
    }
    let comment = rest.trim_start_matches(is_blank);
    if comment.starts_with('#') {
        *rest = comment.trim_start_matches(|c| c != '\n');
    }
    *rest = rest.trim_start_matches(is_blank);
    match rest.strip_prefix('\n') {
        Some(after) => *rest = after,
        None if rest.is_empty() => {}
        None => return Err(NoMatch),
    }
    Ok(name.map(|name| (name, bound)))
}

/// Reads a name, which may stand in single quotes; a comment has none.
fn name<'a>(rest: &mut &'a str) -> Result<Option<&'a str>, NoMatch> {
    if rest.starts_with('#') {
        return Ok(None);
    }
    let (name, after) = match rest.strip_prefix('\'') {
        Some(quoted) => quoted.split_once('\'').ok_or(NoMatch)?,
        None => rest.split_at(rest.find(|c| c == '=' || c == '#' || is_space(c)).unwrap_or(rest.len())),
    };
    if name.is_empty() {
        return Err(NoMatch);
    }
    *rest = after;
    Ok(Some(name))
}

/// Reads a value. Escapes stay as they are: the values that are compared have none.
fn value(rest: &mut &str, release: Release) -> Result<String, NoMatch> {
    if let Some(quote @ ('"' | '\'')) = rest.chars().next() {
        let end = quote_end(&rest[1..], quote, release).ok_or(NoMatch)? + 1;
        let value = rest[1..end].to_owned();
        *rest = &rest[end + 1..];
        return Ok(value);
    }
    let (line, after) = rest.split_at(rest.find('\n').unwrap_or(rest.len()));
    *rest = after;
    let comment = line.match_indices('#').find(|&(index, _)| line[..index].ends_with(is_space));
    Ok(comment.map_or(line, |(index, _)| &line[..index]).trim_end_matches(is_space).to_owned())
}

/// Finds the quote that ends a value.
fn quote_end(text: &str, quote: char, release: Release) -> Option<usize> {
    let mut is_escaped = false;
    let mut last_escaped = None;
    for (index, c) in text.char_indices() {
        if c == quote && !is_escaped {
            return Some(index);
        }
        if c == quote {
            last_escaped = Some(index);
        }
        // In old releases, a backslash does not escape another backslash.
        is_escaped = c == '\\' && (release == Release::Old || !is_escaped);
    }
    // An old release first looks for a quote after the escaped one. If there is none, it accepts the escaped
    // one.
    last_escaped.filter(|_| release == Release::Old)
}

/// Tells whether Python's `\s` matches a character.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Tells whether `[^\S\r\n]` matches a character. Carriage returns were replaced before.
fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

/// Returns how many lines end between two places in a text.
fn newlines(from: &str, to: &str) -> usize {
    from[..from.len() - to.len()].matches('\n').count()
}

/// Skips the rest of a line.
fn skip_line(rest: &mut &str) {
    *rest = rest.find('\n').map_or("", |end| &rest[end + 1..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(content: &str, release: Release, expected: Option<(usize, Option<&str>)>) {
        let found = read(content.as_bytes(), &["P"], release).remove(0);
        let found = found.as_ref().map(|found| (found.line, found.value.as_deref()));
        assert_eq!(found, expected, "{content:?} {release:?}");
    }

    #[test]
    fn a_variable_is_read_as_python_dotenv_reads_it() {
        for (content, expected) in [
            ("P=1", Some((1, Some("1")))),
            ("\n\n export  P = 1 # x\n", Some((3, Some("1")))),
            ("P=1#x\tz \n", Some((1, Some("1#x\tz")))),
            ("P=1\t#x\n", Some((1, Some("1")))),
            ("P='1' # x\nP=\"2\"#x", Some((2, Some("2")))),
            ("P='1' x\nA=1", None),
            ("P=1\nP\n", Some((2, None))),
            ("P=1\nexport P # x", Some((2, None))),
            ("P: 1\nP:1", None),
            ("'P'=1", Some((1, Some("1")))),
            ("#P=1\n # P=2", None),
            ("A=\"x\nP=1\n\"", None),
            ("A=\"x\nP=1\n", Some((2, Some("1")))),
            ("A='x\nP=1\nB='y'\nP=2", Some((4, Some("2")))),
            ("A=1\rP=2\r\nB=3", Some((2, Some("2")))),
            ("P=\n", Some((1, Some("")))),
            ("P=é\u{a0}# x", Some((1, Some("é")))),
            ("A B=1\nP=1", Some((2, Some("1")))),
            ("P=\"a\\\"b\"\n", Some((1, Some("a\\\"b")))),
        ] {
            reads(content, Release::New, expected);
            reads(content, Release::Old, expected);
        }
    }

    #[test]
    fn releases_differ_in_backslashes_and_byte_order_marks() {
        for (content, old, new) in [
            ("A=\"\\\\\"\nP=1\nB=\"x\"\n", None, Some((2, Some("1")))),
            ("A=\"\\\\\"\nP=1\n", Some((2, Some("1"))), Some((2, Some("1")))),
            ("A=\"\\\"\nP=1\n", Some((2, Some("1"))), Some((2, Some("1")))),
            ("P=\"x\\\"\n", Some((1, Some("x\\"))), None),
            ("\u{feff}P=1\n", None, Some((1, Some("1")))),
        ] {
            reads(content, Release::Old, old);
            reads(content, Release::New, new);
        }
    }
}
