//! Models an allocation: one app's row in `port_configurations`, with its pair of ports and its
//! reservation.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use serde_json::{Map, Value};

use super::app::{AppId, Presence};
use super::ports::as_port;

/// The backend and the frontend port of one app: two different ports from 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PortPair {
    /// The port that the app's backend listens on.
    pub(crate) backend: u16,
    /// The port that the app's frontend listens on.
    pub(crate) frontend: u16,
}

impl PortPair {
    /// Makes a pair, or returns `None` if a port is 0 or both ports are equal.
    pub(crate) fn new(backend: u16, frontend: u16) -> Option<Self> {
        (backend != 0 && frontend != 0 && backend != frontend).then_some(Self { backend, frontend })
    }

    /// Returns both ports, the backend's first.
    pub(crate) fn ports(self) -> [u16; 2] {
        [self.backend, self.frontend]
    }
}

/// The key in a row's metadata whose value is the time at which the reservation ends.
const RESERVED_UNTIL: &str = "reserved_until";

/// The error that an app's metadata is not a JSON object, so no key can be added to it or removed from it.
#[derive(Debug)]
pub(crate) struct ForeignMetadata(
    /// The app whose metadata it is.
    pub AppId,
);

/// One row of `port_configurations`, as read from the database.
///
/// The port fields are `i64` because another program may have written numbers that are not ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// The row's primary key.
    pub(crate) id: i64,
    /// The app that has these ports.
    pub(crate) app: AppId,
    /// The backend's port.
    pub(crate) backend_port: i64,
    /// The frontend's port.
    pub(crate) frontend_port: i64,
    /// The platform's column of the same name; NULL is read as false.
    pub(crate) is_available: bool,
    /// The text of `metadata_json`.
    pub(crate) metadata: Option<String>,
    /// When the row was inserted; `None` if the column is NULL or cannot be read as a time.
    pub(crate) created_at: Option<Timestamp>,
    /// Whether the column `created_at` has a value that cannot be read; the field is then `None`.
    pub(crate) created_at_is_unreadable: bool,
    /// When the row was last changed; `None` if the column is NULL or cannot be read as a time.
    pub(crate) updated_at: Option<Timestamp>,
}

