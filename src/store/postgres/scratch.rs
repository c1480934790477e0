//! This file makes a schema on the same server, in which the self-test makes its table.

use super::link::Link;
use super::progress::Phase;
use super::session::Session;
use super::target::PgTarget;
use super::transaction::sync;
use crate::store::api::ScratchPlace;
use crate::store::error::StoreError;
use crate::store::retry::Retry;

/// The problem with a pooler that does not pass on a connection's options.
const POOLED: &str = "does not let a connection choose its search path: name the server itself, not a pooler";

/// A new schema on the same server, which is dropped when this value is dropped.
pub(in crate::store) struct ScratchSchema {
    admin: Session,
    name: String,
    target: PgTarget,
}

impl ScratchSchema {
    /// Makes the schema.
    pub(in crate::store) fn new(target: &PgTarget, retry: Retry) -> Result<Self, StoreError> {
        let name = format!("manage_ports_selftest_{:016x}", fastrand::u64(..));
        let inside = target.with_search_path(&name).map_err(StoreError::unusable)?;
        let mut admin = Session { link: Link::new(target.clone())?, retry };
        admin.run(Phase::Working, &format!("CREATE SCHEMA {name}"))?;
        let mut scratch = Self { admin, name, target: inside };
        if scratch.is_chosen()? { Ok(scratch) } else { Err(StoreError::unusable(POOLED)) }
    }

    /// Tells whether a connection to the target works in the schema. A pooler may ignore the search path, and
    /// every statement would then affect the real table.
    fn is_chosen(&mut self) -> Result<bool, StoreError> {
        let mut link = Link::new(self.target.clone())?;
        let retry = &self.admin.retry;
        let schema: String = retry.run(|| {
            let schema = link.ask(retry, Phase::Answering, async |client, _| {
                let sql = "SELECT coalesce(current_schema()::text, '')";
                client.query_typed_one(sql, &[]).await?.try_get(0)
            });
            Ok(schema?)
        })?;
        Ok(schema == self.name)
    }

    /// Returns the same database with the schema as its search path.
    pub(in crate::store) fn target(&self) -> PgTarget {
        self.target.clone()
    }
}

impl ScratchPlace for ScratchSchema {
    fn sync(&mut self) -> Result<(), StoreError> {
        self.admin.run(Phase::Syncing, &sync(4096))
    }
}

impl Drop for ScratchSchema {
    fn drop(&mut self) {
        let sql = format!("DROP SCHEMA {} CASCADE", self.name);
        // Ctrl-C must not leave the schema behind.
        let Session { link, retry } = &mut self.admin;
        if link.ask_connected(retry, Phase::Committing, async |client, _| client.batch_execute(&sql).await).is_err() {
            log::warn!("the scratch schema {} is left in {}", self.name, link.target);
        }
    }
}
