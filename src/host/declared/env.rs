//! `.env` as Compose reads it, except that a line which is wrong does not hide the others.

use std::collections::HashMap;

use super::interpolate::interpolate;
use super::{Findings, port};
use crate::core::declared::Role;
use crate::host::dotenv::{Assignment, Form, Statement, Statements};

/// So many bytes may come out of variables that hold variables, over the whole file.
const MAX_EXPANDED: usize = 1 << 20;

/// What is wrong with a value whose quote does not end.
const OPEN_QUOTE: &str = "has a quote that is not closed";

/// What a `.env` file sets.
#[derive(Default)]
pub(super) struct Variables {
    /// The last assignment to each variable.
    last: HashMap<String, Assigned>,
    /// What makes Compose refuse the whole file, in words that show no value.
    problem: Option<String>,
}

/// A variable's value, or what is wrong with it, and the line that it begins on.
struct Assigned {
    value: Result<String, String>,
    line: usize,
}

impl Variables {
    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.last.get(name)?.value.as_deref().ok()
    }

    /// The ports that the variables name.
    pub(super) fn ports(&self) -> Findings {
        let mut findings = Findings { ports: Vec::new(), problems: self.problem.iter().cloned().collect() };
        for (role, name) in VARIABLES {
            let Some(Assigned { value, line }) = self.last.get(name) else { continue };
            let reason = match value.as_deref().map(|value| (value, port(value))) {
                Ok(("", _)) => continue,
                Ok((_, Some(port))) => {
                    findings.ports.push((role, port..=port));
                    continue;
                }
                // The value may hold another variable's, so it is not shown.
                Ok((_, None)) => "is not a port from 1 to 65535",
                Err(reason) => reason,
            };
            findings.problems.push(format!("line {line}: {name} {reason}"));
        }
        findings
    }
}

/// The variables that hold a port, with the role that it has.
const VARIABLES: [(Role, &str); 2] = [(Role::Backend, "BACKEND_PORT"), (Role::Frontend, "FRONTEND_PORT")];

/// Whether a variable holds a port.
fn is_ours(name: &str) -> bool {
    VARIABLES.iter().any(|(_, known)| *known == name)
}

/// Reads every assignment in a file.
pub(super) fn parse(text: &str) -> Variables {
    let mut variables = Variables::default();
    let (mut rest, mut line, mut expanded, mut has_open_quote) = (text, 1, 0, false);
    for Statement { text, assignment } in Statements::of(text.as_bytes()) {
        let (text, after) = rest.split_at(text.len());
        if let Some(Assignment { name, start, form, .. }) = assignment {
            let value = raw_value(&text[start..], form).value(&variables, &mut expanded);
            if form == Form::Open {
                if !has_open_quote && !is_ours(name) {
                    variables.problem = Some(format!("line {line}: {name} {OPEN_QUOTE}"));
                }
                has_open_quote = true;
            }
            variables.last.insert(name.to_owned(), Assigned { value, line });
        } else if let Some(name) = text.split_whitespace().find(|word| *word != "export").filter(|name| is_ours(name)) {
            let value = Err("is not followed by '='".to_owned());
            variables.last.insert(name.to_owned(), Assigned { value, line });
        }
        line += text.matches('\n').count();
        rest = after;
    }
    variables
}

/// A value as it is written, free of its quotes.
enum Raw {
    /// Taken as it is.
    Literal(String),
    /// May hold variables.
    Template(String),
    /// In quotes, with something behind them.
    Trailed,
    /// With a quote that is not closed.
    Open,
}

impl Raw {
    /// The value itself; `expanded` counts the bytes that variables made so far.
    fn value(self, variables: &Variables, expanded: &mut usize) -> Result<String, String> {
        match self {
            Self::Template(text) if text.contains('$') => {
                if *expanded > MAX_EXPANDED {
                    return Err("comes after too many variables of variables".to_owned());
                }
                let value = interpolate(&text, &|name| variables.get(name))?;
                *expanded += value.len();
                Ok(value)
            }
            Self::Literal(text) | Self::Template(text) => Ok(text),
            Self::Trailed => Err("has text after its quotes".to_owned()),
            Self::Open => Err(OPEN_QUOTE.to_owned()),
        }
    }
}

/// The value that a text holds, with the rest of its last line.
fn raw_value(text: &str, form: Form) -> Raw {
    match form {
        Form::Bare => Raw::Template(without_comment(text).trim_end().to_owned()),
        Form::Open => Raw::Open,
        Form::Quoted(length) if !without_comment(&text[length..]).trim().is_empty() => Raw::Trailed,
        Form::Quoted(length) => {
            let inside = &text[1..length - 1];
            if text.starts_with('"') {
                Raw::Template(unescaped(inside, '"'))
            } else {
                Raw::Literal(unescaped(inside, '\''))
            }
        }
    }
}

/// What was inside quotes, without what keeps characters from meaning something there.
fn unescaped(inside: &str, quote: char) -> String {
    let mut value = String::new();
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            value.push(c);
            continue;
        }
        match (quote, chars.next()) {
            ('"', Some('n')) => value.push('\n'),
            ('"', Some('r')) => value.push('\r'),
            ('"', Some('t')) => value.push('\t'),
            // What keeps a dollar from beginning a variable's name.
            ('"', Some('$')) => value.push_str("$$"),
            ('"', Some(escaped)) => value.push(escaped),
            (_, Some('\'')) => value.push('\''),
            (_, other) => value.extend(['\\'].into_iter().chain(other)),
        }
    }
    value
}