impl Allocation {
    /// Makes a row to insert, with the id 0, and reserves it until `until` if that is given.
    pub(crate) fn new(app: AppId, pair: PortPair, until: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            id: 0,
            app,
            backend_port: pair.backend.into(),
            frontend_port: pair.frontend.into(),
            is_available: true,
            metadata: until.map(|until| held(Map::new(), until)),
            created_at: Some(now),
            created_at_is_unreadable: false,
            updated_at: Some(now),
        }
    }

    /// Returns the two ports, the backend's first.
    pub(crate) fn ports(&self) -> [i64; 2] {
        [self.backend_port, self.frontend_port]
    }

    /// Returns those of the two numbers that are valid ports, from 1 to 65535.
    pub(crate) fn valid_ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.ports().into_iter().filter_map(as_port)
    }

    /// Reads the reservation from the row's metadata.
    pub(crate) fn reservation(&self) -> Reservation {
        // JSON may write the key with escapes, so text with a backslash is parsed, too.
        let Some(text) = self.metadata.as_deref().filter(|text| text.contains(RESERVED_UNTIL) || text.contains('\\'))
        else {
            return Reservation::None;
        };
        match serde_json::from_str(text) {
            Ok(Value::Object(metadata)) => match metadata.get(RESERVED_UNTIL) {
                None | Some(Value::Null) => Reservation::None,
                Some(until) => until.as_str().and_then(parse_until).map_or(Reservation::Unreadable, Reservation::Until),
            },
            Ok(_) => Reservation::None,
            // Invalid JSON that does not contain the key is not a reservation.
            Err(_) if !text.contains(RESERVED_UNTIL) => Reservation::None,
            Err(_) => Reservation::Unreadable,
        }
    }

    /// Returns the end of the row's reservation, or `None` if there is no reservation or it cannot be read.
    pub(crate) fn reserved_until(&self) -> Option<Timestamp> {
        match self.reservation() {
            Reservation::Until(until) => Some(until),
            Reservation::None | Reservation::Unreadable => None,
        }
    }

    /// Returns the value of an unreadable reservation for a message: a string as it is, any other value as
    /// JSON, or the whole metadata if the metadata is not valid JSON.
    pub(crate) fn unreadable_reservation(&self) -> Option<String> {
        let text = self.metadata.as_deref().filter(|_| self.reservation() == Reservation::Unreadable)?;
        Some(
            match serde_json::from_str::<Value>(text).ok().and_then(|metadata| metadata.get(RESERVED_UNTIL).cloned()) {
                Some(Value::String(until)) => until,
                Some(until) => until.to_string(),
                None => text.to_owned(),
            },
        )
    }

    /// Reserves the row until `until`, unless its reservation ends at that time or later. All other keys of
    /// the metadata keep their values. Returns whether the row changed.
    ///
    /// # Errors
    ///
    /// [`ForeignMetadata`] when the metadata is neither empty, nor `null`, nor a JSON object.
    pub(crate) fn hold(&mut self, until: Timestamp) -> Result<bool, ForeignMetadata> {
        if self.reserved_until().is_some_and(|held| held >= until) {
            return Ok(false);
        }
        self.metadata = Some(held(self.metadata_object()?, until));
        Ok(true)
    }

    /// Removes the row's reservation, even if the reservation has ended or cannot be read. All other keys of
    /// the metadata keep their values. Returns whether the row changed.
    ///
    /// # Errors
    ///
    /// [`ForeignMetadata`] when the metadata contains the key of a reservation but is not valid JSON.
    pub(crate) fn cancel(&mut self) -> Result<bool, ForeignMetadata> {
        if self.reservation() == Reservation::None {
            return Ok(false);
        }
        let mut metadata = self.metadata_object()?;
        metadata.shift_remove(RESERVED_UNTIL);
        self.metadata = if metadata.is_empty() { None } else { Some(Value::Object(metadata).to_string()) };
        Ok(true)
    }

    /// Parses the metadata as a JSON object; empty metadata and `null` give an empty object.
    fn metadata_object(&self) -> Result<Map<String, Value>, ForeignMetadata> {
        let metadata = self.metadata.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("null");
        match serde_json::from_str(metadata) {
            Ok(Value::Object(metadata)) => Ok(metadata),
            Ok(Value::Null) => Ok(Map::new()),
            _ => Err(ForeignMetadata(self.app.clone())),
        }
    }

    /// Tells whether the row is reserved at the time `now`; an unreadable reservation counts as one.
    pub(crate) fn is_reserved(&self, now: Timestamp) -> bool {
        match self.reservation() {
            Reservation::None => false,
            Reservation::Until(until) => until > now,
            Reservation::Unreadable => true,
        }
    }

    /// Returns the row's state at the time `now`, given whether its app has a directory.
    pub(crate) fn state(&self, now: Timestamp, presence: &Presence) -> State {
        match presence {
            _ if self.is_reserved(now) => State::Reserved,
            Presence::Present => State::Allocated,
            Presence::Absent => State::Orphaned,
            Presence::Unreadable(_) => State::Unknown,
        }
    }
}

/// The allocation that a call returned for an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The row.
    pub(crate) allocation: Allocation,
    /// Whether this call inserted the row.
    pub(crate) created: bool,
}

/// Adds a reservation until `until` to the metadata and returns the metadata as JSON.
fn held(mut metadata: Map<String, Value>, until: Timestamp) -> String {
    metadata.insert(RESERVED_UNTIL.to_owned(), until_text(until).into());
    Value::Object(metadata).to_string()
}

/// Formats the end of a reservation in RFC 3339, in UTC: in whole seconds, or with six digits of
/// microseconds, because some readers accept no other number of digits.
pub(crate) fn until_text(until: Timestamp) -> String {
    if until.subsec_nanosecond() == 0 { format!("{until:.0}") } else { format!("{until:.6}") }
}

