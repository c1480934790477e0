//! This file edits the bytes of an env file so that every reader finds the new values.
//!
//! The readers are Compose and python-dotenv, in the releases in use. If a change to the values alone cannot
//! make them agree, the file is refused with the line that is to blame.

use crate::host::declared;
use crate::host::dotenv::{Assignment, Form, Statement, Statements};

use super::python_dotenv::{self, Binding, Release};

/// The size in bytes above which a file is not taken for an env file.
pub(super) const MAX_SIZE: u64 = 16 << 20;

/// The problem with a variable that is not set with `=`.
const NAME_ALONE: &str = "stands there without '=', which python-dotenv reads as no value and Compose as the \
                          value that its own environment has: remove that line";

/// Returns the content with each variable set: in every statement that sets it, or in a new line at the end
/// if there is none.
///
/// All other bytes stay. Setting the same values again changes nothing.
///
/// # Errors
///
/// Returns the reason in words, with its line, when some reader would not read these values.
pub(crate) fn edit(content: &[u8], variables: &[(&str, String)]) -> Result<Vec<u8>, String> {
    check_text(content)?;
    let edited = with_values(content, variables)?;
    check_last_line(content, &edited)?;
    check_others(content, &edited, variables)?;
    let misread = misread(&edited, variables)?;
    if misread.is_empty() {
        return Ok(edited);
    }
    // Every reader uses the last assignment, so another one is added at the end.
    let edited = with_lines(edited, misread.iter().map(|&index| &variables[index]));
    match self::misread(&edited, variables)?.first() {
        None => Ok(edited),
        Some(&index) => {
            let name = variables[index].0;
            Err(format!("{name} is written in a way that Compose and python-dotenv read differently"))
        }
    }
}

/// Refuses text in an encoding that does not contain ASCII, because adding ASCII would corrupt it.
fn check_text(content: &[u8]) -> Result<(), String> {
    let marks: [(&[u8], &str); 4] =
        [(b"\xff\xfe\0\0", "UTF-32"), (b"\0\0\xfe\xff", "UTF-32"), (b"\xff\xfe", "UTF-16"), (b"\xfe\xff", "UTF-16")];
    if let Some((_, encoding)) = marks.into_iter().find(|(mark, _)| content.starts_with(mark)) {
        return Err(format!("begins with the byte order mark of {encoding}: save it as UTF-8"));
    }
    match content.iter().position(|&byte| byte == 0) {
        Some(index) => {
            let line = line_of(content, index);
            Err(format!("line {line}: there is a NUL byte, so it is no UTF-8 text: save it as UTF-8"))
        }
        None => Ok(()),
    }
}

/// Refuses words at the end of a file without a final newline. Compose ignores them there, but refuses the
/// file once a line follows.
fn check_last_line(content: &[u8], edited: &[u8]) -> Result<(), String> {
    let Some(Statement { text, assignment: None }) = Statements::of(content).last() else { return Ok(()) };
    let text = String::from_utf8_lossy(text);
    // Any other character already makes Compose refuse the file.
    let is_of_name = |c: char| c.is_alphanumeric() || c.is_whitespace() || "_.-[]".contains(c);
    let words = text.split_whitespace().filter(|word| *word != "export").count();
    let is_passed_over = words > 1 && text.chars().all(is_of_name) && !text.ends_with('\n');
    if is_passed_over && edited.len() > content.len() && edited.starts_with(content) {
        let line = line_of(content, content.len());
        return Err(format!("line {line}: it sets nothing, and Compose would refuse the file with a line behind it"));
    }
    Ok(())
}

/// Refuses a file with a quote that is not closed if a quote around a new value closes it: the statements between
/// them would become a part of another variable's value.
fn check_others(content: &[u8], edited: &[u8], variables: &[(&str, String)]) -> Result<(), String> {
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    let [before, after] = [content, edited].map(|content| others(content, &names).concat());
    // Only the end of the last line may be added.
    if before.trim_ascii_end() == after.trim_ascii_end() {
        return Ok(());
    }
    let mut position = 0;
    for Statement { text, assignment } in Statements::of(content) {
        if assignment.is_some_and(|found| found.form == Form::Open) {
            break;
        }
        position += text.len();
    }
    let line = line_of(content, position);
    Err(format!("line {line}: a quote is not closed, and one of a new value would close it: close it in its line"))
}

