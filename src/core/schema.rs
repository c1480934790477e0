//! What the platform's table is made of.

/// A unique index that the platform's table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UniqueIndex {
    /// One row an app: the constraint `unique_model_app`.
    ModelApp,
    /// One row a backend port.
    BackendPort,
    /// One row a frontend port.
    FrontendPort,
}

impl UniqueIndex {
    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::ModelApp, Self::BackendPort, Self::FrontendPort];

    /// Those that a table with unique indexes on these columns lacks; of an index, the columns' names
    /// stand in alphabetical order with commas between them.
    pub(crate) fn missing_from(present: &[String]) -> Vec<Self> {
        let sorted = |index: &Self| {
            let mut columns = index.columns().to_vec();
            columns.sort_unstable();
            columns.join(",")
        };
        Self::ALL.into_iter().filter(|index| !present.contains(&sorted(index))).collect()
    }

    /// The columns it covers.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::ModelApp => &["model", "app_num"],
            Self::BackendPort => &["backend_port"],
            Self::FrontendPort => &["frontend_port"],
        }
    }
}
