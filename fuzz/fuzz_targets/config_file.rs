//! The configuration file is read or refused, and no message shows the password in its database URL.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::configured_database;
use manage_ports_fuzz::{SECRET, folder};

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let path = FOLDER.with(|folder| folder.path().join("manage-ports.toml"));
    fs::write(&path, input).expect("a file can be written");
    let first = configured_database(&path);
    assert_eq!(configured_database(&path), first, "the same file says the same");

    let mut content = format!("database = \"postgresql://user:{SECRET}").into_bytes();
    content.extend_from_slice(input);
    fs::write(&path, &content).expect("a file can be written");
    let shown = configured_database(&path).unwrap_or_else(|why| why);
    assert!(!shown.contains(SECRET), "{shown}");
});
