//! `reserve`: gives a planned batch its pairs and holds them.

use std::io::Write;

use jiff::SignedDuration;

use super::Answer;
use super::give::{FORMATS, Request, check_format, give, print};
use super::named::AppsArgs;
use crate::config::{Config, parse_duration};
use crate::error::{Error, Result};
use crate::host::clock;

const AFTER_HELP: &str = "\
An app that is not made yet has no directory, and a cleanup would take its ports for free. Until the
time is over it leaves reserved ones alone. `manage-ports list --state reserved` shows them.

Formats: human, json (one object a line), csv, plain (`5001 8001`), env (one app only)

Examples:
  manage-ports reserve openai_gpt-4.1 1-50 --for 2h
  manage-ports reserve openai_gpt-4.1 1-50 --for 1d --json";

const USAGE: &str = "manage-ports reserve [OPTIONS] --for <DURATION> <MODEL> <APPS>...
       manage-ports reserve [OPTIONS] --for <DURATION> <MODEL/appN>...";

const HINT: &str = "manage-ports reserve MODEL APPS, such as `manage-ports reserve openai_gpt-4.1 1-20 --for 2h`";

/// Give a planned batch its ports, and hold them for some time
///
/// All apps are given ports or none. Reserving again extends the time, and never shortens it.
#[derive(clap::Args)]
#[command(after_help = AFTER_HELP, override_usage = USAGE)]
pub(crate) struct Args {
    #[command(flatten)]
    apps: AppsArgs,

    /// How long to hold them, from now on, such as 30m, 2h or 1d
    #[arg(long = "for", value_name = "DURATION", allow_hyphen_values = true, value_parser = parse_duration)]
    duration: SignedDuration,
}

pub(crate) fn run(args: &Args, config: &Config, out: &mut dyn Write) -> Result<Answer> {
    let format = config.format(&FORMATS)?;
    let apps = args.apps.apps(HINT)?;
    check_format(format, &apps)?;
    if args.duration.is_zero() {
        return Err(Error::usage("--for: a reservation lasts longer than no time: expected one such as 30m, 2h or 1d"));
    }
    clock::now()
        .checked_add(args.duration)
        .map_err(|_| Error::usage(format!("--for: {:#} is too long: it ends after the year 9999", args.duration)))?;
    let outcomes = give(&Request { apps, pair: None, hold: Some(args.duration), probe: config.probe }, config)?;
    print(out, format, &outcomes)?;
    Ok(Answer::Yes)
}
