//! Findings as annotations of a GitHub workflow.

use std::io::{self, Write};

use crate::core::conflict::Finding;

/// Writes one annotation a finding: an error for a conflict, a warning otherwise.
///
/// Source of the form and its escapes: GitHub's "Workflow commands for GitHub Actions".
pub(crate) fn findings(out: &mut dyn Write, findings: &[Finding]) -> io::Result<()> {
    for found in findings {
        let level = if found.kind.is_conflict() { "error" } else { "warning" };
        let message = found.message.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        writeln!(out, "::{level} title={}::{message}", found.kind.name())?;
    }
    Ok(())
}
