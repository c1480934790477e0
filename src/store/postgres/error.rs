//! This file decides what a server's errors mean: which of them are waited out, and what the messages about
//! the others say.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, ErrorKind};

use tokio_postgres::config::SslMode;
use tokio_postgres::error::{Severity, SqlState};
use tokio_postgres::{Config, Error};

use super::progress::Phase;
use crate::core::counts::RetryReason;
use crate::store::error::StoreError;

/// The name in messages of what a writer waits for.
pub(super) const WAITING_FOR_WRITERS: &str = "other writers to finish";

/// The error of a call whose connection was lost, and which can be repeated.
pub(super) const LOST: StoreError = StoreError::Busy(RetryReason::Connection, "the server to answer again");

/// The problem with a table that stores other rows than it was given, or none.
pub(super) const NOT_TAKEN: &str = "did not take what was written: it has a trigger, rule or policy of its own";

/// Tells whether the connection ended with this error, so that it is unknown whether the server did what it
/// was asked. Of the errors that a server reports, those of severity FATAL and PANIC end the connection
/// (<https://www.postgresql.org/docs/current/runtime-config-logging.html#RUNTIME-CONFIG-SEVERITY-LEVELS>).
pub(super) fn is_lost(err: &Error) -> bool {
    match err.as_db_error() {
        Some(db) => matches!(db.parsed_severity(), Some(Severity::Fatal | Severity::Panic)),
        None => {
            let io = err.source().and_then(|source| source.downcast_ref::<io::Error>()).map(io::Error::kind);
            // A message that cannot be sent or understood is reported as an I/O error, too.
            err.is_closed() || io.is_some_and(|kind| !matches!(kind, ErrorKind::InvalidInput | ErrorKind::InvalidData))
        }
    }
}

/// Converts the error of a failed connection to a host. `was_connected` tells whether there was a connection
/// to this database before.
pub(super) fn refusal(err: Error, host: &Config, was_connected: bool) -> StoreError {
    let busy = StoreError::Busy(RetryReason::Connection, "the server to accept connections");
    if let Some(io) = err.source().and_then(|source| source.downcast_ref::<io::Error>()) {
        return match io.kind() {
            ErrorKind::InvalidData => StoreError::Unusable {
                why: format!("cannot be trusted: {}", in_full(&err)),
                hint: Some("see sslmode and sslrootcert"),
            },
            // The host is a standby, but a primary was asked for. Another host may take over.
            ErrorKind::PermissionDenied if io.raw_os_error().is_none() => {
                StoreError::Busy(RetryReason::Connection, "a host that can be written")
            }
            // The port had a listener, which ended meanwhile, perhaps in the middle of a message (`Other`).
            ErrorKind::Other
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => busy,
            // The server was there a moment ago. It is restarting, or another host takes over.
            _ if was_connected => StoreError::Busy(RetryReason::Connection, "the server to come back"),
            _ => not_reached(in_full(&err)),
        };
    }
    // The server is starting, or shutting down for a restart.
    const PASSING: [SqlState; 3] = [SqlState::CANNOT_CONNECT_NOW, SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN];
    if err.code().map_or_else(|| err.is_closed(), |code| PASSING.contains(code)) {
        return busy;
    }
    let Some(db) = err.as_db_error() else {
        // The library has no error code for a missing password.
        let lacks_password = host.get_password().is_none() && host.get_ssl_mode() != SslMode::Require;
        let hint = lacks_password.then_some("a password is taken from PGPASSWORD, ~/.pgpass or the URL");
        return StoreError::Unusable { why: format!("cannot be used: {}", in_full(&err)), hint };
    };
    // PgBouncer uses one code for all its messages. The message names the setting because of which it refused
    // the connection: it has no room, or it will soon try its server again.
    const TURNED_AWAY: [&str; 2] = ["(max_client_conn)", "(server_login_retry)"];
    if *db.code() == SqlState::PROTOCOL_VIOLATION && TURNED_AWAY.iter().any(|setting| db.message().ends_with(setting)) {
        return busy;
    }
    meaning(&err, Phase::Answering)
}

