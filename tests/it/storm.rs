//! Many real processes at once, and the rows counted afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::fixture::{Ran, Row, SCHEMA, World, answered, row, rows_of};

/// What this machine listens on must not decide a test, nor a disk that stalls for half a minute.
pub const CONFIG: &str = "timeout = \"3m\"\n[ports]\nprobe = false\n";

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world
}

pub fn finish(child: Child) -> Ran {
    child.wait_with_output().unwrap().into()
}

/// Checks what must hold of the rows of every database at any time.
#[track_caller]
pub fn assert_distinct(rows: &[Row]) {
    let ports: BTreeSet<_> = rows.iter().flat_map(|(_, _, backend, frontend)| [backend, frontend]).collect();
    assert_eq!(ports.len(), 2 * rows.len(), "a port stands twice");
    let apps: BTreeSet<_> = rows.iter().map(|(model, app_num, ..)| (model, app_num)).collect();
    assert_eq!(apps.len(), rows.len(), "an app stands twice");
}

/// Checks likewise of every SQLite database, and that it is whole.
#[track_caller]
fn assert_sound(database: &Path) -> Vec<Row> {
    let rows = rows_of(database);
    assert_distinct(&rows);
    let connection = Connection::open(database).unwrap();
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
    rows
}

/// The ports from 5001 on that browsers refuse to open, see <https://fetch.spec.whatwg.org/#port-blocking>.
const BROWSER_BLOCKED: [u16; 12] = [5060, 5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080];

/// The first slots that browsers open.
pub fn lowest_slots(count: usize) -> BTreeSet<(i64, i64)> {
    let slots = (0u16..).map(|k| (5001 + 2 * k, 8001 + 2 * k));
    let is_blocked = |port: &u16| BROWSER_BLOCKED.contains(port);
    let allowed = slots.filter(|(backend, frontend)| !is_blocked(backend) && !is_blocked(frontend));
    allowed.take(count).map(|(backend, frontend)| (backend.into(), frontend.into())).collect()
}

/// Whether an answer of `allocate --json` says that it made its row.
pub fn is_created(line: &str) -> bool {
    serde_json::from_str::<Value>(line).unwrap()["created"].as_bool().unwrap()
}

#[test]
fn two_hundred_at_once_make_one_database_and_each_gets_a_pair_of_its_own() {
    let world = world();
    let children: Vec<_> = (1..=200).map(|n| world.start(&format!("allocate --model m --app {n} --json"))).collect();
    let mut answers = BTreeSet::new();
    let mut talk = String::new();
    for child in children {
        let ran = finish(child);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        let (row, created) = (answered(&ran.stdout), is_created(&ran.stdout));
        assert!(created, "{ran:?}");
        answers.insert(row);
        talk.push_str(&ran.stderr);
    }
    let said = format!("Created database {}", world.default_database().display());
    assert_eq!(talk, format!("{{\"notice\":{{\"message\":\"{said}\"}}}}\n"));
    let rows = assert_sound(&world.default_database());
    assert_eq!(answers, rows.iter().cloned().collect());
    let pairs: BTreeSet<_> = rows.into_iter().map(|(.., backend, frontend)| (backend, frontend)).collect();
    assert_eq!(pairs, lowest_slots(200), "the lowest slots, without a gap");
}

#[test]
fn sixty_four_for_one_app_get_one_row() {
    let world = world();
    world.database(SCHEMA, &[row("other", 1, 5001, 8001)]);
    let children: Vec<_> = (0..64).map(|_| world.start("allocate --model m --app 7 --json")).collect();
    let mut created = 0;
    for child in children {
        let ran = finish(child);
        let (row_answered, is_new) = (answered(ran.ok()), is_created(ran.ok()));
        assert_eq!(row_answered, row("m", 7, 5003, 8003));
        created += usize::from(is_new);
    }
    assert_eq!(created, 1, "one process made the row");
    assert_eq!(assert_sound(&world.default_database()), [row("other", 1, 5001, 8001), row("m", 7, 5003, 8003)]);
}

/// What the platform does: read all, choose, insert, with Python's five seconds of patience. A pair
/// that was taken meanwhile is chosen anew; a lock that stays is the failure looked for.
const PLATFORM: &str = r#"
import sqlite3, sys
database, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
connection = sqlite3.connect(database, timeout=5)
for app_num in range(1, count + 1):
    while True:
        rows = connection.execute("SELECT backend_port, frontend_port FROM port_configurations").fetchall()
        used = {port for row in rows for port in row}
        backend, frontend = 5001, 8001
        while backend in used or frontend in used:
            backend, frontend = backend + 2, frontend + 2
        try:
            connection.execute(
                "INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, is_available,"
                " created_at, updated_at) VALUES (?, ?, ?, ?, 1, ?, ?)",
                (model, app_num, backend, frontend, "2026-01-02 03:04:05.678901", "2026-01-02 03:04:05.678901"))
            connection.commit()
            break
        except sqlite3.IntegrityError:
            connection.rollback()
    print(model, app_num, backend, frontend)
"#;

