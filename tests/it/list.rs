//! `list`.

use std::net::{TcpListener, UdpSocket};

use serde_json::{Value, json};

use super::fixture::{Ran, SCHEMA, World, free_ports, not_run, row};

fn world() -> World {
    let world = World::new();
    world.database(
        SCHEMA,
        &[row("b/x", 2, 5001, 8009), row("b/x", 10, 5007, 8001), row("a", 1, 5003, 8005), row("B", 1, 5005, 8003)],
    );
    world
}

/// The backend ports of the rows shown, which name them.
fn backends(world: &World, line: &str) -> Vec<String> {
    let plain = world.line(&format!("{line} --format plain"));
    plain.ok().lines().map(|line| line.split('\t').nth(2).unwrap().to_owned()).collect()
}

#[test]
fn rows_come_by_model_and_number_or_as_sorted() {
    let world = world();
    assert_eq!(backends(&world, "list"), ["5005", "5003", "5001", "5007"]);
    assert_eq!(backends(&world, "list --sort model"), ["5005", "5003", "5001", "5007"]);
    assert_eq!(backends(&world, "list --sort backend"), ["5001", "5003", "5005", "5007"]);
    assert_eq!(backends(&world, "list --sort frontend"), ["5007", "5005", "5003", "5001"]);
    world.sql(
        "UPDATE port_configurations SET created_at = NULL WHERE backend_port = 5001;
               UPDATE port_configurations SET created_at = '2025-01-01 00:00:00.000000' WHERE backend_port = 5007",
    );
    assert_eq!(backends(&world, "list --sort created"), ["5007", "5005", "5003", "5001"]);
}

#[test]
fn globs_choose_models() {
    let world = world();
    assert_eq!(backends(&world, "list --model a"), ["5003"]);
    assert_eq!(backends(&world, "list --model b*"), ["5001", "5007"]);
    assert_eq!(backends(&world, "list --model [aB] --model nothing"), ["5005", "5003"]);
    assert_eq!(backends(&world, "list --model ?").len(), 2);
    world.line("list --model c*").is(0, "No port allocations found in data/ports.db.\n", "");
    world.line("list --model [a").fails(2, &["--model", "[a"]);
}

#[test]
fn positional_globs_numbers_and_ports_choose_rows() {
    let world = world();
    assert_eq!(backends(&world, "list a"), ["5003"]);
    assert_eq!(backends(&world, "list b/* B --model a"), ["5005", "5003", "5001", "5007"]);
    assert_eq!(backends(&world, "list --app 1"), ["5005", "5003"]);
    assert_eq!(backends(&world, "list --app 2-9,10 --app 77"), ["5001", "5007"]);
    assert_eq!(backends(&world, "list b* --app 10"), ["5007"]);
    for (port, backend) in [("5007", "5007"), ("8001", "5007"), ("8009", "5001")] {
        assert_eq!(backends(&world, &format!("list --port {port}")), [backend]);
    }
    assert_eq!(backends(&world, "list a --port 8001").len(), 0);
    world.line("list --port 9999").is(0, "No port allocations found in data/ports.db.\n", "");
    world.line("list [a").fails(2, &["MODEL GLOB", "[a"]);
    world.line("list --app 0").fails(2, &["'0' is not an app number"]);
    world.line("list --port 0").fails(2, &["expected a port from 1 to 65535"]);
}

#[test]
fn a_name_that_matches_nothing_gets_a_hint() {
    let world = World::new();
    world.database(SCHEMA, &[row("openai_gpt-4.1", 1, 5001, 8001), row("openai_gpt-4.1", 3, 5003, 8003)]);
    let empty = "No port allocations found in data/ports.db.\n";
    for line in ["list openai_gpt4", "list --model OPENAI/gpt-4.1"] {
        let name = line.rsplit(' ').next().unwrap();
        let hint = format!("no row of data/ports.db has the model {name}: did you mean openai_gpt-4.1?\n");
        world.line(line).is(0, empty, &hint);
    }
    world.line("list openai_gpt-4.1 --app 2").is(0, empty, "openai_gpt-4.1 has apps 1, 3 in data/ports.db\n");
    // The way out that the hint names works.
    assert!(world.line("list openai_gpt-4.1 --app 3").ok().contains("5003"));
    world.line("list openai_gpt4 --json").is(
        0,
        "[]\n",
        "{\"notice\":{\"message\":\"no row of data/ports.db has the model openai_gpt4: did you mean openai_gpt-4.1?\"}}\n",
    );
    for line in ["list mistral", "list openai_* --app 9", "list openai_gpt4 -q"] {
        world.line(line).is(0, empty, "");
    }
}

