//! The platform's `port_config.json`: ports that were planned for apps before they were made.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::core::allocation::PortPair;
use crate::core::app::{AppId, check_model, parse_app_nums};
use crate::core::import::Entry;

/// An entry in either of the platform's spellings; its other keys are ignored.
#[derive(Deserialize)]
struct Object {
    model: Option<String>,
    model_name: Option<String>,
    app_number: Option<i64>,
    app_num: Option<i64>,
    backend_port: i64,
    frontend_port: i64,
}

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
    let entries: Vec<Object> = serde_json::from_slice(&text.with_context(name)?)
        .with_context(|| format!("{} is not a port configuration", name()))?;
    entries
        .into_iter()
        .enumerate()
        .map(|(index, entry)| checked(entry).with_context(|| format!("{}: entry {}", name(), index + 1)))
        .collect()
}

fn checked(entry: Object) -> Result<Entry> {
    let Some(model) = entry.model.or(entry.model_name) else { bail!("has no model or model_name") };
    let Some(app_num) = entry.app_number.or(entry.app_num) else { bail!("has no app_number or app_num") };
    check_model(&model).map_err(anyhow::Error::msg)?;
    parse_app_nums(&[app_num.to_string()]).map_err(anyhow::Error::msg)?;
    let port = |port: i64| u16::try_from(port).ok();
    let pair = port(entry.backend_port)
        .zip(port(entry.frontend_port))
        .and_then(|(backend, frontend)| PortPair::new(backend, frontend));
    let Some(pair) = pair else {
        bail!("ports {} and {} are not two ports from 1 to 65535", entry.backend_port, entry.frontend_port)
    };
    Ok((AppId::new(model, app_num), pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Entry>> {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), text).unwrap();
        read(file.path())
    }

    #[test]
    fn both_spellings_are_read_and_other_keys_ignored() {
        let entries = read_text(
            r#"[{"model_name":"a","app_number":1,"backend_port":5001,"frontend_port":8001,"note":[1]},
                {"model":"b","app_num":2,"backend_port":5003,"frontend_port":8003}]"#,
        );
        let pair = |backend, frontend| PortPair::new(backend, frontend).unwrap();
        assert_eq!(entries.unwrap(), [(AppId::new("a", 1), pair(5001, 8001)), (AppId::new("b", 2), pair(5003, 8003))]);
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for (text, expected) in [
            ("{}", "is not a port configuration"),
            (r#"[{"app_num":1,"backend_port":1,"frontend_port":2}]"#, "entry 1: has no model"),
            (r#"[{"model":"a","backend_port":1,"frontend_port":2}]"#, "entry 1: has no app_number"),
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
