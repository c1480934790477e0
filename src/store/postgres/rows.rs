//! This file reads, writes and removes the table's rows.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::slice;
use std::time::SystemTime;

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Error, Row};

use super::values::{Integer, Moment, Text};
use crate::core::allocation::Allocation;
use crate::core::app::AppId;
use crate::store::api::Taken;
use crate::store::sql::select;

/// The most rows that one statement writes: a row takes five parameters, and a statement at most 65,535
/// (<https://www.postgresql.org/docs/current/limits.html>).
pub(super) const ROWS_MAX: usize = 10_000;

/// Returns all rows, sorted by id.
pub(super) async fn all_rows(client: &Client) -> Result<Vec<Allocation>, Error> {
    let rows = client.query_typed(select!("id", "model::text", ""), &[]).await?;
    let mut rows: Vec<_> = rows.iter().map(allocation).collect::<Result<_, _>>()?;
    rows.sort_by_key(|row| row.id);
    Ok(rows)
}

/// Returns the models that rows have, once each.
pub(super) async fn models(client: &Client) -> Result<Vec<String>, Error> {
    let rows = client.query_typed("SELECT DISTINCT model::text FROM port_configurations", &[]).await?;
    rows.iter().map(|row| row.try_get::<_, Text>(0).map(|Text(model)| model)).collect()
}

/// Returns the row of each app, if it has one. If an app has several rows, returns the one with the lowest
/// id.
pub(super) async fn existing(client: &Client, apps: &[AppId]) -> Result<Vec<Option<Allocation>>, Error> {
    let asked = Asked::new(apps);
    let rows =
        client.query_typed(&format!(select!("id", "model::text", "WHERE {}"), asked.sql), &asked.values()).await?;
    let mut rows: Vec<_> = rows.iter().map(allocation).collect::<Result<_, _>>()?;
    rows.sort_by_key(|row| Reverse(row.id));
    let mut rows: HashMap<_, _> = rows.into_iter().map(|row| (row.app.clone(), row)).collect();
    Ok(apps.iter().map(|app| rows.remove(app)).collect())
}

/// Returns the ports in the table, and whether one of the apps has a row. Numbers that are not ports are left
/// out, because they are never handed out.
pub(super) async fn taken(client: &Client, apps: &[AppId]) -> Result<(Taken, bool), Error> {
    let asked = Asked::new(apps);
    let sql =
        format!("SELECT backend_port, frontend_port, {}, {} FROM port_configurations", asked.sql, asked.model_sql);
    let rows = client.query_typed(&sql, &asked.values()).await?;
    let mut taken = Taken::default();
    let mut has_row = false;
    for row in rows {
        for column in 0..2 {
            taken.ports.extend(u16::try_from(row.try_get::<_, Integer>(column)?.0).ok());
        }
        has_row |= row.try_get::<_, Option<bool>>(2)?.unwrap_or_default();
        taken.has_model |= row.try_get::<_, Option<bool>>(3)?.unwrap_or_default();
    }
    Ok((taken, has_row))
}

/// The SQL condition that selects the rows of apps.
struct Asked<'a> {
    sql: &'static str,
    /// The SQL condition that selects the rows of their model. All apps have the same model.
    model_sql: &'static str,
    model: (Box<dyn ToSql + Sync + 'a>, Type),
    app_num: (Box<dyn ToSql + Sync>, Type),
}

impl<'a> Asked<'a> {
    fn new(apps: &'a [AppId]) -> Self {
        // A new server process has an empty cache of the catalogue. Without the cast, it reads all
        // operators called `=` to find one that takes a varchar and a text, and for arrays it reads more
        // than for one app: each would be a quarter of its first statement.
        if let [app] = apps {
            return Self {
                sql: "model::text = $1 AND app_num = $2",
                model_sql: "model::text = $1",
                model: (Box::new(app.model.as_str()), Type::TEXT),
                app_num: (Box::new(app.app_num), Type::INT8),
            };
        }
        let models: Vec<_> = apps.iter().map(|app| app.model.as_str()).collect();
        let app_nums: Vec<_> = apps.iter().map(|app| app.app_num).collect();
        // A join, which takes linear time with an index and without: servers before version 14 compare
        // each row with each element of `ANY (array)`.
        Self {
            sql: "(model::text, app_num) IN (SELECT * FROM unnest($1::text[], $2::bigint[]))",
            model_sql: "model::text = ($1::text[])[1]",
            model: (Box::new(models), Type::TEXT_ARRAY),
            app_num: (Box::new(app_nums), Type::INT8_ARRAY),
        }
    }

    fn values(&self) -> [(&(dyn ToSql + Sync), Type); 2] {
        [&self.model, &self.app_num].map(|(value, kind)| (&**value as _, kind.clone()))
    }
}

