//! `show`.

use std::net::TcpListener;

use serde_json::{Value, json};

use super::fixture::{SCHEMA, WEAK_SCHEMA, World, free_ports, row};

fn world() -> World {
    let world = World::new();
    world.database(SCHEMA, &[row("openai/gpt-4", 3, 5001, 8001), row("openai/gpt-4", 5, 5003, 8003)]);
    world.apps(["openai_gpt-4/app3"]);
    world.write("generated/apps/openai_gpt-4/app3/.env", "BACKEND_PORT=5001\nFRONTEND_PORT=8009\n");
    world
}

#[test]
fn an_app_is_shown_with_all_that_is_known_of_it() {
    let world = world();
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 5");
    let shown = world.line("show openai/gpt-4 3");
    let lines: Vec<_> = shown.ok().lines().collect();
    assert_eq!(
        lines[..6],
        [
            "openai/gpt-4/app3",
            "  backend    5001   http://localhost:5001",
            "  frontend   8001   http://localhost:8001",
            "  state      allocated",
            "  directory  generated/apps/openai_gpt-4/app3",
            "  created    2026-01-02 03:04:05 UTC",
        ]
    );
    assert!(lines[6].starts_with("  declared   .env") && lines[6].contains("backend 5001"), "{shown:?}");
    assert!(shown.stdout.contains("frontend 8009"), "{shown:?}");
    let planned = world.line("show openai/gpt-4/app5");
    assert!(planned.ok().contains("  state      reserved\n  directory  none\n"), "{planned:?}");
    assert!(planned.ok().contains("  reserved   until 2999-01-01T00:00:00Z\n"), "{planned:?}");

    for line in ["show openai/gpt-4/app3", "show --model openai/gpt-4 --app 3", "show 5001", "show 8001"] {
        assert_eq!(world.line(line).ok(), shown.stdout, "{line}");
    }
    world.line("show 5001 --format plain").is(0, "5001 8001\n", "");
    world.line("show openai/gpt-4/app3 --format env").is(0, "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n", "");
    assert_eq!(world.rows().len(), 2, "nothing is made");
}

#[test]
fn json_is_the_allocation_object_and_more() {
    let world = world();
    let app: Value = serde_json::from_str(world.line("show openai/gpt-4 3 --json").ok()).unwrap();
    assert_eq!(app["model"], "openai/gpt-4");
    assert_eq!((&app["app_num"], &app["backend_port"], &app["frontend_port"]), (&json!(3), &json!(5001), &json!(8001)));
    assert_eq!((&app["state"], &app["reserved_until"]), (&json!("allocated"), &Value::Null));
    assert_eq!(app["directory"], "generated/apps/openai_gpt-4/app3");
    assert_eq!(app["listeners"], json!([]));
    let ports = |key: &str| -> Vec<u64> {
        let declared = app["declared"].as_array().unwrap().iter();
        assert!(declared.clone().all(|line| line["file"] == ".env" && line.get("line").is_some()), "{app}");
        declared.flat_map(|line| line[key].as_array().unwrap()).map(|port| port.as_u64().unwrap()).collect()
    };
    assert_eq!((ports("backend_ports"), ports("frontend_ports")), (vec![5001], vec![8009]));

    let gone: Value = serde_json::from_str(world.line("show 5003 --json").ok()).unwrap();
    assert_eq!((&gone["state"], &gone["directory"], &gone["declared"]), (&json!("orphaned"), &Value::Null, &json!([])));
    std::fs::rename(world.path("generated"), world.path("away")).unwrap();
    let unknown: Value = serde_json::from_str(world.line("show 5003 --json").ok()).unwrap();
    assert_eq!((&unknown["state"], &unknown["directory"]), (&json!("unknown"), &Value::Null));
}

