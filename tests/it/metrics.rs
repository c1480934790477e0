//! `metrics`, and the metrics file to which every command adds.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::env_file_rights::with_mounts;
use super::fixture::{Ran, SCHEMA, World, interrupt, not_run, row};
use super::storm::{CONFIG, finish, seeded};

const CREATED: &str = "manage_ports_allocation_total{outcome=\"created\"}";
const EXISTING: &str = "manage_ports_allocation_total{outcome=\"existing\"}";
const RELEASED: &str = "manage_ports_released_total";
const CLEANED: &str = "manage_ports_cleaned_total";
const LOCKED: &str = "manage_ports_lock_wait_seconds_count";

/// A world in which commands count in `m.prom`, whatever this machine listens on.
pub fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world
}

/// The samples of a text, by their names with labels.
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    lines.map(|line| sample(line).unwrap()).collect()
}

/// The samples of the metrics file.
fn counted(world: &World) -> BTreeMap<String, f64> {
    samples(&fs::read_to_string(world.path("m.prom")).unwrap())
}

/// The samples that are not 0, without those of the histogram but its count.
fn risen(world: &World) -> Vec<(String, f64)> {
    let is_told = |name: &str| !name.starts_with("manage_ports_lock_wait_seconds") || name == LOCKED;
    counted(world).into_iter().filter(|(name, value)| *value != 0.0 && is_told(name)).collect()
}

fn error(kind: &str) -> String {
    format!("manage_ports_allocation_errors_total{{kind=\"{kind}\"}}")
}

/// The names in the world's folder that begin as the metrics file's own or as those beside it.
fn left(world: &World) -> Vec<String> {
    let names = fs::read_dir(world.path("")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name.contains("m.prom")).collect();
    names.sort();
    names
}

#[test]
fn every_command_counts_what_it_did() {
    let world = world();
    world.apps(["m/app1"]);
    world.write(
        "plan.json",
        r#"[{"model": "i", "app_num": 1, "backend_port": 6001, "frontend_port": 9001},
                                 {"model": "m", "app_num": 1, "backend_port": 5001, "frontend_port": 8001}]"#,
    );
    let mut expected = BTreeMap::<&str, f64>::new();
    // Before the first count, there is each counter, at 0.
    world.line("list --metrics-file m.prom");
    assert_eq!(risen(&world), []);
    assert_eq!(counted(&world).len(), 2 + 9 + 6 + 1 + 1 + 13);
    for (line, counts) in [
        ("allocate m 1-3", &[(CREATED, 3.0), (LOCKED, 1.0)][..]),
        ("allocate m 2-4", &[(CREATED, 1.0), (EXISTING, 2.0), (LOCKED, 1.0)]),
        ("allocate m 2", &[(EXISTING, 1.0)]),
        ("reserve m 5 --for 1h", &[(CREATED, 1.0), (LOCKED, 1.0)]),
        ("exec m 6 -- true", &[(CREATED, 1.0), (LOCKED, 1.0)]),
        ("exec m 6 -- false", &[(EXISTING, 1.0)]),
        ("import plan.json --dry-run", &[]),
        ("import plan.json", &[(CREATED, 1.0), (EXISTING, 1.0), (LOCKED, 1.0)]),
        ("release m 2-3,99 --dry-run", &[]),
        ("release m 2-3,99", &[(RELEASED, 2.0), (LOCKED, 1.0)]),
        ("cleanup --dry-run --min-age 0s --include-listening", &[]),
        ("cleanup --min-age 0s --include-listening", &[(CLEANED, 3.0), (LOCKED, 1.0)]),
        ("list", &[]),
        ("check", &[]),
        ("status", &[]),
        ("metrics", &[]),
        ("selftest --processes 2", &[]),
    ] {
        let before = fs::read(world.path("m.prom")).unwrap();
        let ran = world.line(&format!("--metrics-file m.prom {line}"));
        assert!(matches!(ran.code, Some(0 | 1)) && !ran.stderr.contains("metrics file"), "{line}: {ran:?}");
        for (name, count) in counts {
            *expected.entry(name).or_default() += count;
        }
        let told: BTreeMap<_, _> = risen(&world).into_iter().collect();
        let expected: BTreeMap<_, _> = expected.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect();
        assert_eq!(told, expected, "{line}");
        assert_eq!(fs::read(world.path("m.prom")).unwrap() == before, counts.is_empty(), "{line}");
    }
    assert_eq!(left(&world), [".m.prom.lock", "m.prom"]);
}

