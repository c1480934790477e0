//! Builds a manual page with the `man` macros that groff and mandoc both know.
//!
//! Source: groff_man(7), and groff_char(7) for the names of characters.

use std::fmt::Write;

/// A page, to which sections are appended.
pub(super) struct Page(String);

impl Page {
    /// Starts a page of the given manual section and date.
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

    /// Appends a line that already has its markup.
    pub(super) fn line(&mut self, line: &str) {
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "{line}");
    }

    /// Appends paragraphs, which are separated by blank lines. A paragraph with an indented line keeps its
    /// line breaks.
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

    /// Appends text whose lines roff may break anew.
    pub(super) fn text(&mut self, text: &str) {
        for line in text.trim().lines() {
            self.line(&escape(line.trim()));
        }
    }

    /// Appends lines whose breaks are kept.
    pub(super) fn literal(&mut self, lines: &str) {
        self.line(".nf");
        for line in lines.lines() {
            self.line(&escape(line));
        }
        self.line(".fi");
    }

    /// Appends an item of a list: its name, which already has its markup, and its meaning.
    pub(super) fn item(&mut self, name: &str, text: &str) {
        self.line(".TP");
        self.line(name);
        self.text(text);
    }

    /// Appends the SEE ALSO section with references to other pages.
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

/// Returns the text in bold.
pub(super) fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escape(text))
}

/// Returns the text in italics, which mark a placeholder.
pub(super) fn italic(text: &str) -> String {
    format!("\\fI{}\\fR", escape(text))
}

/// Escapes text so that roff prints exactly these characters.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    // A line that begins with one of these would be read as a macro.
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
