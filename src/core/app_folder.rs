//! The folder of an app below the apps directory.

use super::app::{APP_NUM_MAX, AppId, check_model, safe_model};

/// The folder that an app has below the apps directory, as the platform names it: the model's folder
/// and the app's number. Apps of two models may share a folder, as [`safe_model`] is not reversible.
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

    /// The folder of an app.
    pub(crate) fn of(app: &AppId) -> Self {
        Self::new(safe_model(&app.model), app.app_num)
    }

    /// The app that the folder's name tells: its model may have another name, see [`safe_model`].
    pub(crate) fn app(&self) -> AppId {
        AppId::new(&self.model, self.app_num)
    }

    /// The path from the apps directory on.
    pub(crate) fn path(&self) -> String {
        format!("{}/app{}", self.model, self.app_num)
    }

    /// Checks that an app can have this folder.
    ///
    /// # Errors
    ///
    /// In words, when no app that may be allocated has this folder.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_apps_folder_is_named_after_its_safe_model() {
        assert_eq!(AppFolder::of(&AppId::new("a/b", 3)).path(), "a_b/app3");
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
