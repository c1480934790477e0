//! Parses the names of databases: paths, and URLs in the form of SQLAlchemy, which the platform uses.

use std::env;
use std::ffi::OsString;
use std::path::{self, Path};

use crate::core::text::Shown;
use crate::error::{Error, Result};
use crate::store::Database;

/// Parses the name of a database: a path, or a URL in the form of SQLAlchemy.
pub(crate) fn named_database(name: &OsString, base: &Path, wrong: impl Fn(String) -> Error) -> Result<Database> {
    let in_memory = || wrong("a database in memory keeps nothing: name a file".to_owned());
    if name.is_empty() {
        return Err(wrong("expected a path or a URL, it is empty".to_owned()));
    }
    let Some((scheme, rest)) = name.to_str().and_then(|name| name.split_once("://")) else {
        // A misspelt URL must not be used as a file name, because it may hold a password.
        if name.to_str().is_some_and(|name| name.starts_with("sqlite:")) {
            return Err(wrong("a SQLite URL is written sqlite:///relative.db or sqlite:////absolute.db".into()));
        }
        if name.to_str().is_some_and(is_almost_postgresql) {
            return Err(wrong(
                "a PostgreSQL URL begins with postgresql:// and names a user, a host and a database".into(),
            ));
        }
        return if name == ":memory:" { Err(in_memory()) } else { Ok(sqlite(&base.join(name))) };
    };
    // "sqlite+pysqlite" also names a Python driver, which this program ignores.
    match scheme.split('+').next() {
        Some("sqlite") => {}
        Some("postgres" | "postgresql") => {
            let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
            return Database::postgres(rest, &variable, env::home_dir().as_deref()).map_err(wrong);
        }
        _ => {
            return Err(wrong(format!("'{}' is not a kind of database: expected sqlite or postgresql", Shown(scheme))));
        }
    }
    let path = rest.split('?').next().unwrap_or(rest);
    match path.strip_prefix('/') {
        None if path.is_empty() => Err(in_memory()),
        None => Err(wrong(format!("'sqlite://{}' names a host: write sqlite:///{0}", Shown(path)))),
        Some("" | ":memory:") => Err(in_memory()),
        Some(path) => Ok(sqlite(&base.join(path))),
    }
}

/// Tells whether the name of a database holds a password, as far as it can be read.
pub(super) fn may_hold_password(name: &OsString) -> bool {
    let Some((scheme, rest)) = name.to_str().and_then(|name| name.split_once("://")) else { return false };
    scheme.starts_with("postgres")
        && Database::postgres(rest, &|_| None, None).map_or(true, |database| database.has_password())
}

/// Tells whether a name without `://` looks like a PostgreSQL URL: `postgresql:/…`, `postgres//…`.
fn is_almost_postgresql(name: &str) -> bool {
    let rest = name.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '_'));
    name.get(..8).is_some_and(|start| start.eq_ignore_ascii_case("postgres"))
        && (rest.starts_with(':') || rest.starts_with("//"))
}

/// Returns a SQLite database with an absolute path, so that every message names the file unambiguously.
fn sqlite(path: &Path) -> Database {
    Database::Sqlite(path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn path(name: &str) -> std::result::Result<PathBuf, String> {
        match named_database(&name.into(), Path::new("base"), Error::usage) {
            Ok(Database::Sqlite(path)) => Ok(path),
            Ok(database @ Database::Postgres(_)) => panic!("{name} is {database}"),
            Err(err) => Err(format!("{err:?}")),
        }
    }

    #[test]
    fn databases_are_named_as_the_platform_names_them() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(path("ports.db").unwrap(), here.join("base/ports.db"));
        assert_eq!(path("/ports.db").unwrap(), Path::new("/ports.db"));
        assert_eq!(path("sqlite:///ports.db").unwrap(), here.join("base/ports.db"));
        assert_eq!(path("sqlite:////ports.db").unwrap(), Path::new("/ports.db"));
        assert_eq!(path("sqlite+pysqlite:////ports.db?timeout=5").unwrap(), Path::new("/ports.db"));
        for bad in [
            ":memory:",
            "sqlite://",
            "sqlite:///",
            "sqlite:/x",
            "sqlite:x",
            "sqlite:///:memory:",
            "sqlite://host/x",
            "mysql://h/d",
        ] {
            assert!(path(bad).is_err(), "{bad}");
        }
        for slip in ["postgresql:/u:pw@h/d", "postgresql//u:pw@h/d", "postgres:u:pw@h/d", "postgresql+psycopg2:u:pw@h"]
        {
            let message = path(slip).unwrap_err();
            assert!(message.contains("postgresql://") && !message.contains("pw"), "{message}");
        }
        assert!(path("postgresql.db").is_ok() && path("postgres/ports.db").is_ok());
        for scheme in ["postgres", "postgresql", "postgresql+psycopg2"] {
            let named = named_database(&format!("{scheme}://u:secret@h:6000/d").into(), Path::new(""), Error::usage);
            let Ok(database) = named else { panic!("{scheme} is not known") };
            assert_eq!(database.to_string(), "postgresql://u@h:6000/d");
        }
    }
}
