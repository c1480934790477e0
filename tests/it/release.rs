//! `release`.

use serde_json::{Value, json};

use super::fixture::{SCHEMA, WEAK_SCHEMA, World, row};

fn world() -> World {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("n", 1, 5005, 8005)]);
    world
}

#[test]
fn an_app_is_named_by_arguments_or_flags() {
    for line in ["release m 1", "release --model m --app 1", "release --model m 1", "release m --app 1"] {
        let world = world();
        world.line(line).is(0, "✓ Released ports for m/app1\n", "");
        assert_eq!(world.rows(), [row("m", 2, 5003, 8003), row("n", 1, 5005, 8005)], "{line}");
        world.line(line).is(1, "✗ No allocation found for m/app1\n", "m has app 2 in data/ports.db\n");
    }
}

#[test]
fn several_are_released_together_and_the_missing_ones_named() {
    let world = world();
    world.line("release m 1-2,7 9").is(
        1,
        "✓ Released ports for m/app1\n✓ Released ports for m/app2\n\
         ✗ No allocation found for m/app7\n✗ No allocation found for m/app9\n",
        "m has apps 1-2 in data/ports.db\n",
    );
    assert_eq!(world.rows(), [row("n", 1, 5005, 8005)]);
}

#[test]
fn json_tells_what_was_released_and_what_was_not_there() {
    let world = world();
    let ran = world.line("release m 2,3 --json");
    assert_eq!(ran.code, Some(1));
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["released"][0]["backend_port"], 5003);
    assert_eq!(report["released"][0]["created_at"], "2026-01-02T03:04:05.678901Z");
    assert_eq!(report["not_found"], json!([{"model": "m", "app_num": 3}]));
}

#[test]
fn every_row_of_a_doubled_app_is_released() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001), row("m", 1, 5003, 8003)]);
    world.line("release m 1 --dry-run").is(0, "Would release ports for m/app1 (2 allocations)\n", "");
    world.line("release m 1").is(0, "✓ Released ports for m/app1 (2 allocations)\n", "");
    assert_eq!(world.rows(), []);
}

#[test]
fn a_model_that_no_row_has_gets_the_nearest_one_as_a_hint() {
    let world = World::new();
    world.database(SCHEMA, &[row("openai_gpt-4.1", 1, 5001, 8001), row("openai_o3", 1, 5003, 8003)]);
    let hint = "no row of data/ports.db has the model openai_gpt4: did you mean openai_gpt-4.1?";
    world.line("release openai_gpt4 1").is(1, "✗ No allocation found for openai_gpt4/app1\n", &format!("{hint}\n"));
    let json = world.line("release openai_gpt4/app1 --json");
    assert_eq!(json.stderr, format!("{}\n", json!({"notice": {"message": hint}})));
    let far = world.line("release mistral 1");
    far.is(1, "✗ No allocation found for mistral/app1\n", "no row of data/ports.db has the model mistral\n");
    world.line("release mistral 1 -q").is(1, "✗ No allocation found for mistral/app1\n", "");
    world.line("release openai_gpt-4.1 1").is(0, "✓ Released ports for openai_gpt-4.1/app1\n", "");
}

#[test]
fn a_wrong_number_in_a_list_releases_nothing() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 0, 5003, 8003), row("m", -5, 5005, 8005)]);
    for (apps, wrong) in [("0,1", "'0'"), ("1,-5", "'-5'"), ("1 0", "'0'"), ("-5 1", "'-5'"), ("1-0", "'1-0'")] {
        world.line(&format!("release m {apps}")).fails(2, &[wrong]);
    }
    world.line("release m/app1 m/app0").fails(2, &["'0'"]);
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn rows_that_break_the_rules_can_be_released_and_other_bad_names_are_mistakes() {
    let world = World::new();
    world.database(SCHEMA, &[row("bad\tname", 1, 5001, 8001), row("m", -1, 5003, 8003), row("m", 0, 5005, 8005)]);
    world.run(["release", "bad\tname", "1"]).is(0, "✓ Released ports for bad\\tname/app1\n", "");
    world.run(["release", "bad\tname", "1"]).fails(2, &["control characters"]);
    world.line("release m -1 0").fails(2, &["'-1' is not an app number"]);
    world.line("release m/app-1").is(0, "✓ Released ports for m/app-1\n", "");
    world.line("release m 0").is(0, "✓ Released ports for m/app0\n", "");
    world.line("release m 0").fails(2, &["'0' is not an app number"]);
    world.line("release m x").fails(2, &["'x' is not an app number"]);
    world.line("release m").fails(2, &["no APPS given", "release MODEL APPS"]);
    world.line("release").fails(2, &["no MODEL given", "release MODEL APPS"]);
}

#[test]
fn a_dry_run_tells_what_would_be_released_and_releases_nothing() {
    let world = world();
    world.line("release m 1-3 --dry-run").is(
        1,
        "Would release ports for m/app1\nWould release ports for m/app2\n✗ No allocation found for m/app3\n",
        "m has apps 1-2 in data/ports.db\n",
    );
    let ran = world.line("release m 2 --dry-run --json");
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!((&report["dry_run"], &report["released"][0]["app_num"]), (&json!(true), &json!(2)));
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn every_app_of_a_model_is_released_with_all() {
    for line in ["release m --all", "release --model m --all", "release --all m"] {
        let world = world();
        world.line(&format!("{line} --dry-run")).is(
            0,
            "Would release ports for m/app1\nWould release ports for m/app2\n",
            "",
        );
        world.line(line).is(0, "✓ Released ports for m/app1\n✓ Released ports for m/app2\n", "");
        assert_eq!(world.rows(), [row("n", 1, 5005, 8005)], "{line}");
        let again = world.line(line);
        assert_eq!((again.code, again.stdout.as_str()), (Some(1), "✗ No allocation found for m\n"));
        let again: Value = serde_json::from_str(&world.line(&format!("{line} --json")).stdout).unwrap();
        assert_eq!(again, json!({"released": [], "not_found": []}));
    }
    let world = world();
    for line in ["release m 1 --all", "release m/app1 --all", "release m --app 1 --all", "release --model m 1 --all"] {
        world.line(line).fails(2, &["--all is for every app of a model", "name no apps"]);
    }
    world.line("release --all").fails(2, &["no MODEL given"]);
    world.run(["release", "a\tb", "--all"]).fails(2, &["control characters"]);
    assert_eq!(world.rows().len(), 3);
}
