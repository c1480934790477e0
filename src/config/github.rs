//! What a job of a GitHub workflow tells its programs.

use std::env;
use std::path::PathBuf;

/// Where a job has its repository, and where it collects reports.
///
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
#[derive(Debug, Clone, Default)]
pub(crate) struct Github {
    /// The repository's folder, from which GitHub knows files.
    pub(crate) workspace: Option<PathBuf>,
    /// The file to which a step appends its report as Markdown.
    pub(crate) step_summary: Option<PathBuf>,
}

impl Github {
    /// Reads the variables of the job.
    pub(crate) fn of_job() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { workspace: path("GITHUB_WORKSPACE"), step_summary: path("GITHUB_STEP_SUMMARY") }
    }
}