#[test]
fn who_listens_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().port();
    let [quiet] = free_ports();
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, quiet.into(), busy.into())]);
    let app: Value = serde_json::from_str(world.line("show m 1 --json").ok()).unwrap();
    let users = app["listeners"].as_array().unwrap();
    assert!(users.iter().any(|user| user["port"] == busy && user["pid"] == std::process::id()), "{app}");
    let human = world.line(&format!("show {busy}"));
    assert!(human.ok().contains(&format!("  in use     {busy} is listened on by ")), "{human:?}");

    // It may be nobody's whose ports are here.
    world.line("release m 1 -q").ok();
    let free = world.line(&format!("show {busy}"));
    assert_eq!(free.stdout, format!("✗ No allocation in data/ports.db has port {busy}\n"));
    assert!(free.code == Some(1) && free.stderr.starts_with(&format!("port {busy} is listened on by ")), "{free:?}");
}

#[test]
fn what_is_not_there_is_told_with_a_hint() {
    let world = world();
    world.line("show openai/gpt-4 4").is(
        1,
        "✗ No allocation found for openai/gpt-4/app4\n",
        "openai/gpt-4 has apps 3, 5 in data/ports.db\n",
    );
    let hint = "no row of data/ports.db has the model openai_gpt4: did you mean openai/gpt-4?\n";
    world.line("show openai_gpt4/app3").is(1, "✗ No allocation found for openai_gpt4/app3\n", hint);
    world.line("show openai/gpt-4 4 --json -q").is(1, "", "");
    world.line("show 6001 --format plain -q").is(1, "", "");
    world.line("show 5001 --database none.db").fails(3, &["none.db"]);
    let empty = World::new();
    empty.line("show m 1").is(1, "✗ No allocation found for m/app1\n", "no row of data/ports.db has the model m\n");
    assert!(!empty.path("data").exists());
}

#[test]
fn what_names_no_app_and_no_port_is_a_mistake() {
    let world = world();
    for (line, part) in [
        ("show", "no MODEL given"),
        ("show openai/gpt-4", "no APPS given"),
        ("show 0", "expected a port from 1 to 65535"),
        ("show 65536", "expected a port from 1 to 65535"),
        ("show m 1-2", "'1-2' names several apps"),
        ("show m 0", "'0' is not an app number"),
        ("show m 1 --format csv", "'csv'"),
    ] {
        world.line(line).fails(2, &[part]);
    }
}

#[test]
fn rows_of_others_are_shown_all_that_there_are() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5001, 8001), row("m", 1, 70000, -1), row("a\tb", 0, 8001, 9)]);
    let twice = world.line("show m 1");
    assert!(twice.ok().contains("5001") && twice.ok().contains("  backend    70000, which is no port\n"), "{twice:?}");
    assert_eq!(world.line("show 8001 --json").ok().lines().count(), 2);
    let odd = world.run(["show", "a\tb", "0"]);
    assert!(odd.ok().starts_with("a\\tb/app0\n"), "{odd:?}");
}

#[test]
fn no_file_above_the_apps_directory_is_read_for_a_row_that_leads_there() {
    let world = World::new();
    world.write("generated/app1/.env", "BACKEND_PORT=7001\n");
    world.write("generated/apps/app1/.env", "BACKEND_PORT=7003\n");
    world.database(WEAK_SCHEMA, &[row("..", 1, 5001, 8001), row(".", 1, 5003, 8003), row("", 1, 5005, 8005)]);
    for port in ["5001", "5003", "5005"] {
        let shown: Value = serde_json::from_str(world.run(["show", port, "--json"]).ok()).unwrap();
        assert_eq!(shown["declared"], json!([]), "{shown}");
    }
}

#[test]
fn a_port_that_no_row_has_is_told_with_the_database_in_every_format() {
    let world = World::new();
    let [free] = free_ports();
    world.line("allocate m 1 -q").ok();
    let said = format!("no allocation in data/ports.db has port {free}");
    for format in ["json", "plain", "env"] {
        let ran = world.line(&format!("show {free} --format {format}"));
        assert!(ran.code == Some(1) && ran.stdout.is_empty() && ran.stderr.contains(&said), "{ran:?}");
    }
}