/// Reads a time in RFC 3339; a time without an offset, as Python writes it, is taken as UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    // A `DateTime` is tried last because its parser accepts an offset and ignores it.
    text.parse().ok().or_else(|| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok())
}

/// Reads the end of a reservation as [`parse_time`] does. A time outside the range of [`Timestamp`]
/// becomes its nearest limit, for years up to 9999.
pub(crate) fn parse_until(text: &str) -> Option<Timestamp> {
    parse_time(text).or_else(|| {
        let local: DateTime = text.trim_end_matches(['Z', 'z']).parse().ok()?;
        let limit = if local.year() < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Some(TimeZone::UTC.to_timestamp(local).unwrap_or(limit))
    })
}

/// The reservation that a row's metadata contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// The row has no reservation.
    None,
    /// The row is reserved until this time, which is `reserved_until` in its metadata, in RFC 3339.
    Until(Timestamp),
    /// The metadata has a reservation whose end cannot be read.
    Unreadable,
}

/// The state of an allocation at a given time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The row's app has a directory.
    Allocated,
    /// The row is reserved for a planned app.
    Reserved,
    /// The row's app has no directory.
    Orphaned,
    /// The system did not tell whether the row's app has a directory.
    Unknown,
}

impl State {
    /// Returns the state's name, which every output format uses.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Allocated => "allocated",
            Self::Reserved => "reserved",
            Self::Orphaned => "orphaned",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Makes a row as the platform writes it.
    pub(crate) fn row(id: i64, model: &str, app_num: i64, backend_port: i64, frontend_port: i64) -> Allocation {
        Allocation {
            id,
            app: AppId::new(model, app_num),
            backend_port,
            frontend_port,
            is_available: true,
            metadata: None,
            created_at: None,
            created_at_is_unreadable: false,
            updated_at: None,
        }
    }

