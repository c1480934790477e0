//! The Compose files of an app are read in bounded time and memory, and show no value of its `.env`.
//!
//! The parts of an input are `compose.yaml`, `.env`, `a.yml` and `compose.override.yaml`.

#![no_main]

use std::fs;
use std::io::Write;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::declared_pair;
use manage_ports_fuzz::{SECRET, folder, within, write_parts};

/// What an app's files together may hold, so that the limit on the time makes sense.
const LARGEST: usize = 64 << 10;

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    if input.len() > LARGEST {
        return;
    }
    FOLDER.with(|folder| {
        let names = ["compose.yaml", ".env", "a.yml", "compose.override.yaml"];
        let [_, env, ..] = write_parts(folder.path(), names, input);
        let mut env = fs::OpenOptions::new().create(true).append(true).open(env).expect("a file can be opened");
        write!(env, "\nKEY={SECRET}\n").expect("a file can be written");
        let declared = within(Duration::from_secs(1), || declared_pair(folder.path()));
        assert!(!declared.shown.contains(SECRET), "{}", declared.shown);
        if let Ok(Some([backend, frontend])) = declared.pair {
            assert!(backend != frontend && backend != 0 && frontend != 0);
        }
    });
});