#[test]
fn a_long_list_tells_state_and_directory() {
    let world = world();
    world.apps(["b_x/app2", "a/app1"]);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "backend_port = 5005");
    let told = |line: &str| -> Vec<(String, Value)> {
        let rows: Value = serde_json::from_str(world.line(line).ok()).unwrap();
        let told = |row: &Value| (row["state"].as_str().unwrap().to_owned(), row["directory"].clone());
        rows.as_array().unwrap().iter().map(told).collect()
    };
    let state = |state: &str, directory: Value| (state.to_owned(), directory);
    assert_eq!(
        told("list --long --json"),
        [
            state("reserved", Value::Null),
            state("allocated", json!("generated/apps/a/app1")),
            state("allocated", json!("generated/apps/b_x/app2")),
            state("orphaned", Value::Null),
        ]
    );
    assert_eq!(told("list --long --json --state orphaned"), [state("orphaned", Value::Null)]);
    assert!(!world.line("list --json --state orphaned").ok().contains("directory"));
    let human = world.line("list --long");
    let header = human.ok().lines().next().unwrap();
    assert!(header.ends_with("Reserved until       State      Directory"), "{human:?}");
    assert!(world.line("list --long --format csv").ok().contains(",reserved_until,state,directory\n"));
    assert!(world.line("list --long --format plain").ok().contains("\tallocated\tgenerated/apps/a/app1\n"));

    std::fs::rename(world.path("generated"), world.path("away")).unwrap();
    let states: Vec<_> = told("list --long --json").into_iter().map(|(state, _)| state).collect();
    assert_eq!(states, ["reserved", "unknown", "unknown", "unknown"]);
}

#[test]
fn states_choose_rows() {
    let world = world();
    world.apps(["b_x/app2", "a/app1"]);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "backend_port = 5005");
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "backend_port = 5007");
    assert_eq!(backends(&world, "list --state allocated"), ["5003", "5001"]);
    assert_eq!(backends(&world, "list --state reserved"), ["5005"]);
    assert_eq!(backends(&world, "list --state orphaned"), ["5007"]);
    assert!(
        world
            .line("list")
            .ok()
            .starts_with("Model  App  Backend  Frontend  Available  Created              Reserved until\n")
    );

    // An app is there in each of its four places.
    for place in ["b_x/app_10", "b_x/react/app10", "b_x/react/app_10"] {
        world.apps([place]);
        assert!(backends(&world, "list --state orphaned").is_empty(), "{place}");
        std::fs::remove_dir(world.path("generated/apps").join(place)).unwrap();
    }
    assert_eq!(backends(&world, "list --state orphaned"), ["5007"]);

    // Without the directory nothing can be called orphaned.
    std::fs::rename(world.path("generated"), world.path("away")).unwrap();
    world.line("list --state orphaned").fails(5, &["generated/apps"]);
    world.line("list --state allocated").fails(5, &["generated/apps"]);
    assert_eq!(backends(&world, "list --state reserved"), ["5005"]);
}

#[test]
fn each_format_tells_the_same() {
    let world = World::new();
    world.database(SCHEMA, &[row("a,\"b\"", 1, 5001, 8001)]);
    world.sql(
        r#"UPDATE port_configurations SET is_available = 0, updated_at = NULL,
                 metadata_json = '{"theirs":[1],"reserved_until":"2999-01-01T00:00:00Z"}'"#,
    );
    world.line("list").is(
        0,
        "Model  App  Backend  Frontend  Available  Created              Reserved until\n\
         a,\"b\"    1     5001      8001  No         2026-01-02 03:04:05  2999-01-01 00:00:00\n\
         \n\
         Total: 1 allocation(s)\n",
        "",
    );
    world.line("list --format csv").is(
        0,
        "model,app_num,backend_port,frontend_port,is_available,created_at,updated_at,reserved_until\n\
         \"a,\"\"b\"\"\",1,5001,8001,false,2026-01-02T03:04:05.678901Z,,2999-01-01T00:00:00Z\n",
        "",
    );
    world.line("list --format plain").is(
        0,
        "a,\"b\"\t1\t5001\t8001\tfalse\t2026-01-02T03:04:05.678901Z\t\t2999-01-01T00:00:00Z\n",
        "",
    );
    let rows: Value = serde_json::from_str(world.line("list --json").ok()).unwrap();
    assert_eq!(
        rows,
        json!([{
            "model": "a,\"b\"", "app_num": 1, "backend_port": 5001, "frontend_port": 8001, "is_available": false,
            "created_at": "2026-01-02T03:04:05.678901Z", "updated_at": null, "reserved_until": "2999-01-01T00:00:00Z",
        }])
    );
}

