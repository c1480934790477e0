//! A `port_config.json` is read or refused, and what was read can be written as `list --json` does and read again.

#![no_main]

use std::fs;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::planned_entries;
use manage_ports_fuzz::{folder, within};
use serde_json::{Value, json};

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let path = FOLDER.with(|folder| folder.path().join("port_config.json"));
    fs::write(&path, input).expect("a file can be written");
    let read = |needs| within(Duration::from_secs(1), || planned_entries(&path, needs));
    let ports = |needs| read(needs).map(|entries| entries.into_iter().map(|entry| entry.pair).collect::<Vec<_>>());
    if let Ok(pairs) = ports(true) {
        assert_eq!(ports(false), Ok(pairs), "a file that is right needs no leniency");
    }
    let Ok(entries) = read(true) else { return };
    let objects: Vec<_> = entries
        .iter()
        .map(|entry| {
            assert!((1..=200).contains(&entry.model.chars().count()) && (1..=2_147_483_647).contains(&entry.app_num));
            assert!(entry.pair[0] != entry.pair[1] && !entry.pair.contains(&0));
            json!({
                "model": entry.model, "app_num": entry.app_num, "backend_port": entry.pair[0],
                "frontend_port": entry.pair[1], "is_available": true, "reserved_until": entry.reserved_until,
            })
        })
        .collect();
    for document in [Value::from(objects.clone()), json!({"dry_run": false, "removed": objects, "kept": []})] {
        fs::write(&path, document.to_string()).expect("a file can be written");
        assert_eq!(read(true).as_ref(), Ok(&entries));
    }
});
