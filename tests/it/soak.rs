//! A few seconds of `scripts/soak`, which tells what it found; longer runs are started by hand.

use std::path::Path;
use std::process::Command;

use super::fixture::Ran;
use super::server::Server;

/// Runs the script with this binary on a kind of database.
#[track_caller]
fn soak(kind: &str) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/soak");
    let mut command = Command::new("python3");
    command.arg(script).args(["0.05", kind]).env("MANAGE_PORTS_BIN", env!("CARGO_BIN_EXE_manage-ports"));
    let ran = Ran::of(&mut command);
    assert_eq!(ran.code, Some(0), "{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("promises broken     0\n"), "{}", ran.stdout);
    let answers = ran.stdout.lines().find_map(|line| line.strip_prefix("answers "));
    let answers = answers.and_then(|line| line.split_whitespace().next()?.parse::<u32>().ok());
    assert!(answers.is_some_and(|answers| answers > 0), "{}", ran.stdout);
}

#[test]
fn a_short_soak_breaks_no_promise_on_sqlite() {
    soak("sqlite");
}

#[test]
fn a_short_soak_breaks_no_promise_on_the_platforms_database() {
    soak("platform");
}

#[test]
fn a_short_soak_breaks_no_promise_on_postgresql() {
    if Server::shared("a short soak on PostgreSQL").is_some() {
        soak("postgres");
    }
}
