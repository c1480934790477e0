//! Whatever stands in `metadata_json`, a reservation is added and removed and every other key stays.
//!
//! The parts of an input are the metadata and the end of a reservation.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{Held, Metadata};
use manage_ports_fuzz::SEPARATOR;
use serde_json::{Map, Value};

const KEY: &str = "reserved_until";

/// The keys of others, if the metadata is an object, empty or `null`.
fn others(text: Option<&str>) -> Option<Map<String, Value>> {
    let text = text.unwrap_or_default();
    let value = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(text).ok()? };
    let mut object = match value {
        Value::Null => Map::new(),
        Value::Object(object) => object,
        _ => return None,
    };
    object.shift_remove(KEY);
    Some(object)
}

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |&byte| byte == SEPARATOR);
    let [text, until] = [(); 2].map(|()| parts.next().map(|part| String::from_utf8_lossy(part).into_owned()));
    let mut row = Metadata::new(text.as_deref());
    let before = others(row.text());
    let (held, unreadable) = row.held();
    assert_eq!(held == Held::Unreadable, unreadable.is_some());
    assert!(held != Held::No || !row.is_held_now());

    let until = until.as_deref().unwrap_or("2030-01-02T03:04:05Z");
    match row.hold(until) {
        None => {}
        // What nobody can read as an object is left alone.
        Some(Err(_)) => assert!(before.is_none() && row.text() == text.as_deref()),
        Some(Ok(is_changed)) => {
            let Held::Until(now) = row.held().0 else { panic!("not held: {:?}", row.text()) };
            assert_eq!(row.text() != text.as_deref(), is_changed);
            if is_changed {
                assert_eq!(others(row.text()), before, "{:?}", row.text());
            } else {
                assert_eq!(held, Held::Until(now.clone()), "never shortened");
            }
            assert_eq!(row.hold(until), Some(Ok(false)), "once more changes nothing");
            // What was written is read as the same moment.
            assert_eq!(Metadata::new(row.text()).held().0, Held::Until(now));
        }
    }
    let before = others(row.text());
    match row.cancel() {
        Err(_) => assert!(before.is_none()),
        Ok(is_changed) => {
            assert_eq!(row.held().0, Held::No, "{:?}", row.text());
            assert_eq!(row.cancel(), Ok(false), "once more changes nothing");
            if is_changed {
                assert_eq!(others(row.text()), before, "{:?}", row.text());
            }
        }
    }
});
