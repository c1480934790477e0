//! `.env` as Compose reads it, except that a line which is wrong does not hide the others.

use std::collections::HashMap;

use super::interpolate::interpolate;
use super::{Findings, port};
use crate::core::declared::Role;

/// So many bytes may come out of variables that hold variables, over the whole file.
const MAX_EXPANDED: usize = 1 << 20;

/// What a `.env` file sets.
#[derive(Default)]
pub(super) struct Variables {
    /// The last assignment to each variable.
    last: HashMap<String, Assignment>,
    /// What makes Compose refuse the whole file, in words that show no value.
    problem: Option<String>,
}

/// A variable's value, or what is wrong with it, and the line that it begins on.
struct Assignment {
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
        for role in Role::ALL {
            let Some(Assignment { value, line }) = self.last.get(variable(role)) else { continue };
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
            findings.problems.push(format!("line {line}: {} {reason}", variable(role)));
        }
        findings
    }
}

/// The variable that holds a role's port.
fn variable(role: Role) -> &'static str {
    match role {
        Role::Backend => "BACKEND_PORT",
        Role::Frontend => "FRONTEND_PORT",
    }
}

/// Whether a variable holds a port.
fn is_ours(name: &str) -> bool {
    Role::ALL.into_iter().any(|role| variable(role) == name)
}

/// Reads every assignment in a file.
pub(super) fn parse(text: &str) -> Variables {
    let mut variables = Variables::default();
    let (mut rest, mut line, mut expanded, mut may_span_lines) = (text, 1, 0, true);
    while !rest.is_empty() {
        let first = rest.split_inclusive('\n').next().unwrap_or(rest);
        let mut length = first.len();
        if let Some((name, start)) = assignment(first) {
            let scope = if may_span_lines { rest } else { first };
            let value = match raw_value(&scope[start..]) {
                Some((raw, raw_length)) => {
                    length = start + raw_length;
                    raw.value(&variables, &mut expanded)
                }
                None => {
                    let reason = "has a quote that is not closed";
                    if may_span_lines && !is_ours(name) {
                        variables.problem = Some(format!("line {line}: {name} {reason}"));
                    }
                    // Compose reads no further. The slip is likely in this line: from here on a value
                    // ends with its line.
                    may_span_lines = false;
                    Err(reason.to_owned())
                }
            };
            variables.last.insert(name.to_owned(), Assignment { value, line });
        } else if let Some(name) = without_export(first).split_whitespace().next().filter(|name| is_ours(name)) {
            let value = Err("is not followed by '='".to_owned());
            variables.last.insert(name.to_owned(), Assignment { value, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    variables
}

/// The variable that a line assigns to, and where in the line the value begins.
fn assignment(line: &str) -> Option<(&str, usize)> {
    // Compose takes a colon as well.
    let (name, value) = without_export(line).split_once(['=', ':'])?;
    let name = name.trim_end();
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
    let value = value.trim_start_matches([' ', '\t']);
    is_name.then_some((name, line.len() - value.len()))
}

fn without_export(line: &str) -> &str {
    let line = line.trim_start();
    match line.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => line,
    }
}

/// A value as it is written, free of its quotes.
enum Raw {
    /// Taken as it is.
    Literal(String),
    /// May hold variables.
    Template(String),
    /// In quotes, with something behind them.
    Trailed,
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
        }
    }
}

/// The value that a text begins with and its length with the rest of its line; `None` if a quote is
/// not closed.
fn raw_value(text: &str) -> Option<(Raw, usize)> {
    let line_length = |text: &str| text.find('\n').map_or(text.len(), |end| end + 1);
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let length = line_length(text);
        return Some((Raw::Template(without_comment(&text[..length]).trim_end().to_owned()), length));
    };
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((index, c)) = chars.next() {
        if c == quote {
            let tail = &text[index + 1..];
            let length = line_length(tail);
            let raw = match quote {
                _ if !without_comment(&tail[..length]).trim().is_empty() => Raw::Trailed,
                '"' => Raw::Template(value),
                _ => Raw::Literal(value),
            };
            return Some((raw, index + 1 + length));
        }
        if c != '\\' {
            value.push(c);
            continue;
        }
        match (quote, chars.next()?.1) {
            ('"', 'n') => value.push('\n'),
            ('"', 'r') => value.push('\r'),
            ('"', 't') => value.push('\t'),
            // What keeps a dollar from beginning a variable's name.
            ('"', '$') => value.push_str("$$"),
            ('"', escaped) => value.push(escaped),
            (_, '\'') => value.push('\''),
            (_, other) => value.extend(['\\', other]),
        }
    }
    None
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
