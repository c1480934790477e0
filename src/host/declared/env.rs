//! This file reads `.env` as Compose does, except that an invalid line does not hide the others.
//!
//! The rules are those of compose-go 2.9:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/dotenv/parser.go>. Some differ from what other
//! readers of `.env` do: a comment behind a value begins with a space and `#`, no tab; a value ends with
//! its closing quote, and what follows is read as another line; a name without `=` takes the value that it
//! has already.

use std::borrow::Cow;
use std::collections::HashMap;
use std::rc::Rc;

use super::bounds::EXPANDED_BYTES;
use super::interpolate::{NoValue, Variable, interpolate};
use super::problem::called;

/// What the names of the variables begin with that Compose uses for itself.
const COMPOSE_PREFIX: &str = "COMPOSE_";

/// The problem with a value whose quote is not closed.
const OPEN_QUOTE: &str = "has a quote that is not closed";

/// The variables of one `.env` file.
#[derive(Default)]
pub(super) struct Variables {
    /// The last assignment to each variable.
    last: HashMap<String, Assigned>,
    /// Tells whether the file could not be read, so that it may set any variable.
    is_unknown: bool,
    /// Tells whether a line was refused, which may have been meant to set any variable.
    has_broken_line: bool,
    /// The reasons why Compose refuses the whole file, each with its line. The words show no value.
    pub(super) problems: Vec<(usize, String)>,
}

/// A variable's value, or the reason why it has none.
#[derive(Clone)]
pub(super) struct Assigned {
    /// The value. If Compose refuses it, the reason is also in the file's problems.
    pub(super) value: Result<String, NoValue>,
    /// The line that the assignment begins on.
    pub(super) line: usize,
}

impl Variables {
    /// Returns the variables of a file that could not be read.
    pub(super) fn unknown() -> Self {
        Self { is_unknown: true, ..Self::default() }
    }

    /// Returns the variables that Compose uses for itself. If the file says that Compose should ignore it,
    /// only those that begin with `COMPOSE_` are left.
    pub(super) fn for_compose(&self) -> Result<Self, String> {
        const NAME: &str = "COMPOSE_DISABLE_ENV_FILE";
        let is_disabled = match self.get(NAME) {
            Variable::Set("1" | "t" | "T" | "true" | "True" | "TRUE") => true,
            Variable::NotSet | Variable::Set("0" | "f" | "F" | "false" | "False" | "FALSE") => false,
            Variable::Unknown if self.is_unknown => false,
            Variable::Set(_) | Variable::Unknown => return Err(format!("{NAME} is neither true nor false")),
        };
        let last = self.last.iter().filter(|(name, _)| !is_disabled || name.starts_with(COMPOSE_PREFIX));
        let last = last.map(|(name, assigned)| (name.clone(), assigned.clone())).collect();
        Ok(Self { last, problems: Vec::new(), ..*self })
    }

    /// Returns the last assignment to a variable.
    pub(super) fn assigned(&self, name: &str) -> Option<&Assigned> {
        self.last.get(name)
    }

    fn get(&self, name: &str) -> Variable<'_> {
        match self.last.get(name) {
            _ if self.is_unknown => Variable::Unknown,
            Some(Assigned { value: Ok(value), .. }) => Variable::Set(value),
            Some(_) => Variable::Unknown,
            // Which files Compose reads is not in doubt unless the broken line names such a variable.
            None if self.has_broken_line && !name.starts_with(COMPOSE_PREFIX) => Variable::Unknown,
            None => Variable::NotSet,
        }
    }
}

/// The `.env` files that replace variables. The first file that sets a variable is used.
#[derive(Clone, Default)]
pub(super) struct Environment {
    files: Vec<Rc<Variables>>,
}

impl Environment {
    /// Returns this environment with one more file, which is searched last.
    pub(super) fn with(&self, file: Rc<Variables>) -> Self {
        Self { files: self.files.iter().cloned().chain([file]).collect() }
    }

    /// Tells whether some file could not be read, so that any variable may be set.
    pub(super) fn is_unknown(&self) -> bool {
        self.files.iter().any(|file| file.is_unknown)
    }

    /// Looks up a variable.
    pub(super) fn get(&self, name: &str) -> Variable<'_> {
        let mut found = self.files.iter().map(|file| file.get(name));
        found.find(|found| *found != Variable::NotSet).unwrap_or(Variable::NotSet)
    }
}

