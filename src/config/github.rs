//! Reads the variables that GitHub sets for a job of a workflow.

use std::env;
use std::path::PathBuf;

/// The paths of a job's repository and of its summary file.
///
/// Source: <https://docs.github.com/en/actions/reference/workflows-and-actions/variables>
#[derive(Debug, Clone, Default)]
pub(crate) struct Github {
    /// The folder of the repository; GitHub names files relative to it.
    pub(crate) workspace: Option<PathBuf>,
    /// The file to which a step appends its report as Markdown.
    pub(crate) step_summary: Option<PathBuf>,
}

impl Github {
    /// Reads the variables of the current job.
    pub(crate) fn of_job() -> Self {
        let path = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { workspace: path("GITHUB_WORKSPACE"), step_summary: path("GITHUB_STEP_SUMMARY") }
    }
}