/// Returns the error for a host that cannot be reached for this reason.
pub(super) fn not_reached(why: impl Display) -> StoreError {
    StoreError::Unusable {
        why: format!("cannot be reached: {why}"),
        hint: Some("see that the server runs, and that its host and port are right"),
    }
}

/// Returns an error with all of its causes; none of them names a password.
pub(super) fn in_full(err: &Error) -> String {
    let causes = std::iter::successors(err.source(), |&cause| cause.source());
    causes.fold(err.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Converts a server's error that came in this phase.
pub(super) fn meaning(err: &Error, phase: Phase) -> StoreError {
    let Some(db) = err.as_db_error() else {
        return StoreError::unusable(format!("cannot be used: {}", in_full(err)));
    };
    let message = db.message();
    let (why, hint) = match (db.code().clone(), phase) {
        (SqlState::T_R_SERIALIZATION_FAILURE | SqlState::T_R_DEADLOCK_DETECTED | SqlState::LOCK_NOT_AVAILABLE, _) => {
            return StoreError::Busy(RetryReason::Writer, WAITING_FOR_WRITERS);
        }
        (SqlState::QUERY_CANCELED, _) => {
            return StoreError::Busy(RetryReason::Cancelled, "the server, which cancelled a statement");
        }
        (SqlState::TOO_MANY_CONNECTIONS, _) => {
            return StoreError::Busy(RetryReason::Connection, "a free connection of the server");
        }
        // Another process inserted the conflicting row, or made the table, a moment earlier.
        (SqlState::UNIQUE_VIOLATION | SqlState::EXCLUSION_VIOLATION | SqlState::DUPLICATE_TABLE, _) => {
            return StoreError::Conflict(message.to_owned());
        }
        (code, _) if code.code().starts_with("23") => {
            let hint = "the table has a constraint that is not the platform's";
            (format!("does not accept the row: {message}"), Some(hint))
        }
        (SqlState::DIVISION_BY_ZERO | SqlState::FEATURE_NOT_SUPPORTED, Phase::Writing) => {
            return StoreError::unusable(NOT_TAKEN);
        }
        (SqlState::FEATURE_NOT_SUPPORTED | SqlState::SYNTAX_ERROR, Phase::Locking) => (
            format!("does not support the lock that keeps writers apart, LOCK TABLE: {message}"),
            Some("only PostgreSQL itself is known to support it, not every server that speaks its protocol"),
        ),
        // A standby answers with the second code to a transaction that is to write.
        (SqlState::READ_ONLY_SQL_TRANSACTION, _) | (SqlState::FEATURE_NOT_SUPPORTED, Phase::Answering) => (
            format!("is read-only: {message}"),
            Some("with several hosts, target_session_attrs=read-write finds the one that can be written"),
        ),
        (SqlState::UNDEFINED_TABLE, _) => return StoreError::Missing,
        (SqlState::INVALID_AUTHORIZATION_SPECIFICATION | SqlState::INVALID_PASSWORD, _) => (
            format!("refuses the connection: {message}"),
            Some("check the user; a password is taken from PGPASSWORD, ~/.pgpass or the URL"),
        ),
        (SqlState::INVALID_CATALOG_NAME, _) => {
            (format!("is not there: {message}"), Some("check the name, or make it with `createdb`"))
        }
        (SqlState::INSUFFICIENT_PRIVILEGE, _) => {
            (format!("does not allow this: {message}"), Some("docs/postgresql.md lists what the role needs"))
        }
        (SqlState::UNDEFINED_COLUMN, _) => {
            (format!("has a table port_configurations that is not the platform's: {message}"), None)
        }
        (SqlState::DISK_FULL, _) => ("cannot be written: its disk is full".to_owned(), None),
        _ => (format!("cannot be used: {message}"), None),
    };
    StoreError::Unusable { why, hint }
}
