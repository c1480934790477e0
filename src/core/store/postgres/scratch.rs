//! A schema of its own on the same server, in which a self-test happens.

use super::error::unusable;
use super::link::{Link, OTHERS};
use super::{Postgres, Server, sync};
use crate::core::retry::Retry;
use crate::core::store::{self, Database, Missing, StoreError};

/// Why a connection cannot be led to another schema.
const POOLED: &str = "does not let a connection choose its search path: name the server itself, not a pooler";

/// A schema of its own on the same server, in which a table can be made.
pub(in crate::core::store) struct Scratch {
    admin: Postgres,
    schema: String,
    database: Database,
}

impl Scratch {
    /// Makes the schema.
    pub(in crate::core::store) fn new(server: &Server, retry: Retry) -> Result<Self, StoreError> {
        let schema = format!("manage_ports_selftest_{:016x}", fastrand::u64(..));
        let database = Database::Postgres(Box::new(server.with_search_path(&schema).map_err(unusable)?));
        let mut admin = Postgres::open(server, Missing::Empty, retry)?;
        admin.ask(async |client| client.batch_execute(&format!("CREATE SCHEMA {schema}")).await)?;
        let scratch = Self { admin, schema, database };
        // A pooler may leave the search path out, and everything would happen to the real table.
        let Database::Postgres(server) = &scratch.database else { return Ok(scratch) };
        let sees = Link::new((**server).clone())?.ask(&scratch.admin.retry, OTHERS, async |client| {
            client.query_typed_one("SELECT coalesce(current_schema()::text, '')", &[]).await?.try_get::<_, String>(0)
        })?;
        if sees == scratch.schema { Ok(scratch) } else { Err(unusable(POOLED)) }
    }
}

impl store::Scratch for Scratch {
    fn database(&self) -> &Database {
        &self.database
    }

    fn sync(&mut self) -> Result<(), StoreError> {
        self.admin.ask(async |client| sync(client, 4096).await)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA {} CASCADE", self.schema);
        // After Ctrl-C, too.
        let dropped = self.admin.link.finish(&self.admin.retry, async |client| client.batch_execute(&sql).await);
        if dropped.is_err() {
            log::warn!("the scratch schema {} is left in {}", self.schema, self.admin.link.server);
        }
    }
}
