//! This file holds the schema of the platform's table in SQLite.

use rusqlite::{Connection, OptionalExtension};

use crate::core::schema::UniqueIndex;
use crate::store::error::StoreError;

/// The statements, byte for byte, by which the platform makes its table and indexes.
pub(super) const SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid INTEGER NOT NULL, 
\tmodel VARCHAR(200) NOT NULL, 
\tapp_num INTEGER NOT NULL, 
\tfrontend_port INTEGER NOT NULL, 
\tbackend_port INTEGER NOT NULL, 
\tis_available BOOLEAN, 
\tmetadata_json TEXT, 
\tcreated_at DATETIME, 
\tupdated_at DATETIME, 
\tPRIMARY KEY (id), 
\tCONSTRAINT unique_model_app UNIQUE (model, app_num)
);
CREATE INDEX ix_port_configurations_app_num ON port_configurations (app_num);
CREATE INDEX ix_port_configurations_model ON port_configurations (model);
CREATE INDEX ix_port_configurations_is_available ON port_configurations (is_available);
CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (frontend_port);
CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
";

/// Tells whether the table exists. A database that has other content and no table is an error.
///
/// The caller must hold a transaction, because another process may make the database meanwhile.
pub(super) fn is_made(transaction: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'port_configurations')";
    if transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))? {
        return Ok(true);
    }
    // The database was never written. A writer that died while it made the database leaves it so.
    if transaction.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))? == 0 {
        return Ok(false);
    }
    Err(StoreError::Unusable {
        why: "has no table port_configurations".into(),
        hint: Some("name the platform's database, or a file that does not exist yet to start a new one"),
    })
}

/// Makes the table if it does not exist, and returns whether it made it.
pub(super) fn make(transaction: &Connection) -> Result<bool, StoreError> {
    let is_made = is_made(transaction)?;
    if !is_made {
        transaction.execute_batch(SCHEMA)?;
    }
    Ok(!is_made)
}

/// Returns the unique indexes that the table lacks.
pub(super) fn missing_indexes(connection: &Connection) -> Result<Vec<UniqueIndex>, StoreError> {
    let mut indexes = connection.prepare(
        "SELECT group_concat(columns.name ORDER BY columns.name)
         FROM pragma_index_list('port_configurations') AS indexes, pragma_index_info(indexes.name) AS columns
         WHERE indexes.\"unique\" AND NOT indexes.partial GROUP BY indexes.name
         HAVING count(*) = count(columns.name)",
    )?;
    let present: Vec<String> = indexes.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(UniqueIndex::missing_from(&present))
}

/// Tells whether an index of the table has the name of this index. If something else has it, that is an error.
pub(super) fn has_namesake(connection: &Connection, index: UniqueIndex) -> Result<bool, StoreError> {
    let sql = "SELECT type, tbl_name, type = 'index' AND tbl_name = 'port_configurations' COLLATE NOCASE
               FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE";
    let find = |row: &rusqlite::Row<'_>| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?));
    match connection.query_row(sql, [index.name()], find).optional()? {
        None => Ok(false),
        Some((.., true)) => Ok(true),
        Some((kind, table, _)) => {
            let why = format!("cannot be migrated: {} is the name of another {kind}, of {table}", index.name());
            Err(StoreError::Unusable { why, hint: Some("rename it, as the unique index needs its name") })
        }
    }
}

/// Makes a unique index; one of the same name is dropped first.
pub(super) fn make_index(transaction: &Connection, index: UniqueIndex) -> Result<(), StoreError> {
    let (name, columns) = (index.name(), index.columns().join(", "));
    let sql = format!("DROP INDEX IF EXISTS {name}; CREATE UNIQUE INDEX {name} ON port_configurations ({columns})");
    Ok(transaction.execute_batch(&sql)?)
}

/// Returns the first damage that SQLite's `quick_check` finds in a database.
pub(super) fn damage(connection: &Connection) -> Result<Option<String>, StoreError> {
    let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    Ok(Some(found).filter(|found| found != "ok"))
}
