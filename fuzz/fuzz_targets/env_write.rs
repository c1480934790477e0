//! The writer of a `.env` file refuses it, or sets the two ports and leaves every other byte.

#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{declared_pair, env_others, env_values, env_with};
use manage_ports_fuzz::folder;

const NAMES: [&str; 2] = ["BACKEND_PORT", "FRONTEND_PORT"];

fn contains(content: &[u8], part: &[u8]) -> bool {
    content.windows(part.len()).any(|window| window == part)
}

fuzz_target!(|before: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let [backend, frontend] = NAMES;
    let variables = [(backend, "5001".to_owned()), (frontend, "8001".to_owned())];
    let Ok(after) = env_with(before, &variables) else { return };
    assert_eq!(env_with(&after, &variables).as_ref(), Ok(&after), "once more changes nothing");
    // The values do not decide what is refused.
    let others = env_with(&after, &[(backend, "1".to_owned()), (frontend, "65535".to_owned())]);
    let back = env_with(&others.expect("other values"), &variables).expect("the same values again");
    // A reader may have taken a line of an odd form for one with the first values, and needs one of its own for others.
    assert!(back.starts_with(&after), "other values and back: {back:?} is not {after:?}");

    // What does not set one of the two stays, to the byte; a line without its end gets one.
    let [kept_before, kept_after] = [before, &after].map(|content| env_others(content, &NAMES).concat());
    let trimmed = kept_after.trim_ascii_end();
    assert!(kept_before.starts_with(trimmed) && kept_before.trim_ascii_end() == trimmed);
    // Without quotes each line is a statement, and needs no code of ours to be found.
    if !before.iter().any(|byte| matches!(byte, b'"' | b'\'')) {
        let is_other = |line: &&[u8]| !NAMES.iter().any(|name| contains(line, name.as_bytes()));
        let lines = |content| <[u8]>::split(content, |&byte| byte == b'\n').filter(is_other).collect::<Vec<_>>();
        let (mut kept, mut found) = (lines(before), lines(&after));
        for lines in [&mut kept, &mut found] {
            while lines.last().is_some_and(|line| line.trim_ascii_end().is_empty()) {
                lines.pop();
            }
        }
        let end = |lines: &mut Vec<&[u8]>| lines.pop().map(<[u8]>::trim_ascii_end).map(<[u8]>::to_vec);
        assert_eq!(end(&mut kept), end(&mut found));
        assert_eq!(kept, found);
    }
    if !NAMES.iter().any(|name| contains(before, name.as_bytes())) {
        assert!(after.starts_with(before), "a file that names neither is only added to");
    }

    assert_eq!(env_values(&after, &NAMES), [Some("5001".to_owned()), Some("8001".to_owned())]);
    // A line that Compose refuses may have been meant to name other files.
    if str::from_utf8(&after).is_ok() && !contains(&after, b"COMPOSE_") {
        FOLDER.with(|folder| {
            fs::write(folder.path().join(".env"), &after).expect("a file can be written");
            assert_eq!(declared_pair(folder.path()).pair, Ok(Some([5001, 8001])));
        });
    }
});
