//! `reserve`: a planned batch that a cleanup leaves alone.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::fixture::{Ran, SCHEMA, World, answered, row};

/// The moment until which the one app on this line is held.
#[track_caller]
fn until(line: &str) -> Timestamp {
    let value: Value = serde_json::from_str(line).unwrap();
    value["reserved_until"].as_str().unwrap().parse().unwrap()
}

fn world() -> World {
    let world = World::new();
    // Without an app, the apps directory is trusted for its marker.
    let cleanup = "cleanup_min_age = \"0s\"\napps_dir_marker = \".apps-root\"\n";
    world.write("manage-ports.toml", format!("timeout = \"3m\"\n{cleanup}[ports]\nprobe = false\n"));
    world.write("generated/apps/.apps-root", "");
    world
}

#[test]
fn a_batch_is_held_against_a_cleanup_and_given_to_its_apps() {
    let world = world();
    let reserved = world.line("reserve --model m --app 1-2 --for 2h");
    let lines: Vec<_> = reserved.stdout.lines().map(|line| line.split(", reserved until 2").next().unwrap()).collect();
    assert_eq!(lines, ["m/app1: backend 5001, frontend 8001", "m/app2: backend 5003, frontend 8003"], "{reserved:?}");
    assert!(reserved.code == Some(0) && reserved.stderr.starts_with("Created database "), "{reserved:?}");
    world.line("allocate --model m --app 1").is(0, "m/app1: backend 5001, frontend 8001 (existing)\n", "");
    world.line("allocate --model n --app 1").ok();
    let cleanup: Value = serde_json::from_str(world.line("cleanup --json -q").ok()).unwrap();
    let kept = |app_num: u32| json!({"model": "m", "app_num": app_num, "reason": "reserved"});
    assert_eq!((&cleanup["removed"][0]["model"], &cleanup["kept"]), (&json!("n"), &json!([kept(1), kept(2)])));
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);

    let reserved = world.line("list --state reserved");
    assert!(reserved.ok().contains("Reserved until") && reserved.ok().contains("Total: 2"), "{reserved:?}");
    assert_eq!(world.line("list --state orphaned --format plain").ok(), "");
    assert_eq!(world.line("reserve --model m --app 2 --for 1h --format plain").ok(), "5003 8003\n");
}

#[test]
fn the_moment_is_the_time_asked_for_from_now_and_only_ever_later() {
    let world = world();
    let before = Timestamp::now();
    let first = until(&world.line("reserve --model m --app 1 --for 2h --json").stdout);
    let after = Timestamp::now();
    let hours = SignedDuration::from_hours(2);
    let microsecond = SignedDuration::from_micros(1);
    assert!((before + hours - microsecond..=after + hours).contains(&first), "{first}");

    let shorter = world.line("reserve --model m --app 1 --for 1h --json");
    assert_eq!(until(shorter.ok()), first);
    assert_eq!(serde_json::from_str::<Value>(shorter.ok()).unwrap()["created"], false);
    assert!(until(world.line("reserve --model m --app 1 --for 3h --json").ok()) > first);
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn for_people_the_line_tells_until_when() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    let first = world.line("reserve m 1 --for 2h");
    let until = until(world.line("reserve m 1 --for 1h --json").ok());
    first.is(0, &format!("m/app1: backend 5001, frontend 8001 (existing), reserved until {until:.6}\n"), "");
}

