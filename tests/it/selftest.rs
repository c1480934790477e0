//! `selftest`.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{Ran, World, send};
use super::storm::finish;

#[test]
fn the_promises_hold_here_and_nothing_is_left_behind() {
    let world = World::with_platform();
    let before = fs::read(world.default_database()).unwrap();
    let ran = world.line("selftest --processes 8");
    let lines: Vec<_> = ran.ok().lines().collect();
    assert!(lines[..4].iter().all(|line| line.starts_with("✓ 8 processes ")), "{ran:?}");
    assert_eq!(lines[4], "✓ 4 KiB become durable");
    let kept =
        ["  journal mode delete", "  waiting in a queue, on a lock file", "  kept on a file system of this machine"];
    assert_eq!(lines[8..], kept);
    assert_eq!(fs::read(world.default_database()).unwrap(), before);
    assert_eq!(fs::read_dir(world.path("data")).unwrap().count(), 1);
}

#[test]
fn json_tells_the_same_and_no_database_is_needed() {
    let world = World::new();
    let ran = world.line("selftest --processes 2 --json");
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(report["ok"], true);
    assert_eq!(report["promises"].as_array().unwrap().len(), 5);
    assert!(report["sync_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(report["journal_mode"], "wal");
    assert_eq!(fs::read_dir(world.path(".")).unwrap().count(), 0);
}

#[test]
fn the_scratch_database_has_the_journal_mode_of_the_configured_one() {
    let world = World::with_platform();
    world.write("elsewhere/empty", "");
    std::os::unix::fs::symlink(world.default_database(), world.path("elsewhere/link.db")).unwrap();
    for journal_mode in ["wal", "delete"] {
        world.sql(&format!("PRAGMA journal_mode = {journal_mode}"));
        for database in ["data/ports.db", "elsewhere/link.db"] {
            let ran = world.line(&format!("selftest --processes 2 --json --database {database}"));
            let report: Value = serde_json::from_str(ran.ok()).unwrap();
            assert_eq!((&report["ok"], &report["journal_mode"]), (&true.into(), &journal_mode.into()), "{database}");
        }
    }
}

#[test]
fn what_the_environment_names_is_not_touched() {
    let world = World::with_platform();
    let before = fs::read(world.default_database()).unwrap();
    let mut command = world.command();
    command.args(["selftest", "--processes", "2", "-q"]).env("MANAGE_PORTS_DATABASE", world.default_database());
    assert!(command.output().unwrap().status.success());
    assert_eq!(fs::read(world.default_database()).unwrap(), before);
}

#[test]
fn whatever_ends_it_nothing_is_left_behind() {
    for signal in ["INT", "TERM", "HUP"] {
        let world = World::with_platform();
        let child = world.start("selftest --processes 32");
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::read_dir(world.path("data")).unwrap().count() == 1 {
            assert!(Instant::now() < deadline, "no scratch folder");
        }
        send(signal, &child);
        finish(child).fails(130, &["error: interrupted"]);
        assert_eq!(fs::read_dir(world.path("data")).unwrap().count(), 1, "{signal}");
    }
}

#[test]
fn a_signal_that_the_caller_ignores_stays_ignored() {
    for signal in ["HUP", "INT", "TERM"] {
        let world = World::with_platform();
        let mut shell = Command::new("sh");
        let line = format!("trap '' {signal}; exec {} selftest --processes 8", env!("CARGO_BIN_EXE_manage-ports"));
        shell.args(["-c", &line]).current_dir(world.path("")).env_clear().stdin(Stdio::null());
        let child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while fs::read_dir(world.path("data")).unwrap().count() == 1 {
            assert!(Instant::now() < deadline, "no scratch folder");
        }
        send(signal, &child);
        let ran = finish(child);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{signal}: {ran:?}");
    }
}

#[test]
fn a_thousand_processes_need_few_descriptors() {
    let world = World::with_platform();
    let line = format!("ulimit -n 64; exec {} selftest --processes 200", env!("CARGO_BIN_EXE_manage-ports"));
    let mut shell = Command::new("sh");
    let ran = Ran::of(shell.args(["-c", &line]).current_dir(world.path("")).env_clear());
    assert!(ran.ok().lines().take(4).all(|line| line.starts_with("✓ 200 processes ")), "{ran:?}");
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error() {
    let world = World::new();
    world.line("selftest --database /proc/ports.db").fails(3, &["no room for a scratch folder in /proc", "hint:"]);
    let mut command = world.command();
    Ran::of(command.arg("selftest").env("TMPDIR", "/proc/none")).fails(1, &["temporary files", "/proc/none"]);
    assert_eq!(fs::read_dir(world.path(".")).unwrap().count(), 0);
    world.line("selftest --processes 0").fails(2, &["0"]);
    world.line("selftest --format csv").fails(2, &["human, json"]);
}
