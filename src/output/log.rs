//! Talk: what goes to stderr while a command runs.

use std::io::Write;

use env_logger::Builder;
use log::{Level, LevelFilter};

use crate::core::text::Shown;

/// Starts logging to stderr: progress and warnings, with `-v` waits, with `-q` nothing.
pub(crate) fn start(verbosity: u8, quiet: bool, colour: bool) {
    let level = match (quiet, verbosity) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Info,
        (_, 1) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    Builder::new()
        // Of this program alone: libraries talk of other things.
        .filter_module(env!("CARGO_CRATE_NAME"), level)
        .format(move |out, record| {
            let text = record.args().to_string();
            let text = Shown(&text);
            match record.level() {
                Level::Info => writeln!(out, "{text}"),
                Level::Warn if colour => writeln!(out, "\u{1b}[1;33mwarning:\u{1b}[0m {text}"),
                Level::Warn => writeln!(out, "warning: {text}"),
                level => writeln!(out, "{}: {text}", level.as_str().to_ascii_lowercase()),
            }
        })
        .init();
}
