//! Decides whether to use colours and other escape sequences.

use std::env;

use crate::output::look::ColorWhen;

/// Tells whether to use colours on a stream; `is_terminal` says whether the stream is a terminal.
///
/// Source: <https://no-color.org> for `NO_COLOR`, <https://bixense.com/clicolors/> for `CLICOLOR_FORCE`.
pub(crate) fn wants_colour(flag: Option<ColorWhen>, is_terminal: bool) -> bool {
    match flag {
        Some(ColorWhen::Always) => true,
        Some(ColorWhen::Never) => false,
        Some(ColorWhen::Auto) | None => {
            if env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()) {
                false
            } else if env::var_os("CLICOLOR_FORCE").is_some_and(|value| !value.is_empty() && value != "0") {
                true
            } else {
                is_terminal && !is_dumb()
            }
        }
    }
}

/// Tells whether the terminal, if there is one, understands no escape sequences.
pub(crate) fn is_dumb() -> bool {
    env::var_os("TERM").is_some_and(|term| term == "dumb")
}
