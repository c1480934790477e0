//! Names the folder of an app below the apps directory, and reads the names of such folders.
//!
//! The platform looks for an app in four places: at `<safe model>/app<N>` and `<safe model>/app_<N>`,
//! and under both names in a folder below `<safe model>`, such as that of a template.

use super::app::{APP_NUM_MAX, AppId, check_model, safe_model};

/// The folder of an app below the apps directory, in any of its four places: the name of the model's
/// folder and the app's number. Apps of two models may share a folder, as [`safe_model`] is not reversible.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct AppFolder {
    /// The name of the model's folder.
    pub(crate) model: String,
    /// The app's number.
    pub(crate) app_num: i64,
}

impl AppFolder {
    /// Names a folder.
    pub(crate) fn new(model: impl Into<String>, app_num: impl Into<i64>) -> Self {
        Self { model: model.into(), app_num: app_num.into() }
    }

    /// Returns the folder of an app.
    pub(crate) fn of(app: &AppId) -> Self {
        Self::new(safe_model(&app.model), app.app_num)
    }

    /// Returns an app that has this folder. The real model's name may differ, see [`safe_model`].
    pub(crate) fn app(&self) -> AppId {
        AppId::new(&self.model, self.app_num)
    }

    /// Returns the first of the folder's four places, as a path relative to the apps directory.
    pub(crate) fn path(&self) -> String {
        format!("{}/app{}", self.model, self.app_num)
    }

    /// Checks that an app can have this folder.
    ///
    /// # Errors
    ///
    /// A message with the reason, when no app that may be allocated has this folder.
    pub(crate) fn check(&self) -> Result<(), String> {
        let safe = safe_model(&self.model);
        if safe != self.model {
            return Err(format!("a model of this name has the folder {safe}"));
        }
        if !(1..=APP_NUM_MAX.into()).contains(&self.app_num) {
            return Err(format!("app numbers go from 1 to {APP_NUM_MAX}"));
        }
        check_model(&self.model)
    }
}

/// The two forms of the name of an app's folder, in the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum NameForm {
    /// `app<N>`
    Plain,
    /// `app_<N>`
    Underscored,
}

/// Reads the name of an app's folder and returns its form and the app's number. The number must have no
/// plus sign and no leading zeros; 0 and negative numbers are read because rows may hold them.
pub(crate) fn parse_folder_name(name: &str) -> Option<(NameForm, i64)> {
    let rest = name.strip_prefix("app")?;
    let (form, digits) = match rest.strip_prefix('_') {
        Some(digits) => (NameForm::Underscored, digits),
        None => (NameForm::Plain, rest),
    };
    let app_num: i64 = digits.parse().ok()?;
    (app_num.to_string() == digits).then_some((form, app_num))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_an_apps_by_either_form_of_its_name() {
        for (name, expected) in [
            ("app1", Some((NameForm::Plain, 1))),
            ("app_30", Some((NameForm::Underscored, 30))),
            ("app-1", Some((NameForm::Plain, -1))),
            ("app0", Some((NameForm::Plain, 0))),
            ("app2147483648", Some((NameForm::Plain, 2_147_483_648))),
            ("app", None),
            ("app_", None),
            ("app01", None),
            ("app+1", None),
            ("app__1", None),
            ("app 1", None),
            ("App1", None),
            ("app1 ", None),
            ("app1.bak", None),
            ("app99999999999999999999", None),
        ] {
            assert_eq!(parse_folder_name(name), expected, "{name}");
        }
    }

    #[test]
    fn an_apps_folder_is_named_after_its_safe_model() {
        let folder = AppFolder::of(&AppId::new("a/b", 3));
        assert_eq!((folder.path(), folder.app()), ("a_b/app3".to_owned(), AppId::new("a_b", 3)));
    }

    #[test]
    fn a_directory_is_an_apps_if_the_app_may_be_allocated() {
        for (model, app_num) in [("a_b", 1), ("模型-4.1", i64::from(APP_NUM_MAX))] {
            assert_eq!(AppFolder::new(model, app_num).check(), Ok(()), "{model}");
        }
        for (model, app_num, why) in [
            ("a:b", 1, "the folder a_b"),
            ("my model", 1, "the folder my_model"),
            ("a\u{fffd}", 1, "the folder a_"),
            ("a", 2_147_483_648_i64, "from 1 to 2147483647"),
            (&"a".repeat(201), 1, "it has 201"),
        ] {
            let reason = AppFolder::new(model, app_num).check().unwrap_err();
            assert!(reason.contains(why), "{model}: {reason}");
        }
    }
}
