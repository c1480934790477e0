//! This file splits a `.env` file into statements, for the code that reads such a file and the code that
//! edits it.
//!
//! Quotes end where Compose and python-dotenv end them: a backslash escapes the next character, in single
//! quotes too. The input is bytes, because a file that is edited need not be UTF-8.

/// A statement: one line of the file, or several lines if a quoted value spans them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Statement<'a> {
    /// The whole statement, with the ending of its last line.
    pub(super) text: &'a [u8],
    /// The variable that it sets, if it sets one.
    pub(super) assignment: Option<Assignment<'a>>,
}

/// A variable and the place of its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Assignment<'a> {
    /// The variable's name.
    pub(super) name: &'a str,
    /// Whether it is set with `=`; Compose alone takes a colon as well.
    pub(super) has_equals: bool,
    /// Where in the statement the value begins.
    pub(super) start: usize,
    /// How the value is written.
    pub(super) form: Form,
}

/// How a value is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// The value has no quotes and ends with the line.
    Bare,
    /// The value is quoted. The number is its length in bytes, with both quotes.
    Quoted(usize),
    /// The value begins with a quote that is not closed.
    Open,
}

/// An iterator over the statements of a file; joined, they are the whole file.
pub(super) struct Statements<'a> {
    rest: &'a [u8],
    may_span_lines: bool,
}

impl<'a> Statements<'a> {
    /// Returns the statements of the file with this content.
    pub(super) fn of(content: &'a [u8]) -> Self {
        Self { rest: content, may_span_lines: true }
    }
}

impl<'a> Iterator for Statements<'a> {
    type Item = Statement<'a>;

    fn next(&mut self) -> Option<Statement<'a>> {
        let line = self.rest.split_inclusive(|&byte| byte == b'\n').next()?;
        let mut length = line.len();
        let assignment = assignment(line).map(|(name, has_equals, start)| {
            let scope = if self.may_span_lines { self.rest } else { line };
            let form = form(&scope[start..]);
            match form {
                Form::Bare => {}
                Form::Quoted(quoted) => length = start + quoted + line_length(&scope[start + quoted..]),
                // Compose reads no further. The mistake is likely in this line, so from here on a value ends
                // with its line.
                Form::Open => self.may_span_lines = false,
            }
            Assignment { name, has_equals, start, form }
        });
        let (text, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(Statement { text, assignment })
    }
}

/// Returns the line without its indentation and without a leading `export`.
fn without_export(line: &[u8]) -> &[u8] {
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line).trim_ascii_start();
    match line.strip_prefix(b"export") {
        Some(rest) if matches!(rest.first(), Some(b' ' | b'\t' | b'\x0c')) => rest.trim_ascii_start(),
        _ => line,
    }
}

/// Returns the variable that a line sets, whether it is set with `=`, and where in the line the value begins.
fn assignment(line: &[u8]) -> Option<(&str, bool, usize)> {
    let statement = without_export(line);
    let sign = statement.iter().position(|byte| matches!(byte, b'=' | b':'))?;
    let name = str::from_utf8(statement[..sign].trim_ascii_end()).ok()?;
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let value = &statement[sign + 1..];
    let blanks = value.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
    is_name.then_some((name, statement[sign] == b'=', line.len() - value.len() + blanks))
}

/// Returns the form of the value at the beginning of a text.
fn form(text: &[u8]) -> Form {
    let Some(&quote @ (b'"' | b'\'')) = text.first() else { return Form::Bare };
    let mut is_escaped = false;
    let end = text[1..].iter().position(|&byte| {
        let ends = byte == quote && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    });
    end.map_or(Form::Open, |end| Form::Quoted(end + 2))
}

fn line_length(text: &[u8]) -> usize {
    text.iter().position(|&byte| byte == b'\n').map_or(text.len(), |end| end + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(content: &str) -> Vec<(&str, Option<&str>)> {
        let statements = Statements::of(content.as_bytes());
        statements.map(|found| (str::from_utf8(found.text).unwrap(), found.assignment.map(|set| set.name))).collect()
    }

    #[test]
    fn a_value_in_quotes_may_span_lines_until_one_is_not_closed() {
        let a = Some("A");
        for (content, expected) in [
            ("", vec![]),
            ("\n#A=1\nA=1\r\nA", vec![("\n", None), ("#A=1\n", None), ("A=1\r\n", a), ("A", None)]),
            ("A=\"1\n2\" # 3\nB: '4\n5'", vec![("A=\"1\n2\" # 3\n", a), ("B: '4\n5'", Some("B"))]),
            ("A=\"\\\"\n\"\nB", vec![("A=\"\\\"\n\"\n", a), ("B", None)]),
            ("A='\\'\n'\nB", vec![("A='\\'\n'\n", a), ("B", None)]),
            ("A='\\\\'\nB'", vec![("A='\\\\'\n", a), ("B'", None)]),
            ("A=x'\nB'", vec![("A=x'\n", a), ("B'", None)]),
            ("A=\"x\nB='\n'", vec![("A=\"x\n", a), ("B='\n", Some("B")), ("'", None)]),
        ] {
            assert_eq!(split(content), expected, "{content}");
        }
    }

    #[test]
    fn the_value_begins_behind_the_sign_and_blanks() {
        for (line, expected) in [
            ("A=1", Some(("A", true, 2))),
            (" export A.b-c_1 = \t'1'\n", Some(("A.b-c_1", true, 19))),
            ("A:\n", Some(("A", false, 2))),
            ("\u{feff}A: =", Some(("A", false, 6))),
            ("exportA=", Some(("exportA", true, 8))),
            ("export=", Some(("export", true, 7))),
            ("A B=1", None),
            ("=1", None),
            ("é=1", None),
        ] {
            assert_eq!(assignment(line.as_bytes()), expected, "{line}");
        }
    }
}