/// Reads every assignment in a file. A variable of the environment overrides one of the file.
///
/// # Errors
///
/// Returns the reason in words when the bytes are not text that Compose could read.
pub(super) fn parse(bytes: &[u8], environment: &Environment) -> Result<Variables, String> {
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || bytes.starts_with(b"\0\0\xfe\xff") {
        return Err("is not UTF-8 text but UTF-16 or UTF-32".to_owned());
    }
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes));
    let mut parser = Parser {
        rest: &text,
        line: 1,
        is_lossy: matches!(text, Cow::Owned(_)),
        may_span_lines: true,
        expanded: 0,
        environment,
        variables: Variables::default(),
    };
    while parser.begins_statement() {
        let (start, line) = (parser.rest, parser.line);
        if let Err(reason) = parser.statement() {
            // Compose stops reading here. We continue with the next line.
            (parser.rest, parser.line) = (start, line);
            let broken = parser.take_line();
            parser.add_problem(line, broken, &reason);
        }
    }
    Ok(parser.variables)
}

/// The state of the parser.
struct Parser<'a> {
    rest: &'a str,
    line: usize,
    /// Tells whether some bytes of the file were not UTF-8 and were replaced by U+FFFD.
    is_lossy: bool,
    /// Tells whether quotes may span lines. After a quote that is not closed, a value ends with its line,
    /// because the mistake is likely in that line.
    may_span_lines: bool,
    expanded: usize,
    environment: &'a Environment,
    variables: Variables,
}

impl<'a> Parser<'a> {
    /// Moves on to the next statement, if there is one.
    fn begins_statement(&mut self) -> bool {
        loop {
            self.take(self.rest.len() - self.rest.trim_start().len());
            match self.rest.chars().next() {
                Some('#') => drop(self.take_line()),
                next => return next.is_some(),
            }
        }
    }

    /// Reads a statement.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when Compose refuses it.
    fn statement(&mut self) -> Result<(), String> {
        let line = self.line;
        if let Some(rest) = self.rest.strip_prefix("export").filter(|rest| rest.starts_with(is_exports_blank)) {
            self.take("export".len() + blanks(rest));
        }
        let Some(end) = name_end(self.rest)? else {
            // At the end of the file, a name alone becomes the value of a variable without a name.
            self.take(self.rest.len());
            return Ok(());
        };
        let name = self.take(end).trim_end();
        if name.contains(' ') {
            return Err("has a name with a blank in it".to_owned());
        }
        if self.take(1) == "\n" {
            // The variable keeps its value. Any other value would come from the shell.
            return Ok(());
        }
        self.take(blanks(self.rest));
        let raw = self.raw_value().map_err(|reason| format!("{} {reason}", called(name)))?;
        let value = self.value(raw);
        if let Err(NoValue::Refused(reason)) = &value {
            self.variables.problems.push((line, format!("{} {reason}", called(name))));
        }
        self.variables.last.insert(name.to_owned(), Assigned { value, line });
        Ok(())
    }

    /// Returns a value as it is written, without its quotes.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when its quote does not end.
    fn raw_value(&mut self) -> Result<Raw, String> {
        let Some(quote @ (b'"' | b'\'')) = self.rest.bytes().next() else {
            let line = self.take_line();
            let value = line.split_once(" #").map_or(line, |(value, _)| value);
            return Ok(Raw::Template(value.trim_end().to_owned()));
        };
        let scope = if self.may_span_lines { self.rest } else { self.rest.split('\n').next().unwrap_or_default() };
        let mut value = String::new();
        let (mut start, mut is_escaped) = (1, false);
        for (index, byte) in scope.bytes().enumerate().skip(1) {
            if byte == quote && !is_escaped {
                value.push_str(&scope[start..index]);
                self.take(index + 1);
                return Ok(if quote == b'"' { Raw::Template(unescaped(&value)) } else { Raw::Literal(value) });
            }
            if byte == quote {
                // The backslash before a quote is dropped; other backslashes stay.
                value.push_str(&scope[start..index - 1]);
                start = index;
            }
            is_escaped = byte == b'\\' && !is_escaped;
        }
        self.may_span_lines = false;
        Err(OPEN_QUOTE.to_owned())
    }

    /// Returns the value with its variables replaced.
    fn value(&mut self, raw: Raw) -> Result<String, NoValue> {
        let (Raw::Literal(text) | Raw::Template(text)) = &raw;
        if self.is_lossy && text.contains(char::REPLACEMENT_CHARACTER) {
            return Err(NoValue::Unknown("is not UTF-8 text".to_owned()));
        }
        match raw {
            Raw::Template(text) if text.contains('$') => {
                if self.expanded > EXPANDED_BYTES {
                    return Err(NoValue::Unknown("comes after too many variables of variables".to_owned()));
                }
                let value = interpolate(&text, &|name| match self.environment.get(name) {
                    Variable::NotSet => self.variables.get(name),
                    found => found,
                })?;
                self.expanded += value.len();
                Ok(value)
            }
            Raw::Literal(text) | Raw::Template(text) => Ok(text),
        }
    }

