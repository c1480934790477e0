//! This file reads, writes and removes the table's rows.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::ffi::CStr;

use jiff::Timestamp;
use rusqlite::functions::{Aggregate, Context, FunctionFlags};
use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, OptionalExtension, Row, params};

use crate::core::allocation::{Allocation, parse_time};
use crate::core::app::AppId;
use crate::core::ports::PortSet;
use crate::store::error::StoreError;
use crate::store::sql::select;

/// Prepares a statement on the table's columns. Returns an error that says so if a column is missing.
fn prepare<'a>(connection: &'a Connection, sql: &str) -> Result<CachedStatement<'a>, StoreError> {
    connection.prepare_cached(sql).map_err(|err| {
        let is_missing = |column: &CStr| !connection.column_exists(None, TABLE, column).unwrap_or(true);
        match COLUMNS.into_iter().find(|column| is_missing(column)) {
            Some(column) => StoreError::unusable(format!(
                "has a table port_configurations without a column {}",
                column.to_string_lossy()
            )),
            None => err.into(),
        }
    })
}

const TABLE: &CStr = c"port_configurations";

const COLUMNS: [&CStr; 8] = [
    c"model",
    c"app_num",
    c"backend_port",
    c"frontend_port",
    c"is_available",
    c"metadata_json",
    c"created_at",
    c"updated_at",
];

pub(super) fn all_rows(connection: &Connection) -> Result<Vec<Allocation>, StoreError> {
    let mut rows = prepare(connection, select!("rowid", "model", ""))?;
    Ok(rows.query_map([], allocation)?.collect::<Result<_, _>>()?)
}

/// For more apps than this, the whole table is read once instead of one look-up per app: without its index, a
/// table is read to its end for each look-up.
const LOOK_UPS_MAX: usize = 100;

/// Returns the row of each app, if it has one. If an app has several rows, returns the oldest.
pub(super) fn existing(connection: &Connection, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, StoreError> {
    if apps.len() > LOOK_UPS_MAX {
        let mut rows = all_rows(connection)?;
        // The oldest row of an app must be inserted into the map last.
        rows.sort_unstable_by_key(|row| Reverse(row.id));
        let rows: HashMap<_, _> = rows.into_iter().map(|row| (row.app.clone(), row)).collect();
        return Ok(apps.iter().map(|app| rows.get(app).cloned()).collect());
    }
    let mut row =
        prepare(connection, select!("rowid", "model", "WHERE model = ?1 AND app_num = ?2 ORDER BY rowid LIMIT 1"))?;
    apps.iter().map(|app| Ok(row.query_row(params![app.model, app.app_num], allocation).optional()?)).collect()
}

/// Tells whether some row has the model of the apps, which all have the same one.
pub(super) fn has_model(connection: &Connection, apps: &[AppId]) -> Result<bool, StoreError> {
    let Some(app) = apps.first() else { return Ok(false) };
    let sql = "SELECT EXISTS (SELECT 1 FROM port_configurations WHERE model = ?1)";
    Ok(connection.prepare_cached(sql)?.query_row([&app.model], |row| row.get(0))?)
}

/// Returns the models that rows have, once each.
///
/// Each step of the recursion looks up the next model in the index, so that the number of a model's rows
/// does not matter (<https://www.sqlite.org/lang_with.html>).
pub(super) fn models(connection: &Connection) -> Result<Vec<String>, StoreError> {
    let sql = "WITH RECURSIVE models (model) AS (
                   SELECT min(model) FROM port_configurations
                   UNION ALL
                   SELECT (SELECT min(model) FROM port_configurations WHERE model > models.model)
                   FROM models WHERE model IS NOT NULL)
               SELECT model FROM models WHERE model IS NOT NULL";
    let mut models = connection.prepare_cached(sql)?;
    Ok(models.query_map([], |row| Ok(text(row.get_ref(0)?).unwrap_or_default()))?.collect::<Result<_, _>>()?)
}

/// Returns every port in either column. Numbers that are not ports are skipped, because they are never handed
/// out.
pub(super) fn taken_ports(connection: &Connection) -> Result<PortSet, StoreError> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_aggregate_function(c"port_set", 1, flags, PortSetAggregate)?;
    let mut taken = PortSet::new();
    // The index of each port column holds all that is needed, in a third of the table's pages.
    for sql in [
        "SELECT port_set(backend_port) FROM port_configurations",
        "SELECT port_set(frontend_port) FROM port_configurations",
    ] {
        let ports: Vec<u8> = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        taken.extend(ports.chunks_exact(2).map(|port| u16::from_ne_bytes([port[0], port[1]])));
    }
    Ok(taken)
}

/// An aggregate of the ports in a column, two bytes each. Collecting them inside SQLite saves a quarter of
/// the cost of reading them row by row.
struct PortSetAggregate;

