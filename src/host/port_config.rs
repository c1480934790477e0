//! This file reads the platform's `port_config.json`, which lists ports that are planned for apps that do not
//! exist yet. `list --json` and `cleanup --json` print the same form, with reservations.
//!
//! A file may hold a million entries, so they are read one at a time, and only the keys that matter are kept.

use std::fmt;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::json_words::WithoutWords;
use crate::core::allocation::{PortPair, parse_until};
use crate::core::app::{AppId, check_model, parse_app_nums};
use crate::core::import::{Entries, Entry};
use crate::core::ports::as_port;

/// The keys that are read.
const KEYS: [&str; 7] =
    ["model", "model_name", "app_number", "app_num", "backend_port", "frontend_port", "reserved_until"];

/// What a file has to be, as messages name it.
const FORM: &str = "expected a JSON array of objects, as `list --json` prints";

/// How to treat a `reserved_until` that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reservations {
    /// It is an error, because the reservation would be lost.
    Needed,
    /// It is ignored, because only the ports matter.
    PassedOver,
}

/// Reads every entry of the file, in order. `-` means standard input.
///
/// # Errors
///
/// Fails when the file cannot be read or is not an array of such objects, or when an entry has an invalid
/// model, app number or pair of ports.
pub(crate) fn read(path: &Path, reservations: Reservations) -> Result<Entries> {
    let is_stdin = path.as_os_str() == "-";
    let name = || if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let mut reading = Reading { entries: Entries::default(), reservations, failed: None };
    let read =
        if is_stdin { reading.read(io::stdin().lock()) } else { reading.read(File::open(path).with_context(name)?) };
    if let Some(err) = reading.failed {
        return Err(err.context(format!("{}: entry {}", name(), reading.entries.len() + 1)));
    }
    match read {
        Ok(()) => Ok(reading.entries),
        Err(err) if err.is_io() => Err(io::Error::from(err)).with_context(name),
        Err(err) => Err(err).with_context(|| format!("{} is not a port configuration", name())),
    }
}

/// The entries read so far.
struct Reading {
    entries: Entries,
    reservations: Reservations,
    /// The error of the first entry that could not be read.
    failed: Option<anyhow::Error>,
}

impl Reading {
    fn read(&mut self, text: impl Read) -> serde_json::Result<()> {
        let mut deserializer = serde_json::Deserializer::from_reader(BufReader::new(WithoutWords::of(text)));
        deserializer.deserialize_any(Document(self))?;
        deserializer.end()
    }

    fn add(&mut self, entry: &Raw) -> Result<()> {
        let entry = match entry {
            Raw::Object(entry) => entry,
            Raw::Other(other) => bail!("is {}: expected an object", shortened(other)),
        };
        let Entry { app, pair, until } = checked(entry, self.reservations)?;
        let app_num = u32::try_from(app.app_num)?;
        self.entries.push(&app.model, app_num, pair, until);
        Ok(())
    }
}

/// The whole file: an array, or an object whose key `removed` holds the array, as `cleanup --json` prints it.
struct Document<'a>(&'a mut Reading);

impl<'de> Visitor<'de> for Document<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array of objects, as `list --json` prints")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<(), A::Error> {
        Array(self.0).visit_seq(list)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut is_cleanups = false;
        while let Some(key) = map.next_key::<String>()? {
            if key == "removed" {
                is_cleanups = true;
                map.next_value_seed(Array(self.0))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        if is_cleanups { Ok(()) } else { Err(A::Error::custom(format_args!("it is a JSON object: {FORM}"))) }
    }
}

/// The array of entries.
struct Array<'a>(&'a mut Reading);

impl<'de> DeserializeSeed<'de> for Array<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Array<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(entry) = list.next_element::<Raw>()? {
            if let Err(err) = self.0.add(&entry) {
                self.0.failed = Some(err);
                return Err(A::Error::custom("an entry is wrong"));
            }
        }
        Ok(())
    }
}