#[test]
fn exec_counts_before_it_becomes_the_command() {
    let world = world();
    let ran = world.line("--metrics-file m.prom -q exec m 1 -- cat m.prom");
    assert_eq!(samples(ran.ok())[CREATED], 1.0);
    // What the command does is no error of the allocation, nor is a command that is not there.
    world.line("--metrics-file m.prom exec m 1 -- no-such-command").fails(127, &[]);
    let file = world.write("not-a-program", "#!/no/such/interpreter\n");
    fs::set_permissions(file, Permissions::from_mode(0o755)).unwrap();
    world.line("--metrics-file m.prom exec m 1 -- ./not-a-program").fails(127, &[]);
    assert_eq!(risen(&world), [(CREATED.to_owned(), 1.0), (EXISTING.to_owned(), 1.0), (LOCKED.to_owned(), 1.0)]);
}

#[test]
fn errors_are_counted_by_their_kind() {
    let world = world();
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    world.write("small.toml", "timeout = '100ms'\ndatabase = 'data/ports.db'\n[ports]\nprobe = false\nmax = 8001\n");
    world.write("wrong.toml", "nonsense");
    world.write("broken.db", "x".repeat(1000));
    world.write("plan.json", r#"[{"model": "a", "app_num": 1, "backend_port": 6001, "frontend_port": 9001}]"#);
    let mut expected = BTreeMap::<String, f64>::new();
    let mut is_counted = |ran: &Ran, code, kind: Option<&str>| {
        assert_eq!(ran.code, Some(code), "{ran:?}");
        if let Some(kind) = kind {
            *expected.entry(error(kind)).or_default() += 1.0;
        }
        let errors: BTreeMap<_, _> = risen(&world).into_iter().filter(|(name, _)| name.contains("errors")).collect();
        assert_eq!(errors, expected, "{ran:?}");
    };
    for (line, code, kind) in [
        ("allocate m 0", 2, Some("usage")),
        ("allocate m 1 --config wrong.toml", 2, Some("config")),
        ("reserve m 1 --for 1h --database broken.db", 3, Some("database")),
        ("allocate m 1 --config small.toml", 4, Some("exhausted")),
        ("import --from-apps", 5, Some("apps_dir")),
        ("import plan.json", 6, Some("conflict")),
        ("allocate m 1 --backend-port 5001 --frontend-port 8001", 6, Some("conflict")),
        // What does not allocate has no error of allocation.
        ("list --database none.db", 3, None),
        ("release m 0", 2, None),
        ("import plan.json --dry-run", 6, None),
        ("reserve m 1 --cancel --database none.db", 3, None),
    ] {
        is_counted(&world.line(&format!("{line} --metrics-file m.prom")), code, kind);
    }
    let full = File::create("/dev/full").unwrap();
    let ran = Ran::of(world.command().args(["allocate", "m", "1", "--metrics-file", "m.prom"]).stdout(full));
    is_counted(&ran, 1, Some("io"));

    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    is_counted(&world.line("allocate m 2 --timeout 200ms --metrics-file m.prom"), 3, Some("locked"));
    let counts = counted(&world);
    assert!(counts["manage_ports_retries_total{reason=\"writer\"}"] > 1.0, "{counts:?}");
    assert!(counts["manage_ports_lock_wait_seconds_sum"] > 0.15, "{counts:?}");
    let short = counts["manage_ports_lock_wait_seconds_bucket{le=\"0.1\"}"];
    assert_eq!(counts[LOCKED] - short, 1.0, "{counts:?}");
    let mut waiting = world.start("allocate m 3 -v --metrics-file m.prom");
    let mut talk = BufReader::new(waiting.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("waiting") {
        line.clear();
        assert_ne!(talk.read_line(&mut line).unwrap(), 0, "it does not wait");
    }
    interrupt(&waiting);
    talk.read_to_string(&mut line).unwrap();
    is_counted(&finish(waiting), 130, Some("interrupted"));
}

#[test]
fn sixty_at_once_lose_no_count() {
    let world = world();
    let mut children: Vec<_> = (0..60)
        .map(|n| world.start(&format!("allocate m {}-{} --metrics-file m.prom", n / 2 * 3 + 1, n / 2 * 3 + 3)))
        .collect();
    // Whoever reads meanwhile, reads it whole.
    let mut read = 0;
    while children.iter_mut().any(|child| child.try_wait().unwrap().is_none()) {
        if let Ok(text) = fs::read_to_string(world.path("m.prom")) {
            assert!(text.ends_with('\n') && text.contains(LOCKED), "{text}");
            read += 1;
        }
    }
    for child in children {
        let ran = finish(child);
        assert!(ran.code == Some(0) && !ran.stderr.contains("metrics"), "{ran:?}");
    }
    assert!(read > 0);
    let counts = counted(&world);
    assert_eq!((counts[CREATED], counts[EXISTING]), (90.0, 90.0));
    let locked = counts[LOCKED];
    assert!((30.0..=60.0).contains(&locked), "{locked} processes took the lock");
    assert_eq!(counts["manage_ports_lock_wait_seconds_bucket{le=\"+Inf\"}"], locked);
    assert_eq!(left(&world), [".m.prom.lock", "m.prom"]);
}

/// Checks that the file is whole, and that the next call adds to it and clears away what was left behind.
#[track_caller]
fn goes_on(world: &World, what: &str) {
    let before = if world.path("m.prom").exists() { counted(world)[RELEASED] } else { 0.0 };
    let names = left(world);
    assert!(names.iter().filter(|name| name.ends_with(".prom")).all(|name| name == "m.prom"), "{what}: {names:?}");
    world.line("allocate gone 1 -q");
    let ran = world.line("release gone 1 --metrics-file m.prom");
    // Something on this machine may listen on the ports.
    assert!(ran.code == Some(0) && ran.stderr.lines().all(|line| line.contains("is in use")), "{what}: {ran:?}");
    assert_eq!(counted(world)[RELEASED], before + 1.0, "{what}");
    assert_eq!(left(world), [".m.prom.lock", "m.prom"], "{what}");
}

#[test]
fn a_kill_at_any_step_leaves_a_whole_file_and_nothing_for_the_next_call_to_trip_over() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("a_kill_at_any_step_leaves_a_whole_file: no strace");
        return;
    }
    let world = world();
    let mut saw_leftover = false;
    let mut kills = 0;
    for syscall in ["/^linkat$", "/^rename", "/^fchmod", "/^flock$", "/^unlink"] {
        for nth in 1..=4 {
            let mut traced = Command::new("strace");
            traced.current_dir(world.path("")).env_clear().args(["-f", "-o", "/dev/null", "-e"]);
            traced.arg(format!("trace={syscall}")).arg("-e").arg(format!("inject={syscall}:signal=KILL:when={nth}"));
            traced.arg(env!("CARGO_BIN_EXE_manage-ports"));
            let ran = traced.args("allocate m 1 -q --metrics-file m.prom".split(' ')).output().unwrap();
            kills += usize::from(!ran.status.success());
            saw_leftover |= left(&world).iter().any(|name| name == ".m.prom.tmp");
            goes_on(&world, &format!("{syscall} {nth}"));
        }
    }
    assert!(kills >= 4, "{kills} calls were killed");
    // Where a file cannot be made without a name, it is made with one.
    for (syscall, fails) in [("/^linkat$", "error=EXDEV"), ("/^linkat$", "error=ENOENT")] {
        let mut traced = Command::new("strace");
        traced.current_dir(world.path("")).env_clear().args(["-f", "-o", "/dev/null", "-e"]);
        traced.arg(format!("trace={syscall}")).arg("-e").arg(format!("inject={syscall}:{fails}"));
        traced.arg(env!("CARGO_BIN_EXE_manage-ports"));
        let before = counted(&world)[EXISTING];
        Ran::of(traced.args("allocate m 1 --metrics-file m.prom".split(' '))).is(0, AGAIN, "");
        assert_eq!(counted(&world)[EXISTING], before + 1.0, "{fails}");
        goes_on(&world, fails);
    }
    assert!(saw_leftover, "no kill hit the moment before the file takes its place");
}

