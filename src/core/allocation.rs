//! Allocations: an app's row in the table, with its pair of ports and its reservation.

use jiff::Timestamp;
use serde_json::{Map, Value};

use super::app::{AppId, Presence};

/// The backend and the frontend port of one app: two different ports from 1 to 65535.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PortPair {
    /// The port that the app's backend listens on.
    pub backend: u16,
    /// The port that the app's frontend listens on.
    pub frontend: u16,
}

impl PortPair {
    /// Makes a pair, unless a port is 0 or both are the same.
    #[must_use]
    pub fn new(backend: u16, frontend: u16) -> Option<Self> {
        (backend != 0 && frontend != 0 && backend != frontend).then_some(Self { backend, frontend })
    }

    /// Both ports, the backend's first.
    #[must_use]
    pub fn ports(self) -> [u16; 2] {
        [self.backend, self.frontend]
    }
}

/// The key of a reservation's moment in a row's metadata.
const RESERVED_UNTIL: &str = "reserved_until";

/// The app's metadata is not a JSON object, so that nothing can be added to it.
#[derive(Debug)]
pub struct ForeignMetadata(
    /// Whose it is.
    pub AppId,
);

/// One row of `port_configurations`, as it was found.
///
/// Ports are wider than a port can be because somebody else may have written the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// What tells the row from every other in its database.
    pub id: i64,
    /// Whose ports these are.
    pub app: AppId,
    /// The backend's port.
    pub backend_port: i64,
    /// The frontend's port.
    pub frontend_port: i64,
    /// The platform's flag of the same name; a missing one counts as false.
    pub is_available: bool,
    /// The text of `metadata_json`.
    pub metadata: Option<String>,
    /// When the row was made; `None` where the row has no time or none that can be read.
    pub created_at: Option<Timestamp>,
    /// When the row was last changed, likewise.
    pub updated_at: Option<Timestamp>,
}

impl Allocation {
    /// A row that is yet to be written, without an id, held until a moment if one is given.
    #[must_use]
    pub fn new(app: AppId, pair: PortPair, until: Option<Timestamp>, now: Timestamp) -> Self {
        Self {
            id: 0,
            app,
            backend_port: pair.backend.into(),
            frontend_port: pair.frontend.into(),
            is_available: true,
            metadata: until.map(|until| held(Map::new(), until)),
            created_at: Some(now),
            updated_at: Some(now),
        }
    }

    /// The two ports, the backend's first.
    #[must_use]
    pub fn ports(&self) -> [i64; 2] {
        [self.backend_port, self.frontend_port]
    }

    /// Those of the two ports that can be one: from 1 to 65535.
    pub fn valid_ports(&self) -> impl Iterator<Item = u16> + use<> {
        self.ports().into_iter().filter_map(|port| u16::try_from(port).ok()).filter(|&port| port != 0)
    }

    /// Until when the row is held for a planned app: `reserved_until` in its metadata, RFC 3339.
    #[must_use]
    pub fn reserved_until(&self) -> Option<Timestamp> {
        let metadata: Value = serde_json::from_str(self.metadata.as_deref()?).ok()?;
        metadata.get(RESERVED_UNTIL)?.as_str()?.parse().ok()
    }

    /// Holds the row until a moment, unless it is held for longer; keys of others in the metadata
    /// stay as they are. Returns whether that changed it.
    ///
    /// # Errors
    ///
    /// [`ForeignMetadata`] when there is no object to write it into.
    pub fn hold(&mut self, until: Timestamp) -> Result<bool, ForeignMetadata> {
        if self.reserved_until().is_some_and(|held| held >= until) {
            return Ok(false);
        }
        let metadata = self.metadata.as_deref().filter(|text| !text.trim().is_empty()).unwrap_or("null");
        let metadata = match serde_json::from_str(metadata) {
            Ok(Value::Object(metadata)) => metadata,
            Ok(Value::Null) => Map::new(),
            _ => return Err(ForeignMetadata(self.app.clone())),
        };
        self.metadata = Some(held(metadata, until));
        Ok(true)
    }

    /// Whether the row is held at this moment.
    #[must_use]
    pub fn is_reserved(&self, now: Timestamp) -> bool {
        self.reserved_until().is_some_and(|until| until > now)
    }

    /// What the row is at this moment, given what stands at its app's directory.
    #[must_use]
    pub fn state(&self, now: Timestamp, presence: &Presence) -> State {
        if self.is_reserved(now) {
            State::Reserved
        } else if *presence == Presence::Absent {
            State::Orphaned
        } else {
            State::Allocated
        }
    }
}

/// Metadata with a reservation until a moment, as text.
fn held(mut metadata: Map<String, Value>, until: Timestamp) -> String {
    metadata.insert(RESERVED_UNTIL.to_owned(), until.to_string().into());
    Value::Object(metadata).to_string()
}

/// What an allocation is at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Its app has a directory, or whether it has one cannot be told.
    Allocated,
    /// It is held for a planned app.
    Reserved,
    /// Its app has no directory.
    Orphaned,
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
        assert_eq!(held.state(until, &Presence::Unreadable("?".into())), State::Allocated);
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
    fn metadata_of_others_is_no_reservation() {
        for metadata in ["", "null", "[1]", "{}", "{", r#"{"reserved_until":5}"#, r#"{"reserved_until":"soon"}"#] {
            let mut other = row(1, "m", 1, 5001, 8001);
            other.metadata = Some(metadata.into());
            assert_eq!(other.reserved_until(), None, "{metadata}");
        }
    }
}
