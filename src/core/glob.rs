//! Matches the names of models against glob patterns, in the syntax of shells.
//!
//! `*` matches any text, `?` any character, `[a-z]` one character of a class, `[!a-z]` one character
//! outside the class, and `{a,b}` one of several patterns; a backslash makes the next character literal.
//! A model's name is not a path, so `*` and `?` also match `/`.

/// A parsed glob pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Token>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    /// This character.
    Char(char),
    /// Any character.
    Any,
    /// Any text.
    Run,
    /// A character inside these ranges, or outside of all of them.
    Class { ranges: Vec<(char, char)>, is_negated: bool },
    /// One of several patterns.
    Either(Vec<Vec<Token>>),
}

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    ///
    /// A message with the pattern and what is wrong with it.
    pub(crate) fn parse(pattern: &str) -> Result<Self, String> {
        let wrong = |why: &str| format!("'{}' is not a pattern: {why}", super::text::Shown(pattern));
        let mut rest = pattern.chars().collect::<Vec<_>>().into_iter();
        Ok(Self(tokens(&mut rest, 0).map_err(wrong)?))
    }

    /// Tells whether the pattern matches the whole name.
    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<_> = name.chars().collect();
        ends(&self.0, &name, &[0]).contains(&name.len())
    }
}

/// The models that a pattern means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Models {
    /// The one model of this name, which may hold any characters.
    Named(String),
    /// All models that it matches.
    Matching(Glob),
}

impl Models {
    /// Reads a pattern. If one of the known models has the pattern as its name, only that one is meant.
    ///
    /// # Errors
    ///
    /// A message with the pattern and what is wrong with it.
    pub(crate) fn meant_by<'a>(pattern: &str, known: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        if known.into_iter().any(|model| model == pattern) {
            Ok(Self::Named(pattern.to_owned()))
        } else {
            Glob::parse(pattern).map(Self::Matching)
        }
    }

    /// Tells whether the model is meant.
    pub(crate) fn matches(&self, model: &str) -> bool {
        match self {
            Self::Named(name) => name == model,
            Self::Matching(glob) => glob.matches(model),
        }
    }
}

type Rest = std::vec::IntoIter<char>;

/// The deepest nesting of braces that a pattern may have.
const DEPTH_MAX: usize = 16;

/// Reads tokens up to the end of the pattern or, inside braces, up to a comma or the closing brace. The
/// comma or brace is left in `rest`.
fn tokens(rest: &mut Rest, depth: usize) -> Result<Vec<Token>, &'static str> {
    let mut found = Vec::new();
    while let Some(&next) = rest.as_slice().first() {
        if depth > 0 && matches!(next, ',' | '}') {
            break;
        }
        rest.next();
        found.push(match next {
            '?' => Token::Any,
            '*' => Token::Run,
            '[' => class(rest)?,
            '{' if depth == DEPTH_MAX => return Err("too many braces stand inside braces"),
            '{' => either(rest, depth + 1)?,
            '}' => return Err("a '}' has no '{' before it"),
            '\\' => Token::Char(rest.next().ok_or("nothing follows the backslash")?),
            other => Token::Char(other),
        });
    }
    Ok(found)
}

/// Reads the alternatives after a `{`, including the closing brace.
fn either(rest: &mut Rest, depth: usize) -> Result<Token, &'static str> {
    let mut patterns = Vec::new();
    loop {
        patterns.push(tokens(rest, depth)?);
        match rest.next() {
            Some(',') => {}
            Some(_) => return Ok(Token::Either(patterns)),
            None => return Err("a '{' is not closed"),
        }
    }
}

/// Reads the character class after a `[`, including the closing bracket. A `]` or a `-` at the beginning
/// is literal.
fn class(rest: &mut Rest) -> Result<Token, &'static str> {
    let is_negated = matches!(rest.as_slice().first(), Some('!' | '^'));
    if is_negated {
        rest.next();
    }
    let mut ranges = Vec::new();
    loop {
        let first = rest.next().ok_or("a '[' is not closed")?;
        if first == ']' && !ranges.is_empty() {
            return Ok(Token::Class { ranges, is_negated });
        }
        let last = match rest.as_slice() {
            ['-', last, ..] if *last != ']' => {
                let last = *last;
                rest.nth(1);
                last
            }
            _ => first,
        };
        if first > last {
            return Err("a range runs backwards");
        }
        ranges.push((first, last));
    }
}

