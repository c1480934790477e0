//! This file replaces variables in text as Compose does in its own files and in `.env`.
//!
//! The rules are those of compose-go 2.9, which Compose 2.40 is built with:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/template/template.go>. A dollar sign that begins
//! none of the known forms stays as it is; `${` always has to begin one.

use super::bounds::{TEXT_BYTES, VARIABLE_DEPTH};
use super::problem::called;

/// The value of a variable, as far as it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variable<'a> {
    /// The variable has this value.
    Set(&'a str),
    /// No file sets the variable.
    NotSet,
    /// A file that may set the variable, or the value in that file, could not be read.
    Unknown,
}

/// The reason why a text has no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NoValue {
    /// Compose refuses the text, for this reason in words that show no value.
    Refused(String),
    /// The text needs something that could not be read. The words name it.
    Unknown(String),
}

/// A function that looks up variables by name.
pub(super) type Lookup<'a, 'b> = &'b dyn Fn(&str) -> Variable<'a>;

/// Replaces `$NAME`, `${NAME}` with its forms `:-`, `-`, `:?`, `?`, `:+`, `+`, and `$$`; a variable that is
/// not set is empty.
///
/// # Errors
///
/// Fails when Compose refuses the text, when it needs a variable that is not known, or when it gets too long.
pub(super) fn interpolate(text: &str, lookup: Lookup<'_, '_>) -> Result<String, NoValue> {
    let mut expanded = String::new();
    expand(text, lookup, VARIABLE_DEPTH, &mut expanded)?;
    Ok(expanded)
}

fn expand(mut text: &str, lookup: Lookup<'_, '_>, depth: usize, expanded: &mut String) -> Result<(), NoValue> {
    while let Some((before, rest)) = text.split_once('$') {
        push(before, expanded)?;
        if let Some(rest) = rest.strip_prefix('$') {
            push("$", expanded)?;
            text = rest;
        } else if let Some(rest) = rest.strip_prefix('{') {
            text = braced(rest, lookup, depth, expanded)?;
        } else if let Some((name, rest)) = split_name(rest) {
            push(value(name, lookup)?.unwrap_or_default(), expanded)?;
            text = rest;
        } else {
            push("$", expanded)?;
            text = rest;
        }
    }
    push(text, expanded)
}

fn push(part: &str, expanded: &mut String) -> Result<(), NoValue> {
    if expanded.len() + part.len() > TEXT_BYTES {
        return Err(NoValue::Unknown("becomes longer than 64 KiB".to_owned()));
    }
    expanded.push_str(part);
    Ok(())
}

/// Returns the value of a variable, or `None` if it is not set.
fn value<'a>(name: &str, lookup: Lookup<'a, '_>) -> Result<Option<&'a str>, NoValue> {
    match lookup(name) {
        Variable::Set(value) => Ok(Some(value)),
        Variable::NotSet => Ok(None),
        Variable::Unknown => {
            Err(NoValue::Unknown(format!("needs the variable {}, which could not be read", called(name))))
        }
    }
}

/// Replaces the variable whose `${` precedes the text, and returns the text that follows it.
fn braced<'t>(text: &'t str, lookup: Lookup<'_, '_>, depth: usize, expanded: &mut String) -> Result<&'t str, NoValue> {
    let refused = |reason: &str| NoValue::Refused(reason.to_owned());
    let (name, form) = split_name(text).ok_or_else(|| refused("has a '${' without the name of a variable"))?;
    if let Some(rest) = form.strip_prefix('}') {
        push(value(name, lookup)?.unwrap_or_default(), expanded)?;
        return Ok(rest);
    }
    let (with_colon, sign) = match form.strip_prefix(':') {
        Some(sign) => (true, sign),
        None => (false, form),
    };
    let Some(sign @ ('-' | '+' | '?')) = sign.chars().next() else {
        return Err(match form {
            "" => refused("has a '${' that is not closed"),
            _ => NoValue::Refused(format!("has '${{{}' in a form that is not known", called(name))),
        });
    };
    let start = usize::from(with_colon) + 1;
    let end = form_end(&form[start..]).ok_or_else(|| refused("has a '${' that is not closed"))?;
    let (argument, rest) = (&form[start..start + end], &form[start + end + 1..]);
    let depth = depth.checked_sub(1).ok_or_else(|| NoValue::Unknown("nests too many variables".to_owned()))?;
    // Compose replaces variables in the argument even if it does not use the argument.
    let mut replaced = String::new();
    let argument = expand(argument, lookup, depth, &mut replaced).map(|()| replaced);
    let argument = match argument {
        // A default that is not used may be unknown.
        Err(NoValue::Unknown(reason)) => Err(NoValue::Unknown(reason)),
        argument => Ok(argument?),
    };
    let value = value(name, lookup)?;
    // With a colon, an empty variable counts as not set.
    let is_set = value.is_some_and(|value| !with_colon || !value.is_empty());
    match (sign, is_set) {
        ('+', true) | ('-', false) => push(&argument?, expanded)?,
        ('?', false) => {
            return Err(NoValue::Refused(format!("needs the variable {}, which .env does not set", called(name))));
        }
        (_, _) => push(value.unwrap_or_default(), expanded)?,
    }
    Ok(rest)
}

