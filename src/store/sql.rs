//! This file holds the SQL that both databases share, so that the two cannot drift apart.

/// Selects a row's columns in the order in which every store reads them. `$id` names the column
/// that identifies the row, `$model` the model's column, and `$rest` follows the table's name.
macro_rules! select {
    ($id:literal, $model:literal, $rest:literal) => {
        concat!(
            "SELECT ",
            $id,
            ", ",
            $model,
            ", app_num, backend_port, frontend_port, is_available, metadata_json, ",
            "created_at, updated_at FROM port_configurations ",
            $rest
        )
    };
}
pub(super) use select;
