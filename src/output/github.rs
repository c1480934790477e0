//! Findings as annotations of a GitHub workflow.

use std::io::{self, Write};
use std::path::Path;

use crate::core::conflict::Finding;
use crate::core::text::Shown;

/// Writes one annotation a finding, with what to do about it: an error for a conflict, a warning
/// otherwise. What a file says is annotated at that file, in `apps_dir`.
///
/// Source of the form and its escapes: GitHub's "Workflow commands for GitHub Actions".
pub(crate) fn findings(out: &mut dyn Write, apps_dir: &Path, findings: &[Finding]) -> io::Result<()> {
    for found in findings {
        let level = if found.kind.is_conflict() { "error" } else { "warning" };
        let file = found.file.as_ref().map(|file| {
            let path = apps_dir.join(file).display().to_string();
            // GitHub knows files by their path from the repository's root on.
            let path = Shown(path.strip_prefix("./").unwrap_or(&path)).to_string();
            format!("file={},", escape(&path).replace(':', "%3A").replace(',', "%2C"))
        });
        let message = escape(&format!("{}\nTo do: {}", found.message, found.kind.advice()));
        writeln!(out, "::{level} {}title={}::{message}", file.unwrap_or_default(), found.kind.name())?;
    }
    Ok(())
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}
