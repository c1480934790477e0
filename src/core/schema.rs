//! Names the unique indexes of the platform's table, so that both databases check for the same ones.

/// A unique index that the platform's table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UniqueIndex {
    /// The constraint `unique_model_app`, which allows one row for each app.
    ModelApp,
    /// The index that allows one row for each backend port.
    BackendPort,
    /// The index that allows one row for each frontend port.
    FrontendPort,
}

impl UniqueIndex {
    /// All unique indexes of the table.
    pub(crate) const ALL: [Self; 3] = [Self::ModelApp, Self::BackendPort, Self::FrontendPort];

    /// Returns the indexes that a table lacks. `present` has one element for each unique index of the table:
    /// the names of its columns in alphabetical order, joined by commas.
    pub(crate) fn missing_from(present: &[String]) -> Vec<Self> {
        let sorted = |index: &Self| {
            let mut columns = index.columns().to_vec();
            columns.sort_unstable();
            columns.join(",")
        };
        Self::ALL.into_iter().filter(|index| !present.contains(&sorted(index))).collect()
    }

    /// Returns the name that the platform gives the index or its constraint.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ModelApp => "unique_model_app",
            Self::BackendPort => "ix_port_configurations_backend_port",
            Self::FrontendPort => "ix_port_configurations_frontend_port",
        }
    }

    /// Returns the columns that the index covers.
    pub(crate) fn columns(self) -> &'static [&'static str] {
        match self {
            Self::ModelApp => &["model", "app_num"],
            Self::BackendPort => &["backend_port"],
            Self::FrontendPort => &["frontend_port"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_missing_unless_one_has_just_its_columns() {
        let missing = |present: &[&str]| {
            UniqueIndex::missing_from(&present.iter().copied().map(str::to_owned).collect::<Vec<_>>())
        };
        assert_eq!(missing(&["app_num,model", "backend_port", "frontend_port", "id"]), []);
        assert_eq!(missing(&["app_num,model", "frontend_port"]), [UniqueIndex::BackendPort]);
        assert_eq!(missing(&["app_num", "model", "backend_port,frontend_port"]), UniqueIndex::ALL);
    }

    #[test]
    fn the_indexes_have_the_names_of_the_platforms_table() {
        let names = UniqueIndex::ALL.map(UniqueIndex::name);
        let expected =
            ["unique_model_app", "ix_port_configurations_backend_port", "ix_port_configurations_frontend_port"];
        assert_eq!(names, expected);
    }
}