/// Returns every position in the name, in rising order, at which a match of the tokens may end that begins
/// at one of `starts`.
///
/// All positions are followed at once instead of backtracking, so the time for a pattern grows at most as
/// its length times the name's length.
fn ends(tokens: &[Token], name: &[char], starts: &[usize]) -> Vec<usize> {
    let mut places = starts.to_vec();
    for token in tokens {
        let step = |is: &dyn Fn(char) -> bool| -> Vec<usize> {
            places.iter().filter(|&&place| name.get(place).is_some_and(|&c| is(c))).map(|place| place + 1).collect()
        };
        places = match token {
            Token::Char(wanted) => step(&|c| c == *wanted),
            Token::Any => step(&|_| true),
            Token::Class { ranges, is_negated } => {
                step(&|c| ranges.iter().any(|(first, last)| (*first..=*last).contains(&c)) != *is_negated)
            }
            Token::Run => places.first().map_or_else(Vec::new, |&first| (first..=name.len()).collect()),
            Token::Either(patterns) => {
                let mut all: Vec<_> = patterns.iter().flat_map(|pattern| ends(pattern, name, &places)).collect();
                all.sort_unstable();
                all.dedup();
                all
            }
        };
    }
    places
}

#[cfg(test)]
mod tests {
    use globset::GlobBuilder;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_that_is_a_models_name_means_that_model_alone() {
        let of = |pattern, known: &[&str]| {
            let meant = Models::meant_by(pattern, known.iter().copied()).ok()?;
            Some(["x[1]", "x1", "[z"].map(|model| meant.matches(model)))
        };
        assert_eq!(of("x[1]", &["x1", "x[1]"]), Some([true, false, false]));
        assert_eq!(of("x[1]", &["x1"]), Some([false, true, false]));
        assert_eq!(of("[z", &["x1", "[z"]), Some([false, false, true]));
        assert_eq!(of("[z", &["x1"]), None);
    }

    fn is_match(pattern: &str, name: &str) -> bool {
        Glob::parse(pattern).unwrap().matches(name)
    }

    #[test]
    fn a_pattern_matches_the_whole_name() {
        for (pattern, name) in [
            ("", ""),
            ("*", "openai/gpt-4"),
            ("openai_*", "openai_"),
            ("*gpt*4?1", "openai_gpt-4.1"),
            ("[a-c]x", "bx"),
            ("[!a-c]x", "dx"),
            ("[]-]", "]"),
            ("[]-]", "-"),
            ("{openai,x-ai}_*", "x-ai_grok"),
            ("a{,b}", "a"),
            ("{a,{b,c}d}", "cd"),
            ("\\*", "*"),
            ("模?", "模型"),
        ] {
            assert!(is_match(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [
            ("", "a"),
            ("a", "A"),
            ("openai", "openai_"),
            ("?", ""),
            ("[a-c]x", "dx"),
            ("[^a-c]", "a"),
            ("{a,b}c", "ab"),
            ("\\*", "a"),
        ] {
            assert!(!is_match(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_named() {
        for (pattern, why) in [
            ("[a", "a '[' is not closed"),
            ("[]", "a '[' is not closed"),
            ("[b-a]", "runs backwards"),
            ("{a", "a '{' is not closed"),
            ("a}", "has no '{'"),
            (&"{".repeat(17), "too many braces"),
            ("a\\", "backslash"),
        ] {
            let message = Glob::parse(pattern).unwrap_err();
            assert!(message.contains(why) && message.contains(pattern), "{pattern}: {message}");
        }
    }

    #[test]
    fn many_stars_do_not_take_long() {
        assert!(!is_match(&"*a".repeat(200), &"a".repeat(199)));
    }

    proptest! {
        #[test]
        fn it_matches_what_the_crate_globset_matches(pattern in r"[ab*?/\[\]!{},-]{0,8}", name in "[ab/]{0,6}") {
            // In globset, `**` between separators matches whole folders.
            prop_assume!(!pattern.contains("**"));
            let theirs = GlobBuilder::new(&pattern).literal_separator(false).empty_alternates(true).build();
            if let (Ok(ours), Ok(theirs)) = (Glob::parse(&pattern), theirs) {
                prop_assert_eq!(ours.matches(&name), theirs.compile_matcher().is_match(&name), "{} {}", pattern, name);
            }
        }
    }
}
