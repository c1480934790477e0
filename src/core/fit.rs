//! Measures text in terminal columns, and cuts or wraps it to a width.

use std::borrow::Cow;

use unicode_segmentation::UnicodeSegmentation;
use unicode_width::UnicodeWidthStr;

/// Text is not wrapped for a terminal narrower than this many columns; the terminal then wraps lines itself.
const MIN_WIDTH: usize = 20;

/// Returns the width of a text in terminal columns: two for a wide character, none for a combining one.
pub(crate) fn columns(text: &str) -> usize {
    text.width()
}

/// Cuts the middle out of a text that is wider than `width`, and puts `…` in its place.
pub(crate) fn cut_middle(text: &str, width: usize) -> Cow<'_, str> {
    if columns(text) <= width {
        return text.into();
    }
    let room = width.saturating_sub(1);
    let clusters: Vec<_> = text.graphemes(true).collect();
    let head = fitting(clusters.iter().copied(), room.div_ceil(2));
    let tail = fitting(clusters[head..].iter().rev().copied(), room / 2);
    let (head, tail) = (&clusters[..head], &clusters[clusters.len() - tail..]);
    format!("{}…{}", head.concat(), tail.concat()).into()
}

/// Returns how many of the grapheme clusters, from the first on, fit in `width` columns.
fn fitting<'a>(clusters: impl Iterator<Item = &'a str>, width: usize) -> usize {
    let mut used = 0;
    clusters
        .take_while(|cluster| {
            used += columns(cluster);
            used <= width
        })
        .count()
}

/// Wraps the lines of a text to a terminal's width, if the width is known, and indents continuation lines.
///
/// Lines break between words. A word that is longer than a line, such as a path, breaks after a `/`, or
/// between characters if no `/` is near enough. Only white space at the end of a line is dropped.
pub(crate) fn wrap(text: &str, width: Option<usize>, indent: usize) -> Cow<'_, str> {
    match width.filter(|&width| width >= MIN_WIDTH) {
        Some(width) if text.split('\n').any(|line| columns(line) > width) => {
            let lines: Vec<_> = text.split('\n').flat_map(|line| wrap_line(line, width, indent)).collect();
            lines.join("\n").into()
        }
        _ => text.into(),
    }
}

/// Wraps one line and returns the resulting lines.
fn wrap_line(line: &str, width: usize, indent: usize) -> Vec<String> {
    let mut wrapped = Wrapped { lines: Vec::new(), current: String::new(), used: 0, width, indent };
    for word in line.split_inclusive(' ') {
        let bare = word.trim_end_matches(' ');
        if !wrapped.has_room(bare) && columns(bare) <= width - indent {
            wrapped.break_line();
        }
        for part in bare.split_inclusive('/') {
            if wrapped.has_room(part) {
                wrapped.push(part);
                continue;
            }
            if columns(part) <= width - indent {
                wrapped.break_line();
            }
            for cluster in part.graphemes(true) {
                if !wrapped.has_room(cluster) {
                    wrapped.break_line();
                }
                wrapped.push(cluster);
            }
        }
        wrapped.push(&word[bare.len()..]);
    }
    wrapped.break_line();
    wrapped.lines
}

/// The state of wrapping one line: the finished lines and the current one.
struct Wrapped {
    lines: Vec<String>,
    current: String,
    /// The width of the current line in columns.
    used: usize,
    width: usize,
    indent: usize,
}

impl Wrapped {
    fn has_room(&self, text: &str) -> bool {
        self.used + columns(text) <= self.width
    }

    fn push(&mut self, text: &str) {
        self.current.push_str(text);
        self.used += columns(text);
    }

    fn break_line(&mut self) {
        self.lines.push(self.current.trim_end().to_owned());
        self.current = " ".repeat(self.indent);
        self.used = self.indent;
    }
}

/// Encloses a text that has right-to-left characters in a first-strong isolate, so that the text beside it
/// on the line keeps its place. Returns any other text unchanged.
///
/// Source: UAX #9, "Explicit Directional Isolates", <https://www.unicode.org/reports/tr9/>.
pub(crate) fn isolated(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.chars().any(is_right_to_left) { format!("\u{2068}{text}\u{2069}").into() } else { text }
}

/// Tells whether a character may have one of the bidirectional classes R and AL, because it is in a block
/// that Unicode reserves for them.
///
/// Source: <https://www.unicode.org/Public/UCD/latest/ucd/extracted/DerivedBidiClass.txt>.
fn is_right_to_left(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{feff}'
        | '\u{10800}'..='\u{10fff}' | '\u{1e800}'..='\u{1efff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_cut_keeps_both_ends() {
        assert_eq!(cut_middle("openai_gpt-4.1", 14), "openai_gpt-4.1");
        assert_eq!(cut_middle("openai_gpt-4.1", 13), "openai…pt-4.1");
        assert_eq!(cut_middle("openai_gpt-4.1", 2), "o…");
        assert_eq!(cut_middle("openai_gpt-4.1", 1), "…");
        assert_eq!(cut_middle("模型模型", 7), "模…型");
        assert_eq!(cut_middle("e\u{301}e\u{301}e\u{301}e\u{301}", 3), "e\u{301}…e\u{301}");
    }

    #[test]
    fn lines_break_between_words_and_long_paths_after_a_slash() {
        let wrapped = |text| wrap(text, Some(20), 2).into_owned();
        assert_eq!(wrapped("short enough"), "short enough");
        assert_eq!(wrapped("one two three four five six seven"), "one two three four\n  five six seven");
        assert_eq!(
            wrapped("in /srv/apps/generated/openai/app1 it is"),
            "in /srv/apps/\n  generated/openai/\n  app1 it is"
        );
        assert_eq!(wrapped("0123456789012345678901234"), "01234567890123456789\n  01234");
        assert_eq!(wrapped("a\n\n  b 模模模模模模模模模模 c"), "a\n\n  b 模模模模模模模模\n  模模 c");
        assert_eq!(wrap("as it is, however long", None, 2), "as it is, however long");
        assert_eq!(wrap("as it is, however long", Some(MIN_WIDTH - 1), 2), "as it is, however long");
        // What fits is not touched, not even white space at its end.
        assert_eq!(wrapped("a line of 20 columns\na line of 19 and a "), "a line of 20 columns\na line of 19 and a ");
    }

    #[test]
    fn what_is_written_from_right_to_left_is_isolated() {
        assert_eq!(isolated("openai".into()), "openai");
        assert_eq!(isolated("שלום".into()), "\u{2068}שלום\u{2069}");
        assert_eq!(columns(&isolated("שלום".into())), 4);
    }

    proptest! {
        #[test]
        fn what_is_wrapped_fits_and_is_complete(text in "[a-c模é/ ]{0,200}", width in 20usize..70, indent in 0usize..5) {
            let wrapped = wrap(&text, Some(width), indent);
            for line in wrapped.split('\n') {
                prop_assert!(columns(line) <= width, "{line:?}");
            }
            let bare = |text: &str| text.replace([' ', '\n'], "");
            prop_assert_eq!(bare(&wrapped), bare(&text));
        }

        #[test]
        fn what_is_cut_fits(text in "[a-c模é\u{301}]{0,50}", width in 1usize..30) {
            prop_assert!(columns(&cut_middle(&text, width)) <= width);
        }
    }
}
