//! The platform's `port_config.json`: ports that were planned for apps before they were made. What
//! `list --json` prints is of the same form, and tells of reservations, too.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

use crate::core::allocation::{PortPair, parse_until};
use crate::core::app::{AppId, check_model, parse_app_nums};
use crate::core::import::Entry;
use crate::core::ports::as_port;

/// Reads every entry of the file, in its order; `-` is standard input.
///
/// # Errors
///
/// When the file cannot be read, is not an array of such objects, or an entry names what is no
/// model, no app number or no pair of ports.
pub(crate) fn read(path: &Path) -> Result<Vec<Entry>> {
    let is_stdin = path.as_os_str() == "-";
    let name = || if is_stdin { "standard input".to_owned() } else { path.display().to_string() };
    let text = match is_stdin {
        true => io::read_to_string(io::stdin()).map(String::into_bytes),
        false => fs::read(path),
    };
    let text = text.with_context(name)?;
    // Windows programs begin a text with a mark.
    let text = text.strip_prefix("\u{feff}".as_bytes()).unwrap_or(&text);
    let entries: Vec<Value> =
        serde_json::from_slice(text).with_context(|| format!("{} is not a port configuration", name()))?;
    entries
        .iter()
        .enumerate()
        .map(|(index, entry)| checked(entry).with_context(|| format!("{}: entry {}", name(), index + 1)))
        .collect()
}

/// An entry in either of the platform's spellings; its other keys are ignored.
fn checked(entry: &Value) -> Result<Entry> {
    let Value::Object(entry) = entry else { bail!("is {}: expected an object", shortened(entry)) };
    let Some((key, model)) = first_of(entry, ["model", "model_name"]) else { bail!("has no model or model_name") };
    let Some(model) = model.as_str() else { bail!("{key} is {}: expected a text", shortened(model)) };
    check_model(model).map_err(anyhow::Error::msg)?;
    let Some((key, app_num)) = first_of(entry, ["app_number", "app_num"]) else {
        bail!("has no app_number or app_num")
    };
    let app_num = whole_number(key, app_num)?;
    parse_app_nums(&[app_num.to_string()]).map_err(anyhow::Error::msg)?;
    let port = |key| {
        let Some((key, port)) = first_of(entry, [key]) else { bail!("has no {key}") };
        whole_number(key, port)
    };
    let (backend, frontend) = (port("backend_port")?, port("frontend_port")?);
    let pair = as_port(backend).zip(as_port(frontend)).and_then(|(backend, frontend)| PortPair::new(backend, frontend));
    let Some(pair) = pair else { bail!("ports {backend} and {frontend} are not two ports from 1 to 65535") };
    let until = entry.get("reserved_until").and_then(|until| parse_until(until.as_str()?));
    Ok(Entry { app: AppId::new(model, app_num), pair, until })
}

/// The first of these keys that has a value.
fn first_of<'a, const N: usize>(
    entry: &'a Map<String, Value>,
    keys: [&'static str; N],
) -> Option<(&'static str, &'a Value)> {
    keys.into_iter().filter_map(|key| Some((key, entry.get(key)?))).find(|(_, value)| !value.is_null())
}

fn whole_number(key: &str, value: &Value) -> Result<i64> {
    value.as_i64().with_context(|| format!("{key} is {}: expected a whole number", shortened(value)))
}

/// A value as a message shows it: whatever a file holds, it is told in few words.
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
    use super::*;

    fn read_text(text: impl AsRef<[u8]>) -> Result<Vec<Entry>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn both_spellings_are_read_and_other_keys_ignored() {
        let entries = read_text(
            "\u{feff}".to_owned()
                + r#"[{"model_name":"a","app_number":1,"backend_port":5001,"frontend_port":8001,"reserved_until":"soon"},
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
            ("{}", "is not a port configuration"),
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
