//! `allocate`.

use std::net::{TcpListener, TcpStream};

use serde_json::{Value, json};

use super::fixture::{MADE, SCHEMA, WEAK_SCHEMA, World, free_ports, not_run, row};
use super::postgres::wait_until;

/// A world with these lines under `[ports]`, in which nothing on this machine matters.
fn world_with(ports: &str) -> World {
    let world = World::new();
    world.write("manage-ports.toml", format!("[ports]\nprobe = false\n{ports}"));
    world
}

fn world() -> World {
    world_with("")
}

#[test]
fn the_lowest_slots_are_given_in_the_order_asked_for() {
    let world = world();
    world.database(SCHEMA, &[row("a", 1, 5003, 8003)]);
    assert_eq!(
        world.line("allocate --model m --app 9,2-3 --app 1").ok(),
        "m/app9: backend 5001, frontend 8001\n\
         m/app2: backend 5005, frontend 8005\n\
         m/app3: backend 5007, frontend 8007\n\
         m/app1: backend 5009, frontend 8009\n"
    );
    assert_eq!(
        world.rows()[1..],
        [row("m", 9, 5001, 8001), row("m", 2, 5005, 8005), row("m", 3, 5007, 8007), row("m", 1, 5009, 8009)]
    );
}

#[test]
fn an_app_that_has_a_pair_gets_it_again_in_every_format() {
    let world = world();
    world.database(SCHEMA, &[row("m", 1, 6001, 9001)]);
    assert_eq!(world.line("allocate --model m --app 1").ok(), "m/app1: backend 6001, frontend 9001 (existing)\n");
    assert_eq!(world.line("allocate --model m --app 1 --format plain").ok(), "6001 9001\n");
    assert_eq!(world.line("allocate --model m --app 1 --format env").ok(), "BACKEND_PORT=6001\nFRONTEND_PORT=9001\n");
    assert_eq!(
        world.line("allocate --model m --app 1,2 --format csv").ok(),
        "model,app_num,backend_port,frontend_port,created\nm,1,6001,9001,false\nm,2,5001,8001,true\n"
    );
    let object: Value = serde_json::from_str(world.line("--json allocate --model m --app 1").ok()).unwrap();
    assert_eq!(
        object,
        json!({
            "model": "m", "app_num": 1, "backend_port": 6001, "frontend_port": 9001, "is_available": true,
            "created_at": "2026-01-02T03:04:05.678901Z", "updated_at": "2026-01-02T03:04:05.678901Z",
            "reserved_until": null, "created": false,
        })
    );
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn freed_slots_are_used_again() {
    let world = world();
    world.line("allocate --model m --app 1-3 -q").ok();
    world.line("release m 2").ok();
    assert_eq!(world.line("allocate --model m --app 4-5 --format plain").ok(), "5003 8003\n5007 8007\n");
}

#[test]
fn a_port_of_either_column_is_used_once() {
    let world = world_with("backend_base = 8001\nfrontend_base = 9001\n");
    // A frontend at slot 0's backend, a backend at slot 1's frontend; what is no port is in nobody's way.
    world.database(SCHEMA, &[row("a", 1, 5001, 8001), row("a", 2, 9003, 5002), row("a", 3, 74541, -8005)]);
    assert_eq!(world.line("allocate --model m --app 1 --format plain").ok(), "8005 9005\n");
}

#[test]
fn ports_that_browsers_refuse_are_passed_over_unless_allowed() {
    let blocked = "backend_base = 5059\nfrontend_base = 6663\n";
    // 5061, 6665, 6667, 6669, 6679 and 6697 are on the list.
    assert_eq!(
        world_with(blocked).line("allocate --model m --app 1-3 --format plain -q").ok(),
        "5059 6663\n5067 6671\n5069 6673\n"
    );
    let allowed = world_with(&format!("{blocked}allow_browser_blocked = true\n"));
    assert_eq!(allowed.line("allocate --model m --app 1-2 --format plain -q").ok(), "5059 6663\n5061 6665\n");
}

#[test]
fn excluded_ports_are_passed_over_in_each_spelling() {
    let world = world_with("exclude = [5001, \"8003\", \"5005-5007\"]\n");
    assert_eq!(world.line("allocate --model m --app 1 --format plain -q").ok(), "5009 8009\n");
}

#[test]
fn a_port_that_something_listens_on_is_passed_over() {
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::]:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            not_run(&format!("listening on {address}: this machine has no such address"));
            continue;
        };
        let busy = listener.local_addr().unwrap().port();
        let [other, free_backend, free_frontend] = free_ports();
        let world = World::new();
        // One slot, whose backend is listened on.
        let slot = |max: u16| {
            world.write(
                "manage-ports.toml",
                format!("[ports]\nbackend_base = {busy}\nfrontend_base = {other}\nstep = 65535\nmax = {max}\n"),
            );
        };
        slot(busy.max(other));
        world.line("allocate --model m --app 1").fails(4, &["no free pair is left", "1 listened on"]);
        assert!(!world.default_database().exists());
        assert_eq!(
            world.line("allocate --model m --app 1 --no-probe -q").stdout,
            format!("m/app1: backend {busy}, frontend {other}\n")
        );
        // What an app has is its own, whoever listens.
        assert_eq!(world.line("allocate --model m --app 1 --format plain").ok(), format!("{busy} {other}\n"));

        let ask = |backend: u16, frontend: u16| {
            world.line(&format!("allocate --model m --app 2 --backend-port {backend} --frontend-port {frontend}"))
        };
        let listening = TcpListener::bind(("127.0.0.1", free_frontend)).unwrap();
        ask(free_backend, free_frontend).fails(6, &[&format!("port {free_frontend}"), "listens"]);
        drop(listening);
        // A process that another test is about to start has a copy of the socket for a moment.
        wait_until(|| TcpStream::connect(("127.0.0.1", free_frontend)).is_err());
        ask(free_backend, free_frontend).ok();
    }
}