    /// Records why Compose refuses the file at a line. The variable that the line seems to set is then
    /// unknown, and so is every one that no other line sets.
    fn add_problem(&mut self, line: usize, text: &str, reason: &str) {
        self.variables.problems.push((line, reason.to_owned()));
        self.variables.has_broken_line = true;
        let assigned = || Assigned { value: Err(NoValue::Refused(reason.to_owned())), line };
        let word = text.split(|c: char| c.is_whitespace() || c == '=' || c == ':');
        let name = word.filter(|word| !word.is_empty()).find(|word| *word != "export");
        if let Some(name) = name {
            self.variables.last.insert(name.to_owned(), assigned());
        }
        let words = text.split(|c: char| c != '_' && !c.is_ascii_alphanumeric());
        for name in words.filter(|word| word.starts_with(COMPOSE_PREFIX)) {
            self.variables.last.entry(name.to_owned()).or_insert_with(assigned);
        }
    }

    /// Consumes and returns this many bytes.
    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.bytes().filter(|&byte| byte == b'\n').count();
        self.rest = rest;
        taken
    }

    /// Consumes the rest of a line with its ending, and returns it without the ending.
    fn take_line(&mut self) -> &'a str {
        let line = self.rest.split('\n').next().unwrap_or_default();
        let length = (line.len() + 1).min(self.rest.len());
        self.take(length);
        line
    }
}

/// A value without its quotes.
enum Raw {
    /// The value is used as it is.
    Literal(String),
    /// The value may contain variables.
    Template(String),
}

/// Finds the end of the name at the beginning of a text: the sign or line ending that follows it. Returns
/// `None` if the text ends first.
///
/// # Errors
///
/// Returns the reason in words when Compose does not allow a character in a name.
fn name_end(text: &str) -> Result<Option<usize>, String> {
    for (index, c) in text.char_indices() {
        match c {
            '=' | ':' | '\n' => return Ok(Some(index)),
            '_' | '.' | '-' | '[' | ']' => {}
            c if is_blank(c) || c.is_alphabetic() || c.is_numeric() => {}
            _ => return Err("has a character that no name may have".to_owned()),
        }
    }
    Ok(None)
}

/// Returns the number of bytes of blanks at the beginning of a text.
fn blanks(text: &str) -> usize {
    text.len() - text.trim_start_matches(is_blank).len()
}

