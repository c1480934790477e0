//! `map`.

use serde_json::{Value, json};

use super::fixture::{SCHEMA, World, row};

/// A range of twelve slots, the third and the last of which are excluded.
fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nmax = 8023\nexclude = [5005, 8023]\n");
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("m", 3, 5007, 8007)]);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 3");
    world.apps(["m/app1"]);
    world
}

#[test]
fn each_slot_is_a_letter_where_there_is_no_colour() {
    let world = world();
    let map = world.line("map");
    let mut lines = map.ok().lines();
    // Somebody may listen on one of the free ones, so only the others are told for sure.
    let first = lines.next().unwrap();
    assert!(first.starts_with(" 5001  8001  AOBR") && first.ends_with('B') && first.len() == 25, "{map:?}");
    let legend = map.stdout.split_once("\n\n").unwrap().1;
    for part in ["A allocated 1", "O orphaned 1", "R reserved 1", "B blocked 2"] {
        assert!(legend.contains(part), "{map:?}");
    }
    let coloured = world.line("map --color always");
    assert!(coloured.ok().starts_with(" 5001  8001  \u{1b}[42m \u{1b}[0m\u{1b}[43m \u{1b}[0m"), "{coloured:?}");
}

#[test]
fn json_has_counts_and_runs() {
    let world = world();
    let map: Value = serde_json::from_str(world.line("map --json").ok()).unwrap();
    assert_eq!((&map["counts"]["allocated"], &map["counts"]["blocked"]), (&json!(1), &json!(2)));
    let counts: u64 = map["counts"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(counts, 12);
    assert_eq!(map["runs"][0], json!({"first": [5001, 8001], "last": [5001, 8001], "state": "allocated"}));
    assert_eq!(map["runs"][2], json!({"first": [5005, 8005], "last": [5005, 8005], "state": "blocked"}));
    std::fs::rename(world.path("generated"), world.path("away")).unwrap();
    let map: Value = serde_json::from_str(world.line("map --json").ok()).unwrap();
    assert_eq!((&map["counts"]["unknown"], &map["counts"]["reserved"]), (&json!(2), &json!(1)));
}

#[test]
fn svg_is_a_picture() {
    let svg = world().line("map --format svg");
    assert!(svg.ok().starts_with("<svg xmlns=") && svg.ok().ends_with("</svg>\n"), "{svg:?}");
    assert!(svg.ok().contains("<title>orphaned: 5003 8003 to 5003 8003</title>"), "{svg:?}");
    assert_eq!(svg.ok().matches("<rect").count(), svg.ok().matches("/>").count() + svg.ok().matches("</rect>").count());
}

#[test]
fn an_empty_range_is_drawn_as_free_and_folded() {
    let world = World::new();
    let map = world.line("map");
    assert!(map.ok().contains(" free\n") && map.ok().contains("A allocated 0"), "{map:?}");
    assert!(map.ok().lines().count() < 60, "{map:?}");
    assert!(!world.path("data").exists());
    world.line("map --format csv").fails(2, &["human, json, svg"]);
}