#[test]
fn a_pair_asked_for_is_given_or_refused_with_the_reason() {
    let world = world_with("exclude = [7000]\n");
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    let ask = |app: u16, backend: u16, frontend: u16| {
        world.line(&format!("allocate --model m --app {app} --backend-port {backend} --frontend-port {frontend}"))
    };
    ask(1, 5001, 7001).fails(6, &["error: port 5001 is the backend of a/app1"]);
    ask(1, 8001, 7001).fails(6, &["error: port 8001 is the frontend of a/app1"]);
    ask(1, 7001, 5001).fails(6, &["error: port 5001 is the backend of a/app1\n"]);
    ask(1, 8001, 5001).fails(6, &["error: port 8001 is the frontend of a/app1, port 5001 is the backend of a/app1\n"]);
    ask(1, 7000, 7001).fails(6, &["error: port 7000 is excluded", "hint:"]);
    ask(1, 7001, 5060).fails(6, &["error: port 5060 is one that browsers refuse to open", "hint:"]);
    assert_eq!(world.rows(), [row("a", 1, 5001, 8001)]);
    assert_eq!(ask(1, 7001, 7003).ok(), "m/app1: backend 7001, frontend 7003\n");
    assert_eq!(ask(1, 7001, 7003).ok(), "m/app1: backend 7001, frontend 7003 (existing)\n");
    ask(1, 7003, 7001).fails(6, &["error: m/app1 has another pair: backend 7001, frontend 7003", "release"]);
    // To release it would be in vain.
    let taken = ask(1, 7005, 5001);
    taken.fails(6, &["m/app1 has another pair: backend 7001, frontend 7003; port 5001 is the backend of a/app1\n"]);
    assert!(!taken.stderr.contains("release it"), "{taken:?}");
    ask(2, 7001, 7005).fails(6, &["error: port 7001 is the backend of m/app1"]);
    assert_eq!(world.rows(), [row("a", 1, 5001, 8001), row("m", 1, 7001, 7003)]);
}

#[test]
fn preconfigured_ports_are_taken_as_written_if_both_are_free() {
    let world = World::new();
    world.write(
        "manage-ports.toml",
        "preconfigured = \"misc/port_config.json\"\n[ports]\nprobe = false\nexclude = [7001]\n",
    );
    world.write(
        "misc/port_config.json",
        json!([
            {"model_name": "m", "app_number": 1, "backend_port": 7001, "frontend_port": 5060},
            {"model": "m", "app_num": 2, "backend_port": 8001, "frontend_port": 7003, "more": {}},
            {"model": "m", "app_num": 3, "backend_port": 7005, "frontend_port": 7007},
            {"model": "other", "app_num": 4, "backend_port": 7009, "frontend_port": 7011},
        ])
        .to_string(),
    );
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    world.line("allocate --model m --app 1-4").is(
        0,
        "m/app1: backend 7001, frontend 5060\n\
         m/app2: backend 5003, frontend 8003\n\
         m/app3: backend 7005, frontend 7007\n\
         m/app4: backend 5005, frontend 8005\n",
        "warning: the preconfigured port 5060 of m/app1 is one that browsers refuse to open\n\
         warning: the preconfigured ports 8001 and 7003 of m/app2 are not free\n",
    );
    world.line("allocate --model m --app 1 --format plain").is(0, "7001 5060\n", "");
}