#[test]
fn kills_at_random_leave_a_whole_file() {
    let world = world();
    let mut random = seeded("MANAGE_PORTS_METRICS_SEED");
    for round in 0..6 {
        let start = Instant::now();
        let mut children: Vec<_> = (1..=15)
            .map(|n| {
                let child = world.start(&format!("allocate round{round} {n} -q --metrics-file m.prom"));
                (start + Duration::from_micros(random.u64(0..120_000)), child)
            })
            .collect();
        children.sort_by_key(|(moment, _)| *moment);
        for (moment, mut child) in children {
            // The random moment of the kill, not a wait for something to happen.
            thread::sleep(moment.saturating_duration_since(Instant::now()));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        goes_on(&world, &format!("round {round}"));
    }
    // No process was counted that did not make its rows.
    let rows = Connection::open(world.default_database()).unwrap();
    let made: f64 = rows
        .query_row("SELECT count(*) FROM port_configurations WHERE model LIKE 'round%'", [], |row| row.get(0))
        .unwrap();
    let counts = counted(&world);
    assert!(counts[CREATED] <= made, "{counts:?} and {made} rows");
}

#[test]
fn the_file_is_readable_as_the_umask_says_and_keeps_the_mode_that_it_was_given() {
    let world = world();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    let file = world.path("m.prom");
    for (umask, expected) in [("022", 0o644), ("077", 0o600), ("002", 0o664), ("000", 0o666), ("027", 0o640)] {
        let script = format!("umask {umask}; exec \"$MP\" allocate m 1 -q --metrics-file m.prom");
        let ran = || Ran::of(world.shell(&script).env("MP", env!("CARGO_BIN_EXE_manage-ports")));
        ran().is(0, if umask == "022" { "m/app1: backend 5001, frontend 8001\n" } else { AGAIN }, "");
        assert_eq!(mode(&file), expected, "{umask}");
        // Another mode stays.
        fs::set_permissions(&file, Permissions::from_mode(0o604)).unwrap();
        ran().is(0, AGAIN, "");
        assert_eq!(mode(&file), 0o604, "{umask}");
        // So does its owner, if this user may give it away.
        if chown(&file, Some(65534), Some(65534)).is_ok() {
            ran().is(0, AGAIN, "");
            let found = fs::metadata(&file).unwrap();
            assert_eq!((found.uid(), found.gid(), mode(&file)), (65534, 65534, 0o604));
        }
        fs::remove_file(&file).unwrap();
        fs::remove_file(world.path(".m.prom.lock")).unwrap();
    }
}

const AGAIN: &str = "m/app1: backend 5001, frontend 8001 (existing)\n";

/// Runs a command whose metrics file cannot be used; it only warns.
#[track_caller]
fn only_warns(world: &World, file: &str, parts: &[&str]) {
    let ran = world.line(&format!("allocate m 1 --metrics-file {file}"));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), AGAIN), "{ran:?}");
    let start = format!("warning: the metrics file {file} ");
    assert!(ran.stderr.starts_with(&start) && ran.stderr.lines().count() == 1, "{ran:?}");
    for part in parts {
        assert!(ran.stderr.contains(part), "no {part:?} in {ran:?}");
    }
    // An error keeps its own code, and its place as the last line.
    let ran = world.line(&format!("allocate m 0 --metrics-file {file} --json"));
    assert_eq!(ran.code, Some(2), "{ran:?}");
    let lines: Vec<_> = ran.stderr.lines().collect();
    assert!(
        matches!(lines[..], [warning, error] if warning.starts_with("{\"warning\":") && error.starts_with("{\"error\":")),
        "{ran:?}"
    );
    assert_eq!(world.line(&format!("-q allocate m 1 --metrics-file {file}")).ok(), AGAIN);
}

