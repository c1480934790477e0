//! Prints the findings of `check` as annotations and as the summary of a GitHub workflow's job.

use std::io::{self, Write};
use std::path::Path;

use crate::core::conflict::{Finding, Report};
use crate::core::text::Shown;

/// The greatest size, in bytes, of the Markdown summary of one step.
///
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands#step-isolation-and-limits>
pub(crate) const SUMMARY_MAX: usize = 1 << 20;

/// Writes a notice with the totals, because GitHub shows at most ten annotations of a kind. Then it writes
/// one annotation for each finding, with advice: an error for a conflict, a warning otherwise. A finding
/// about a declaration is attached to its line in the app's file, under `apps_dir`.
///
/// Source of the form and its escapes:
/// <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>
pub(crate) fn annotations(out: &mut dyn Write, apps_dir: &Path, report: &Report<'_>) -> io::Result<()> {
    writeln!(out, "::notice title=manage-ports check::{}", escape(&report.totals().to_string()))?;
    for found in report.findings {
        let level = if found.kind.is_conflict() { "error" } else { "warning" };
        let file =
            path_of(found, apps_dir).map_or_else(String::new, |path| format!("file={},", escape_property(&path)));
        let line = found.line.filter(|_| !file.is_empty()).map_or_else(String::new, |line| format!("line={line},"));
        let message = escape(&format!("{}\nTo do: {}", found.message, found.kind.advice()));
        writeln!(out, "::{level} {file}{line}title={}::{message}", found.kind.name())?;
    }
    Ok(())
}

/// Returns the path of the file that a finding is about, under `apps_dir`.
fn path_of(found: &Finding, apps_dir: &Path) -> Option<String> {
    let path = apps_dir.join(found.file.as_ref()?).display().to_string();
    // GitHub expects paths relative to the root of the repository.
    Some(Shown(path.strip_prefix("./").unwrap_or(&path)).to_string())
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn escape_property(text: &str) -> String {
    escape(text).replace(':', "%3A").replace(',', "%2C")
}

/// Returns the report as Markdown of at most `room` bytes: the totals, a table of conflicts and a table of
/// warnings. Rows that do not fit are left out.
pub(crate) fn summary(apps_dir: &Path, report: &Report<'_>, room: usize) -> String {
    let totals = report.totals();
    let mut text = format!("### manage-ports check\n\n{totals}\n");
    let left_out = |count: usize| format!("\n{count} more finding(s) have no room here. {totals}\n");
    let room = room.saturating_sub(left_out(report.findings.len()).len());
    let mut count = 0;
    for (is_conflict, heading) in [(true, "Conflicts"), (false, "Warnings")] {
        let findings = report.of(is_conflict);
        let mut table =
            format!("\n#### {heading}\n\n| Kind | What was found | Where | What to do |\n| --- | --- | --- | --- |\n");
        for (index, found) in findings.iter().enumerate() {
            let row = row(found, apps_dir);
            if text.len() + table.len() + row.len() > room {
                count += findings.len() - index;
                break;
            }
            table += &row;
        }
        if !findings.is_empty() && text.len() + table.len() <= room {
            text += &table;
        }
    }
    if count > 0 {
        text += &left_out(count);
    }
    text
}

fn row(found: &Finding, apps_dir: &Path) -> String {
    let place = match (path_of(found, apps_dir), found.line) {
        (Some(path), Some(line)) => format!("{path}:{line}"),
        (path, _) => path.unwrap_or_default(),
    };
    let (message, place) = (escape_markdown(&found.message), escape_markdown(&place));
    format!("| {} | {message} | {place} | {} |\n", found.kind.name(), found.kind.advice())
}

/// Escapes characters that are markup in a table cell or would end the cell. A character between two letters,
/// as in `openai_o3`, is not markup (<https://github.github.com/gfm/>).
fn escape_markdown(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let mut last = ' ';
    for (index, c) in text.char_indices() {
        let rest = &text[index + c.len_utf8()..];
        let is_inside = last.is_alphanumeric() && rest.starts_with(char::is_alphanumeric);
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '\n' | '\r' => escaped.push(' '),
            '\\' | '`' | '*' | '[' | ']' | '|' | '~' | '#' | '!' | '$' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '_' if !is_inside => escaped.push_str("\\_"),
            // GitHub would turn a URL, a host's name or a user's name into a link.
            '@' => escaped.push_str("&#64;"),
            '.' if escaped
                .get(escaped.len().saturating_sub(3)..)
                .is_some_and(|end| end.eq_ignore_ascii_case("www")) =>
            {
                escaped.push_str("&#46;");
            }
            ':' if rest.starts_with("//") => escaped.push_str("&#58;"),
            c => escaped.push(c),
        }
        last = c;
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::app::AppId;
    use crate::core::conflict::{Examined, Kind};

    fn orphans(count: usize) -> Vec<Finding> {
        let orphan = |n: usize| Finding {
            kind: Kind::Orphaned,
            message: format!("m/app{n} has no directory m/app{n}"),
            ports: vec![5001],
            apps: vec![AppId::new("m", 1)],
            file: None,
            line: None,
        };
        (1..=count).map(orphan).collect()
    }

    fn summary_of(findings: &[Finding], room: usize) -> String {
        let examined = Examined { allocations: findings.len(), directories: 0, files: 0 };
        summary(Path::new("apps"), &Report { findings, rows: &[], listeners: None, examined }, room)
    }

    #[test]
    fn a_summary_that_is_too_long_ends_with_the_totals() {
        let findings = orphans(20_000);
        let text = summary_of(&findings, SUMMARY_MAX);
        assert!(text.len() <= SUMMARY_MAX && text.len() > SUMMARY_MAX - 1000, "{}", text.len());
        let rows = text.lines().filter(|line| line.starts_with("| orphaned |")).count();
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            format!(
                "{} more finding(s) have no room here. 20000 allocations, 0 app directories and 0 files checked: \
                 0 conflicts, 20000 warnings",
                20_000 - rows
            )
        );
        assert!(!summary_of(&orphans(3), SUMMARY_MAX).contains("no room"));
        assert_eq!(summary_of(&findings, 0).lines().filter(|line| line.starts_with('|')).count(), 0);
    }

    #[test]
    fn no_text_is_markup() {
        for (text, escaped) in [
            ("openai_o3/app1", "openai_o3/app1"),
            ("a|b\n", "a\\|b "),
            ("_x_ *y* `z`", "\\_x\\_ \\*y\\* \\`z\\`"),
            ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
            ("[a](https://b) @me #1 ~~c~~", "\\[a\\](https&#58;//b) &#64;me \\#1 \\~\\~c\\~\\~"),
            ("www.b.c é.d", "www&#46;b.c é.d"),
        ] {
            assert_eq!(escape_markdown(text), escaped);
        }
    }
}
