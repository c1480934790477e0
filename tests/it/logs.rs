//! What `-v` and `-vv` log, and what a terminal is told of a long wait.

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener};
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use super::fixture::{Ran, SCHEMA, World, row};
use super::storm::{CONFIG, finish};

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.database(SCHEMA, &[]);
    world
}

/// What a command logs that waits until another program has let go of the database.
fn waits(world: &World, line: &str) -> (String, Ran) {
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut child = world.start(line);
    let mut talk = BufReader::new(child.stderr.take().unwrap());
    let mut log = String::new();
    while !log.contains("waiting for") {
        assert_ne!(talk.read_line(&mut log).unwrap(), 0, "it does not wait: {log}");
    }
    lock.execute_batch("COMMIT").unwrap();
    talk.read_to_string(&mut log).unwrap();
    (log, finish(child))
}

#[test]
fn a_wait_is_logged_with_its_reason_when_it_begins_and_when_it_is_over() {
    let world = world();
    let (log, ran) = waits(&world, "allocate m 1 -v --metrics-file m.prom");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "m/app1: backend 5001, frontend 8001\n"));
    assert!(log.contains("debug: trying again (writer): waiting for another writer to finish\n"), "{log}");
    assert!(log.contains("debug: metrics file: m.prom\n"), "{log}");
    let over = log.lines().find(|line| line.starts_with("debug: waited ")).unwrap();
    assert!(over.contains(", and tried again ") && over.ends_with(" time(s)"), "{log}");
    assert!(!log.contains("trace"), "{log}");

    // For programs, each event is a line of JSON.
    let (log, ran) = waits(&world, "allocate m 2 -vv --json");
    assert_eq!(ran.code, Some(0));
    let mut events = Vec::new();
    for line in log.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let (level, event) = event.as_object().unwrap().iter().next().unwrap();
        events.push(format!("{level} {}", event["message"].as_str().unwrap()));
    }
    for start in [
        "debug configuration file: manage-ports.toml",
        "debug database: data/ports.db",
        "debug apps directory: generated/apps",
        "debug trying again (writer): waiting for another writer to finish",
        "trace try 2 follows in ",
        "debug waited ",
        "trace opening the database took ",
        "trace the transaction took ",
        "trace m/app2: passed over slot 5001 8001: port 5001 is taken by m/app1",
        "trace m/app2: chose backend 5003, frontend 8003",
        "trace writing the answer took ",
    ] {
        assert!(events.iter().any(|event| event.starts_with(start)), "no {start:?} in {events:#?}");
    }
}

#[test]
fn each_slot_that_is_passed_over_is_logged_with_the_reason() {
    let world = World::new();
    let plan = r#"[{"model": "p", "app_num": 1, "backend_port": 5059, "frontend_port": 7001},
                   {"model": "q", "app_num": 1, "backend_port": 5051, "frontend_port": 7003}]"#;
    world.write("plan.json", plan);
    let config = "preconfigured = 'plan.json'\n[ports]\nprobe = false\nbackend_base = 5051\nexclude = [5057]\n";
    world.write("manage-ports.toml", config);
    world.database(SCHEMA, &[row("a", 1, 5051, 9051), row("a", 2, 9053, 5053), row("b", 1, 5055, 9055)]);
    let ran = world.line("allocate m 1-2 -vv");
    let log: Vec<_> = ran.stderr.lines().filter_map(|line| line.strip_prefix("trace: m/")).collect();
    let expected = [
        "app1: passed over 3 slots, 5051 8001 to 5055 8005: port 5051 is taken by a/app1",
        "app1: passed over slot 5057 8007: port 5057 is excluded",
        "app1: passed over slot 5059 8009: port 5059 is planned for p/app1",
        "app1: passed over slot 5061 8011: port 5061 is blocked by browsers",
        "app1: chose backend 5063, frontend 8013",
        "app2: chose backend 5065, frontend 8015",
    ];
    assert_eq!(log, expected, "{ran:?}");
    let ran = world.line("allocate q 1 -vv");
    assert!(ran.stderr.contains("trace: q/app1: its planned pair 5051 7003 is not free\n"), "{ran:?}");
    // Nothing of this is told without being asked for.
    assert!(!world.line("allocate m 5 -v").stderr.contains("passed over"));

    // A search that fails tells as much.
    let config = "[ports]\nprobe = false\nbackend_base = 6665\nfrontend_base = 8901\nmax = 8905\n";
    world.write("manage-ports.toml", config);
    let told = "trace: m/app6: passed over 3 slots, 6665 8901 to 6669 8905: port 6665 is blocked by browsers\n";
    world.line("allocate m 6 -vv").fails(4, &[told]);
}

#[test]
fn a_slot_that_is_listened_on_is_logged() {
    let world = World::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let frontend = if port > 30_000 { 10_001 } else { 40_001 };
    let config = format!("[ports]\nallow_browser_blocked = true\nbackend_base = {port}\nfrontend_base = {frontend}\n");
    world.write("manage-ports.toml", config);
    let ran = world.line("allocate m 1 -vv");
    let slot = format!("trace: m/app1: passed over slot {port} {frontend}: port {port} is listened on");
    let slots = format!("slots, {port} {frontend} to ");
    let is_told = ran.stderr.contains(&slot) || ran.stderr.contains(&slots);
    assert!(is_told && ran.stderr.contains(&format!("port {port} is listened on")), "{ran:?}");
}

/// What a command shows on a terminal while the database is locked.
fn on_terminal(world: &World, variable: (&str, &str), line: &str) -> Ran {
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("terminal.py"), "100", env!("CARGO_BIN_EXE_manage-ports")]);
    python.args(line.split(' ')).current_dir(world.path("")).env_clear().env("TERM", "xterm");
    Ran::of(python.env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").env(variable.0, variable.1))
}

#[test]
fn after_a_second_a_terminal_tells_what_is_waited_for() {
    let world = world();
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let told = "Waiting for another writer to finish...\n";
    for (variable, line, is_told) in [
        (("A", "1"), "allocate m 1 --timeout 1500ms", true),
        (("A", "1"), "allocate m 1 --timeout 500ms", false),
        (("TERM", "dumb"), "allocate m 1 --timeout 1500ms", false),
        (("A", "1"), "allocate m 1 --timeout 1500ms -q", false),
        (("A", "1"), "allocate m 1 --timeout 1500ms --json", false),
    ] {
        let ran = on_terminal(&world, variable, line);
        assert_eq!((ran.code, ran.stdout.matches(told).count()), (Some(3), usize::from(is_told)), "{line}: {ran:?}");
    }
    let ran = world.line("allocate m 1 --timeout 1500ms");
    ran.fails(3, &["error: "]);
    assert!(!ran.stderr.contains("Waiting"), "{ran:?}");
}
