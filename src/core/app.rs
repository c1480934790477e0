//! Names apps by a model and a number, and reads the lists of numbers on a command line.

use std::collections::HashSet;
use std::fmt::{self, Display};

use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

use super::text::Shown;

/// The longest model name in characters, which is the width of the platform's column.
pub(crate) const MODEL_MAX_CHARS: usize = 200;

/// The highest app number, which is the largest value of PostgreSQL's `integer`.
pub(crate) const APP_NUM_MAX: u32 = 2_147_483_647;

/// The most apps that one call may name.
pub(crate) const APPS_MAX: usize = 10_000;

/// One generated app, named by its model and its number; shown as `MODEL/appN`.
///
/// Rows that other programs wrote may hold any text and any number, so an `AppId` accepts both. Names
/// from a command line are checked by [`check_model`] and [`parse_app_nums`] first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AppId {
    /// The model's name.
    pub(crate) model: String,
    /// The app's number, from 1 to [`APP_NUM_MAX`] unless another program wrote the row.
    pub(crate) app_num: i64,
}

impl AppId {
    /// Names an app.
    pub(crate) fn new(model: impl Into<String>, app_num: impl Into<i64>) -> Self {
        Self { model: model.into(), app_num: app_num.into() }
    }
}

impl Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/app{}", Shown(&self.model), self.app_num)
    }
}

/// Returns a model's name as the platform writes it in a path, where `_` replaces every character
/// outside `[\w\-.]`.
///
/// `\w` has the meaning of Python's `re`: letters and numbers of every script (the general categories
/// L and N, see `str.isalnum`) and the underscore.
pub(crate) fn safe_model(model: &str) -> String {
    let is_kept = |c: char| {
        matches!(c, '_' | '-' | '.')
            || matches!(c.general_category_group(), GeneralCategoryGroup::Letter | GeneralCategoryGroup::Number)
    };
    model.chars().map(|c| if is_kept(c) { c } else { '_' }).collect()
}

/// Whether an app's directory exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Presence {
    /// The path is a directory, a file, or a symbolic link to something that exists.
    Present,
    /// The path does not exist, or is a dangling symbolic link.
    Absent,
    /// The system did not tell whether the path exists, for this reason.
    Unreadable(String),
}

/// Checks a model's name: 1 to 200 characters, no control character, not `.` or `..`.
///
/// # Errors
///
/// A message that names the model and the rule, when the model breaks a rule.
pub(crate) fn check_model(name: &str) -> Result<(), String> {
    let chars = name.chars().count();
    let broken = if chars == 0 {
        format!("expected 1 to {MODEL_MAX_CHARS} characters, it is empty")
    } else if chars > MODEL_MAX_CHARS {
        format!("expected 1 to {MODEL_MAX_CHARS} characters, it has {chars}")
    } else if name.chars().any(char::is_control) {
        "expected no control characters".to_owned()
    } else if name == "." || name == ".." {
        "expected a name other than '.' or '..', which are folders".to_owned()
    } else {
        return Ok(());
    };
    // A file that is imported may hold a name of any length.
    let (start, more) = match name.char_indices().nth(MODEL_MAX_CHARS) {
        Some((end, _)) => (&name[..end], "…"),
        None => (name, ""),
    };
    Err(format!("'{}{more}' is not a model: {broken}", Shown(start)))
}

/// Reads app numbers as a command line gives them: `3`, `1-50`, `1,3,5-9`, in any number of lists.
///
/// A number that occurs several times is kept once, at its first position.
///
/// # Errors
///
/// A message that names the offending part and what was expected: numbers from 1 to
/// [`APP_NUM_MAX`], ranges that do not run backwards, at most [`APPS_MAX`] apps.
pub(crate) fn parse_app_nums<S: AsRef<str>>(lists: &[S]) -> Result<Vec<u32>, String> {
    let mut nums = Vec::new();
    let mut seen = HashSet::new();
    for list in lists {
        for part in list.as_ref().split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (parse_app_num(first, part)?, parse_app_num(last, part)?),
                None => (parse_app_num(part, part)?, parse_app_num(part, part)?),
            };
            if first > last {
                return Err(format!("the range '{part}' runs backwards: write '{last}-{first}'"));
            }
            for num in first..=last {
                if seen.insert(num) {
                    nums.push(num);
                }
                if nums.len() > APPS_MAX {
                    return Err(format!("'{part}' makes more than {APPS_MAX} apps, the most for one call"));
                }
            }
        }
    }
    Ok(nums)
}

