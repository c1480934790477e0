//! `allocate --env-file`: two lines set and everything else as it was, whatever stops the program.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use rusqlite::{Connection, TransactionBehavior};

use super::fixture::{SCHEMA, World, not_run};

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world
}

#[test]
fn both_variables_are_set_and_all_else_stays() {
    let world = world();
    let path = world.write("app/.env", "# ports\r\nBACKEND_PORT=1\r\nSECRET='a b'\r\nX=\u{e9}");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let set = || {
        let ran = world.line("allocate --model m --app 1 --env-file app/.env -q");
        assert!(ran.ok().starts_with("m/app1: backend 5001, frontend 8001"), "{ran:?}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        (fs::read_to_string(&path).unwrap(), mode)
    };
    let expected = "# ports\r\nBACKEND_PORT=5001\r\nSECRET='a b'\r\nX=\u{e9}\r\nFRONTEND_PORT=8001\r\n";
    assert_eq!(set(), (expected.to_owned(), 0o640));
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(set(), (expected.to_owned(), 0o640));
    assert_eq!(modified(), before, "a file that is right already is left alone");
    assert_eq!(fs::read_dir(world.path("app")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_new_file_is_made_as_any_other_and_a_link_stays_one() {
    let world = world();
    world.line("allocate --model m --app 1 --env-file new.env -q").ok();
    assert_eq!(fs::read_to_string(world.path("new.env")).unwrap(), "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("new.env"), mode("manage-ports.toml"));

    world.write("shared/real.env", "A=1\n");
    symlink("shared/real.env", world.path("link.env")).unwrap();
    world.line("allocate --model m --app 1 --env-file link.env -q").ok();
    assert!(world.path("link.env").is_symlink());
    assert_eq!(
        fs::read_to_string(world.path("shared/real.env")).unwrap(),
        "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n"
    );
}

#[test]
fn a_file_that_cannot_be_written_costs_no_ports() {
    let world = world();
    fs::create_dir(world.path("folder")).unwrap();
    symlink("nowhere", world.path("broken")).unwrap();
    for (file, why) in
        [("folder", "is not a regular file"), ("no/such/.env", "no/such does not exist"), ("broken", "broken")]
    {
        world.line(&format!("allocate --model m --app 1 --env-file {file}")).fails(1, &[file, why]);
    }
    world.line("allocate --model m --app 1-2 --env-file .env").fails(2, &["--env-file holds the ports of one app"]);
    assert!(!world.path("data").exists());
    world.write("old.env", "BACKEND_PORT=1\n");
    world.write("manage-ports.toml", "[ports]\nprobe = false\nmax = 8001\nexclude = [8001]\n");
    world.line("allocate --model m --app 1 --env-file old.env").fails(4, &["no free pair"]);
    assert_eq!(fs::read_to_string(world.path("old.env")).unwrap(), "BACKEND_PORT=1\n");
}

#[test]
fn a_folder_in_which_it_cannot_be_made_costs_no_ports() {
    let world = world();
    world.database(SCHEMA, &[]);
    world.write("ours/other", "");
    let Some(ran) = world.line_as_nobody("allocate --model m --app 1 --env-file ours/.env") else { return };
    ran.fails(1, &["ours/.env", "the folder ours cannot be written to"]);
    assert_eq!(world.rows(), []);
    // One that is as it is to be need not be replaced.
    world.write("ours/.env", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    world.line_as_nobody("allocate --model m --app 1 --env-file ours/.env --quiet").unwrap().ok();
}

#[test]
fn what_others_write_to_the_file_while_it_waits_stays() {
    let world = world();
    world.database(SCHEMA, &[]);
    let path = world.write(".env", "A=1\n");
    let mut other = Connection::open(world.default_database()).unwrap();
    let transaction = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut waiting = world.start("allocate --model m --app 1 --env-file .env -v");
    let mut talk = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(talk.any(|line| line.unwrap().contains("waiting")));
    fs::write(&path, "A=1\nB=2\n").unwrap();
    transaction.commit().unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(fs::read_to_string(path).unwrap(), "A=1\nB=2\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
}

#[test]
fn a_quote_that_is_not_closed_does_not_make_the_file_grow() {
    let world = world();
    let path = world.write(".env", "A=\"x\nBACKEND_PORT=1\n");
    for _ in 0..2 {
        world.line("allocate --model m --app 1 --env-file .env -q").ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=\"x\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    }
}

/// Kills it at each of its first system calls of every kind that touches a file, and looks at the file.
#[test]
fn killed_at_any_moment_it_leaves_the_old_file_or_the_new_one() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("killed_at_any_moment_it_leaves_the_old_file_or_the_new_one: no strace");
        return;
    }
    let world = world();
    let old = "A=1\nBACKEND_PORT=1\nFRONTEND_PORT=2\nB=2\n".repeat(5000);
    let new = old.replace("PORT=1\n", "PORT=5001\n").replace("PORT=2\n", "PORT=8001\n");
    world.line("allocate --model m --app 1 -q").ok();
    let mut seen = [0, 0];
    for call in ["openat", "write", "fsync", "fchmod", "rename", "close"] {
        for nth in 1.. {
            let path = world.write("app/.env", &old);
            let mut traced = Command::new("strace");
            traced.current_dir(world.path("")).env_clear();
            traced.args(["-f", "-o", "/dev/null", "-e", &format!("inject={call}:signal=KILL:when={nth}")]);
            traced.arg(env!("CARGO_BIN_EXE_manage-ports"));
            let output =
                traced.args(["allocate", "--model", "m", "--app", "1", "--env-file", "app/.env"]).output().unwrap();
            let content = fs::read_to_string(path).unwrap();
            let is_new = content == new;
            assert!(is_new || content == old, "{call} {nth}: {content:.200}");
            if output.status.success() {
                assert!(is_new, "{call} {nth}");
                break;
            }
            seen[usize::from(is_new)] += 1;
        }
    }
    assert!(seen[0] > 0 && seen[1] > 0, "killed before and after the file was replaced: {seen:?}");
}
