//! This file holds the SQL that both databases share, so that the two cannot drift apart.

use crate::core::schema::UniqueIndex;

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

/// Returns the SQL that selects the rows which a unique index would not accept. A result has the row's id, which
/// the column `id` holds, and the number of its group: the rows of a group have the same values in the columns of
/// the index. NULL is equal to nothing, as in an index.
pub(super) fn duplicates(id: &str, index: UniqueIndex) -> String {
    let columns = index.columns().join(", ");
    format!(
        "SELECT {id}, dense_rank() OVER (ORDER BY {columns}) FROM port_configurations WHERE ({columns}) IN
          (SELECT {columns} FROM port_configurations GROUP BY {columns} HAVING count(*) > 1) ORDER BY 2, 1"
    )
}