/// Splits `MODEL/appN` into the model and the text of N, which may also be a list or a range.
/// A model's name may contain slashes, so the text is split at the last slash.
pub(crate) fn split_app(text: &str) -> Option<(&str, &str)> {
    let (model, app) = text.rsplit_once('/')?;
    let list = app.strip_prefix("app")?;
    let is_list = list.bytes().all(|byte| byte.is_ascii_digit() || byte == b',' || byte == b'-');
    (!model.is_empty() && !list.is_empty() && is_list).then_some((model, list))
}

fn parse_app_num(text: &str, part: &str) -> Result<u32, String> {
    // `parse` would also take a leading '+'.
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|num| digits && (1..=APP_NUM_MAX).contains(num)).ok_or_else(|| {
        format!(
            "'{}' is not an app number: expected numbers from 1 to {APP_NUM_MAX}, \
                 ranges and lists such as 1,3,5-9",
            Shown(part)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_ranges_keep_their_order_and_each_number_once() {
        assert_eq!(parse_app_nums(&["3,1-2", "2,9"]).unwrap(), [3, 1, 2, 9]);
        assert_eq!(parse_app_nums(&["2147483647"]).unwrap(), [APP_NUM_MAX]);
        assert_eq!(parse_app_nums(&["1-10000", "5"]).unwrap().len(), APPS_MAX);
    }

    #[test]
    fn what_is_not_an_app_number_is_named() {
        for bad in ["", "0", "-1", "+1", "1,", ",1", "1--2", "a", " 1", "1.5", "2147483648", "99999999999", "0-3", "1-"]
        {
            let err = parse_app_nums(&[bad]).unwrap_err();
            assert!(err.contains("is not an app number"), "{bad}: {err}");
        }
        assert!(parse_app_nums(&["5-3"]).unwrap_err().contains("'3-5'"));
        assert!(parse_app_nums(&["1-10001"]).unwrap_err().contains("10000"));
        assert!(parse_app_nums(&["1-2147483647"]).is_err());
    }

    #[test]
    fn an_app_in_one_word_is_split_at_its_last_slash() {
        assert_eq!(split_app("openai_o3/app3"), Some(("openai_o3", "3")));
        assert_eq!(split_app("openai/gpt-4/app3-5,9"), Some(("openai/gpt-4", "3-5,9")));
        assert_eq!(split_app("m/app-1"), Some(("m", "-1")));
        assert_eq!(split_app("a/app1/app2"), Some(("a/app1", "2")));
        for other in ["m", "m/", "m/app", "/app3", "app3", "m/apple", "m/app3x", "m/App3", "m/3", "m\\app3"] {
            assert_eq!(split_app(other), None, "{other}");
        }
    }

    #[test]
    fn model_names_have_limits() {
        assert!(check_model(&"é".repeat(200)).is_ok());
        assert!(check_model("openai/gpt 4.1").is_ok());
        for bad in [String::new(), "é".repeat(201), "a\tb".into(), "a\u{9b}b".into(), ".".into(), "..".into()] {
            assert!(check_model(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_directory_is_the_one_that_the_platform_makes() {
        // Each result is that of `re.sub(r"[^\w\-.]", "_", model)` in Python 3.11.
        for (model, safe) in [
            ("openai_gpt-4.1", "openai_gpt-4.1"),
            ("openai/gpt 4.1:free", "openai_gpt_4.1_free"),
            ("模型Ⅷ²½٣é", "模型Ⅷ²½٣é"),
            ("e\u{301}\u{24b6}\u{93e}", "e___"),
            ("..", ".."),
            ("a\0b\n", "a_b_"),
        ] {
            assert_eq!(safe_model(model), safe);
        }
    }

    #[test]
    fn an_app_is_shown_without_what_a_terminal_obeys() {
        assert_eq!(AppId::new("a/b\u{1b}[2J", 7).to_string(), "a/b\\u{1b}[2J/app7");
    }
}
