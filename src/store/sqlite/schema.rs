//! The platform's table in SQLite.

use rusqlite::Connection;

use crate::store::error::StoreError;

/// The platform's table and indexes, to the letter.
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

/// Whether the table is there; a database with something else in it and no table is an error.
///
/// To be asked in a transaction: the database may be made while we look.
pub(super) fn is_made(transaction: &Connection) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'port_configurations')";
    if transaction.prepare_cached(sql)?.query_row([], |row| row.get(0))? {
        return Ok(true);
    }
    // Nothing was ever in it: so does a writer leave it that died while it made the database.
    if transaction.pragma_query_value(None, "schema_version", |row| row.get::<_, i64>(0))? == 0 {
        return Ok(false);
    }
    Err(StoreError::Unusable {
        why: "has no table port_configurations".into(),
        hint: Some("name the platform's database, or a file that does not exist yet to start a new one"),
    })
}

/// Makes the table where there is none, and says whether it did.
pub(super) fn make(transaction: &Connection) -> Result<bool, StoreError> {
    let is_made = is_made(transaction)?;
    if !is_made {
        transaction.execute_batch(SCHEMA)?;
    }
    Ok(!is_made)
}

/// What SQLite's `quick_check` finds first of a database's damage.
pub(super) fn damage(connection: &Connection) -> Result<Option<String>, StoreError> {
    let found: String = connection.pragma_query_value(None, "quick_check", |row| row.get(0))?;
    Ok(Some(found).filter(|found| found != "ok"))
}