impl Aggregate<Vec<u8>, Vec<u8>> for PortSetAggregate {
    fn init(&self, _: &mut Context<'_>) -> rusqlite::Result<Vec<u8>> {
        Ok(Vec::new())
    }

    fn step(&self, context: &mut Context<'_>, ports: &mut Vec<u8>) -> rusqlite::Result<()> {
        ports.extend(u16::try_from(integer(context.get_raw(0))).into_iter().flat_map(u16::to_ne_bytes));
        Ok(())
    }

    fn finalize(&self, _: &mut Context<'_>, ports: Option<Vec<u8>>) -> rusqlite::Result<Vec<u8>> {
        Ok(ports.unwrap_or_default())
    }
}

/// Writes a new row and returns its id.
pub(super) fn insert(connection: &Connection, row: &Allocation) -> Result<i64, StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO port_configurations
         (model, app_num, frontend_port, backend_port, is_available, metadata_json, created_at, updated_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let [created_at, updated_at] = [row.created_at, row.updated_at].map(|time| time.map(timestamp_text));
    let Allocation { app: AppId { model, app_num }, backend_port, frontend_port, is_available, metadata, .. } = row;
    let values = params![model, app_num, frontend_port, backend_port, is_available, metadata, created_at, updated_at];
    if insert.execute(values)? != 1 {
        return Err(StoreError::unusable("did not keep a new row: it has a trigger or a rule of its own"));
    }
    let id = connection.last_insert_rowid();
    let kept: Option<(String, i64, i64, i64)> = connection
        .prepare_cached("SELECT model, app_num, backend_port, frontend_port FROM port_configurations WHERE rowid = ?1")?
        .query_row([id], |row| {
            Ok((
                text(row.get_ref(0)?).unwrap_or_default(),
                integer(row.get_ref(1)?),
                integer(row.get_ref(2)?),
                integer(row.get_ref(3)?),
            ))
        })
        .optional()?;
    if kept != Some((model.clone(), *app_num, *backend_port, *frontend_port)) {
        return Err(StoreError::unusable("did not keep a new row as it was written: it has a trigger of its own"));
    }
    Ok(id)
}

/// Writes a row's metadata and `updated_at`.
pub(super) fn update_metadata(connection: &Connection, row: &Allocation) -> Result<(), StoreError> {
    let sql = "UPDATE port_configurations SET metadata_json = ?2, updated_at = ?3 WHERE rowid = ?1";
    let values = params![row.id, row.metadata, row.updated_at.map(timestamp_text)];
    if connection.prepare_cached(sql)?.execute(values)? != 1 {
        return Err(StoreError::unusable("did not change a row: it has a trigger or a rule of its own"));
    }
    Ok(())
}

/// Removes a row.
pub(super) fn delete(connection: &Connection, row: &Allocation) -> Result<(), StoreError> {
    if connection.prepare_cached("DELETE FROM port_configurations WHERE rowid = ?1")?.execute([row.id])? != 1 {
        return Err(StoreError::unusable("did not let go of a row: it has a trigger or a rule of its own"));
    }
    Ok(())
}

/// Reads a row whose columns may hold any type, because SQLite does not enforce column types.
fn allocation(row: &Row<'_>) -> rusqlite::Result<Allocation> {
    let created_at = text(row.get_ref(7)?);
    let made = created_at.as_deref().and_then(parse_time);
    Ok(Allocation {
        id: row.get(0)?,
        app: AppId::new(text(row.get_ref(1)?).unwrap_or_default(), integer(row.get_ref(2)?)),
        backend_port: integer(row.get_ref(3)?),
        frontend_port: integer(row.get_ref(4)?),
        is_available: integer(row.get_ref(5)?) != 0,
        metadata: text(row.get_ref(6)?),
        created_at_is_unreadable: created_at.is_some() && made.is_none(),
        created_at: made,
        updated_at: text(row.get_ref(8)?).as_deref().and_then(parse_time),
    })
}

/// Converts a value to a number as SQLite's CAST does, with 0 for anything that is not a number.
#[expect(clippy::cast_possible_truncation, reason = "what is out of range is no port either way")]
fn integer(value: ValueRef<'_>) -> i64 {
    match value {
        ValueRef::Integer(number) => number,
        ValueRef::Real(number) => number as i64,
        ValueRef::Text(text) => str::from_utf8(text).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
        ValueRef::Null | ValueRef::Blob(_) => 0,
    }
}

fn text(value: ValueRef<'_>) -> Option<String> {
    match value {
        ValueRef::Text(text) | ValueRef::Blob(text) => Some(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Integer(number) => Some(number.to_string()),
        ValueRef::Real(number) => Some(number.to_string()),
        ValueRef::Null => None,
    }
}

/// Formats a time as SQLAlchemy's `DateTime` writes and reads it in SQLite: UTC, always 26 characters.
fn timestamp_text(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S%.6f").to_string()
}