#[test]
fn a_file_that_cannot_be_used_is_a_warning_and_no_more() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    fs::create_dir(world.path("folder")).unwrap();
    assert!(Command::new("mkfifo").arg(world.path("pipe")).status().unwrap().success());
    symlink("circle", world.path("circle")).unwrap();
    let other = "# TYPE node_load1 gauge\nnode_load1 0.5\n";
    world.write("other.prom", other);
    world.write("state.prom", world.line("metrics -q").ok());
    let long = "x".repeat(250);
    for (file, part) in [
        ("folder", "not a regular file"),
        ("folder/", "names a folder"),
        ("pipe", "not a regular file"),
        ("/dev/full", "not a regular file"),
        ("/dev/null", "not a regular file"),
        ("circle", "circle of links"),
        ("none/m.prom", "No such file or directory"),
        ("other.prom", "is left as it is"),
        ("state.prom", "is left as it is"),
        (&long, "name too long"),
    ] {
        only_warns(&world, file, &[part]);
    }
    assert_eq!(fs::read_to_string(world.path("other.prom")).unwrap(), other);
    assert!(fs::metadata(world.path("pipe")).unwrap().file_type().is_fifo());
    assert!(!Path::new("/dev/.null.lock").exists() && !world.path("none").exists());

    // A lock that somebody keeps is waited for, but not for long.
    fs::write(world.path(".m.prom.lock"), "").unwrap();
    let lock = File::open(world.path(".m.prom.lock")).unwrap();
    lock.lock().unwrap();
    let ran = world.line("allocate m 1 --metrics-file m.prom");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), AGAIN));
    assert!(ran.stderr.contains("another process keeps .") && ran.stderr.contains("locked: waited 2 s"), "{ran:?}");
    assert!(!world.path("m.prom").exists());
    drop(lock);
    assert_eq!(world.line("allocate m 1 --metrics-file m.prom").ok(), AGAIN);
    assert_eq!(counted(&world)[EXISTING], 1.0);

    fs::create_dir(world.path("closed")).unwrap();
    fs::set_permissions(world.path("closed"), Permissions::from_mode(0o755)).unwrap();
    if let Some(ran) = world.line_as_nobody("allocate m 1 --metrics-file closed/m.prom --no-probe") {
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), AGAIN), "{ran:?}");
        assert!(ran.stderr.contains("closed/m.prom was not updated: the lock file closed/.m.prom.lock"), "{ran:?}");
    }
}

