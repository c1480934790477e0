//! This file plans and makes the unique indexes that an old table lacks.

use std::collections::HashMap;

use futures_util::future::{try_join, try_join_all, try_join4};
use tokio_postgres::{Client, Error};

use super::rows::all_rows;
use super::values::{Integer, Text};
use crate::core::allocation::Allocation;
use crate::core::migration::{Migration, obstacles};
use crate::core::schema::UniqueIndex;
use crate::store::error::StoreError;
use crate::store::sql::duplicates;

/// The state of the table on which a migration depends.
pub(super) struct Seen {
    rows: Vec<Allocation>,
    missing: Vec<UniqueIndex>,
    /// The relations and constraints that have the name of an index, each with the SQL that drops it. There is
    /// none for what is not an index of the table.
    namesakes: HashMap<String, Option<String>>,
    /// For each index, the rows that it would not accept.
    groups: Vec<(UniqueIndex, Vec<(i64, i64)>)>,
    /// The owner of the table, unless this role may act for the owner.
    other_owner: Option<String>,
}

/// Reads what a migration depends on.
pub(super) async fn plan(client: &Client) -> Result<Seen, Error> {
    let groups = try_join_all(UniqueIndex::ALL.map(|index| groups(client, index)));
    let (rows, missing, (namesakes, other_owner), groups) =
        try_join4(all_rows(client), missing_indexes(client), try_join(namesakes(client), other_owner(client)), groups)
            .await?;
    Ok(Seen { rows, missing, namesakes, groups, other_owner })
}

impl Seen {
    /// Returns the planned changes. If something else has the name of a missing index, that is an error.
    pub(super) fn migration(&self) -> Result<Migration, StoreError> {
        let is_missing = |index: &UniqueIndex| self.missing.contains(index);
        if let Some(index) = self.missing.iter().find(|index| self.namesakes.get(index.name()) == Some(&None)) {
            let why = format!("cannot be migrated: {} is the name of something else in its schema", index.name());
            return Err(StoreError::Unusable { why, hint: Some("rename it, as the unique index needs its name") });
        }
        let of = self.groups.iter().filter(|(index, _)| is_missing(index));
        let obstacles = of.flat_map(|(index, groups)| obstacles(*index, groups, &self.rows)).collect();
        let replaces = |index: UniqueIndex| self.namesakes.contains_key(index.name());
        Ok(Migration::new(self.missing.iter().copied(), replaces, obstacles))
    }

    /// Returns an error if this role may not change the table.
    pub(super) fn may_change(&self) -> Result<(), StoreError> {
        self.other_owner.as_ref().map_or(Ok(()), |owner| {
            Err(StoreError::Unusable {
                why: format!("cannot be migrated by this role: its table belongs to {owner}"),
                hint: Some("run `manage-ports migrate` as the owner of the table, or as a member of that role"),
            })
        })
    }
}

/// Makes the planned indexes.
pub(super) async fn apply(client: &Client, seen: &Seen, planned: &Migration) -> Result<(), Error> {
    let sql = planned.indexes().flat_map(|index| {
        let drop = seen.namesakes.get(index.name()).cloned().flatten();
        let (name, columns) = (index.name(), index.columns().join(", "));
        let make = match index {
            UniqueIndex::ModelApp => {
                format!("ALTER TABLE port_configurations ADD CONSTRAINT {name} UNIQUE ({columns})")
            }
            UniqueIndex::BackendPort | UniqueIndex::FrontendPort => {
                format!("CREATE UNIQUE INDEX {name} ON port_configurations ({columns})")
            }
        };
        drop.into_iter().chain([make])
    });
    client.batch_execute(&sql.collect::<Vec<_>>().join(";\n")).await
}

/// Returns the unique indexes that the table lacks.
pub(super) async fn missing_indexes(client: &Client) -> Result<Vec<UniqueIndex>, Error> {
    let sql = "SELECT string_agg(columns.attname, ',' ORDER BY columns.attname)
         FROM pg_index AS indexes JOIN pg_attribute AS columns ON columns.attrelid = indexes.indrelid
          AND columns.attnum = ANY ((indexes.indkey::int2[])[0:indexes.indnkeyatts - 1])
         WHERE indexes.indrelid = 'port_configurations'::regclass AND indexes.indisunique AND indexes.indisvalid
          AND indexes.indpred IS NULL AND indexes.indexprs IS NULL GROUP BY indexes.indexrelid";
    let indexes = client.query_typed(sql, &[]).await?;
    let present = indexes.iter().map(|row| row.try_get(0)).collect::<Result<Vec<String>, _>>()?;
    Ok(UniqueIndex::missing_from(&present))
}

/// Returns the id of each row that a unique index would not accept, and the number of its group.
async fn groups(client: &Client, index: UniqueIndex) -> Result<(UniqueIndex, Vec<(i64, i64)>), Error> {
    let rows = client.query_typed(&duplicates("id", index), &[]).await?;
    let groups = rows.iter().map(|row| Ok((row.try_get::<_, Integer>(0)?.0, row.try_get(1)?)));
    Ok((index, groups.collect::<Result<_, Error>>()?))
}

/// Returns the relations of the table's schema, and the constraints of the table, that have the name of an index,
/// with the SQL that drops an index of the table.
async fn namesakes(client: &Client) -> Result<HashMap<String, Option<String>>, Error> {
    let names = UniqueIndex::ALL.map(|index| format!("'{}'", index.name())).join(", ");
    let sql = format!(
        "SELECT others.relname::text, CASE WHEN indexes.indrelid IS DISTINCT FROM our.oid THEN NULL
           WHEN rules.conname IS NULL THEN format('DROP INDEX %s', others.oid::regclass)
           ELSE format('ALTER TABLE port_configurations DROP CONSTRAINT %I', rules.conname) END
         FROM pg_class AS our JOIN pg_class AS others ON others.relnamespace = our.relnamespace
          LEFT JOIN pg_index AS indexes ON indexes.indexrelid = others.oid
          LEFT JOIN pg_constraint AS rules
           ON rules.conindid = others.oid AND rules.conrelid = our.oid AND rules.contype IN ('p', 'u', 'x')
         WHERE our.oid = 'port_configurations'::regclass AND others.relname IN ({names})
         UNION ALL SELECT conname::text, NULL FROM pg_constraint
         WHERE conrelid = 'port_configurations'::regclass AND conname IN ({names}) AND contype NOT IN ('p', 'u', 'x')"
    );
    let rows = client.query_typed(&sql, &[]).await?;
    rows.iter().map(|row| Ok((row.try_get::<_, Text>(0)?.0, row.try_get(1)?))).collect()
}

/// Returns the owner of the table, unless this role may act for the owner.
async fn other_owner(client: &Client) -> Result<Option<String>, Error> {
    let sql = "SELECT pg_get_userbyid(relowner)::text FROM pg_class
         WHERE oid = 'port_configurations'::regclass AND NOT pg_has_role(relowner, 'USAGE')";
    let owner = client.query_typed_opt(sql, &[]).await?;
    owner.map(|row| row.try_get::<_, Text>(0).map(|Text(owner)| owner)).transpose()
}
