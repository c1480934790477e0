//! Allocations: an app's row in the table, with its pair of ports and its reservation.

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
    /// Makes a pair, unless a port is 0 or both are the same.
    pub(crate) fn new(backend: u16, frontend: u16) -> Option<Self> {
        (backend != 0 && frontend != 0 && backend != frontend).then_some(Self { backend, frontend })
    }

    /// Both ports, the backend's first.
    pub(crate) fn ports(self) -> [u16; 2] {
        [self.backend, self.frontend]
    }
}

/// The key of a reservation's moment in a row's metadata.
const RESERVED_UNTIL: &str = "reserved_until";

/// The app's metadata is not a JSON object, so that nothing can be added to it.
#[derive(Debug)]
pub(crate) struct ForeignMetadata(
    /// Whose it is.
    pub AppId,
);

/// One row of `port_configurations`, as it was found.
///
/// Ports are wider than a port can be because somebody else may have written the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Allocation {
    /// What tells the row from every other in its database.
    pub(crate) id: i64,
    /// Whose ports these are.
    pub(crate) app: AppId,
    /// The backend's port.
    pub(crate) backend_port: i64,
    /// The frontend's port.
    pub(crate) frontend_port: i64,
    /// The platform's flag of the same name; a missing one counts as false.
    pub(crate) is_available: bool,
    /// The text of `metadata_json`.
    pub(crate) metadata: Option<String>,
    /// When the row was made; `None` where the row has no time or none that can be read.
    pub(crate) created_at: Option<Timestamp>,
    /// Whether the row has a time of its making that cannot be read; then `created_at` is `None`, too.
    pub(crate) created_at_is_unreadable: bool,
    /// When the row was last changed, likewise.
    pub(crate) updated_at: Option<Timestamp>,
}

impl Allocation {
    /// A row that is yet to be written, without an id, held until a moment if one is given.
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

    /// The two ports, the backend's first.
    pub(crate) fn ports(&self) -> [i64; 2] {
        [self.backend_port, self.frontend_port]
    }

    /// Those of the two ports that can be one: from 1 to 65535.
    pub(crate) fn valid_ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.ports().into_iter().filter_map(as_port)
    }

    /// What the row's metadata says of a reservation.
    pub(crate) fn reservation(&self) -> Reservation {
        // Written with an escape, the key is the same.
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
            // What names none is not worth keeping.
            Err(_) if !text.contains(RESERVED_UNTIL) => Reservation::None,
            Err(_) => Reservation::Unreadable,
        }
    }

    /// Until when the row is held for a planned app, where it says so in a way that can be read.
    pub(crate) fn reserved_until(&self) -> Option<Timestamp> {
        match self.reservation() {
            Reservation::Until(until) => Some(until),
            Reservation::None | Reservation::Unreadable => None,
        }
    }

    /// What stands where the moment of a reservation should, if it is none: a text as it is, anything else as
    /// JSON, and all of the metadata where that cannot be read.
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

    /// Holds the row until a moment, unless it is held for longer; keys of others in the metadata
    /// stay as they are. Returns whether that changed it.
    ///
    /// # Errors
    ///
    /// [`ForeignMetadata`] when there is no object to write it into.
    pub(crate) fn hold(&mut self, until: Timestamp) -> Result<bool, ForeignMetadata> {
        if self.reserved_until().is_some_and(|held| held >= until) {
            return Ok(false);
        }
        self.metadata = Some(held(self.metadata_object()?, until));
        Ok(true)
    }

    /// Ends the hold of the row, also one that is over or cannot be read; keys of others in the metadata
    /// stay as they are. Returns whether that changed it.
    ///
    /// # Errors
    ///
    /// [`ForeignMetadata`] when the reservation stands in what is no object.
    pub(crate) fn cancel(&mut self) -> Result<bool, ForeignMetadata> {
        if self.reservation() == Reservation::None {
            return Ok(false);
        }
        let mut metadata = self.metadata_object()?;
        metadata.shift_remove(RESERVED_UNTIL);
        self.metadata = if metadata.is_empty() { None } else { Some(Value::Object(metadata).to_string()) };
        Ok(true)
    }

    /// The metadata as the object that it is, if anything is there.
    fn metadata_object(&self) -> Result<Map<String, Value>, ForeignMetadata> {
        let metadata = self.metadata.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("null");
        match serde_json::from_str(metadata) {
            Ok(Value::Object(metadata)) => Ok(metadata),
            Ok(Value::Null) => Ok(Map::new()),
            _ => Err(ForeignMetadata(self.app.clone())),
        }
    }

    /// Whether the row is held at this moment; one that may be, counts.
    pub(crate) fn is_reserved(&self, now: Timestamp) -> bool {
        match self.reservation() {
            Reservation::None => false,
            Reservation::Until(until) => until > now,
            Reservation::Unreadable => true,
        }
    }

    /// What the row is at this moment, given what stands at its app's directory.
    pub(crate) fn state(&self, now: Timestamp, presence: &Presence) -> State {
        match presence {
            _ if self.is_reserved(now) => State::Reserved,
            Presence::Present => State::Allocated,
            Presence::Absent => State::Orphaned,
            Presence::Unreadable(_) => State::Unknown,
        }
    }
}

/// An app's allocation as a call gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The row.
    pub(crate) allocation: Allocation,
    /// Whether this call made it.
    pub(crate) created: bool,
}

/// Metadata with a reservation until a moment, as text.
fn held(mut metadata: Map<String, Value>, until: Timestamp) -> String {
    metadata.insert(RESERVED_UNTIL.to_owned(), until_text(until).into());
    Value::Object(metadata).to_string()
}

/// A reservation's moment in RFC 3339, in UTC: in whole seconds or with all six digits of the
/// microseconds, as readers want it that do not know other fractions.
pub(crate) fn until_text(until: Timestamp) -> String {
    if until.subsec_nanosecond() == 0 { format!("{until:.0}") } else { format!("{until:.6}") }
}

/// Reads a time as RFC 3339 has it; one without an offset, as Python writes it, is in UTC.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    // A civil time may be followed by an offset, and would be read without it.
    text.parse().ok().or_else(|| TimeZone::UTC.to_timestamp(text.parse::<DateTime>().ok()?).ok())
}

/// Reads a reservation's moment likewise; one that is later than can be told is the latest, up to the
/// year 9999.
pub(crate) fn parse_until(text: &str) -> Option<Timestamp> {
    parse_time(text).or_else(|| {
        let local: DateTime = text.trim_end_matches(['Z', 'z']).parse().ok()?;
        let limit = if local.year() < 0 { Timestamp::MIN } else { Timestamp::MAX };
        Some(TimeZone::UTC.to_timestamp(local).unwrap_or(limit))
    })
}

/// What a row says of a reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservation {
    /// Nothing.
    None,
    /// It is held until this moment: `reserved_until` in its metadata, RFC 3339.
    Until(Timestamp),
    /// It names a moment that cannot be read.
    Unreadable,
}

/// What an allocation is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Its app has a directory.
    Allocated,
    /// It is held for a planned app.
    Reserved,
    /// Its app has no directory.
    Orphaned,
    /// Whether its app has a directory cannot be told.
    Unknown,
}

impl State {
    /// The word for it, in every format.
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

    /// A row as the platform writes it.
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
