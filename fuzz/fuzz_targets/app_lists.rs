//! Lists of app numbers are read or refused, and what was read can be written as ranges and read again.

#![no_main]

use std::collections::BTreeSet;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::{app_in_one_word, app_nums, app_ranges};

fuzz_target!(|text: &str| {
    if let Some((model, list)) = app_in_one_word(text) {
        assert_eq!(format!("{model}/app{list}"), text);
    }
    let lists: Vec<_> = text.split(' ').collect();
    let Ok(nums) = app_nums(&lists) else { return };
    let sorted: BTreeSet<_> = nums.iter().copied().collect();
    assert!(sorted.len() == nums.len() && (1..=10_000).contains(&nums.len()), "{} numbers", nums.len());
    assert!(nums.iter().all(|num| (1..=2_147_483_647).contains(num)));
    let again = app_nums(&[&app_ranges(&nums)]).expect("what was written can be read");
    assert!(again.iter().eq(&sorted), "{text:?} came back as {again:?}");
    // Each list alone is accepted, too, and names no other app.
    for list in lists {
        assert!(app_nums(&[list]).expect("a part of what was read").iter().all(|num| sorted.contains(num)));
    }
});