/// Writes new rows, at most [`ROWS_MAX`], and returns each as it was written, with its id.
pub(super) async fn insert(client: &Client, rows: &[Allocation]) -> Result<Vec<((AppId, [i64; 2]), i64)>, Error> {
    let now = now(rows);
    let sql = insertion(rows.len(), "id, model::text, app_num, backend_port, frontend_port");
    let rows = client.query_typed(&sql, &values(&now, rows)).await?;
    let integer = |row: &Row, column| row.try_get::<_, Integer>(column).map(|Integer(number)| number);
    let app = |row: &Row| Ok(AppId::new(row.try_get::<_, Text>(1)?.0, integer(row, 2)?));
    rows.iter().map(|row| Ok(((app(row)?, [integer(row, 3)?, integer(row, 4)?]), integer(row, 0)?))).collect()
}

/// Writes one new row and returns its id, or `None` if the table silently left out the row. If a trigger
/// changed the row, the statement fails with a division by zero, and the transaction with it.
pub(super) async fn insert_one(client: &Client, row: &Allocation) -> Result<Option<i64>, Error> {
    let rows = slice::from_ref(row);
    let now = now(rows);
    let check = "1 / ((model::text = $2 AND app_num = $3 AND frontend_port = $4 AND backend_port = $5) IS TRUE)::int";
    let written = client.query_typed_opt(&insertion(1, &format!("id, {check}")), &values(&now, rows)).await?;
    written.map(|row| row.try_get::<_, Integer>(0).map(|Integer(id)| id)).transpose()
}

/// Returns the statement that inserts this many rows. Its parameters come from [`values`].
fn insertion(count: usize, returning: &str) -> String {
    // A list of values costs a third of what arrays cost, because a server must plan the statement anew each
    // time.
    let list: Vec<_> = (0..count)
        .map(|row| {
            let first = 5 * row + 2;
            format!("(${}, ${}, ${}, ${}, true, ${}, $1, $1)", first, first + 1, first + 2, first + 3, first + 4)
        })
        .collect();
    format!(
        "INSERT INTO port_configurations
         (model, app_num, frontend_port, backend_port, is_available, metadata_json, created_at, updated_at)
         VALUES {} RETURNING {returning}",
        list.join(", ")
    )
}

/// Returns the parameters of [`insertion`]: the moment of the write, and five for each row.
fn values<'a>(now: &'a Option<SystemTime>, rows: &'a [Allocation]) -> Vec<(&'a (dyn ToSql + Sync), Type)> {
    let mut values: Vec<(&(dyn ToSql + Sync), Type)> = vec![(now, Type::TIMESTAMPTZ)];
    for row in rows {
        values.push((&row.app.model, Type::TEXT));
        values
            .extend([&row.app.app_num, &row.frontend_port, &row.backend_port].map(|number| (number as _, Type::INT8)));
        values.push((&row.metadata, Type::TEXT));
    }
    values
}

/// Returns the moment at which rows are written, which is the same for all rows.
fn now(rows: &[Allocation]) -> Option<SystemTime> {
    rows.first().and_then(|row| row.created_at).and_then(|time| SystemTime::try_from(time).ok())
}

/// Updates the metadata and `updated_at` of rows, and returns how many rows were updated.
pub(super) async fn update_metadata(client: &Client, rows: &[Allocation]) -> Result<usize, Error> {
    if rows.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let metadata: Vec<_> = rows.iter().map(|row| row.metadata.as_deref()).collect();
    let now = rows.first().and_then(|row| row.updated_at).and_then(|time| SystemTime::try_from(time).ok());
    let sql = "UPDATE port_configurations AS rows SET metadata_json = new.metadata, updated_at = $3
         FROM unnest($1::bigint[], $2::text[]) AS new (id, metadata) WHERE rows.id = new.id";
    let values: [(&(dyn ToSql + Sync), Type); 3] =
        [(&ids, Type::INT8_ARRAY), (&metadata, Type::TEXT_ARRAY), (&now, Type::TIMESTAMPTZ)];
    let changed = client.execute_typed(sql, &values).await?;
    Ok(usize::try_from(changed).unwrap_or(usize::MAX))
}

/// Deletes the rows with these ids, and returns how many were deleted.
pub(super) async fn delete(client: &Client, ids: &[i64]) -> Result<usize, Error> {
    if ids.is_empty() {
        return Ok(0);
    }
    let sql = "DELETE FROM port_configurations WHERE id = ANY ($1)";
    let changed = client.execute_typed(sql, &[(&ids, Type::INT8_ARRAY)]).await?;
    Ok(usize::try_from(changed).unwrap_or(usize::MAX))
}

fn allocation(row: &Row) -> Result<Allocation, Error> {
    let created_at: Option<Moment> = row.try_get(7)?;
    let Moment(updated_at) = row.try_get(8)?;
    Ok(Allocation {
        id: row.try_get::<_, Integer>(0)?.0,
        app: AppId::new(row.try_get::<_, Text>(1)?.0, row.try_get::<_, Integer>(2)?.0),
        backend_port: row.try_get::<_, Integer>(3)?.0,
        frontend_port: row.try_get::<_, Integer>(4)?.0,
        is_available: row.try_get::<_, Option<bool>>(5)?.unwrap_or_default(),
        metadata: row.try_get::<_, Option<Text>>(6)?.map(|Text(text)| text),
        created_at_is_unreadable: matches!(created_at, Some(Moment(None))),
        created_at: created_at.and_then(|Moment(time)| time),
        updated_at,
    })
}
