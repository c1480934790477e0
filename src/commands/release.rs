//! `release`: gives up the allocations of apps.

use std::io::Write;

use super::{Answer, on_database, open_store, unless_misnamed};
use crate::config::Config;
use crate::core::app::{AppId, check_model, parse_app_nums};
use crate::error::{Error, Result};
use crate::output::look::Format;
use crate::output::{human, json};

const AFTER_HELP: &str = "\
Formats: human, json

Examples:
  manage-ports release openai_gpt-4.1 3
  manage-ports release openai_gpt-4.1 1-20,25
  manage-ports release --model openai_gpt-4.1 --app 3 --json";

/// Release the ports of apps; exit 1 if an app has none
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = "manage-ports release [OPTIONS] <MODEL> <APPS>...")]
pub(crate) struct Args {
    /// The model
    #[arg(value_name = "MODEL", add = super::completions::models_or_apps())]
    model: Option<String>,

    /// The apps: numbers, ranges and lists such as 1,3,5-9
    #[arg(value_name = "APPS", allow_negative_numbers = true, add = super::completions::apps())]
    apps: Vec<String>,

    /// The model, in place of the first argument
    #[arg(long = "model", value_name = "MODEL", add = super::completions::models())]
    model_flag: Option<String>,

    /// The apps, in place of the arguments; may be given again
    #[arg(long = "app", value_name = "APPS", allow_negative_numbers = true, add = super::completions::apps())]
    app_flags: Vec<String>,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&[Format::Human, Format::Json])?;
    let (apps, named) = named_apps(args)?;
    let released = open_store(config).and_then(|mut store| {
        store
            .remove(&mut |rows| rows.into_iter().filter(|row| apps.contains(&row.app)).collect())
            .map_err(|err| on_database(err, config))
    });
    let released = unless_misnamed(named, released, |released| !released.is_empty())?;
    let not_found: Vec<_> = apps.into_iter().filter(|app| !released.iter().any(|row| row.app == *app)).collect();
    match format {
        Format::Json => json::released(out, &released, &not_found),
        _ => human::released(out, config.look, &released, &not_found),
    }?;
    Ok(if not_found.is_empty() { Answer::Yes } else { Answer::No })
}

/// The apps that the command line names, and whether they are named by the rules. Rows that others
/// wrote may have any number, so a single one that is no app number is looked for, too.
fn named_apps(args: &Args) -> Result<(Vec<AppId>, Result<()>)> {
    // With --model, the first argument is already an app.
    let (model, first) = match (&args.model_flag, &args.model) {
        (Some(model), first) => (model, first.as_ref()),
        (None, Some(model)) => (model, None),
        (None, None) => return Err(Error::usage("no MODEL given").hint(USAGE)),
    };
    let lists: Vec<&String> = first.into_iter().chain(&args.apps).chain(&args.app_flags).collect();
    if lists.is_empty() {
        return Err(Error::usage("no APPS given").hint(USAGE));
    }
    let mut named = check_model(model);
    let app_nums = match parse_app_nums(&lists) {
        Ok(app_nums) => app_nums.into_iter().map(i64::from).collect(),
        Err(why) => {
            let parts = lists.iter().flat_map(|list| list.split(',')).map(str::parse);
            let app_nums: Vec<i64> = parts.collect::<std::result::Result<_, _>>().map_err(|_| Error::usage(&why))?;
            named = Err(why);
            app_nums
        }
    };
    let apps = app_nums.into_iter().map(|app_num| AppId::new(model, app_num)).collect();
    Ok((apps, named.map_err(Error::usage)))
}

const USAGE: &str = "manage-ports release MODEL APPS, such as `manage-ports release openai_gpt-4.1 1-20`";