/// Tells whether a character is a blank that does not end a line.
fn is_blank(c: char) -> bool {
    matches!(c, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ' | '\u{85}' | '\u{a0}')
}

/// Tells whether a character may follow `export`.
fn is_exports_blank(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// Replaces the escapes inside double quotes. An escaped dollar sign becomes two, which the replacement of
/// variables turns into one.
fn unescaped(inside: &str) -> String {
    let mut value = String::new();
    let mut rest = inside;
    while let Some((before, after)) = rest.split_once('\\') {
        value.push_str(before);
        let escaped = after.chars().next();
        let plain = match escaped {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(c @ ('"' | '\\')) => c,
            Some('$') => {
                value.push_str("$$");
                rest = &after[1..];
                continue;
            }
            Some('0') => {
                // If the digits name no character, their leading zero is dropped.
                let digits = after[1..].bytes().take(3).take_while(u8::is_ascii_digit).count();
                let (digits, after) = after[1..].split_at(digits);
                match u8::from_str_radix(digits, 8) {
                    Ok(code) if digits.len() == 3 => value.push(code.into()),
                    _ => value.extend(["\\", digits]),
                }
                rest = after;
                continue;
            }
            _ => '\0',
        };
        if plain == '\0' {
            value.push('\\');
            rest = after;
        } else {
            value.push(plain);
            rest = &after[1..];
        }
    }
    value + rest
}

#[cfg(test)]
mod tests {
    use super::super::bounds::TEXT_BYTES;
    use super::*;

    fn parsed(bytes: impl AsRef<[u8]>) -> Variables {
        parse(bytes.as_ref(), &Environment::default()).unwrap()
    }

    fn value(bytes: impl AsRef<[u8]>) -> Option<String> {
        parsed(bytes).assigned("A").map(|found| found.value.clone().unwrap())
    }

    #[test]
    fn a_line_that_is_wrong_is_named_without_its_value_and_hides_no_other() {
        for (text, problems) in [
            ("SECRET hunter2\nA=1", &["1: has a name with a blank in it"][..]),
            ("\n!=hunter2\nA=1", &["2: has a character that no name may have"]),
            ("S=\"hunter2\nA=1\nT='x", &["1: S has a quote that is not closed", "3: T has a quote that is not closed"]),
            ("S=${\nA=1", &["1: S has a '${' without the name of a variable"]),
            ("S=${T:?hunter2}\nA=1", &["1: S needs the variable T, which .env does not set"]),
            ("S=a$-b\nQ=\"x\"y\nA=1", &[]),
        ] {
            assert_eq!(value(text).as_deref(), Some("1"), "{text}");
            let told: Vec<_> = parsed(text).problems.iter().map(|(line, why)| format!("{line}: {why}")).collect();
            assert_eq!(told, problems, "{text}");
        }
        assert!(matches!(parsed("A 1\n").get("A"), Variable::Unknown));
        assert!(matches!(parsed("A=\"1\n").get("A"), Variable::Unknown));
    }

    #[test]
    fn a_broken_line_may_set_any_variable_that_no_other_line_sets() {
        for line in ["\"B\"=2", "set B=2", "'B'=2", "$B=2", "B+=2", "\"B=2", "hello world"] {
            let variables = parsed(format!("A=1\n{line}\nC=3\n"));
            let expected = [Variable::Set("1"), Variable::Unknown, Variable::Set("3"), Variable::NotSet];
            assert_eq!(["A", "B", "C", "COMPOSE_FILE"].map(|name| variables.get(name)), expected, "{line}");
        }
        let variables = parsed("COMPOSE_PROFILES=a\n\"COMPOSE_FILE=b.yml COMPOSE_PROFILES\n");
        assert_eq!(
            ["COMPOSE_FILE", "COMPOSE_PROFILES"].map(|name| variables.get(name)),
            [Variable::Unknown, Variable::Set("a")]
        );
    }

    #[test]
    fn only_the_values_that_are_used_need_be_text() {
        assert_eq!(value(b"# caf\xe9\nS=\xe9\nA=1\n").as_deref(), Some("1"));
        let variables = parsed(b"S=\xe9\nA=$S\nB=1\n");
        assert_eq!(
            ["S", "A", "B", "C"].map(|name| variables.get(name)),
            [Variable::Unknown, Variable::Unknown, Variable::Set("1"), Variable::NotSet]
        );
        assert_eq!(value("A=\u{fffd}").as_deref(), Some("\u{fffd}"));
        for bytes in [&b"\xff\xfeA\0=\x001\0"[..], b"\xfe\xff\0A\0=\x001", b"\xff\xfe\0\0A\0\0\0"] {
            assert!(parse(bytes, &Environment::default()).is_err());
        }
    }

    #[test]
    fn a_variable_of_the_environment_wins() {
        let outer = Environment::default().with(Rc::new(parsed("A=1\n")));
        let inner = outer.with(Rc::new(parse(b"A=2\nB=3\nC=$A$B\n", &outer).unwrap()));
        assert_eq!(["A", "B", "C"].map(|name| inner.get(name)), ["1", "3", "13"].map(Variable::Set));
        let unknown = outer.with(Rc::new(Variables::unknown()));
        assert_eq!(["A", "B"].map(|name| unknown.get(name)), [Variable::Set("1"), Variable::Unknown]);
    }

    #[test]
    fn lines_are_counted() {
        let variables = parsed("\u{feff}# x\n\nB=\"1\n2\"\r\n  export A=1\n");
        assert_eq!(variables.assigned("A").unwrap().line, 5);
    }

    #[test]
    fn variables_of_variables_do_not_fill_the_memory() {
        let long = "x".repeat(TEXT_BYTES);
        let each: String = (0..100).map(|number| format!("V{number}=$A\n")).collect();
        let variables = parsed(format!("A={long}\n{each}B=1\n"));
        let is_known = |number: usize| matches!(variables.get(&format!("V{number}")), Variable::Set(_));
        // The one that exceeds the bound is the last.
        assert!((0..100).all(|number| is_known(number) == (number <= EXPANDED_BYTES / TEXT_BYTES)));
        assert_eq!(variables.get("B"), Variable::Set("1"), "what has no variables in it costs nothing");
        let longer = format!("{long}x");
        assert_eq!(value(format!("A={longer}")), Some(longer));
    }

    #[test]
    fn a_file_that_compose_may_have_to_ignore_is_refused() {
        let for_compose = |bytes: &[u8]| parsed(bytes).for_compose().is_ok();
        assert!(for_compose(b"COMPOSE_DISABLE_ENV_FILE=1\n") && for_compose(b"A=\xe9\n"));
        assert!(!for_compose(b"COMPOSE_DISABLE_ENV_FILE=\xe9\n") && !for_compose(b"COMPOSE_DISABLE_ENV_FILE=2\n"));
        assert!(Variables::unknown().for_compose().is_ok());
    }
}