#[test]
fn without_room_nothing_of_a_batch_is_kept() {
    let world = world_with("max = 8009\nexclude = [5003]\n");
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    world.line("allocate --model m --app 1-4").fails(
        4,
        &["error: no free pair is left for each of them: 4 wanted and 3 free of 5 slots (1 taken, 1 excluded or blocked by browsers, 0 listened on)", "hint:"],
    );
    assert_eq!(world.rows(), [row("a", 1, 5001, 8001)]);
    assert_eq!(world.line("allocate --model m --app 1-3 --format plain").ok(), "5005 8005\n5007 8007\n5009 8009\n");
    world.line("allocate --model m --app 4").fails(4, &["1 wanted and 0 free"]);
    world.write("manage-ports.toml", "[ports]\nmax = 8000\n");
    world.line("allocate --model m --app 4").fails(4, &["no free pair is left: 1 wanted and 0 free of 0 slots"]);
    // An app that has its pair needs no room.
    world.line("allocate --model m --app 1").ok();
}

#[test]
fn a_table_without_unique_constraints_works_and_a_doubled_app_gets_its_oldest_pair() {
    let world = world();
    world.database(WEAK_SCHEMA, &[row("a", 1, 5001, 8001), row("a", 1, 5003, 8003), row("b", 1, 5001, 8003)]);
    assert_eq!(world.line("allocate --model a --app 1 --format plain").ok(), "5001 8001\n");
    assert_eq!(world.line("allocate --model c --app 1 --format plain").ok(), "5005 8005\n");
}

#[test]
fn a_row_that_the_table_does_not_accept_is_an_error_and_not_an_endless_retry() {
    let world = world();
    world.database(SCHEMA, &[row("a", 1, 6001, 9001)]);
    world.sql("CREATE UNIQUE INDEX one_a_model ON port_configurations (lower(model))");
    world.line("allocate --model A --app 2").fails(3, &["does not accept the row", "one_a_model"]);
    assert_eq!(world.rows(), [row("a", 1, 6001, 9001)]);
}

#[test]
fn ten_thousand_apps_are_one_call() {
    let world = world();
    let ran = world.line("allocate --model m --app 1-10000 --format csv -q");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 10_001));
    assert_eq!(world.rows().len(), 10_000);
    assert!(world.line("check --strict --json").stdout.starts_with("{\"ok\":"));
}

#[test]
fn new_rows_are_written_as_the_platform_writes_them() {
    let world = world();
    world.database(SCHEMA, &[row("theirs", 1, 6001, 9001)]);
    world.line("allocate --model ours --app 1").ok();
    let connection = rusqlite::Connection::open(world.default_database()).unwrap();
    let (available, metadata, created, updated): (i64, Option<String>, String, String) = connection
        .query_row(
            "SELECT is_available, metadata_json, created_at, updated_at FROM port_configurations WHERE model = 'ours'",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)),
        )
        .unwrap();
    assert_eq!((available, metadata), (1, None));
    assert_eq!(created, updated);
    let digits = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "0");
    assert_eq!(digits(&created), digits(MADE));
}

