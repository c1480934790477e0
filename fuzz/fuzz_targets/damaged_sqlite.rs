//! A SQLite file that is damaged, not ours or not a database is refused and stays as it is, and what is answered
//! from it is there afterwards.
//!
//! The last three bytes of an input say whether another file stands beside it, and how many of its bytes that has.

#![no_main]

use std::fs;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{allocate_in_sqlite, read_sqlite, release_in_sqlite, verify_sqlite};
use manage_ports_fuzz::folder;

const BESIDE: [&str; 3] = ["-wal", "-journal", "-shm"];

fn set_up(path: &Path, database: &[u8], beside: Option<(&str, &[u8])>) {
    for suffix in BESIDE {
        drop(fs::remove_file(format!("{}{suffix}", path.display())));
    }
    fs::write(path, database).expect("a file can be written");
    if let Some((suffix, content)) = beside {
        fs::write(format!("{}{suffix}", path.display()), content).expect("a file can be written");
    }
}

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let path = FOLDER.with(|folder| folder.path().join("ports.db"));
    let Some((content, &[kind, high, low])) = input.split_last_chunk() else { return };
    let beside = BESIDE.get(usize::from(kind) % 4);
    let length = if beside.is_some() { usize::from(u16::from_be_bytes([high, low])).min(content.len()) } else { 0 };
    let (database, content) = content.split_at(content.len() - length);
    let beside = beside.map(|suffix| (*suffix, content));
    let is_alone = beside.is_none();

    set_up(&path, database, beside);
    let read = read_sqlite(&path);
    if read.is_err() && is_alone {
        assert!(fs::read(&path).expect("the file is there") == database, "{read:?}, and the file is another");
    }
    // The order of the calls must not matter: a writer comes first to the same files.
    set_up(&path, database, beside);
    let is_sound = verify_sqlite(&path).is_ok();
    set_up(&path, database, beside);
    let allocated = allocate_in_sqlite(&path, "m", 1);
    match &allocated {
        Err(why) => {
            let now = fs::read(&path).expect("the file is there");
            assert!(!is_alone || now == database, "{why}, and the file is another");
        }
        Ok(pair) if is_sound && is_alone => {
            assert_eq!(allocate_in_sqlite(&path, "m", 1).as_ref(), Ok(pair), "the same app gets the same pair");
            assert!(read_sqlite(&path).is_ok_and(|rows| rows > 0));
        }
        Ok(_) => {}
    }
    drop(release_in_sqlite(&path, "m", 1));
});