/// A text up to the `#` at its beginning or after a blank.
fn without_comment(text: &str) -> &str {
    let comment = text.match_indices('#').find(|&(index, _)| index == 0 || text[..index].ends_with([' ', '\t']));
    comment.map_or(text, |(index, _)| &text[..index])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_compose_reads_it() {
        for (text, expected) in [
            ("A=1", "1"),
            ("A=1\n", "1"),
            ("A=1\r\n", "1"),
            ("B=2\r\nA=1\r\nC=3\r\n", "1"),
            (" A = 1 ", "1"),
            ("\tA\t=\t1\t", "1"),
            ("export A=1", "1"),
            ("export\tA = 1", "1"),
            ("A: 1", "1"),
            ("A=1 # one", "1"),
            ("A=1\t#one", "1"),
            ("A=1#one", "1#one"),
            ("A= # one", ""),
            ("A=#one", ""),
            ("A=", ""),
            ("A=\nB=1", ""),
            ("#A=2\nA=1\n # A=3", "1"),
            ("A=1\nA=2", "2"),
            ("A=one two", "one two"),
            ("A=it's", "it's"),
            ("A=x=y:z", "x=y:z"),
            ("A=\"1\"", "1"),
            ("A='1'", "1"),
            ("A=\"1\" # one", "1"),
            ("A='1'# one\r\nB=2", "1"),
            ("A=\" # 1 \"", " # 1 "),
            (r#"A="a\"b\\c\n\$B\x""#, "a\"b\\c\n$Bx"),
            (r"A='a\'b\n$B'", "a'b\\n$B"),
            ("A=\"1\n2\"\nB=3", "1\n2"),
            ("B=\"1\nA=2\nC\"\nA=3", "3"),
            ("B=2\nA=$B${C:-4}", "24"),
            ("B=2\nA=\"${B}\"", "2"),
            ("A=${B}\nB=2", ""),
            ("B=2\nA='$B'", "$B"),
            ("A=1\nA=${A}2", "12"),
            ("A=${HOME}${PATH}", ""),
            ("B=\"open\nA=1\nC='x'", "1"),
            ("=5\n==\n{}\nA=1\n%%%\u{0}", "1"),
            ("x.y-z=\"\nA=2\"\nA=1", "1"),
        ] {
            assert_eq!(parse(text).get("A"), Some(expected), "{text}");
        }
        for text in ["", "\n\n", "A", "A 1", "AB=1", "a=1", "exportA=1", "A B=1", "é=1\nÀ=1", "A=\"1", "A=\"1\"2"] {
            assert_eq!(parse(text).get("A"), None, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named_without_a_value() {
        let none: [&str; 0] = [];
        for (text, problems) in [
            ("", none.as_slice()),
            ("BACKEND_PORT=\nFRONTEND_PORT=\"\"", &[]),
            (
                "SECRET=hunter2\nnonsense\nP=a$-b\nQ=\"x\"y\nBACKEND_PORT",
                &["line 5: BACKEND_PORT is not followed by '='"],
            ),
            ("BACKEND_PORT=abc", &["line 1: BACKEND_PORT is not a port from 1 to 65535"]),
            ("\nFRONTEND_PORT=0", &["line 2: FRONTEND_PORT is not a port from 1 to 65535"]),
            ("BACKEND_PORT=65536", &["line 1: BACKEND_PORT is not a port from 1 to 65535"]),
            ("BACKEND_PORT=+5001", &["line 1: BACKEND_PORT is not a port from 1 to 65535"]),
            ("BACKEND_PORT=-1", &["line 1: BACKEND_PORT is not a port from 1 to 65535"]),
            ("S=x\nBACKEND_PORT=$S", &["line 2: BACKEND_PORT is not a port from 1 to 65535"]),
            (
                "BACKEND_PORT=\"5\n\nS=x\"\nFRONTEND_PORT=x",
                &[
                    "line 1: BACKEND_PORT is not a port from 1 to 65535",
                    "line 4: FRONTEND_PORT is not a port from 1 to 65535",
                ],
            ),
            ("BACKEND_PORT=abc\nBACKEND_PORT=5001", &[]),
            ("BACKEND_PORT 5001", &["line 1: BACKEND_PORT is not followed by '='"]),
            ("BACKEND_PORT='1' 2", &["line 1: BACKEND_PORT has text after its quotes"]),
            ("BACKEND_PORT=\"1", &["line 1: BACKEND_PORT has a quote that is not closed"]),
            ("BACKEND_PORT=${", &["line 1: BACKEND_PORT has a '${' that is not closed"]),
            ("S=\"x\nBACKEND_PORT=5001\nT=\"y", &[]),
            ("S='x\nT='y\nU='z", &["line 3: U has a quote that is not closed"]),
        ] {
            assert_eq!(parse(text).ports().problems, problems, "{text}");
        }
    }

    #[test]
    fn variables_of_variables_do_not_fill_the_memory() {
        let mut text = "A=xxxxxxxx\n".to_owned();
        for number in 0..100_000 {
            text.push_str(&format!("V{number}=$A$A\nA=$A$A\n"));
        }
        let size: usize =
            parse(&text).last.values().filter_map(|found| found.value.as_ref().ok()).map(String::len).sum();
        assert!(size < 2 * MAX_EXPANDED, "{size}");
    }
}
