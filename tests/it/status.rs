//! `status`.

use serde_json::{Value, json};

use super::fixture::{SCHEMA, World, row};

fn status(world: &World, line: &str) -> Value {
    serde_json::from_str(world.line(line).ok()).unwrap()
}

#[test]
fn how_things_stand_is_told_in_ten_lines() {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nmax = 8019\nexclude = [5009]\n");
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("m", 3, 5005, 9999)]);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 3");
    world.apps(["m/app1"]);
    let told = status(&world, "status --json");
    assert_eq!((&told["config"], &told["apps_dir"]), (&json!("manage-ports.toml"), &json!("generated/apps")));
    let counts = ["allocated", "reserved", "orphaned", "free_slots", "conflicts"].map(|key| told[key].clone());
    // Ten slots: three are taken and one is excluded.
    assert_eq!(counts, [json!(1), json!(1), json!(1), json!(6), json!(0)]);
    let check: Value = serde_json::from_str(world.line("check --json").ok()).unwrap();
    assert_eq!(told["warnings"], check["warnings"].as_array().unwrap().len());
    let database = &told["database"];
    assert_eq!((&database["kind"], &database["name"]), (&json!("sqlite"), &json!("data/ports.db")));
    assert!(database["bytes"].as_u64() > Some(4096) && database["journal_mode"].is_string(), "{told}");
    assert!(database["storage"].is_string(), "{told}");

    let human = world.line("status");
    assert_eq!(human.ok().lines().count(), 10, "{human:?}");
    assert!(human.ok().contains("config file     manage-ports.toml\n"), "{human:?}");
    assert!(human.ok().contains("free slots      6\n"), "{human:?}");
    let next = human.ok().lines().last().unwrap();
    assert!(next.contains("`manage-ports cleanup --dry-run`"), "{human:?}");
    // The way out that it names works.
    assert_eq!(world.line("cleanup --dry-run --min-age 0s -q").code, Some(0));
}

#[test]
fn conflicts_are_counted_as_a_check_counts_them() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 8001, 9001), row("n", 1, 70000, 9003)]);
    world.apps(["m/app1", "m/app2", "n/app1"]);
    let check = world.line("check --json");
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    let told = status(&world, "status --json");
    for key in ["conflicts", "warnings"] {
        assert_eq!(told[key], check[key].as_array().unwrap().len(), "{key}");
    }
    assert_ne!(told["conflicts"], 0);
    assert!(world.line("status").ok().contains("`manage-ports check`"));
}

#[test]
fn what_is_missing_is_told_and_no_failure() {
    let world = World::new();
    let told = status(&world, "status --json");
    assert_eq!((&told["config"], &told["database"]["journal_mode"]), (&Value::Null, &Value::Null));
    assert!(world.line("status").ok().contains("data/ports.db (SQLite, not made yet)"));
    assert!(!world.path("data").exists());

    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    for line in ["status --json", "status --json --apps-dir /nope"] {
        let told = status(&world, line);
        assert_eq!((&told["allocated"], &told["unknown"]), (&json!(0), &json!(1)), "{line}");
    }
    world.line("status --database none.db").fails(3, &["none.db"]);
    world.write("broken.db", "x".repeat(1000));
    world.line("status --database broken.db").fails(3, &["broken.db"]);
}
