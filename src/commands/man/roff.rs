//! A manual page as it is built, in the `man` macros of groff and mandoc.
//!
//! Source: groff_man(7), and groff_char(7) for the names of characters.

use std::fmt::Write;

/// A page that grows section by section.
pub(super) struct Page(String);

impl Page {
    /// A page of a manual section, of one date.
    pub(super) fn new(name: &str, section: u8, date: &str) -> Self {
        let version = env!("CARGO_PKG_VERSION");
        let title = escape(&name.to_uppercase());
        Self(format!(".TH {title} {section} {date} \"manage\\-ports {version}\" \"manage\\-ports manual\"\n"))
    }

    pub(super) fn section(&mut self, title: &str) {
        self.line(&format!(".SH {title}"));
    }

    pub(super) fn subsection(&mut self, title: &str) {
        self.line(&format!(".SS {}", escape(title)));
    }

    /// A line that holds its own markup.
    pub(super) fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Text in paragraphs, which blank lines part; one with an indented line is kept as it is.
    pub(super) fn paragraphs(&mut self, text: &str) {
        for (index, paragraph) in text.split("\n\n").filter(|paragraph| !paragraph.trim().is_empty()).enumerate() {
            if index > 0 {
                self.line(".PP");
            }
            if paragraph.lines().any(|line| line.starts_with(' ')) {
                self.literal(paragraph);
            } else {
                self.text(paragraph);
            }
        }
    }

    /// Text that is filled.
    pub(super) fn text(&mut self, text: &str) {
        for line in text.trim().lines() {
            self.line(&escape(line.trim()));
        }
    }

    /// Lines that are kept as they are.
    pub(super) fn literal(&mut self, lines: &str) {
        self.line(".nf");
        for line in lines.lines() {
            self.line(&escape(line));
        }
        self.line(".fi");
    }

    /// An item of a list: its name with its own markup, and what it means.
    pub(super) fn item(&mut self, name: &str, text: &str) {
        self.line(".TP");
        self.line(name);
        self.text(text);
    }

    /// References to other pages.
    pub(super) fn see_also(&mut self, pages: &[(String, u8)]) {
        self.section("\"SEE ALSO\"");
        for (index, (name, section)) in pages.iter().enumerate() {
            let comma = if index + 1 < pages.len() { "," } else { "" };
            self.line(&format!(".BR {} ({section}){comma}", escape(name)));
        }
    }

    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// Bold text.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

/// Text in italics, for what the reader replaces.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escape(text))
}

/// Text without a meaning to roff, and of the characters that it was written in.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    // A line that begins so would be a macro.
    if text.starts_with(['.', '\'']) {
        escaped.push_str("\\&");
    }
    for c in text.chars() {
        match c {
            '\\' => escaped.push_str("\\e"),
            '-' => escaped.push_str("\\-"),
            '\'' => escaped.push_str("\\(aq"),
            '`' => escaped.push_str("\\(ga"),
            '~' => escaped.push_str("\\(ti"),
            '^' => escaped.push_str("\\(ha"),
            _ => escaped.push(c),
        }
    }
    escaped
}