#[test]
fn an_app_does_not_get_what_is_preconfigured_for_another_in_the_call() {
    let world = World::new();
    world.write("manage-ports.toml", "preconfigured = \"planned.json\"\n[ports]\nprobe = false\n");
    world.write("planned.json", r#"[{"model": "m", "app_num": 2, "backend_port": 5001, "frontend_port": 8001}]"#);
    world.database(SCHEMA, &[]);
    assert_eq!(world.line("allocate --model m --app 1-2 --format plain").ok(), "5003 8003\n5001 8001\n");
    world.line("release m 2").ok();
    // Ports asked for by number are no reason to speak of the planned ones.
    world.line("allocate --model m --app 2 --backend-port 7001 --frontend-port 7003 --format plain").is(
        0,
        "7001 7003\n",
        "",
    );
}

#[test]
fn a_row_that_a_trigger_swallows_is_an_error() {
    let world = world();
    world.database(SCHEMA, &[row("a", 1, 6001, 9001)]);
    world.sql(
        "CREATE TRIGGER swallow BEFORE INSERT ON port_configurations BEGIN SELECT raise(IGNORE); END;
               CREATE TRIGGER cling BEFORE DELETE ON port_configurations BEGIN SELECT raise(IGNORE); END",
    );
    world.line("allocate --model b --app 1").fails(3, &["did not keep a new row", "trigger"]);
    world.line("release a 1").fails(3, &["did not let go of a row", "trigger"]);
    assert_eq!(world.rows(), [row("a", 1, 6001, 9001)]);
}

#[test]
fn a_slot_that_is_planned_for_another_app_is_passed_over() {
    let world = World::new();
    world.write("manage-ports.toml", "preconfigured = \"planned.json\"\n[ports]\nprobe = false\n");
    world.write(
        "planned.json",
        json!([
            {"model": "other", "app_num": 1, "backend_port": 5001, "frontend_port": 7001},
            {"model": "m", "app_num": 3, "backend_port": 8003, "frontend_port": 7003},
            {"model": "m", "app_num": 2, "backend_port": 5005, "frontend_port": 7005},
        ])
        .to_string(),
    );
    world.database(SCHEMA, &[row("a", 1, 7003, 7005)]);
    // The last two cannot have their pairs, and what is planned for them is theirs alone.
    assert_eq!(world.line("allocate m 1 --format plain -q").ok(), "5007 8007\n");
    assert_eq!(world.line("allocate m 2-3 --format plain -q").ok(), "5005 8005\n5003 8003\n");
    assert_eq!(world.line("allocate other 1 --format plain").ok(), "5001 7001\n");
    assert_eq!(world.line("allocate m 4 --format plain").ok(), "5009 8009\n");

    // A plan does not keep from others what is asked for by number.
    world.line("release other 1").ok();
    let asked = world.line("allocate m 5 --backend-port 5001 --frontend-port 7001 --format plain");
    assert_eq!(asked.ok(), "5001 7001\n");

    world.write("manage-ports.toml", "preconfigured = \"all.json\"\n[ports]\nprobe = false\nmax = 8001\n");
    world.write("all.json", r#"[{"model": "x", "app_num": 1, "backend_port": 9001, "frontend_port": 8001}]"#);
    world.line("release m 5").ok();
    world.line("allocate m 6").fails(4, &["no free pair is left", "1 planned for other apps"]);
}

#[test]
fn for_an_app_that_has_its_pair_nothing_else_is_read() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
    // No slot is left, and the plan is broken.
    world.write("manage-ports.toml", "preconfigured = \"planned.json\"\n[ports]\nmax = 8003\n");
    world.write("planned.json", "[{");
    let pairs = "m/app1: backend 5001, frontend 8001 (existing)\nm/app2: backend 5003, frontend 8003 (existing)\n";
    assert_eq!(world.line("allocate m 1-2").ok(), pairs);
    assert_eq!(world.line("allocate m 1 --backend-port 5001 --frontend-port 8001 --format plain").ok(), "5001 8001\n");
    assert_eq!(world.line("reserve m 1 --for 1h --format plain").ok(), "5001 8001\n");
    assert_eq!(world.line("exec m 2 -q -- printenv BACKEND_PORT").ok(), "5003\n");
    for line in ["allocate m 3", "allocate m 1-3", "reserve m 3 --for 1h", "exec m 3 -- true"] {
        world.line(line).fails(2, &["preconfigured", "planned.json"]);
    }
    // Ports asked for by number need no plan.
    assert_eq!(
        world.line("allocate m 3 --backend-port 7001 --frontend-port 7003 --no-probe --format plain").ok(),
        "7001 7003\n"
    );
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn the_first_app_of_a_model_gets_a_hint_at_one_of_a_similar_name() {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    let hint = |model: &str| format!("{model} is a new model: did you mean openai_gpt-4.1?\n");
    world.line("allocate openai_gpt-4.1 1 -q").ok();
    world.line("allocate openai_gpt4 1").is(0, "openai_gpt4/app1: backend 5003, frontend 8003\n", &hint("openai_gpt4"));
    // It has a row now, and what it is given is no news.
    world.line("allocate openai_gpt4 1-2").is(
        0,
        "openai_gpt4/app1: backend 5003, frontend 8003 (existing)\nopenai_gpt4/app2: backend 5005, frontend 8005\n",
        "",
    );
    let reserved = world.line("reserve OPENAI-GPT4.1 1-2 --for 1h");
    assert_eq!((reserved.code, reserved.stderr), (Some(0), hint("OPENAI-GPT4.1")));
    let ran = world.line("exec openai/gpt-4.1 1 -- echo");
    assert_eq!((ran.code, ran.stderr), (Some(0), hint("openai/gpt-4.1")));
    world.line("allocate openai_o3 1").ok();
    world.line("allocate openai_gpt-4..1 1 -q").ok();
}
