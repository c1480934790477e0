//! The output format, the use of colours and the capabilities of stdout.

use std::os::fd::AsFd;

use clap::ValueEnum;

/// How an answer is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Human,
    /// JSON
    Json,
    /// Comma-separated values with a header
    Csv,
    /// Bare values for scripts
    Plain,
    /// Shell variables
    Env,
    /// GitHub workflow annotations
    Github,
    /// A picture
    Svg,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ColorWhen {
    /// Where a terminal reads them
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The capabilities of stdout.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Look {
    /// Whether stdout is a terminal.
    pub(crate) is_terminal: bool,
    /// Whether to use colours.
    pub(crate) has_colour: bool,
    /// The width of the terminal in columns, if stdout is a terminal that reports it.
    pub(crate) width: Option<usize>,
}

/// Returns the width in columns of the terminal behind a stream, if it is a terminal that reports it.
pub(crate) fn width(stream: impl AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(size.ws_col.into()).filter(|&width| width > 0)
}

/// The SGR codes of the colours that the program uses.
pub(super) const GREEN: &str = "32";
pub(super) const RED: &str = "31";
pub(super) const YELLOW: &str = "33";

impl Look {
    /// Returns the text in a colour, if colours are wanted.
    pub(super) fn paint(self, colour: &str, text: &str) -> String {
        if self.has_colour { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}