/// Returns the content with a new value in every statement that sets one of the variables, and a new line for
/// each variable that no statement sets.
fn with_values(content: &[u8], variables: &[(&str, String)]) -> Result<Vec<u8>, String> {
    let mut edited = Vec::with_capacity(content.len() + 64);
    let mut is_set = vec![false; variables.len()];
    let mut position = 0;
    for Statement { text, assignment } in Statements::of(content) {
        let set = assignment.and_then(|found| {
            let index = variables.iter().position(|(name, _)| *name == found.name)?;
            Some((index, found))
        });
        match set {
            None => edited.extend_from_slice(text),
            Some((index, found)) => {
                // Only Compose takes a colon for an assignment.
                is_set[index] |= found.has_equals;
                let (name, value) = &variables[index];
                replace_value(&mut edited, text, &found, value)
                    .map_err(|why| format!("line {}: {name} {why}", line_of(content, position)))?;
            }
        }
        position += text.len();
    }
    let missing = variables.iter().zip(is_set).filter(|(_, is_set)| !is_set).map(|(variable, _)| variable);
    Ok(with_lines(edited, missing))
}

/// Adds a statement with another value. Its quotes are removed, and the text before and after the value
/// stays.
fn replace_value(edited: &mut Vec<u8>, text: &[u8], found: &Assignment<'_>, value: &str) -> Result<(), &'static str> {
    let name = text[..found.start].trim_ascii_end().len();
    let old = &text[found.start..];
    let (start, end) = match found.form {
        // An empty value has a comment behind it. The blanks before the comment stay.
        Form::Bare if old.starts_with(b"#") && name < found.start => (name, name),
        Form::Bare => (found.start, text.len() - after_bare(old).len()),
        Form::Quoted(length) => (found.start, found.start + length),
        Form::Open => (found.start, text.trim_ascii_end().len()),
    };
    let (before, after) = (&text[..start], &text[end..]);
    let replaced = &text[start..end];
    if found.form == Form::Bare && replaced.contains(&b'\r') || after.trim_ascii_end().contains(&b'\r') {
        return Err("has a carriage return inside its line, which only some readers take for the line's end");
    }
    let comment = after.trim_ascii_start();
    if !comment.is_empty() && !comment.starts_with(b"#") {
        return Err("has text after its quotes, which readers take differently");
    }
    // After a value without quotes, Compose needs a space before a comment.
    let gap = &after[..after.len() - comment.len()];
    let is_comment_for_all =
        comment.is_empty() || gap.ends_with(b" ") && gap.iter().all(|byte| matches!(byte, b' ' | b'\t'));
    let quote: &[u8] = if is_comment_for_all { b"" } else { b"\"" };
    for piece in [before, quote, value.as_bytes(), quote, after] {
        edited.extend_from_slice(piece);
    }
    Ok(())
}

/// Returns the text that stays after a value without quotes: a comment, which begins after a blank, and the
/// line ending.
fn after_bare(value: &[u8]) -> &[u8] {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let is_end = |index: &usize| {
        let rest = &value[*index..];
        let is_comment = rest.iter().find(|byte| !is_blank(byte)) == Some(&b'#');
        rest.trim_ascii().is_empty() || is_comment && is_blank(&rest[0])
    };
    &value[(0..value.len()).find(is_end).unwrap_or(value.len())..]
}

/// Returns the content with these variables appended in lines of their own.
fn with_lines<'a>(mut content: Vec<u8>, variables: impl Iterator<Item = &'a (&'a str, String)>) -> Vec<u8> {
    let ending: &[u8] = if content.windows(2).any(|bytes| bytes == b"\r\n") { b"\r\n" } else { b"\n" };
    for (name, value) in variables {
        if !content.is_empty() && !content.ends_with(b"\n") {
            content.extend_from_slice(ending);
        }
        content.extend_from_slice(format!("{name}={value}").as_bytes());
        content.extend_from_slice(ending);
    }
    content
}

/// Returns the indexes of the variables for which some reader would not find the value that was set.
///
/// # Errors
///
/// Returns the reason in words, with its line, when a variable occurs without `=` after its last assignment.
fn misread(edited: &[u8], variables: &[(&str, String)]) -> Result<Vec<usize>, String> {
    let names: Vec<_> = variables.iter().map(|(name, _)| *name).collect();
    let by_compose = declared::env_values(edited, &names);
    let by_python = [Release::Old, Release::New].map(|release| python_dotenv::read(edited, &names, release));
    let mut misread = Vec::new();
    for (index, (name, value)) in variables.iter().enumerate() {
        let of_python = by_python.each_ref().map(|found| found[index].as_ref());
        if let Some(Binding { line, .. }) = of_python.into_iter().flatten().find(|found| found.value.is_none()) {
            return Err(format!("line {line}: {name} {NAME_ALONE}"));
        }
        let is_read = |found: Option<&str>| found == Some(value.as_str());
        let by_all = is_read(by_compose[index].as_deref())
            && of_python.iter().all(|found| is_read(found.and_then(|found| found.value.as_deref())));
        if !by_all {
            misread.push(index);
        }
    }
    Ok(misread)
}

/// Returns the number of the line that contains a byte.
fn line_of(content: &[u8], index: usize) -> usize {
    content[..index].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Returns the statements that set none of the variables, in their order.
pub(crate) fn others<'a>(content: &'a [u8], names: &[&str]) -> Vec<&'a [u8]> {
    let is_other =
        |statement: &Statement<'_>| !statement.assignment.as_ref().is_some_and(|found| names.contains(&found.name));
    Statements::of(content).filter(is_other).map(|statement| statement.text).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use proptest::prelude::*;

    use super::*;
    use crate::core::allocation::PortPair;
    use crate::core::declared::Names;
    use crate::host::declared;

    fn both() -> [(&'static str, String); 2] {
        [("BACKEND_PORT", "5001".to_owned()), ("FRONTEND_PORT", "8001".to_owned())]
    }

    #[track_caller]
    fn sets(before: &str, after: &str) {
        let set = edit(before.as_bytes(), &both()).unwrap();
        assert_eq!(String::from_utf8(set.clone()).unwrap(), after);
        assert_eq!(edit(&set, &both()).unwrap(), set, "once more changes nothing");
    }

    #[test]
    fn missing_variables_come_at_the_end() {
        sets("", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A=1", "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A=1\r\n", "A=1\r\nBACKEND_PORT=5001\r\nFRONTEND_PORT=8001\r\n");
        sets("A", "A\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("A b\n", "A b\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
        sets("# a b", "# a b\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
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
            ("export\u{c}BACKEND_PORT=1\n", "export\u{c}BACKEND_PORT=5001\n"),
            ("BACKEND_PORT=a#b c # d\n", "BACKEND_PORT=5001 # d\n"),
            ("BACKEND_PORT= # mine\n", "BACKEND_PORT=5001 # mine\n"),
            ("BACKEND_PORT=#5001\n", "BACKEND_PORT=5001\n"),
            ("BACKEND_PORT=1\nBACKEND_PORT=2\n", "BACKEND_PORT=5001\nBACKEND_PORT=5001\n"),
            ("BACKEND_PORT\nBACKEND_PORT=2\n", "BACKEND_PORT\nBACKEND_PORT=5001\n"),
        ] {
            sets(&format!("FRONTEND_PORT=8001\n{before}"), &format!("FRONTEND_PORT=8001\n{after}"));
        }
    }

    #[test]
    fn no_new_value_closes_a_quote_of_another_variable() {
        let refused = edit(b"A=1\nB=\"x\nBACKEND_PORT=1\nFRONTEND_PORT=2\t# x\n", &both()).unwrap_err();
        assert!(refused.starts_with("line 2: a quote is not closed"), "{refused}");
        sets("B=\"x\nBACKEND_PORT=1\nFRONTEND_PORT=2\n", "B=\"x\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    }

    #[test]
    fn a_comment_stays_one_for_every_reader() {
        for (before, after) in [
            ("\tBACKEND_PORT=\"a\\\"b\"#x\n", "\tBACKEND_PORT=\"5001\"#x\n"),
            ("BACKEND_PORT='1'\t# x\n", "BACKEND_PORT=\"5001\"\t# x\n"),
            ("BACKEND_PORT=1\t# x\n", "BACKEND_PORT=\"5001\"\t# x\n"),
            ("BACKEND_PORT='1'\u{c} # x\n", "BACKEND_PORT=\"5001\"\u{c} # x\n"),
            ("BACKEND_PORT=\t# x\n", "BACKEND_PORT=\"5001\"\t# x\n"),
        ] {
            sets(&format!("FRONTEND_PORT=8001\n{before}"), &format!("FRONTEND_PORT=8001\n{after}"));
        }
    }

    #[test]
    fn where_a_reader_would_find_another_value_a_line_at_the_end_settles_it() {
        let both = "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n";
        for (before, after) in [
            // A byte order mark is part of the name in old releases of python-dotenv.
            ("\u{feff}BACKEND_PORT=1\n", "\u{feff}BACKEND_PORT=5001\nFRONTEND_PORT=8001\nBACKEND_PORT=5001\n"),
            // Only python-dotenv accepts quotes around a name.
            (
                "BACKEND_PORT=1\nFRONTEND_PORT=2\n'BACKEND_PORT'=3\n",
                &format!("{both}'BACKEND_PORT'=3\nBACKEND_PORT=5001\n"),
            ),
            // The end of this value differs between releases.
            ("A=\"\\\\\"\nBACKEND_PORT=1\nFRONTEND_PORT=2\nB=\"x\"\n", &format!("A=\"\\\\\"\n{both}B=\"x\"\n{both}")),
            ("A=1\rBACKEND_PORT=2\n", &format!("A=1\rBACKEND_PORT=2\n{both}")),
        ] {
            sets(before, after);
        }
    }

    #[test]
    fn what_readers_cannot_agree_on_is_refused_with_its_line() {
        for (content, line, what) in [
            ("A=1\nBACKEND_PORT=5001\n\nBACKEND_PORT\n", 4, "BACKEND_PORT stands there without '='"),
            ("BACKEND_PORT=5001\nexport BACKEND_PORT\n", 2, "BACKEND_PORT stands there without '='"),
            ("BACKEND_PORT=5001\nBACKEND_PORT # x", 2, "BACKEND_PORT stands there without '='"),
            ("\nFRONTEND_PORT='1' A=2\n", 2, "FRONTEND_PORT has text after its quotes"),
            ("\nFRONTEND_PORT=1\rA=2\n", 2, "FRONTEND_PORT has a carriage return"),
            ("\nFRONTEND_PORT=1 # x\rA=2\n", 2, "FRONTEND_PORT has a carriage return"),
            ("A=1\nexport B c", 2, "Compose would refuse the file"),
            ("A=1\nB=\0\n", 2, "NUL byte"),
        ] {
            let why = edit(content.as_bytes(), &both()).unwrap_err();
            assert!(why.starts_with(&format!("line {line}: ")) && why.contains(what), "{content:?}: {why}");
        }
        for (content, what) in [
            (b"\xff\xfeA\0=\x001\0".as_slice(), "UTF-16"),
            (b"\xfe\xff\0A", "UTF-16"),
            (b"\xff\xfe\0\0A\0\0\0", "UTF-32"),
            (b"\0\0\xfe\xff\0\0\0A", "UTF-32"),
            (b"A\0=\x001\0", "NUL byte"),
        ] {
            let why = edit(content, &both()).unwrap_err();
            assert!(why.contains(what), "{why}");
        }
    }

    #[test]
    fn words_that_compose_ignores_at_the_end_are_no_obstacle_where_no_line_follows() {
        let set = "BACKEND_PORT=5001\nFRONTEND_PORT=8001\nB c";
        sets(set, set);
    }

    #[test]
    fn the_other_statements_are_those_that_set_none_of_the_names() {
        let content = b"A=1\nBACKEND_PORT='1\n2'\n# x\nFRONTEND_PORT=2";
        assert_eq!(others(content, &["BACKEND_PORT"]), [&b"A=1\n"[..], b"# x\n", b"FRONTEND_PORT=2"]);
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

    /// Checks what must hold of every content; a missing end of the last line is added where a line follows.
    fn check(before: &[u8]) -> Result<(), TestCaseError> {
        let Ok(set) = edit(before, &both()) else { return Ok(()) };
        prop_assert_eq!(edit(&set, &both()), Ok(set.clone()));
        let of = |content| others(content, &both().map(|(name, _)| name)).concat();
        let (before, after) = (of(before), of(&set));
        let trimmed = after.trim_ascii_end();
        prop_assert!(before.starts_with(trimmed) && before.trim_ascii_end() == trimmed, "{:?} {:?}", before, after);
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(".env"), &set).unwrap();
        if str::from_utf8(&set).is_ok() {
            let declared = declared::read(folder.path(), &Names::default());
            prop_assert_eq!(declared.pair(), Ok(PortPair::new(5001, 8001)), "{}", String::from_utf8_lossy(&set));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_stay(content: Vec<u8>) {
            check(&content)?;
        }

        #[test]
        fn what_is_close_to_an_env_file_is_refused_or_stays(
            lines in prop::collection::vec(
                "\u{feff}?(export )?(A|'BACKEND_PORT'|BACKEND_PORT|FRONTEND_PORT)( ?[=:])?[12 \"'#\\\\$\t\r\u{c}é]{0,6}\n?",
                0..6,
            )
        ) {
            check(lines.concat().as_bytes())?;
        }
    }

    #[test]
    fn bytes_that_are_no_text_stay() {
        let set = edit(b"A=\xff\nBACKEND_PORT=1\n", &both()[..1]).unwrap();
        assert_eq!(set, b"A=\xff\nBACKEND_PORT=5001\n");
    }
}
