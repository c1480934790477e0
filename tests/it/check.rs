//! `check`.

use serde_json::{Value, json};

use super::fixture::{SCHEMA, WEAK_SCHEMA, World, row};

/// One of every kind of conflict, on a table that stops none of them.
fn conflicts() -> World {
    let world = World::new();
    world.database(
        WEAK_SCHEMA,
        &[
            row("a", 1, 5001, 8001),
            row("b", 1, 5001, 8003),
            row("c", 1, 5003, 8003),
            row("d", 1, 8001, 9001),
            row("e", 1, 5005, 8005),
            row("e", 1, 5007, 8007),
            row("f", 1, 70000, 8009),
            row("g/h", 1, 5009, 8011),
            row("g_h", 1, 5011, 8013),
        ],
    );
    world
}

const LINES: [&str; 7] = [
    "Backend port 5001 used by multiple apps: a/app1, b/app1",
    "Frontend port 8003 used by multiple apps: b/app1, c/app1",
    "Port 8001 used as backend by d/app1 and as frontend by a/app1; release all apps but one and allocate anew",
    "App e/app1 has 2 allocations: 5005/8005, 5007/8007; release the app and allocate anew",
    "Backend port 70000 of f/app1 is not a port from 1 to 65535; release the app and allocate anew",
    "Directory g_h/app1 belongs to multiple apps: g/h/app1, g_h/app1; release the app that is not the directory's",
    "The table has no unique index on (app_num, model); add the index, as the table does not stop what others write",
];

#[test]
fn every_kind_of_conflict_is_found_on_a_table_without_constraints() {
    let world = conflicts();
    let check = world.line("check");
    assert_eq!((check.code, check.stderr.as_str()), (Some(1), ""));
    let mut lines = check.stdout.lines();
    assert_eq!(lines.next(), Some("✗ Found 6 conflict(s):"));
    for line in &LINES[..6] {
        assert_eq!(lines.next(), Some(format!("  - {line}").as_str()));
    }
    assert_eq!(lines.next(), Some("! 3 warning(s):"));
    assert_eq!(lines.next(), Some(format!("  - {}", LINES[6]).as_str()));

    let check = world.line("check --json");
    assert_eq!(check.code, Some(1));
    let report: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let kinds: Vec<_> = report["conflicts"].as_array().unwrap().iter().map(|found| &found["kind"]).collect();
    assert_eq!(
        json!(kinds),
        json!([
            "duplicate_backend_port",
            "duplicate_frontend_port",
            "cross_role_port",
            "duplicate_app",
            "invalid_port",
            "directory_clash"
        ])
    );
    assert_eq!(
        report["conflicts"][0],
        json!({
            "kind": "duplicate_backend_port", "message": LINES[0], "ports": [5001],
            "apps": [{"model": "a", "app_num": 1}, {"model": "b", "app_num": 1}],
        })
    );
    assert_eq!(report["warnings"][0]["kind"], "weak_schema");

    let check = world.line("check --format github");
    assert_eq!(check.code, Some(1));
    let annotation = |line: &str| line.replace("; ", "%0ATo do: ");
    let first = format!("::error title=duplicate_backend_port::{}%0ATo do: release all", LINES[0]);
    assert!(check.stdout.starts_with(&first), "{check:?}");
    assert_eq!(check.stdout.lines().nth(6).unwrap(), format!("::warning title=weak_schema::{}", annotation(LINES[6])));
}

#[test]
fn warnings_fail_only_when_strict() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5061, 8001), row("b", 1, 5003, 8003), row("c", 1, 5005, 8005)]);
    world.apps(["a/app1", "b/app1", "z/app7", "z/app07", "z/notes"]);
    world.write("generated/apps/z/app8", "a file is no app");
    world.sql(r#"UPDATE port_configurations SET metadata_json = '{"reserved_until":"2001-01-01T00:00:00Z"}' WHERE model = 'b'"#);
    let expected = "✓ No port conflicts found.\n\
                    ! 4 warning(s):\n  \
                    - c/app1 has no directory c/app1; `cleanup` removes the allocation\n  \
                    - Directory z/app7 has no allocation; \
                    `allocate` gives it one, `import --from-apps` the ports in its files\n  \
                    - Backend port 5061 of a/app1 is one that browsers refuse to open; \
                    release the app and allocate anew, or set allow_browser_blocked\n  \
                    - The reservation of b/app1 is over; \
                    reserve it again, or let `cleanup` remove it if its app is gone\n";
    world.line("check").is(0, expected, "");
    world.line("check --strict").is(1, expected, "");
    let lax: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let strict: Value = serde_json::from_str(&world.line("check --json --strict").stdout).unwrap();
    assert_eq!((&lax["ok"], &strict["ok"]), (&json!(true), &json!(false)));
    assert_eq!(lax["warnings"], strict["warnings"]);
    assert_eq!(lax["conflicts"], json!([]));
}

#[test]
fn the_directories_are_looked_at_only_where_there_are_any() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    world.line("check --strict").is(0, "✓ No port conflicts found.\n", "");
    world.line("check --strict --format github").is(0, "", "");
    world.apps(["a/app1"]);
    world.line("check --strict").is(0, "✓ No port conflicts found.\n", "");
    // A directory that is not the right one is no ground for a judgement.
    world.write("manage-ports.toml", "apps_dir_marker = \".apps-root\"\n");
    let check = world.line("check --strict");
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.contains("- ./generated/apps could not be read:")
            || check.stdout.contains("- generated/apps could not be read:"),
        "{check:?}"
    );
    assert!(check.stdout.contains(".apps-root"), "{check:?}");
}

#[test]
fn ports_that_browsers_refuse_are_fine_where_they_are_allowed() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5061, 8001)]);
    world.write("manage-ports.toml", "[ports]\nallow_browser_blocked = true\n");
    world.line("check --strict").is(0, "✓ No port conflicts found.\n", "");
}

#[test]
fn each_missing_index_is_named_and_an_equivalent_one_counts() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[]);
    let weak = world.line("check");
    assert_eq!(weak.ok().lines().filter(|line| line.contains("unique index")).count(), 3);
    world.sql(
        "CREATE UNIQUE INDEX a ON port_configurations (app_num, model);
               CREATE UNIQUE INDEX b ON port_configurations (backend_port);
               CREATE UNIQUE INDEX c ON port_configurations (frontend_port) WHERE frontend_port > 0",
    );
    let partial = world.line("check");
    assert_eq!(partial.ok().lines().filter(|line| line.contains("unique index")).count(), 1);
    assert!(partial.stdout.contains("(frontend_port)"));
}

#[test]
fn a_hostile_name_cannot_forge_an_annotation() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("a\n::error::forged", 1, 5001, 8001), row("%0A::b", 1, 5001, 8003)]);
    let check = world.line("check --format github");
    assert!(
        check.stdout.lines().all(|line| line.starts_with("::error title=") || line.starts_with("::warning title="))
    );
    assert!(check.stdout.contains("%250A::b"), "{check:?}");
}