/// Finds the closing brace in the text that follows a sign such as `:-`.
/// Compose uses the brace that closes the first one. If there is none, as after `${A:-{}`, it uses the last
/// brace of the line. A character right behind an opening brace closes nothing.
fn form_end(text: &str) -> Option<usize> {
    let line = text.split('\n').next().unwrap_or_default().as_bytes();
    let (mut open, mut index, mut last) = (1, 0, None);
    while let Some(byte) = line.get(index) {
        match byte {
            b'}' => {
                open -= 1;
                last = Some(index);
                if open == 0 {
                    return last;
                }
            }
            b'{' => {
                open += 1;
                index += 1;
                last = if line.get(index) == Some(&b'}') { Some(index) } else { last };
            }
            _ => {}
        }
        index += 1;
    }
    last
}

/// Splits a text into the name at its beginning and the rest.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Variable<'static> {
        match name {
            "A" => Variable::Set("1"),
            "_b2" => Variable::Set("2"),
            "EMPTY" => Variable::Set(""),
            "LOST" => Variable::Unknown,
            _ => Variable::NotSet,
        }
    }

    #[test]
    fn every_form_is_replaced_as_compose_does() {
        for (text, expected) in [
            ("", Ok("")),
            ("5001:5000", Ok("5001:5000")),
            ("$A", Ok("1")),
            ("$A:$_b2", Ok("1:2")),
            ("x${A}y${_b2}", Ok("x1y2")),
            ("$NONE|${NONE}|$EMPTY", Ok("||")),
            ("$$A$$$A$${A}", Ok("$A$1${A}")),
            ("${A:-9}${A-9}${A:?e}${A?e}", Ok("1111")),
            ("${NONE:-9}${NONE-8}", Ok("98")),
            ("${EMPTY:-9}|${EMPTY-8}|${EMPTY?e}", Ok("9||")),
            ("${A:+x}${A+y}${EMPTY:+x}${EMPTY+y}${NONE:+x}${NONE+y}", Ok("xyy")),
            ("${NONE:-${NONE:-${A}}}0", Ok("10")),
            ("${NONE:-$A}${NONE:-a:b-c{d}", Ok("1a:b-c{d")),
            ("${NONE:-{}}", Ok("{}")),
            ("${NONE:-{}", Ok("{")),
            ("${A:-{xx}}}", Ok("1}")),
            ("${A:-{}}z}", Ok("1")),
            ("${NONE:-}", Ok("")),
            ("$|$5|$é|a$-b$", Ok("$|$5|$é|a$-b$")),
            ("${NONE:?secret}", Err("needs the variable NONE, which .env does not set")),
            ("${EMPTY:?}", Err("needs the variable EMPTY, which .env does not set")),
            ("${NONE?e}", Err("needs the variable NONE, which .env does not set")),
            ("${A:-${NONE:?e}}", Err("needs the variable NONE, which .env does not set")),
            ("${A", Err("has a '${' that is not closed")),
            ("${A:-", Err("has a '${' that is not closed")),
            ("${A:-\n}", Err("has a '${' that is not closed")),
            ("${}", Err("has a '${' without the name of a variable")),
            ("${1}", Err("has a '${' without the name of a variable")),
            ("${A/x/y}", Err("has '${A' in a form that is not known")),
            ("${A:}", Err("has '${A' in a form that is not known")),
            ("${Aé}", Err("has '${A' in a form that is not known")),
        ] {
            let expected = expected.map(str::to_owned).map_err(|why| NoValue::Refused(why.to_owned()));
            assert_eq!(interpolate(text, &lookup), expected, "{text}");
        }
    }

    #[test]
    fn what_needs_a_variable_that_is_not_known_is_not_known() {
        let unknown = Err(NoValue::Unknown("needs the variable LOST, which could not be read".to_owned()));
        for text in ["$LOST", "${LOST}", "${LOST:-1}", "${LOST+1}", "${LOST:?e}", "${NONE:-$LOST}", "${A:+$LOST}"] {
            assert_eq!(interpolate(text, &lookup), unknown, "{text}");
        }
        for (text, expected) in [("$$LOST", "$LOST"), ("${A:-$LOST}", "1"), ("${NONE:+$LOST}", "")] {
            assert_eq!(interpolate(text, &lookup), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn depth_and_length_have_ends() {
        let long = "x".repeat(TEXT_BYTES);
        let lookup = |_: &str| Variable::Set(long.as_str());
        assert!(interpolate("$A", &lookup).is_ok());
        assert_eq!(interpolate("$A.", &lookup), Err(NoValue::Unknown("becomes longer than 64 KiB".to_owned())));
        let nested = |depth| format!("{}{}", "${N:-".repeat(depth), "}".repeat(depth));
        let none = |_: &str| Variable::NotSet;
        assert_eq!(interpolate(&nested(VARIABLE_DEPTH), &none), Ok(String::new()));
        for depth in [VARIABLE_DEPTH + 1, 100_000] {
            let deep = Err(NoValue::Unknown("nests too many variables".to_owned()));
            assert_eq!(interpolate(&nested(depth), &none), deep, "{depth}");
        }
    }
}
