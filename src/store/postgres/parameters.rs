//! This file reads the parameters of a connection: libpq's, and those that only Python's drivers know.
//!
//! The platform's URLs are written for SQLAlchemy and one of its drivers. Parameters of such a driver are
//! translated if they have an equivalent, and ignored if they only change how the driver itself works. Every
//! other parameter is an error that names it, because a parameter that is silently left out could be the one
//! that keeps a connection safe.

use std::collections::BTreeMap;

/// Values by libpq's names (<https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS>).
pub(super) type Parameters = BTreeMap<&'static str, String>;

/// The variables that libpq reads, each with the parameter that it stands for.
pub(super) const VARIABLES: [(&str, &str); 13] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// The parameters that are accepted. libpq's other parameters would change nothing or cannot be supported.
const KNOWN: [&str; 22] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "passfile",
    "password",
    "port",
    "search_path",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// Names that Python's drivers asyncpg and pg8000 use for some parameters.
const ALIASES: [(&str, &str); 4] =
    [("database", "dbname"), ("ssl", "sslmode"), ("timeout", "connect_timeout"), ("unix_sock", "host")];

/// Parameters of asyncpg, pg8000, psycopg and psycopg2 that have no effect outside of the driver: how
/// statements are cached, how long one may take, and how an event loop is used.
const OF_DRIVERS: [&str; 9] = [
    "async_fallback",
    "autocommit",
    "command_timeout",
    "max_cacheable_statement_size",
    "max_cached_statement_lifetime",
    "prepare_threshold",
    "prepared_statement_cache_size",
    "statement_cache_size",
    "tcp_keepalive",
];

/// The values of `sslmode`.
pub(super) const SSL_MODES: [&str; 6] = ["disable", "allow", "prefer", "require", "verify-ca", "verify-full"];

/// Reads a parameter of a URL. Returns libpq's name and value for it, or `None` if it changes nothing.
///
/// # Errors
///
/// Returns, in words, what is wrong with it.
pub(super) fn parameter(key: &str, value: &str) -> Result<Option<(&'static str, String)>, String> {
    if value.is_empty() || OF_DRIVERS.contains(&key) {
        return Ok(None);
    }
    let alias = ALIASES.iter().find(|(alias, _)| *alias == key).map(|(_, known)| known);
    let Some(known) = alias.or_else(|| KNOWN.iter().find(|known| **known == key)) else {
        let known = KNOWN.join(", ");
        return Err(format!("'{key}' is not a parameter of a PostgreSQL URL that is known here: expected {known}"));
    };
    let value = match (key, value) {
        ("ssl", value) => sslmode(value)?.to_owned(),
        ("timeout", value) => whole_seconds(value)?,
        // libpq distinguishes a standby from a role whose transactions are read-only by default. Only the
        // primary can write.
        ("target_session_attrs", "primary") => "read-write".to_owned(),
        // SQLAlchemy writes a blank as '+', which has no meaning in `options`.
        ("options", value) => value.replace('+', " "),
        (_, value) => value.to_owned(),
    };
    Ok(Some((known, value)))
}

/// Returns the `sslmode` that corresponds to asyncpg's parameter `ssl`. libpq knows `ssl=true`, as JDBC
/// writes it.
fn sslmode(ssl: &str) -> Result<&str, String> {
    match ssl {
        "true" | "True" => Ok("require"),
        "false" | "False" => Ok("disable"),
        mode if SSL_MODES.contains(&mode) => Ok(mode),
        other => Err(format!("ssl '{other}' is not known: expected true, false or one of {}", SSL_MODES.join(", "))),
    }
}

/// Converts seconds as a driver writes them, such as `7.5`, to the whole seconds that libpq reads.
fn whole_seconds(value: &str) -> Result<String, String> {
    match value.parse::<f64>() {
        Ok(seconds) if (0.0..=86400.0).contains(&seconds) => Ok(format!("{:.0}", seconds.ceil())),
        _ => Err(format!("timeout '{value}' is not a number of seconds")),
    }
}