#[test]
fn a_damaged_file_begins_anew_with_a_warning() {
    let world = world();
    world.line("allocate m 1 -q --metrics-file m.prom").ok();
    let whole = fs::read_to_string(world.path("m.prom")).unwrap();
    let cut = whole[..whole.len() / 2].to_owned();
    for damaged in [cut, "\0".repeat(whole.len()), whole.replace("_count 1", "_count 7"), whole.replace(" 0\n", " x\n")]
    {
        world.write("m.prom", damaged);
        let ran = world.line("allocate m 1 --metrics-file m.prom");
        let warning = "warning: the metrics file m.prom was damaged: its counters begin at 0 again\n";
        ran.is(0, AGAIN, warning);
        assert_eq!(risen(&world), [(EXISTING.to_owned(), 1.0)]);
    }
    // An empty one is nothing to warn of.
    world.write("m.prom", "");
    world.line("allocate m 1 --metrics-file m.prom").is(0, AGAIN, "");
    assert_eq!(risen(&world), [(EXISTING.to_owned(), 1.0)]);
}

#[test]
fn on_a_full_disk_the_counters_stay_as_they_were() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    fs::create_dir(world.path("app")).unwrap();
    let script = "mount -t tmpfs -o size=32k none app; $MP allocate m 1 --metrics-file app/m.prom
        cp app/m.prom before; cat /dev/zero >app/full 2>/dev/null || true; ls -A app >names
        $MP allocate m 1 --metrics-file app/m.prom; code=$?
        cmp before app/m.prom; ls -A app | cmp - names; exit $code";
    let Some(ran) = with_mounts(&world, "on_a_full_disk_the_counters_stay_as_they_were", script) else { return };
    assert_eq!((ran.code, ran.stdout), (Some(0), AGAIN.repeat(2)));
    assert!(ran.stderr.starts_with("warning: the metrics file app/m.prom was not updated: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("No space left") && ran.stderr.lines().count() == 1, "{}", ran.stderr);
}

#[test]
fn a_symbolic_link_is_followed() {
    let world = world();
    fs::create_dir_all(world.path("links")).unwrap();
    fs::create_dir_all(world.path("real")).unwrap();
    symlink("../real/m.prom", world.path("links/second")).unwrap();
    symlink("links/second", world.path("first")).unwrap();
    for n in 1..=2 {
        // The first time, the last link leads nowhere yet.
        world.line(&format!("allocate m {n} -q --metrics-file first")).ok();
        let text = fs::read_to_string(world.path("real/m.prom")).unwrap();
        assert_eq!(samples(&text)[CREATED], f64::from(n));
    }
    assert!(fs::symlink_metadata(world.path("first")).unwrap().is_symlink());
    assert!(fs::symlink_metadata(world.path("links/second")).unwrap().is_symlink());
    assert_eq!(fs::read_dir(world.path("links")).unwrap().count(), 1);
}

#[test]
fn the_file_is_named_by_flag_before_variable_and_an_empty_name_is_none() {
    let world = world();
    fs::create_dir(world.path("sub")).unwrap();
    let run = |variable: &str, args: &[&str]| {
        let mut command = world.command();
        command.current_dir(world.path("sub")).env("MANAGE_PORTS_METRICS_FILE", variable);
        Ran::of(command.args(["allocate", "m", "1", "-q"]).args(args)).ok();
    };
    let there = || {
        let names = fs::read_dir(world.path("sub")).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> = names.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect();
        names.retain(|name| name.ends_with(".prom"));
        names.sort();
        names
    };
    run("", &[]);
    run("", &["--metrics-file", ""]);
    assert_eq!(there(), [""; 0]);
    // A relative name starts at the current folder, not at the configuration file's.
    run("v.prom", &["--metrics-file="]);
    assert_eq!(there(), ["v.prom"]);
    run("v.prom", &["--metrics-file", "f.prom"]);
    assert_eq!(there(), ["f.prom", "v.prom"]);
    // It is no key of the configuration file.
    world.write("manage-ports.toml", "metrics_file = 'm.prom'");
    world.line("list").fails(2, &["metrics_file"]);
}

#[test]
fn the_state_is_what_status_and_check_tell() {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nmax = 8019\nexclude = [5009]\n");
    let rows = [row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("a b", 3, 5005, 9999), row("m", 4, 8003, 70000)];
    world.database(SCHEMA, &rows);
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 3");
    world.apps(["m/app1"]);
    let status: serde_json::Value = serde_json::from_str(world.line("status --json").ok()).unwrap();
    let told = samples(world.line("metrics").ok());
    let status = |key: &str| status[key].as_f64().unwrap();
    assert_eq!(told["manage_ports_allocations{model=\"m\"}"], 3.0);
    assert_eq!(told["manage_ports_allocations{model=\"a b\"}"], 1.0);
    assert_eq!((told["manage_ports_reserved"], status("reserved")), (1.0, 1.0));
    assert_eq!((told["manage_ports_orphans"], status("orphaned")), (2.0, 2.0));
    assert_eq!((told["manage_ports_available_slots"], status("free_slots")), (6.0, 6.0));
    let check: serde_json::Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let mut by_kind = BTreeMap::<String, f64>::new();
    for found in check["conflicts"].as_array().unwrap() {
        let kind = found["kind"].as_str().unwrap();
        *by_kind.entry(format!("manage_ports_conflicts{{kind=\"{kind}\"}}")).or_default() += 1.0;
    }
    assert_eq!(by_kind.len(), 2, "{check}");
    let conflicts = told.iter().filter(|(name, _)| name.contains("conflicts"));
    let (there, none): (Vec<_>, Vec<_>) = conflicts.partition(|(_, count)| **count > 0.0);
    assert!(there.into_iter().eq(&by_kind));
    // The kinds that `check` can find are in its help.
    let help = world.line("check --help").ok().to_owned();
    let (_, kinds) = help.split_once("Conflicts: ").unwrap();
    let kinds = kinds.split_once("\nWarnings").unwrap().0.split(',').count();
    assert_eq!(none.len() + by_kind.len(), kinds);
}

#[test]
fn what_is_not_known_is_left_out_and_names_break_no_line() {
    let world = World::new();
    // Nothing is made to look.
    let ran = world.line("metrics");
    assert_eq!(samples(ran.ok())["manage_ports_orphans"], 0.0);
    assert!(!ran.stdout.contains("manage_ports_allocations") && !world.path("data").exists(), "{ran:?}");

    let models =
        ["q\"uote", "back\\slash", "new\nline", "new\\nline", "esc\u{1b}[31m", "del\u{7f}", "nel\u{85}", "模型"];
    let rows: Vec<_> = models.iter().zip(0..).map(|(model, k)| row(model, 1, 5001 + 2 * k, 8001 + 2 * k)).collect();
    world.database(SCHEMA, &rows);
    let ran = world.line("metrics");
    assert_eq!(ran.code, Some(0));
    let warning = "warning: manage_ports_orphans is left out, as the directories of 8 allocation(s) cannot be read in generated/apps\n";
    assert_eq!(ran.stderr, warning);
    assert!(!ran.stdout.contains("orphans") && !ran.stdout.contains(|c: char| c.is_control() && c != '\n'), "{ran:?}");
    let allocations: Vec<_> = samples(&ran.stdout).into_iter().filter(|(name, _)| name.contains("model=")).collect();
    // Two names look the same once they are escaped, and count together.
    assert_eq!(allocations.len(), 7, "{allocations:?}");
    assert_eq!(allocations.iter().map(|(_, count)| count).sum::<f64>(), 8.0);

    world.line("metrics --json").fails(2, &["this command has no format 'json'"]);
    world.line("metrics --format csv").fails(2, &["'csv'"]);
    world.line("metrics --database none.db").fails(3, &["none.db"]);
    let full = Ran::of(world.command().arg("metrics").stdout(Stdio::from(File::create("/dev/full").unwrap())));
    assert_eq!(full.code, Some(1));
}

#[test]
fn waits_for_a_server_are_counted_as_those_for_a_file() {
    let Some(world) = super::postgres::world("metrics of a server") else { return };
    let children: Vec<_> =
        (1..=12).map(|n| world.start(&format!("allocate m {n} -q --no-probe --metrics-file m.prom"))).collect();
    children.into_iter().for_each(|child| assert_ne!(finish(child).ok(), ""));
    let counts = counted(&world);
    assert_eq!((counts[CREATED], counts[LOCKED]), (12.0, 12.0));

    let lock = world.server().session("BEGIN; LOCK TABLE port_configurations");
    world.line("allocate m 99 --timeout 300ms --metrics-file m.prom").fails(3, &["other writers"]);
    let later = counted(&world);
    assert_eq!((later[&error("locked")], later[LOCKED]), (1.0, 13.0));
    let waited = later["manage_ports_lock_wait_seconds_sum"] - counts["manage_ports_lock_wait_seconds_sum"];
    assert!(waited > 0.15, "{later:?}");
    drop(lock);
    let state = samples(&world.line("metrics -q").stdout);
    assert_eq!(state["manage_ports_allocations{model=\"m\"}"], 12.0);
}