/// One entry as it stands in the file.
enum Raw {
    /// An object, of which only the keys in [`KEYS`] are kept.
    Object(Map<String, Value>),
    /// Anything else.
    Other(Value),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

/// Makes a [`Raw`].
struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Other(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Other(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Other(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Other(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Other(Value::Null))
    }

    fn visit_str<E>(self, text: &str) -> Result<Raw, E> {
        Ok(Raw::Other(text.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            items.push(item);
        }
        Ok(Raw::Other(Value::Array(items)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        // serde_json uses this key for a number whose digits it keeps.
        const NUMBER: &str = "$serde_json::private::Number";
        let mut entry = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            if key == NUMBER {
                let digits: String = map.next_value()?;
                return Ok(Raw::Other(digits.parse().unwrap_or(Value::Null)));
            } else if KEYS.contains(&key.as_str()) {
                entry.insert(key, map.next_value()?);
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Raw::Object(entry))
    }
}

/// Checks an entry in either of the platform's spellings.
fn checked(entry: &Map<String, Value>, reservations: Reservations) -> Result<Entry> {
    let Some((key, model)) = first_of(entry, ["model", "model_name"]) else { bail!("has no model or model_name") };
    let Some(model) = model.as_str() else { bail!("{key} is {}: expected a text", shortened(model)) };
    check_model(model).map_err(anyhow::Error::msg)?;
    let Some((key, app_num)) = first_of(entry, ["app_number", "app_num"]) else {
        bail!("has no app_number or app_num")
    };
    let app_num = whole_number(key, app_num)?;
    parse_app_nums(&[app_num.to_string()]).map_err(anyhow::Error::msg)?;
    let app = AppId::new(model, app_num);
    let port = |key| {
        let Some((key, port)) = first_of(entry, [key]) else { bail!("has no {key}") };
        whole_number(key, port)
    };
    let (backend, frontend) = (port("backend_port")?, port("frontend_port")?);
    let pair = as_port(backend).zip(as_port(frontend)).and_then(|(backend, frontend)| PortPair::new(backend, frontend));
    let Some(pair) = pair else { bail!("ports {backend} and {frontend} are not two ports from 1 to 65535") };
    let until = match first_of(entry, ["reserved_until"]) {
        None => None,
        Some((_, until)) => match until.as_str().and_then(parse_until) {
            None if reservations == Reservations::Needed => {
                let until = shortened(until);
                bail!("{app} is reserved until {until}: expected a moment such as \"2026-01-31T10:00:00Z\", or null")
            }
            until => until,
        },
    };
    Ok(Entry { app, pair, until })
}

/// Returns the first of these keys that has a value.
fn first_of<'a, const N: usize>(
    entry: &'a Map<String, Value>,
    keys: [&'static str; N],
) -> Option<(&'static str, &'a Value)> {
    keys.into_iter().filter_map(|key| Some((key, entry.get(key)?))).find(|(_, value)| !value.is_null())
}

fn whole_number(key: &str, value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("{key} is {}: expected a whole number", shortened(value)))
}

/// Returns a value in a short form for a message, whatever the file holds.
fn shortened(value: &Value) -> String {
    const LONGEST: usize = 40;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read_text(text: impl AsRef<[u8]>) -> Result<Vec<Entry>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        Ok(read(file.path(), Reservations::Needed)?.iter().collect())
    }

    #[test]
    fn both_spellings_are_read_and_other_keys_ignored() {
        let entries = read_text(
            "\u{feff}".to_owned()
                + r#"[{"model_name":"a","app_number":1,"backend_port":5001,"frontend_port":8001,"score":NaN},
                {"model":"b","app_num":2,"backend_port":5003,"frontend_port":8003,
                 "reserved_until":"2026-01-01T10:00:00Z","note":[1]}]"#,
        );
        let pair = |backend, frontend| PortPair::new(backend, frontend).unwrap();
        let a = Entry { app: AppId::new("a", 1), pair: pair(5001, 8001), until: None };
        let until = "2026-01-01T10:00:00Z".parse().ok();
        let b = Entry { app: AppId::new("b", 2), pair: pair(5003, 8003), until };
        assert_eq!(entries.unwrap(), [a, b]);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for (text, expected) in [
            ("{}", "is not a port configuration: it is a JSON object: expected a JSON array of objects"),
            (r#"{"model":"a","app_num":1}"#, "it is a JSON object: expected a JSON array"),
            ("5", "expected a JSON array of objects"),
            ("[", "is not a port configuration: EOF"),
            ("[] []", "is not a port configuration: trailing"),
            ("[5]", "entry 1: is 5: expected an object"),
            ("[1.5]", "entry 1: is 1.5: expected an object"),
            ("[99999999999999999999]", "entry 1: is 99999999999999999999: expected an object"),
            ("[null]", "entry 1: is null: expected an object"),
            (
                r#"[{"model":"a/b","app_num":1,"backend_port":1,"frontend_port":2,"reserved_until":"soon"}]"#,
                "entry 1: a/b/app1 is reserved until \"soon\": expected a moment",
            ),
            (
                r#"[{"model":"a","app_num":1,"backend_port":1,"frontend_port":2,"reserved_until":5}]"#,
                "a/app1 is reserved until 5",
            ),
            (r#"[{"model":"a","app_num":1,"backend_port":NaN,"frontend_port":2}]"#, "entry 1: has no backend_port"),
            (r#"[{"app_num":1,"backend_port":1,"frontend_port":2}]"#, "entry 1: has no model"),
            (r#"[{"model":"a","backend_port":1,"frontend_port":2}]"#, "entry 1: has no app_number"),
            (r#"[["m",null,1,null,5001,8001]]"#, "entry 1: is [\"m\",null,1,null,5001,8001]: expected an object"),
            (r#"[{"model":null,"app_num":1,"backend_port":1,"frontend_port":2}]"#, "entry 1: has no model"),
            (r#"[{"model":5,"app_num":1,"backend_port":1,"frontend_port":2}]"#, "entry 1: model is 5: expected a text"),
            (r#"[{"model_name":"a","app_number":"1"}]"#, "entry 1: app_number is \"1\": expected a whole number"),
            (
                r#"[{"model":"a","app_num":1,"backend_port":1.5}]"#,
                "entry 1: backend_port is 1.5: expected a whole number",
            ),
            (
                r#"[{"model":"a","app_num":1,"backend_port":1,"frontend_port":99999999999999999999}]"#,
                "entry 1: frontend_port is 99999999999999999999: expected",
            ),
            (
                r#"[{"model":"a","app_num":1,"backend_port":1,"frontend_port":2}, {"model":"a","app_num":2,"backend_port":1}]"#,
                "entry 2: has no frontend_port",
            ),
            (&format!("[\"{}\"]", "é".repeat(1000)), &format!("entry 1: is \"{}…: expected an object", "é".repeat(39))),
            (r#"[{"model":"..","app_num":1,"backend_port":1,"frontend_port":2}]"#, "entry 1: '..' is not a model"),
            (r#"[{"model":"a","app_num":0,"backend_port":1,"frontend_port":2}]"#, "'0' is not an app number"),
            (r#"[{"model":"a","app_num":1,"backend_port":70000,"frontend_port":2}]"#, "ports 70000 and 2"),
            (r#"[{"model":"a","app_num":1,"backend_port":2,"frontend_port":2}]"#, "ports 2 and 2"),
        ] {
            let message = format!("{:#}", read_text(text).unwrap_err());
            assert!(message.contains(expected), "{text}: {message}");
        }
    }
}
