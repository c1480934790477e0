//! A `.env` file of an app is read in bounded time, its two readers agree, and its values are not shown.

#![no_main]

use std::fs;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{declared_pair, env_values};
use manage_ports_fuzz::{SECRET, folder, within};

const NAMES: [&str; 2] = ["BACKEND_PORT", "FRONTEND_PORT"];

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let mut content = format!("KEY={SECRET}\n").into_bytes();
    content.extend_from_slice(input);
    FOLDER.with(|folder| {
        fs::write(folder.path().join(".env"), &content).expect("a file can be written");
        let declared = within(Duration::from_secs(1), || declared_pair(folder.path()));
        assert!(!declared.shown.contains(SECRET), "{}", declared.shown);
        let values = within(Duration::from_secs(1), || env_values(&content, &NAMES));
        if let Ok(Some(pair)) = declared.pair {
            let ports: Vec<_> =
                values.iter().map(|value| value.as_deref().and_then(|value| value.parse().ok())).collect();
            assert_eq!(ports, pair.map(Some), "{values:?}");
        }
    });
});
