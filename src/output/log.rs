//! Writes log messages to stderr: notices, warnings, and with `-v` waits and chosen settings.

use std::io::{self, IsTerminal, Write};

use log::{Level, LevelFilter, Log, Metadata, Record};
use serde_json::{Map, Value, json};

use super::look::width;
use crate::core::clock::TERMINAL_LOG;
use crate::core::fit::wrap;
use crate::core::text::{Shown, escape_json};

/// A logger that writes each message of this program on a line of its own.
struct Logger {
    is_json: bool,
    has_colour: bool,
    /// Whether messages for a person at a terminal are shown, if stderr is one.
    is_for_people: bool,
    /// The width of the terminal, in columns.
    width: Option<usize>,
}

/// Starts logging to stderr: notices and warnings by default, with `-v` also waits, with `-q` nothing. At the
/// level of notices, progress and long waits are shown on a terminal, unless it is dumb or the log is JSON.
pub(crate) fn start(verbosity: u8, is_quiet: bool, is_json: bool, has_colour: bool, is_dumb: bool) {
    let level = match (is_quiet, verbosity) {
        (true, _) => LevelFilter::Error,
        (_, 0) => LevelFilter::Info,
        (_, 1) => LevelFilter::Debug,
        _ => LevelFilter::Trace,
    };
    // `set_boxed_logger` fails only if a logger is already set.
    let logger = Logger { is_json, has_colour, is_for_people: !is_dumb && !is_json, width: width(io::stderr()) };
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        log::set_max_level(level);
    }
}

impl Log for Logger {
    /// Leaves out messages of libraries, because they are not meant for the user.
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().split("::").next() == Some(env!("CARGO_CRATE_NAME"))
            && metadata.level() <= log::max_level()
            && (metadata.target() != TERMINAL_LOG || self.is_for_people && io::stderr().is_terminal())
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            // If stderr cannot be written, there is nobody to report the error to.
            let _ = writeln!(io::stderr(), "{}", self.line(record.level(), &record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

impl Logger {
    fn line(&self, level: Level, message: &str) -> String {
        if self.is_json {
            let name = if level == Level::Info { "notice".to_owned() } else { name(level) };
            let line = Map::from_iter([(name, json!({"message": message}))]);
            return escape_json(&Value::Object(line).to_string());
        }
        let message = Shown(message);
        let line = if level == Level::Info { message.to_string() } else { format!("{}: {message}", name(level)) };
        let line = wrap(&line, self.width, 2);
        match line.strip_prefix("warning:") {
            Some(rest) if level == Level::Warn && self.has_colour => format!("\u{1b}[1;33mwarning:\u{1b}[0m{rest}"),
            _ => line.into_owned(),
        }
    }
}

/// Returns the prefix of a line, which is also its key in JSON.
fn name(level: Level) -> String {
    if level == Level::Warn { "warning".to_owned() } else { level.as_str().to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_for_people_and_for_programs() {
        let line = |is_json, has_colour, level| {
            let logger = Logger { is_json, has_colour, is_for_people: false, width: None };
            logger.line(level, "a\n\u{1b}b")
        };
        assert_eq!(line(false, true, Level::Info), r"a\n\u{1b}b");
        assert_eq!(line(false, false, Level::Warn), r"warning: a\n\u{1b}b");
        assert_eq!(line(false, true, Level::Warn), "\u{1b}[1;33mwarning:\u{1b}[0m a\\n\\u{1b}b");
        assert_eq!(line(false, true, Level::Debug), r"debug: a\n\u{1b}b");
        assert_eq!(line(true, true, Level::Info), r#"{"notice":{"message":"a\n\u001bb"}}"#);
        assert_eq!(line(true, false, Level::Warn), r#"{"warning":{"message":"a\n\u001bb"}}"#);
    }

    #[test]
    fn on_a_terminal_a_message_wraps() {
        let line = |is_json| {
            let logger = Logger { is_json, has_colour: true, is_for_people: false, width: Some(24) };
            logger.line(Level::Warn, "app1 of a model has no directory")
        };
        assert_eq!(line(false), "\u{1b}[1;33mwarning:\u{1b}[0m app1 of a model\n  has no directory");
        assert_eq!(line(true).lines().count(), 1);
    }
}