    #[test]
    fn a_reservation_holds_until_its_moment_and_not_at_it() {
        let mut held = row(1, "m", 1, 5001, 8001);
        let until: Timestamp = "2026-01-01T10:00:00Z".parse().unwrap();
        held.metadata = Some(r#"{"theirs":1,"reserved_until":"2026-01-01T10:00:00Z"}"#.into());
        assert_eq!(held.reserved_until(), Some(until));
        let before = until - jiff::SignedDuration::from_micros(1);
        assert_eq!(held.state(before, &Presence::Absent), State::Reserved);
        assert_eq!(held.state(until, &Presence::Absent), State::Orphaned);
        assert_eq!(held.state(until, &Presence::Present), State::Allocated);
        assert_eq!(held.state(until, &Presence::Unreadable("?".into())), State::Unknown);
    }

    #[test]
    fn holding_a_row_adds_to_its_metadata_and_never_shortens() {
        let [until, later] = ["2026-01-01T10:00:00Z", "2026-01-01T12:00:00.5Z"].map(|text| text.parse().unwrap());
        let mut held = row(1, "m", 1, 5001, 8001);
        for (before, after) in [
            (None, r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#),
            (Some("null"), r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#),
            (Some(""), r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#),
            (
                Some(r#"{"z": 1.50, "reserved_until": "soon", "a": [12345678901234567890123, 1e999, "é"]}"#),
                r#"{"z":1.50,"reserved_until":"2026-01-01T10:00:00Z","a":[12345678901234567890123,1e+999,"é"]}"#,
            ),
        ] {
            held.metadata = before.map(str::to_owned);
            assert!(held.hold(until).unwrap(), "{before:?}");
            assert_eq!(held.metadata.as_deref(), Some(after));
        }
        assert!(!held.hold(until).unwrap());
        assert!(held.hold(later).unwrap());
        assert!(!held.hold(until).unwrap(), "a later moment stays");
        assert_eq!(held.reserved_until(), Some(later));
        for foreign in ["[1]", "{", "5", "\"text\""] {
            held.metadata = Some(foreign.into());
            assert!(held.hold(later).is_err(), "{foreign}");
            assert_eq!(held.metadata.as_deref(), Some(foreign));
        }
    }

    #[test]
    fn cancelling_takes_the_reservation_out_of_the_metadata_and_nothing_else() {
        let mut held = row(1, "m", 1, 5001, 8001);
        for (before, after) in [
            (r#"{"reserved_until":"2026-01-01T10:00:00Z"}"#, None),
            (r#"{"z":1.50,"reserved_until":"soon","a":[1e999,"é"]}"#, Some(r#"{"z":1.50,"a":[1e+999,"é"]}"#)),
            (r#"{"reserved\u005funtil":5,"a":1}"#, Some(r#"{"a":1}"#)),
        ] {
            held.metadata = Some(before.to_owned());
            assert!(held.cancel().unwrap(), "{before}");
            assert_eq!(held.metadata.as_deref(), after);
            assert_eq!(held.reservation(), Reservation::None);
        }
        for other in [None, Some(""), Some("[1]"), Some("{"), Some(r#"{"reserved_until":null,"a":1}"#)] {
            held.metadata = other.map(str::to_owned);
            assert!(!held.cancel().unwrap(), "{other:?}");
            assert_eq!(held.metadata.as_deref(), other);
        }
        held.metadata = Some(r#"{"reserved_until":"2026-01-01T10:00:00Z","score":NaN}"#.into());
        assert!(held.cancel().is_err());
    }

    #[test]
    fn what_others_write_is_read_and_is_kept_where_it_cannot_be() {
        let until = |text: &str| Reservation::Until(text.parse().unwrap());
        for (metadata, expected) in [
            ("", Reservation::None),
            ("null", Reservation::None),
            ("{}", Reservation::None),
            ("{", Reservation::None),
            (r#"["reserved_until"]"#, Reservation::None),
            (r#"{"reserved_until":null}"#, Reservation::None),
            (r#"{"their":{"reserved_until":5}}"#, Reservation::None),
            (r#"{"reserved_until":"2026-01-01T10:00:00.5+02:00"}"#, until("2026-01-01T08:00:00.5Z")),
            (r#"{"reserved_until":"2026-01-01T10:00:00.5"}"#, until("2026-01-01T10:00:00.5Z")),
            (r#"{"reserved_until":"2026-01-01 10:00:00"}"#, until("2026-01-01T10:00:00Z")),
            (r#"{"reserved_until":"9999-12-31T23:59:59Z"}"#, Reservation::Until(Timestamp::MAX)),
            (r#"{"reserved_until":"9999-12-31T23:59:59"}"#, Reservation::Until(Timestamp::MAX)),
            (r#"{"reserved_until":"-009999-01-01T00:00:00Z"}"#, Reservation::Until(Timestamp::MIN)),
            (r#"{"reserved\u005funtil":"2026-01-01T10:00:00Z"}"#, until("2026-01-01T10:00:00Z")),
            (r#"{"path":"C:\new"}"#, Reservation::None),
            (r#"{"path":"C:\users"}"#, Reservation::None),
            (r#"{"reserved_until":5}"#, Reservation::Unreadable),
            (r#"{"reserved_until":"soon"}"#, Reservation::Unreadable),
            (r#"{"reserved_until":"2026-01-01T10:00:00Z","score":NaN}"#, Reservation::Unreadable),
        ] {
            let mut other = row(1, "m", 1, 5001, 8001);
            other.metadata = Some(metadata.into());
            assert_eq!(other.reservation(), expected, "{metadata}");
            let unreadable = match metadata {
                _ if expected != Reservation::Unreadable => None,
                r#"{"reserved_until":5}"# => Some("5"),
                r#"{"reserved_until":"soon"}"# => Some("soon"),
                broken => Some(broken),
            };
            assert_eq!(other.unreadable_reservation().as_deref(), unreadable);
            let is_reserved = expected == Reservation::Unreadable || expected == Reservation::Until(Timestamp::MAX);
            assert_eq!(other.is_reserved("2026-06-01T00:00:00Z".parse().unwrap()), is_reserved, "{metadata}");
        }
    }
}
