//! One story that every kind of database must pass: what the commands say and leave behind is the
//! same on each.

use serde_json::{Value, json};

use super::fixture::{World, row};
use super::server::Server;

#[test]
fn the_story_on_sqlite() {
    story(&World::new());
}

#[test]
fn the_story_on_postgresql() {
    let Some(server) = Server::shared("the story on PostgreSQL") else { return };
    story(&World::on(server));
}

/// What this machine listens on must not decide the story.
const CONFIG: &str = "cleanup_min_age = \"0s\"\n[ports]\nprobe = false\nmax = 8049\nexclude = [5003]\n";

fn story(world: &World) {
    world.write("manage-ports.toml", CONFIG);
    world.apps(["here/app1", "here/app2"]);
    let json = |line: &str| -> Vec<Value> {
        let ran = world.line(&format!("{line} --json"));
        ran.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };

    // Nothing was made yet. What is refused anyway makes nothing, either.
    world.line("allocate --model here --app 1 --backend-port 5003 --frontend-port 8003").fails(6, &["port 5003"]);
    let made = world.line("allocate --model here --app 2,1");
    assert_eq!(made.stdout, "here/app2: backend 5001, frontend 8001\nhere/app1: backend 5005, frontend 8005\n");
    assert_eq!((made.code, made.stderr.lines().count()), (Some(0), 1), "{made:?}");
    assert!(made.stderr.starts_with("Created "), "{made:?}");
    world.line("allocate --model here --app 1-3").is(
        0,
        "here/app1: backend 5005, frontend 8005 (existing)\nhere/app2: backend 5001, frontend 8001 (existing)\n\
         here/app3: backend 5007, frontend 8007\n",
        "",
    );

    // Rows of others: a port that is a frontend is no backend for anyone, and a fault is found.
    let others = "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, metadata_json) VALUES";
    world.sql(&format!("{others} ('theirs', 1, 9001, 5009, '{{\"a\": 1.50, \"b\": [true]}}')"));
    world.line("allocate --model new --app 1 --format plain").is(0, "5011 8011\n", "");
    world
        .line("allocate --model new --app 2 --backend-port 5009 --frontend-port 8100")
        .fails(6, &["port 5009 is the frontend of theirs/app1"]);
    world
        .line("allocate --model here --app 1 --backend-port 5013 --frontend-port 8013")
        .fails(6, &["here/app1 has another pair: backend 5005, frontend 8005"]);
    world.line("allocate --model named --app 7 --backend-port 7007 --frontend-port 7008 --format plain").is(
        0,
        "7007 7008\n",
        "",
    );

    // A reservation adds to what others wrote, moves on and never back, and is held against a cleanup.
    let reserved = json("reserve --model theirs --app 1-2 --for 2h");
    let created: Vec<_> = reserved.iter().map(|row| row["created"].as_bool().unwrap()).collect();
    assert_eq!(created, [false, true]);
    let until = |rows: &[Value]| rows[0]["reserved_until"].as_str().unwrap().to_owned();
    let shorter = json("reserve --model theirs --app 1 --for 1h");
    assert_eq!(until(&shorter), until(&reserved));
    let longer = json("reserve --model theirs --app 1 --for 3h");
    assert!(until(&longer) > until(&reserved));
    let listed = world.line("list --model theirs --json");
    let listed: Value = serde_json::from_str(listed.ok()).unwrap();
    assert_eq!(listed[0]["created_at"], Value::Null, "the row has none");
    assert!(listed[0]["updated_at"].as_str().unwrap() >= longer[0]["updated_at"].as_str().unwrap());
    assert_eq!((&listed[0]["is_available"], &listed[1]["is_available"]), (&json!(false), &json!(true)));
    assert_eq!(listed[1]["created_at"], reserved[1]["created_at"], "an answer is the row");

    // Without directories all but two are orphans; a cleanup takes those that nothing holds.
    let kinds = |ran: &Value, of: &str| -> Vec<String> {
        ran[of].as_array().unwrap().iter().map(|found| found["kind"].as_str().unwrap().to_owned()).collect()
    };
    let check: Value = serde_json::from_str(world.line("check --json").ok()).unwrap();
    assert_eq!(kinds(&check, "warnings"), ["orphaned"; 3]);
    let cleanup = world.line("cleanup --json");
    let cleanup: Value = serde_json::from_str(&cleanup.stdout).unwrap();
    let apps = |of: &str| -> Vec<String> {
        let apps = cleanup[of].as_array().unwrap().iter();
        apps.map(|app| format!("{}/{}", app["model"].as_str().unwrap(), app["app_num"])).collect()
    };
    assert_eq!(apps("removed"), ["here/3", "named/7", "new/1"]);
    assert_eq!(apps("kept"), ["theirs/1", "theirs/2"]);
    let release = world.line("release here 2,9");
    assert_eq!(release.stdout, "✓ Released ports for here/app2\n✗ No allocation found for here/app9\n");
    assert!(release.stderr.starts_with("here has apps 1-2 in ") && release.code == Some(1), "{release:?}");
    let reserved = world.line("list --format csv --state reserved --sort backend");
    assert_eq!(reserved.ok().lines().count(), 3, "a header and two rows: {reserved:?}");
    assert_eq!(world.rows(), [row("here", 1, 5005, 8005), row("theirs", 1, 9001, 5009), row("theirs", 2, 5013, 8013)]);

    // All or none: an import with a conflict, a batch without room.
    let entry = |app_num, backend: i64, frontend: i64| json!({"model": "in", "app_num": app_num, "backend_port": backend, "frontend_port": frontend});
    world.write("conflict.json", json!([entry(1, 6001, 9101), entry(2, 5009, 9103)]).to_string());
    world.line("import conflict.json").fails(6, &["in/app2", "5009"]);
    world.write("entries.json", json!([entry(1, 6001, 9101), entry(2, 6003, 9103)]).to_string());
    world.line("import entries.json").is(0, "✓ Imported 2 allocation(s), 0 existing, 0 skipped\n", "");
    world.line("import entries.json").is(0, "✓ Imported 0 allocation(s), 2 existing, 0 skipped\n", "");
    let before = world.rows();
    world.line("allocate --model many --app 1-100").fails(4, &["no free pair is left"]);
    assert_eq!(world.rows(), before);

    // Conflicts that the unique indexes would have kept out.
    world.line("check").ok();
    world.sql("DROP INDEX ix_port_configurations_backend_port");
    world.sql(&format!("{others} ('a', 1, 6001, 9201, NULL), ('z', -1, 70000, 6003, 'no JSON')"));
    let check = world.line("check --json");
    let check: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(kinds(&check, "conflicts"), ["duplicate_backend_port", "cross_role_port", "invalid_port"]);
    assert!(kinds(&check, "warnings").contains(&"weak_schema".to_owned()));
    world.line("reserve --model z --app -1 --for 1h").fails(2, &["'-1' is not an app number"]);
    world.line("release z -- -1").is(0, "✓ Released ports for z/app-1\n", "");

    let cancelled = world.line("reserve theirs 1-2 --cancel --format plain");
    cancelled.is(0, "9001 5009\n5013 8013\n", "");
    assert_eq!(world.line("list --format plain --state reserved").ok(), "");

    // A cleanup does not touch what has changed since it looked: here nothing has.
    world.line("release theirs 1-2").is(0, "✓ Released ports for theirs/app1\n✓ Released ports for theirs/app2\n", "");
    let cleanup = world.line("cleanup");
    assert_eq!(
        cleanup.stdout,
        "  a/app1: backend 6001, frontend 9201\n  in/app1: backend 6001, frontend 9101\n  \
         in/app2: backend 6003, frontend 9103\n✓ Removed 3 orphaned allocation(s)\n"
    );
    // In a container, a note may follow that says what cannot be seen from there.
    let told = "Cleaning up all orphaned allocations...\n";
    assert!(cleanup.code == Some(0) && cleanup.stderr.starts_with(told), "{cleanup:?}");
    assert_eq!(world.rows(), [row("here", 1, 5005, 8005)]);
    let exec =
        world.run(["exec", "--model", "here", "--app", "1", "--", "/bin/sh", "-c", "echo $BACKEND_PORT; exit 7"]);
    exec.is(7, "5005\n", "");
}
