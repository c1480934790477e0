//! Writes the hint for a model or an app that has no row, such as the similar name that may have been meant.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::app::AppId;
use super::text::{Shown, ranges};

/// The fewest characters, without separators, for which names that differ by one edit count as similar:
/// shorter names are one edit away from too many others.
const SHORTEST_ALIKE: usize = 3;

/// Writes which apps a model has or, if it has none, that no row has the model and which similar name may
/// have been meant.
///
/// `known` are the apps that have rows, and `place` names the database in the message.
pub(crate) fn about_missing<'a>(model: &str, known: impl IntoIterator<Item = &'a AppId>, place: &str) -> String {
    let known: Vec<_> = known.into_iter().collect();
    let nums: BTreeSet<_> = known.iter().filter(|app| app.model == model).map(|app| app.app_num).collect();
    let (shown, place) = (Shown(model), Shown(place));
    if !nums.is_empty() {
        let noun = if nums.len() == 1 { "app" } else { "apps" };
        return format!("{shown} has {noun} {} in {place}", told_ranges(&nums));
    }
    let models = known.iter().map(|app| app.model.as_str());
    match nearest(model, models) {
        Some(near) => format!("no row of {place} has the model {shown}: did you mean {}?", Shown(near)),
        None => format!("no row of {place} has the model {shown}"),
    }
}

/// Returns the model that a misspelt name may have meant: the known model that differs least from it.
///
/// Names are compared without case and without separators, and may then differ by one edit: one
/// character added, left out or replaced, or two adjacent characters swapped. Of several that differ as
/// little, the one with the longest beginning in common is returned.
pub(crate) fn nearest<'a>(name: &str, models: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let asked = letters(name);
    let candidates: BTreeSet<_> = models.into_iter().filter(|model| *model != name).collect();
    let alike = candidates.into_iter().filter_map(|model| {
        let letters = letters(model);
        let is_long = letters.len().min(asked.len()) >= SHORTEST_ALIKE;
        let edits = if letters == asked {
            0
        } else if is_long && is_one_edit(&letters, &asked) {
            1
        } else {
            return None;
        };
        Some((edits, Reverse(common_prefix(model, name)), model))
    });
    alike.min().map(|(_, _, model)| model)
}

/// Returns the characters of a name that are compared: all but separators, in lower case.
fn letters(name: &str) -> Vec<char> {
    let is_separator = |c: &char| matches!(c, '-' | '_' | '.' | ':' | '/') || c.is_whitespace();
    name.chars().flat_map(char::to_lowercase).filter(|c| !is_separator(c)).collect()
}

/// Tells whether one edit turns one text into the other; the texts must differ.
fn is_one_edit(a: &[char], b: &[char]) -> bool {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let start = long.iter().zip(short).take_while(|(a, b)| a == b).count();
    let (long, short) = (&long[start..], &short[start..]);
    match (long, short) {
        ([_, rest @ ..], short) if rest == short => true,
        ([_, long @ ..], [_, short @ ..]) if long == short => true,
        ([a, b, long @ ..], [c, d, short @ ..]) => (a, b) == (d, c) && long == short,
        _ => false,
    }
}

fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

/// The most ranges that a hint lists.
const RANGES_MAX: usize = 20;

/// Writes numbers as ranges, such as `1-30, 32`, at most [`RANGES_MAX`] of them.
fn told_ranges(nums: &BTreeSet<i64>) -> String {
    let ranges = ranges(nums);
    let more = ranges.len().saturating_sub(RANGES_MAX);
    let text = ranges.into_iter().take(RANGES_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { text } else { format!("{text} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_model_is_the_one_that_differs_least() {
        let models = [
            "openai_gpt-4.1",
            "openai_gpt-4o",
            "openai_o3",
            "x-ai_grok-4",
            "x-ai_grok-3",
            "qwen2.5:7b",
            "m",
            "n",
            "ab",
        ];
        for (name, expected) in [
            ("openai_gpt4", Some("openai_gpt-4.1")),
            ("openai_gpt41", Some("openai_gpt-4.1")),
            ("OpenAI/GPT 4.1", Some("openai_gpt-4.1")),
            ("openai_gpt-4O", Some("openai_gpt-4o")),
            ("openai_03", Some("openai_o3")),
            ("opneai_o3", Some("openai_o3")),
            ("openai_oo3", Some("openai_o3")),
            ("penai_o3", Some("openai_o3")),
            ("xai-grok4", Some("x-ai_grok-4")),
            ("x-ai_grok-5", Some("x-ai_grok-3")),
            ("qwen2.5-7b", Some("qwen2.5:7b")),
            ("M", Some("m")),
            ("openai_gpt", None),
            ("opneai_03", None),
            ("mistral", None),
            ("k", None),
            ("ac", None),
            ("", None),
        ] {
            assert_eq!(nearest(name, models), expected, "{name}");
        }
    }

    #[test]
    fn of_models_that_differ_as_little_it_is_the_one_that_begins_alike() {
        assert_eq!(nearest("gpt-4a", ["bpt-4a", "gpt-4b"]), Some("gpt-4b"));
        assert_eq!(nearest("gpt-4a", ["gpt-4b", "opt-4a"]), Some("gpt-4b"));
    }

    #[test]
    fn an_edit_is_one_character_or_a_swap_of_neighbours() {
        let is_one = |a: &str, b: &str| is_one_edit(&letters(a), &letters(b));
        for (a, b) in
            [("abc", "abcd"), ("abc", "xabc"), ("abc", "axbc"), ("abc", "abx"), ("abc", "acb"), ("abc", "bac")]
        {
            assert!(is_one(a, b) && is_one(b, a), "{a} {b}");
        }
        for (a, b) in [("abc", "abcde"), ("abc", "xbx"), ("abc", "cba"), ("abcd", "badc"), ("abc", "")] {
            assert!(!is_one(a, b) && !is_one(b, a), "{a} {b}");
        }
    }

    #[test]
    fn a_missing_app_is_answered_with_what_there_is() {
        let apps = |model: &str, nums: &[i64]| nums.iter().map(|num| AppId::new(model, *num)).collect::<Vec<_>>();
        let known: Vec<_> = [apps("openai_o3", &[1, 2, 3, 5, 7, 8, 8]), apps("a\u{1b}b", &[4])].concat();
        let about = |model: &str| about_missing(model, &known, "data/ports.db");
        assert_eq!(about("openai_o3"), "openai_o3 has apps 1-3, 5, 7-8 in data/ports.db");
        assert_eq!(about("a\u{1b}b"), "a\\u{1b}b has app 4 in data/ports.db");
        assert_eq!(about("openai-o3"), "no row of data/ports.db has the model openai-o3: did you mean openai_o3?");
        assert_eq!(about("other"), "no row of data/ports.db has the model other");
        let many: Vec<_> = (0..50).map(|num| AppId::new("m", 2 * num)).collect();
        assert!(about_missing("m", &many, "d").ends_with(" 36, 38 and 30 more in d"));
    }
}
