//! Variables in text, as Compose replaces them in its own file and in `.env`.

/// How deep a default may hold another.
const MAX_DEPTH: usize = 16;

/// The longest text that replacing may make, in bytes: variables of variables grow fast.
const MAX_LENGTH: usize = 4096;

/// Replaces `$NAME`, `${NAME}` with its forms `:-`, `-`, `:?`, `?`, `:+`, `+`, and `$$`; a variable
/// that is not set is empty.
///
/// # Errors
///
/// In words that show no value, when the text is none that Compose takes.
pub(super) fn interpolate<'a>(text: &str, lookup: &dyn Fn(&str) -> Option<&'a str>) -> Result<String, String> {
    let mut expanded = String::new();
    expand(text, lookup, MAX_DEPTH, &mut expanded)?;
    Ok(expanded)
}

fn expand<'a>(
    mut text: &str,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
    depth: usize,
    expanded: &mut String,
) -> Result<(), String> {
    let push = |part: &str, expanded: &mut String| {
        expanded.push_str(part);
        if expanded.len() > MAX_LENGTH { Err("becomes too long".to_owned()) } else { Ok(()) }
    };
    while let Some((before, rest)) = text.split_once('$') {
        push(before, expanded)?;
        if let Some(rest) = rest.strip_prefix('$') {
            push("$", expanded)?;
            text = rest;
        } else if let Some(rest) = rest.strip_prefix('{') {
            let end = closing_brace(rest).ok_or("has a '${' that is not closed")?;
            let (name, form) = split_name(&rest[..end]).ok_or("has a '${' without the name of a variable")?;
            text = &rest[end + 1..];
            let depth = depth.checked_sub(1).ok_or("nests too many variables")?;
            // With a colon, a variable that is empty counts as not set.
            let (form, value) = match form.strip_prefix(':') {
                Some(form) if !form.is_empty() => (form, lookup(name).filter(|value| !value.is_empty())),
                _ => (form, lookup(name)),
            };
            let argument = form.get(1..).unwrap_or_default();
            match (form.chars().next(), value) {
                (Some('+'), Some(_)) | (Some('-'), None) => expand(argument, lookup, depth, expanded)?,
                (Some('+'), None) => {}
                (Some('?'), None) => return Err(format!("needs the variable {name}, which .env does not set")),
                (None | Some('-' | '?'), value) => push(value.unwrap_or_default(), expanded)?,
                (Some(_), _) => return Err(format!("has '${{{name}' in a form that is not known")),
            }
        } else {
            let (name, rest) = split_name(rest).ok_or("has a '$' without the name of a variable")?;
            push(lookup(name).unwrap_or_default(), expanded)?;
            text = rest;
        }
    }
    push(text, expanded)
}

/// The place of the brace that ends what `${` began before the text.
fn closing_brace(text: &str) -> Option<usize> {
    let mut open = 1;
    text.bytes().enumerate().find_map(|(index, byte)| {
        match byte {
            b'{' if text[..index].ends_with('$') => open += 1,
            b'}' => open -= 1,
            _ => {}
        }
        (open == 0).then_some(index)
    })
}

/// The name that a text begins with, and what follows it.
fn split_name(text: &str) -> Option<(&str, &str)> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let (name, rest) = text.split_at(text.find(|c| !is_part(c)).unwrap_or(text.len()));
    (!name.is_empty() && !name.starts_with(|c: char| c.is_ascii_digit())).then_some((name, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_replaced_as_compose_does() {
        let lookup = |name: &str| match name {
            "A" => Some("1"),
            "_b2" => Some("2"),
            "EMPTY" => Some(""),
            _ => None,
        };
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
            ("${A:-${NONE:?e}}", Ok("1")),
            ("${NONE:-}", Ok("")),
            ("${NONE:?secret}", Err("needs the variable NONE, which .env does not set")),
            ("${EMPTY:?}", Err("needs the variable EMPTY, which .env does not set")),
            ("${NONE?e}", Err("needs the variable NONE, which .env does not set")),
            ("${A", Err("has a '${' that is not closed")),
            ("${NONE:-${A}", Err("has a '${' that is not closed")),
            ("${}", Err("has a '${' without the name of a variable")),
            ("${1}", Err("has a '${' without the name of a variable")),
            ("$", Err("has a '$' without the name of a variable")),
            ("$5", Err("has a '$' without the name of a variable")),
            ("$é", Err("has a '$' without the name of a variable")),
            ("${A/x/y}", Err("has '${A' in a form that is not known")),
            ("${A:}", Err("has '${A' in a form that is not known")),
            ("${Aé}", Err("has '${A' in a form that is not known")),
        ] {
            assert_eq!(interpolate(text, &lookup), expected.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
    }

    #[test]
    fn depth_and_length_have_ends() {
        let long = "x".repeat(MAX_LENGTH);
        let lookup = |_: &str| Some(long.as_str());
        assert!(interpolate("$A", &lookup).is_ok());
        assert_eq!(interpolate("$A.", &lookup), Err("becomes too long".to_owned()));
        let nested = |depth| format!("{}{}", "${N:-".repeat(depth), "}".repeat(depth));
        assert_eq!(interpolate(&nested(MAX_DEPTH), &|_| None), Ok(String::new()));
        for depth in [MAX_DEPTH + 1, 100_000] {
            assert_eq!(interpolate(&nested(depth), &|_| None), Err("nests too many variables".to_owned()), "{depth}");
        }
    }
}
