//! Durations are read or refused, and what was read can be written and read again.

#![no_main]

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::duration;

fuzz_target!(|text: &str| {
    let Ok(read) = duration(text) else { return };
    // The longest text of hours that can be read is shorter than the longest duration.
    if read.as_secs() / 3600 > 175_307_616 {
        return;
    }
    let (hours, seconds, nanoseconds) = (read.as_secs() / 3600, read.as_secs() % 3600, read.subsec_nanos());
    let written = format!("{hours}h {seconds}s {nanoseconds}ns");
    assert_eq!(duration(&written), Ok(read), "{text:?} as {written:?}");
    assert!(text == "0" || text.chars().any(|c| !c.is_ascii_digit()), "{text:?} has no unit");
});
