//! This file plans and makes the unique indexes that an old table lacks.
//!
//! `ALTER TABLE` cannot add a constraint to a table of SQLite. The platform's constraint on an app is made as a
//! unique index of the same name: it rejects the same rows, and the table itself with its data, triggers and
//! other indexes stays as it is. To rebuild the table would give the constraint itself, and put all of that at
//! risk.

use rusqlite::Connection;

use super::rows::all_rows;
use super::schema::{has_namesake, make_index, missing_indexes};
use crate::core::migration::{Migration, obstacles};
use crate::core::schema::UniqueIndex;
use crate::store::error::StoreError;
use crate::store::sql::duplicates;

/// Plans the migration. The caller must hold a transaction.
pub(super) fn plan(transaction: &Connection) -> Result<Migration, StoreError> {
    let rows = all_rows(transaction)?;
    let mut missing = Vec::new();
    let mut in_the_way = Vec::new();
    for index in missing_indexes(transaction)? {
        missing.push((index, has_namesake(transaction, index)?));
        in_the_way.extend(obstacles(index, &groups(transaction, index)?, &rows));
    }
    let replaces = |index| missing.contains(&(index, true));
    Ok(Migration::new(missing.iter().map(|(index, _)| *index), replaces, in_the_way))
}

/// Makes the planned indexes.
pub(super) fn apply(transaction: &Connection, planned: &Migration) -> Result<(), StoreError> {
    planned.indexes().try_for_each(|index| make_index(transaction, index))
}

/// Returns the id of each row that a unique index would not accept, and the number of its group.
fn groups(transaction: &Connection, index: UniqueIndex) -> Result<Vec<(i64, i64)>, StoreError> {
    let mut groups = transaction.prepare(&duplicates("rowid", index))?;
    Ok(groups.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?)
}
