//! Parses the apps named on a command line: `MODEL APPS`, `--model MODEL --app APPS` or `MODEL/appN`.

use super::completions;
use crate::core::app::{AppId, check_model, parse_app_nums, split_app};
use crate::core::text::Shown;
use crate::error::{Error, Result};

/// The apps, all of one model.
#[derive(clap::Args)]
pub(super) struct AppsArgs {
    /// The model, 1 to 200 characters; or the apps as MODEL/appN
    #[arg(value_name = "MODEL", add = completions::models_or_apps())]
    model: Option<String>,

    /// The apps: numbers, ranges and lists such as 1,3,5-9
    #[arg(value_name = "APPS", allow_negative_numbers = true, add = completions::apps())]
    apps: Vec<String>,

    /// The model, in place of the first argument
    #[arg(long = "model", value_name = "MODEL", add = completions::models())]
    model_flag: Option<String>,

    /// The apps, in place of the arguments; may be given again
    #[arg(long = "app", value_name = "APPS", allow_negative_numbers = true, add = completions::apps())]
    app_flags: Vec<String>,
}

/// The apps that a command line names, before the names are checked.
pub(super) struct Named {
    /// The apps, all of one model.
    pub(super) apps: Vec<AppId>,
    /// The error if a name breaks a rule for names. Rows that other programs wrote may have such names.
    pub(super) rules: Result<()>,
}

impl AppsArgs {
    /// Returns the apps, and fails if a name breaks a rule. `usage` is the hint if a name is missing.
    pub(super) fn apps(&self, usage: &str) -> Result<Vec<AppId>> {
        let named = self.apps_of_rows(usage)?;
        named.rules.map(|()| named.apps)
    }

    /// Returns the app, for a command that takes exactly one.
    pub(super) fn app(&self, usage: &str) -> Result<AppId> {
        let (app, rules) = self.app_of_row(usage)?;
        rules.map(|()| app)
    }

    /// Returns the one app, whose name may break the rules because another program may have written its row.
    pub(super) fn app_of_row(&self, usage: &str) -> Result<(AppId, Result<()>)> {
        let Named { apps, rules } = self.apps_of_rows(usage)?;
        match <[AppId; 1]>::try_from(apps) {
            Ok([app]) => Ok((app, rules)),
            Err(_) => {
                let lists = self.words(usage)?.1.join(",");
                Err(Error::usage(format!("'{}' names several apps: this command is for one", Shown(&lists))))
            }
        }
    }

    /// Returns the apps, whose names may break the rules because another program may have written their rows.
    /// A number out of range is accepted only if it is the only one; in a list it is an error.
    pub(super) fn apps_of_rows(&self, usage: &str) -> Result<Named> {
        let (model, lists) = self.words(usage)?;
        let rules = check_model(model);
        let (app_nums, rules) = match (parse_app_nums(&lists), lists.as_slice()) {
            (Ok(app_nums), _) => (app_nums.into_iter().map(i64::from).collect(), rules),
            // Rust would also read a number with a plus sign.
            (Err(why), [number]) if !number.starts_with('+') => match number.parse() {
                Ok(app_num) => (vec![app_num], rules.and(Err(why))),
                Err(_) => return Err(Error::usage(rules.err().unwrap_or(why))),
            },
            (Err(why), _) => return Err(Error::usage(rules.err().unwrap_or(why))),
        };
        let apps = app_nums.into_iter().map(|app_num| AppId::new(model, app_num)).collect();
        Ok(Named { apps, rules: rules.map_err(Error::usage) })
    }

    /// Returns the model, for a command that works on all apps of a model.
    pub(super) fn whole_model(&self, usage: &str) -> Result<&str> {
        let names_apps = !self.apps.is_empty() || !self.app_flags.is_empty();
        match (&self.model_flag, &self.model) {
            (None, None) => Err(Error::usage("no MODEL given").hint(usage)),
            (Some(model), None) if !names_apps => Ok(model),
            (None, Some(model)) if !names_apps && split_app(model).is_none() => Ok(model),
            _ => Err(Error::usage("--all is for every app of a model: name no apps beside it").hint(usage)),
        }
    }

    /// Returns the only argument, if nothing else names an app.
    pub(super) fn only_word(&self) -> Option<&str> {
        match (&self.model, self.apps.as_slice(), &self.model_flag, self.app_flags.as_slice()) {
            (Some(word), [], None, []) => Some(word),
            _ => None,
        }
    }

    /// Returns the model, and the lists of app numbers as they were written.
    fn words(&self, usage: &str) -> Result<(&str, Vec<&str>)> {
        let arguments: Vec<&str> = self.model.iter().chain(&self.apps).map(String::as_str).collect();
        if self.model_flag.is_none()
            && self.app_flags.is_empty()
            && let Some(apps) = arguments.iter().map(|word| split_app(word)).collect::<Option<Vec<_>>>()
            && let Some(&(model, _)) = apps.first()
        {
            if let Some((other, _)) = apps.iter().find(|(other, _)| *other != model) {
                let (model, other) = (Shown(model), Shown(other));
                return Err(Error::usage(format!(
                    "'{model}' and '{other}' are two models: one call names apps of one"
                )));
            }
            return Ok((model, apps.into_iter().map(|(_, list)| list).collect()));
        }
        let missing = |what| {
            let message = format!("no {what} given: name apps as MODEL APPS, MODEL/appN or --model MODEL --app APPS");
            Err(Error::usage(message).hint(usage))
        };
        // If --model is given, the first argument is already a list of apps.
        let (model, lists) = match (&self.model_flag, arguments.as_slice()) {
            (Some(model), lists) => (model.as_str(), lists),
            (None, [model, lists @ ..]) => (*model, lists),
            (None, []) => return missing("MODEL"),
        };
        let lists: Vec<_> = lists.iter().copied().chain(self.app_flags.iter().map(String::as_str)).collect();
        if lists.is_empty() { missing("APPS") } else { Ok((model, lists)) }
    }
}
