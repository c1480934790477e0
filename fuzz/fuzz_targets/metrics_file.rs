//! A metrics file is read only if it is what this program writes, and what is written from it is read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{Counters, counters};

fuzz_target!(|content: &[u8]| {
    for times in [0, 1, 3] {
        match counters(content, times) {
            Counters::Ours(text) => {
                assert_eq!(counters(text.as_bytes(), 0), Counters::Ours(text.clone()), "written and read again");
                // A file that was cut off is not read as one with smaller counters.
                let end = text.len() - 1;
                assert!(!matches!(counters(&text.as_bytes()[..end / 2], 0), Counters::Ours(_)));
            }
            Counters::Nothing => assert!(content.iter().all(u8::is_ascii_whitespace)),
            Counters::Damaged | Counters::Foreign => {}
        }
    }
});
