//! This file writes to the file in which a job of a GitHub workflow collects its report.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::Path;

/// Appends a text to the file. `text` is called with the number of bytes that are left of `limit`.
///
/// # Errors
///
/// Fails when the file cannot be opened or written.
pub(crate) fn append(path: &Path, limit: usize, text: impl FnOnce(usize) -> String) -> io::Result<()> {
    let mut file = OpenOptions::new().create(true).append(true).open(path)?;
    let used = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    // An earlier writer may have stopped in the middle of a line.
    let gap = if used == 0 { "" } else { "\n\n" };
    let text = text(limit.saturating_sub(used).saturating_sub(gap.len()));
    file.write_all(format!("{gap}{text}").as_bytes())
}