#[test]
fn eighty_beside_the_platform_and_neither_fails() {
    let world = world();
    world.database(SCHEMA, &[]);
    let platform: Vec<_> = (0..6)
        .map(|n| {
            let mut python = Command::new("python3");
            python.args(["-c", PLATFORM]).arg(world.default_database()).args([&format!("platform{n}"), "10"]);
            python.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let ours: Vec<_> = (1..=80).map(|n| world.start(&format!("allocate --model m --app {n} --json"))).collect();

    let mut answers = BTreeSet::new();
    for child in ours {
        answers.insert(answered(finish(child).ok()));
    }
    for child in platform {
        for line in finish(child).ok().lines() {
            let words: Vec<_> = line.split(' ').collect();
            let number = |at: usize| words[at].parse().unwrap();
            answers.insert(row(words[0], number(1), number(2), number(3)));
        }
    }
    assert_eq!(answers.len(), 140);
    assert_eq!(answers, assert_sound(&world.default_database()).into_iter().collect());
}

/// Forty ask for the same two ports, half of them the other way round, which no index forbids.
#[track_caller]
pub fn two_ports_in_either_role(world: &World) {
    let children: Vec<_> = (1..=40)
        .map(|n| {
            let (backend, frontend) = if n % 2 == 0 { (7001, 7003) } else { (7003, 7001) };
            world.start(&format!("allocate --model m --app {n} --backend-port {backend} --frontend-port {frontend}"))
        })
        .collect();
    let codes: Vec<_> = children.into_iter().map(|child| finish(child).code.unwrap()).collect();
    assert_eq!(codes.iter().filter(|&&code| code == 0).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|&&code| code == 6).count(), 39, "{codes:?}");
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn of_forty_who_ask_for_two_ports_in_either_role_one_gets_them() {
    let world = world();
    world.database(SCHEMA, &[]);
    two_ports_in_either_role(&world);
}

/// Random numbers from a seed that this variable may give, printed so that a failure can be repeated.
#[expect(clippy::print_stdout, reason = "the harness shows it where the test fails")]
pub fn seeded(variable: &str) -> fastrand::Rng {
    let seed = std::env::var(variable).ok().map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("{variable}={seed}");
    fastrand::Rng::with_seed(seed)
}

#[test]
fn what_was_answered_outlives_any_kill() {
    let world = world();
    let mut random = seeded("MANAGE_PORTS_STORM_SEED");
    let mut counted = 0;
    for round in 0..12 {
        let start = Instant::now();
        let mut children: Vec<_> = (1..=20)
            .map(|n| {
                let child = world.start(&format!("allocate --model round{round} --app {n} --json"));
                (start + Duration::from_micros(random.u64(0..150_000)), child)
            })
            .collect();
        children.sort_by_key(|(moment, _)| *moment);
        let mut answers = BTreeSet::new();
        for (moment, mut child) in children {
            // The random moment of the kill, not a wait for something to happen.
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            child.kill().unwrap();
            let ran = finish(child);
            assert!(ran.code.is_none_or(|code| code == 0), "{ran:?}");
            assert!(ran.code.is_none() || !ran.stdout.is_empty(), "{ran:?}");
            // A line that was cut off by the kill was not an answer.
            answers.extend(ran.stdout.lines().filter(|line| line.ends_with('}')).map(answered));
        }
        if !world.default_database().exists() {
            assert!(answers.is_empty(), "answers without a database");
            continue;
        }
        // An allocation makes the table if the kills came before that.
        assert_eq!(world.line("allocate --model last --app 1 -q").code, Some(0));
        let rows: BTreeSet<_> = assert_sound(&world.default_database()).into_iter().collect();
        let lost: Vec<_> = answers.difference(&rows).collect();
        assert!(lost.is_empty(), "answered and lost in round {round}: {lost:?}");
        counted += answers.len();
    }
    assert!(counted > 0, "every process was killed before its answer");
}

#[test]
fn all_commands_at_once_leave_every_app_that_is_there_its_pair() {
    let world = world();
    world.database(SCHEMA, &[]);
    world.apps((1..=40).map(|n| format!("here/app{n}")));
    let mut kept = Vec::new();
    let mut others = Vec::new();
    for n in 1..=40 {
        kept.push(world.start(&format!("allocate --model here --app {n} --json")));
        if n % 2 == 0 {
            others.push((world.start(&format!("allocate --model gone --app {n}")), vec![0]));
        }
        if n % 4 == 0 {
            others.push((world.start("cleanup"), vec![0]));
            others.push((world.start(&format!("release gone {n}")), vec![0, 1]));
            others.push((world.start("check"), vec![0]));
            others.push((world.start("list --json"), vec![0]));
        }
    }
    for (child, expected) in others {
        let ran = finish(child);
        assert!(ran.code.is_some_and(|code| expected.contains(&code)), "{ran:?}");
    }
    let answers: BTreeMap<_, _> = kept.into_iter().map(|child| (answered(finish(child).ok()), ())).collect();
    let rows = assert_sound(&world.default_database());
    let here: BTreeMap<_, _> = rows.into_iter().filter(|row| row.0 == "here").map(|row| (row, ())).collect();
    assert_eq!(here.len(), 40);
    assert_eq!(answers, here);
}

#[test]
fn a_batch_is_all_or_none_while_others_allocate() {
    let world = world();
    // Room for 25 pairs: each batch of ten fits or fails as a whole.
    world.write("manage-ports.toml", "[ports]\nprobe = false\nbackend_base = 7001\nfrontend_base = 8001\nmax = 8049\n");
    world.database(SCHEMA, &[]);
    let batches: Vec<_> = (0..6).map(|n| world.start(&format!("allocate --model batch{n} --app 1-10"))).collect();
    let singles: Vec<_> = (1..=10).map(|n| world.start(&format!("allocate --model single --app {n}"))).collect();
    for child in batches.into_iter().chain(singles) {
        let ran = finish(child);
        assert!(matches!(ran.code, Some(0 | 4)), "{ran:?}");
    }
    let mut of_model = BTreeMap::<_, usize>::new();
    for (model, ..) in assert_sound(&world.default_database()) {
        *of_model.entry(model).or_default() += 1;
    }
    of_model.remove("single");
    assert!(of_model.values().all(|&count| count == 10), "{of_model:?}");
}