#[test]
fn cancelling_ends_the_hold_and_keeps_the_ports() {
    let world = world();
    world.line("reserve m 1-2 --for 2h -q").ok();
    world.set_metadata(r#"{"note":"é","reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 2");
    world.line("allocate m 3 -q").ok();
    let before = world.line("list --json");
    let before: Value = serde_json::from_str(before.ok()).unwrap();
    for (line, code, stdout, stderr) in [
        ("reserve m 1 --cancel", 0, "m/app1: backend 5001, frontend 8001 (existing), not reserved\n", ""),
        ("reserve m/app2 --cancel --format plain", 0, "5003 8003\n", ""),
        // The call may be repeated, and an app that is not reserved is as it is wanted.
        (
            "reserve m 2,3 --cancel --format csv",
            0,
            "model,app_num,backend_port,frontend_port,created\nm,2,5003,8003,false\nm,3,5005,8005,false\n",
            "",
        ),
        // The answer has the order of the command line, whatever the order in the table is.
        ("reserve m 3,1,2 --cancel --format plain", 0, "5005 8005\n5001 8001\n5003 8003\n", ""),
        (
            "reserve m 3,9 --cancel",
            1,
            "m/app3: backend 5005, frontend 8005 (existing), not reserved\n",
            "warning: no allocation found for m/app9\nm has apps 1-3 in data/ports.db\n",
        ),
    ] {
        world.line(line).is(code, stdout, stderr);
    }
    let after: Value = serde_json::from_str(world.line("list --json").ok()).unwrap();
    for (before, after) in before.as_array().unwrap().iter().zip(after.as_array().unwrap()) {
        assert_eq!(after["reserved_until"], Value::Null);
        assert_eq!((&before["backend_port"], &before["created_at"]), (&after["backend_port"], &after["created_at"]));
        assert_eq!(before["updated_at"] == after["updated_at"], after["app_num"] == 3, "{before} {after}");
    }
    let connection = rusqlite::Connection::open(world.default_database()).unwrap();
    let metadata = |app: u32| -> Option<String> {
        let sql = "SELECT metadata_json FROM port_configurations WHERE app_num = ?1";
        connection.query_row(sql, [app], |row| row.get(0)).unwrap()
    };
    assert_eq!((metadata(1), metadata(2).as_deref()), (None, Some(r#"{"note":"é"}"#)));
    assert_eq!(world.line("list --state reserved --json").ok(), "[]\n");
}

#[test]
fn cancelling_needs_a_row_and_no_duration() {
    let world = world();
    world.line("reserve m 1 --cancel").is(
        1,
        "",
        "warning: no allocation found for m/app1\nno row of data/ports.db has the model m\n",
    );
    assert!(!world.path("data").exists());
    world.line("reserve m 1 --cancel --for 1h").fails(2, &["--cancel", "--for"]);
    world.line("reserve m 1").fails(2, &["--for"]);
    world.line("reserve m 0 --cancel").fails(2, &["'0' is not an app number"]);
    world.line("reserve m 1 --cancel --database none.db").fails(3, &["none.db"]);
    world.database(SCHEMA, &[row("m", 0, 5001, 8001), row("m", 1, 5003, 8003)]);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 0");
    world.line("reserve m 0 --cancel").is(0, "m/app0: backend 5001, frontend 8001 (existing), not reserved\n", "");
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z","n":NaN}"#, "app_num = 1");
    world.line("reserve m 1 --cancel").fails(3, &["m/app1", "no JSON object"]);
}

#[test]
fn metadata_of_others_is_kept_and_what_is_no_object_is_not_touched() {
    let world = world();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("m", 3, 5005, 8005)]);
    world.set_metadata(r#"{"note": "é", "n": 1.50}"#, "app_num = 1");
    world.set_metadata(r#"[1]"#, "app_num = 3");
    world.line("reserve --model m --app 1-3 --for 2h").fails(3, &["m/app3", "no JSON object", "release"]);
    let metadata = || -> Vec<Option<String>> {
        let connection = rusqlite::Connection::open(world.default_database()).unwrap();
        let mut sql = connection.prepare("SELECT metadata_json FROM port_configurations ORDER BY app_num").unwrap();
        sql.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let untouched = [Some(r#"{"note": "é", "n": 1.50}"#.to_owned()), None, Some("[1]".to_owned())];
    assert_eq!(metadata(), untouched, "all or none");

    world.line("reserve --model m --app 1-2 --for 2h").ok();
    let now = metadata();
    assert!(now[0].as_deref().unwrap().starts_with(r#"{"note":"é","n":1.50,"reserved_until":"2"#), "{now:?}");
    assert!(now[1].as_deref().unwrap().starts_with(r#"{"reserved_until":"2"#), "{now:?}");
}

#[test]
fn one_that_is_over_is_an_orphan_like_any_other() {
    let world = world();
    world.line("reserve --model m --app 1 --for 1h -q").ok();
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "true");
    let check: Value = serde_json::from_str(world.line("check --json").ok()).unwrap();
    let kinds: Vec<_> = check["warnings"].as_array().unwrap().iter().map(|found| found["kind"].clone()).collect();
    assert_eq!(kinds, ["orphaned", "expired_reservation"]);
    assert!(world.line("list --state orphaned").ok().contains("Total: 1"));
    world.line("cleanup -q").is(0, "  m/app1: backend 5001, frontend 8001\n✓ Removed 1 orphaned allocation(s)\n", "");
}

#[test]
fn a_batch_that_does_not_fit_gets_nothing() {
    let world = world();
    world.write("manage-ports.toml", "[ports]\nprobe = false\nmax = 8005\n");
    world.line("reserve --model m --app 1-4 --for 1h").fails(4, &["4 wanted and 3 free of 3 slots"]);
    assert!(!world.path("data").exists());
    world.line("allocate --model m --app 1 -q").ok();
    world.line("reserve --model m --app 1-4 --for 1h").fails(4, &["3 wanted and 2 free"]);
    let app: Value = serde_json::from_str(world.line("allocate --model m --app 1 --json").ok()).unwrap();
    assert_eq!(app["reserved_until"], Value::Null, "what was refused holds nothing either");
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn a_time_that_is_none_is_refused() {
    let world = world();
    for bad in ["", "2", "-1h", "soon", "0s", "99999999h"] {
        let ran = world.run(["reserve", "--model", "m", "--app", "1", "--for", bad]);
        ran.fails(2, &["--for"]);
    }
    world.line("reserve --model m --app 1").fails(2, &["--for"]);
    assert!(!world.path("data").exists());
}

#[test]
fn fifty_are_held_while_forty_allocate_and_five_clean_up() {
    let world = world();
    world.line("allocate --model other --app 100 -q").ok();
    let mut others: Vec<_> = (1..=20).map(|n| world.start(&format!("allocate --model other --app {n}"))).collect();
    let batch = world.start("reserve --model batch --app 1-50 --for 1h --json");
    others.extend((21..=40).map(|n| world.start(&format!("allocate --model other --app {n}"))));
    let is_over = AtomicBool::new(false);
    let answers: BTreeSet<_> = thread::scope(|scope| {
        for _ in 0..5 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let ran = world.line("cleanup -q");
                    assert_eq!(ran.code, Some(0), "{ran:?}");
                }
            });
        }
        let ended: Vec<Ran> = others.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
        let batch = Ran::from(batch.wait_with_output().unwrap());
        is_over.store(true, Ordering::Relaxed);
        for ran in ended {
            assert_eq!(ran.code, Some(0), "{ran:?}");
        }
        batch.ok().lines().map(answered).collect()
    });
    world.line("cleanup -q").ok();
    assert_eq!(answers.len(), 50);
    assert_eq!(world.rows().into_iter().collect::<BTreeSet<_>>(), answers, "the batch, and nothing else");
    let ports: BTreeSet<_> = answers.iter().flat_map(|(_, _, backend, frontend)| [backend, frontend]).collect();
    assert_eq!(ports.len(), 100, "a port stands twice");
}

#[test]
fn of_eight_batches_for_which_there_is_room_for_one_seven_get_nothing() {
    let world = world();
    world.write("manage-ports.toml", "timeout = \"3m\"\n[ports]\nprobe = false\nbackend_base = 7001\nmax = 8099\n");
    let batches: Vec<_> =
        (0..8).map(|n| world.start(&format!("reserve --model m{n} --app 1-50 --for 1h -q --json"))).collect();
    let ended: Vec<Ran> = batches.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
    let (won, lost): (Vec<_>, Vec<_>) = ended.iter().partition(|ran| ran.code == Some(0));
    assert_eq!((won.len(), lost.len()), (1, 7), "{ended:?}");
    for ran in lost {
        ran.fails(4, &["50 wanted and 0 free of 50 slots"]);
    }
    assert_eq!(world.rows(), won[0].ok().lines().map(answered).collect::<Vec<_>>());
}

/// What makes an app, in place of a language model; it fails for every tenth.
const GENERATE: &str = r#"#!/bin/sh
[ $(($2 % 10)) -ne 0 ] || exit 1
mkdir -p "generated/apps/$1/app$2"
echo "$BACKEND_PORT $FRONTEND_PORT" > "generated/apps/$1/app$2/ports"
"#;

#[test]
fn the_documented_batch_runs_while_another_one_allocates() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scripts.md")).unwrap();
    let (_, script) = page.split_once("```sh\n#!/bin/sh\n").unwrap();
    let (script, _) = script.split_once("```").unwrap();
    let world = world();
    world.write("batch.sh", script);
    let generate = world.write("generate.sh", GENERATE);
    fs::set_permissions(&generate, Permissions::from_mode(0o755)).unwrap();
    world.write("generated/apps/openai_gpt-4.1/app99/ports", "an app without an allocation stays as it is");
    world.line("allocate --model openai_gpt-4.1 --app 60 -q").ok();

    let program = Path::new(env!("CARGO_BIN_EXE_manage-ports"));
    let path = format!("{}:/usr/bin:/bin", program.parent().unwrap().display());
    let mut batch = Command::new("/bin/sh");
    batch.arg("batch.sh").current_dir(world.path("")).env_clear().env("PATH", path);
    let mut batch = batch.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let mut n = 0;
    while batch.try_wait().unwrap().is_none() || n < 40 {
        n += 1;
        world.line(&format!("allocate --model beside --app {n} -q")).ok();
    }
    assert!(batch.wait().unwrap().success());

    let rows = world.rows();
    let ports: BTreeSet<_> = rows.iter().flat_map(|(_, _, backend, frontend)| [backend, frontend]).collect();
    assert_eq!(ports.len(), 2 * rows.len(), "a port stands twice");
    let apps: BTreeSet<_> = rows.iter().filter(|(model, ..)| model == "openai_gpt-4.1").collect();
    let nums: Vec<_> = apps.iter().map(|(_, app_num, ..)| *app_num).collect();
    assert_eq!(nums, (1..=50).filter(|n| n % 10 != 0).collect::<Vec<_>>());
    for (model, app_num, backend, frontend) in apps {
        let found = fs::read_to_string(world.path(format!("generated/apps/{model}/app{app_num}/ports"))).unwrap();
        assert_eq!(found, format!("{backend} {frontend}\n"));
    }
    assert_eq!(rows.iter().filter(|(model, ..)| model == "beside").count(), n);
}
