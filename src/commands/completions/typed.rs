//! Parses the unfinished command line that a shell sends for completion when the user presses Tab.

use std::ffi::OsString;

/// A command line up to the cursor.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Typed {
    /// The words without quotes. The program's name is the first, the word to complete is the last.
    pub(super) words: Vec<String>,
    /// The quote that is still open in the last word.
    quote: Option<char>,
    /// The start of the last word that bash treats as separate words; bash keeps it and replaces the rest.
    prefix: String,
}

impl Typed {
    /// Parses words that a shell has already split; the last word may still have its quotes.
    pub(super) fn of_words(words: impl IntoIterator<Item = OsString>) -> Self {
        let mut words: Vec<_> = words.into_iter().map(|word| word.to_string_lossy().into_owned()).collect();
        if let Some(last) = words.last_mut() {
            *last = Word::read(&mut last.chars().peekable(), |_| false, "").text;
        }
        Self { words, ..Self::default() }
    }

    /// Parses a line of bash. bash splits words at blanks and also at the characters in `COMP_WORDBREAKS`,
    /// see <https://www.gnu.org/software/bash/manual/html_node/Bash-Variables.html>.
    pub(super) fn of_bash(line: &str, breaks: &str) -> Self {
        // Of the break characters besides blanks, only these occur in our words.
        let breaks: String = breaks.chars().filter(|c| ":=@".contains(*c)).collect();
        let mut rest = line.chars().peekable();
        let mut typed = Self::default();
        loop {
            while rest.next_if(|c| c.is_whitespace()).is_some() {}
            let word = Word::read(&mut rest, char::is_whitespace, &breaks);
            typed.words.push(word.text);
            if rest.peek().is_none() {
                // Inside an open quote, bash replaces everything after the quote and does not split at break
                // characters.
                let prefix = if word.quote.is_none() { word.broken_at } else { word.quoted_at };
                typed.prefix = typed.current().get(..prefix).unwrap_or_default().to_owned();
                return Self { quote: word.quote, ..typed };
            }
        }
    }

    /// Returns the word to complete.
    pub(super) fn current(&self) -> &str {
        self.words.last().map(String::as_str).unwrap_or_default()
    }

    /// Returns the text that bash has to insert for a value: quoted, and without the prefix that bash keeps.
    pub(super) fn to_insert(&self, value: &str) -> String {
        let rest = value.strip_prefix(&self.prefix).unwrap_or(value);
        let is_special = |c: char| match self.quote {
            Some('\'') => false,
            Some(_) => "\\\"$`".contains(c),
            None => !c.is_alphanumeric() && !"_-./:@%+,=".contains(c),
        };
        let mut quoted = String::new();
        for c in rest.chars() {
            if is_special(c) {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        quoted
    }
}

/// The state while a word is parsed.
#[derive(Default)]
struct Word {
    text: String,
    quote: Option<char>,
    /// The offset in `text`, in bytes, after the last break character.
    broken_at: usize,
    /// The offset in `text`, in bytes, at which the last quote was opened.
    quoted_at: usize,
}

impl Word {
    /// Reads one word by the rules for quotes and backslashes that all shells share.
    fn read(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, ends: impl Fn(char) -> bool, breaks: &str) -> Self {
        let mut word = Self::default();
        while let Some(c) = rest.next_if(|c| word.quote.is_some() || !ends(*c)) {
            match (word.quote, c) {
                (Some(quote), _) if c == quote => word.quote = None,
                (None, '\'' | '"') => {
                    word.quote = Some(c);
                    word.quoted_at = word.text.len();
                }
                (None | Some('"'), '\\') => word.text.extend(rest.next()),
                _ => {
                    word.text.push(c);
                    if word.quote.is_none() && breaks.contains(c) {
                        word.broken_at = word.text.len();
                    }
                }
            }
        }
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bash(line: &str) -> Typed {
        Typed::of_bash(line, " \t\n\"'@><=;|&(:")
    }

    #[test]
    fn words_of_bash_are_joined_where_no_blank_parts_them() {
        assert_eq!(bash("manage-ports release qwen2.5:7b ").words, ["manage-ports", "release", "qwen2.5:7b", ""]);
        assert_eq!(bash("p --model=a:b=c").words, ["p", "--model=a:b=c"]);
        assert_eq!(
            bash(r#"p my\ model "two words" 'a"b' "open qu"#).words,
            ["p", "my model", "two words", "a\"b", "open qu"]
        );
    }

    #[test]
    fn bash_inserts_what_follows_its_last_break_and_quotes_it() {
        assert_eq!(bash("p --model=op").to_insert("--model=openai"), "openai");
        assert_eq!(bash("p qwen2.5:").to_insert("qwen2.5:7b x"), r"7b\ x");
        assert_eq!(bash("p 'qwen2.5:").to_insert("qwen2.5:7b x"), "qwen2.5:7b x");
        assert_eq!(bash("p --model=\"op").to_insert("--model=openai"), "openai");
        assert_eq!(bash("p \"my").to_insert("my $x"), r"my \$x");
        assert_eq!(Typed::of_bash("p a:b", " ").to_insert("a:bc"), "a:bc");
    }

    #[test]
    fn the_last_word_of_other_shells_loses_its_quotes() {
        let words = ["p", "a\\b", r"my\ mo"].map(OsString::from);
        assert_eq!(Typed::of_words(words).words, ["p", "a\\b", "my mo"]);
    }
}
