//! Escapes text from rows and command lines so that it is safe to show in a terminal, and writes lists.
//!
//! The names of models come from a database that other programs write, and from command lines. A terminal
//! would obey a control character in a name, and a bidirectional override would reorder the line around it.

use std::collections::BTreeSet;
use std::fmt::{self, Display, Write};

/// Shows a text with everything that a terminal would obey or hide escaped as `\n`, `\t` or `\u{1b}`.
///
/// The escaped characters are control characters, the bidirectional formatting characters of UAX #9, the
/// separators of lines and paragraphs, and characters that nobody sees, so that two names never look the
/// same. The joiners U+200C and U+200D stay, because scripts and emoji need them.
pub(crate) struct Shown<'a>(
    /// The text without escapes.
    pub &'a str,
);

impl Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            if is_obeyed(c) {
                write!(f, "{}", c.escape_default())?;
            } else {
                f.write_char(c)?;
            }
        }
        Ok(())
    }
}

/// Tells whether a terminal would act on this character, or show nothing, instead of showing it.
fn is_obeyed(c: char) -> bool {
    let is_hidden = matches!(c, '\u{ad}' | '\u{180e}' | '\u{200b}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}'
        | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}');
    let is_bidirectional = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}');
    c.is_control() || is_hidden || is_bidirectional || matches!(c, '\u{2028}' | '\u{2029}')
}

/// A message lists at most this many items, as a file may name thousands.
pub(crate) const LISTED: usize = 5;

/// Lists the first [`LISTED`] of `count` items, and says how many more there are.
pub(crate) fn listed<T: Display>(items: impl IntoIterator<Item = T>, count: usize) -> String {
    let first: Vec<_> = items.into_iter().take(LISTED).map(|item| item.to_string()).collect();
    let more = count.saturating_sub(first.len());
    let first = first.join(", ");
    if more == 0 { first } else { format!("{first} and {more} more") }
}

/// Escapes the characters in JSON that a terminal obeys or hides but JSON allows unescaped. Such characters occur
/// only inside strings, where the escape means the same character.
pub(crate) fn escape_json(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        if is_obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // Writing to a String does not fail.
                let _ = write!(escaped, "\\u{unit:04x}");
            }
        } else {
            escaped.push(c);
        }
    }
    escaped
}

/// Writes numbers as ranges, such as `1-30` and `32`.
pub(crate) fn ranges(nums: &BTreeSet<i64>) -> Vec<String> {
    let mut ranges: Vec<(i64, i64)> = Vec::new();
    for &num in nums {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(num) => *last = num,
            _ => ranges.push((num, num)),
        }
    }
    let text = |(first, last)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    ranges.into_iter().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_many_items_the_first_are_listed() {
        assert_eq!(listed([1; 0], 0), "");
        assert_eq!(listed(1..=5, 5), "1, 2, 3, 4, 5");
        assert_eq!(listed(1..=7, 7), "1, 2, 3, 4, 5 and 2 more");
    }

    #[test]
    fn numbers_in_a_row_are_a_range() {
        let extremes = [i64::MIN, i64::MAX - 1, i64::MAX];
        let told = "-9223372036854775808,9223372036854775806-9223372036854775807";
        for (nums, expected) in [(&[][..], ""), (&[7], "7"), (&[1, 2, 3, 5, 7, 8], "1-3,5,7-8"), (&extremes, told)] {
            assert_eq!(ranges(&nums.iter().copied().collect()).join(","), expected);
        }
    }

    #[test]
    fn what_a_terminal_obeys_or_hides_is_escaped_and_nothing_else() {
        let shown = Shown("a\u{1b}[31m\tb\u{9b}c\u{202e}d\u{2028} é 模").to_string();
        assert_eq!(shown, "a\\u{1b}[31m\\tb\\u{9b}c\\u{202e}d\\u{2028} é 模");
        assert_eq!(Shown("a\u{200b}\u{feff}\u{e0041}\u{200d}b").to_string(), "a\\u{200b}\\u{feff}\\u{e0041}\u{200d}b");
        assert_eq!(escape_json("\"\u{202e}\u{e0041}\""), "\"\\u202e\\udb40\\udc41\"");
    }
}
