//! This file reads the values that a server sends, also from a table that somebody else made with other
//! types.

use std::error::Error;

use jiff::Timestamp;
use tokio_postgres::types::{FromSql, Type, accepts};

/// An integer of any width, or 0 for NULL. The width depends on who made the table.
pub(super) struct Integer(pub(super) i64);

impl<'a> FromSql<'a> for Integer {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(match *kind {
            Type::INT2 => i16::from_sql(kind, raw)?.into(),
            Type::INT4 => i32::from_sql(kind, raw)?.into(),
            _ => i64::from_sql(kind, raw)?,
        }))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(0))
    }

    accepts!(INT2, INT4, INT8);
}

/// A text, empty for NULL. A database with the encoding SQL_ASCII may send any bytes; those that are not
/// UTF-8 are replaced.
pub(super) struct Text(pub(super) String);

impl<'a> FromSql<'a> for Text {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::from_utf8_lossy(raw).into_owned()))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(String::new()))
    }

    accepts!(TEXT, VARCHAR, BPCHAR, NAME, UNKNOWN);
}

/// A timestamp; `None` for NULL and for values that no [`Timestamp`] can hold, such as `infinity`.
pub(super) struct Moment(pub(super) Option<Timestamp>);

impl<'a> FromSql<'a> for Moment {
    /// Reads the binary format: the number of microseconds since the year 2000, in UTC.
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Sync + Send>> {
        const YEAR_2000: i64 = 946_684_800_000_000;
        let since_1970 = i64::from_sql(&Type::INT8, raw)?.checked_add(YEAR_2000);
        Ok(Self(since_1970.and_then(|microseconds| Timestamp::from_microsecond(microseconds).ok())))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn Error + Sync + Send>> {
        Ok(Self(None))
    }

    accepts!(TIMESTAMP, TIMESTAMPTZ);
}