#[test]
fn an_empty_table_says_so() {
    let world = World::new();
    world.database(SCHEMA, &[]);
    world.line("list").is(0, "No port allocations found in data/ports.db.\n", "");
    world.line("list --json").is(0, "[]\n", "");
    world.line("list --format plain").is(0, "", "");
    assert_eq!(world.line("list --format csv").ok().lines().count(), 1);
}

#[test]
fn a_probe_tells_who_listens() {
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            not_run(&format!("listening on {address}: this machine has no such address"));
            continue;
        };
        let busy = listener.local_addr().unwrap().port();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let quiet = datagrams.local_addr().unwrap().port();
        let world = World::new();
        world.database(SCHEMA, &[row("m", 1, quiet.into(), busy.into()), row("m", 2, 0, i64::from(busy) + 65536)]);
        let rows: Value = serde_json::from_str(world.line("list --json --probe").ok()).unwrap();
        // A child of another test has our files, too, until it becomes what it is to run.
        let this = |listener: &&Value| listener["pid"] == std::process::id();
        let listeners: Vec<_> = rows[0]["listeners"].as_array().unwrap().iter().filter(this).collect();
        let program = &listeners[0]["program"];
        let expected =
            json!({"port": busy, "pid": std::process::id(), "program": program, "container": null, "project": null});
        assert_eq!(listeners, [&expected], "{address}");
        assert_eq!(rows[1]["listeners"], json!([]));

        let shown = format!("{busy}: {} {}", std::process::id(), program.as_str().unwrap());
        let human = world.line("list --probe");
        let lines: Vec<_> = human.ok().lines().collect();
        assert!(lines[0].ends_with("  Listening") && lines[1].contains(&shown), "{human:?}");
        assert!(lines[2].ends_with("03:04:05"), "{human:?}");
        let csv = world.line("list --format csv --probe");
        let lines: Vec<_> = csv.ok().lines().collect();
        assert!(lines[0].ends_with(",listeners") && lines[1].contains(&shown) && lines[2].ends_with(','), "{csv:?}");
        assert!(world.line("list --format plain --probe").ok().starts_with(&format!("m\t1\t{quiet}\t{busy}\t")));
        assert!(!world.line("list --json").ok().contains("listeners"));
    }
}

#[test]
fn a_listener_of_another_user_is_told_without_its_name() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().port();
    let [free] = free_ports();
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, busy.into(), free.into())]);
    let Some(json) = world.line_as_nobody("list --probe --json") else { return };
    let rows: Value = serde_json::from_str(json.ok()).unwrap();
    assert_eq!(
        rows[0]["listeners"],
        json!([{"port": busy, "pid": null, "program": null, "container": null, "project": null}])
    );
    let human = world.line_as_nobody("list --probe").unwrap();
    assert!(human.ok().contains(&format!("  {busy}: unseen\n")), "{human:?}");
}

#[test]
fn a_model_whose_name_looks_like_a_pattern_is_itself() {
    let world = World::new();
    let names = ["x[1]", "x1", "a{b}c", "[z"];
    let rows: Vec<_> = (0..).zip(names).map(|(n, name)| row(name, 1, 5001 + 2 * n, 8001 + 2 * n)).collect();
    world.database(SCHEMA, &rows);
    world.apps(["other/app1"]);
    for (name, row) in names.iter().zip(&rows).rev() {
        let listed = Ran::of(world.command().args(["list", name, "--format", "plain"]));
        assert_eq!(listed.ok().lines().map(|line| line.split('\t').next().unwrap()).collect::<Vec<_>>(), [*name]);
        // `list` shows what `cleanup` removes.
        Ran::of(world.command().args(["cleanup", name, "--include-listening", "-q"])).ok();
        assert!(!world.rows().contains(row), "{name}");
    }
    assert_eq!(world.rows(), []);
    world.line("list [z").fails(2, &["[z"]);
    world.line("list [z --database none.db").fails(2, &["[z"]);
}

#[test]
fn a_reservation_that_cannot_be_read_is_shown_as_it_stands() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.sql(r#"UPDATE port_configurations SET metadata_json = '{"reserved_until": "soon"}'"#);
    let human = world.line("list");
    assert!(human.ok().contains("Reserved until") && human.stdout.contains("  unreadable\n"), "{human:?}");
    assert!(world.line("list --format plain").ok().ends_with("\tsoon\n"));
    assert!(world.line("list --format csv").ok().ends_with(",soon\n"));
}
