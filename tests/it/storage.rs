//! What a database file stands on: one name, shared file systems, damage, and who may write it.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rusqlite::Connection;
use serde_json::Value;

use super::fixture::{Ran, World, not_run};
use super::storm::CONFIG;

/// Lines that write, and the answer is no other than a refusal.
const WRITERS: [&str; 5] = [
    "allocate --model new --app 1",
    "reserve --model m --app 1 --for 1h",
    "release m 1",
    "cleanup --min-age 0s --include-listening",
    "exec --model new --app 1 -- true",
];

/// A world with two apps and an orphan among them.
fn two() -> World {
    let world = World::new();
    world.write("manage-ports.toml", CONFIG);
    world.line("allocate --model m --app 1-2 -q").ok();
    world.apps(["m/app1"]);
    world
}

/// Runs the binary in a mount namespace of its own, after these mounts; a line that says so where that may not be.
pub fn mounted(world: &World, mounts: &str, line: &str) -> Option<Ran> {
    in_namespace(world, &format!("{mounts} && shift 0 && exec \"$0\" {line}"))
}

/// Runs a script with the binary as `$0` in a mount namespace of its own; a line that says so where that may not be.
pub fn in_namespace(world: &World, script: &str) -> Option<Ran> {
    let mut unshare = Command::new("unshare");
    unshare.args(["-m", "--propagation", "private", "sh", "-c", script, env!("CARGO_BIN_EXE_manage-ports")]);
    unshare.current_dir(world.path("")).env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let ran = Ran::from(unshare.output().ok()?);
    if ran.stderr.contains("not permitted") || ran.stderr.contains("ermission denied") {
        not_run(&format!("a mount namespace: {}", ran.stderr));
        return None;
    }
    Some(ran)
}

/// Runs the binary on a file system whose type `statfs(2)` tells as this number, in hexadecimal bytes.
fn on_file_system(world: &World, number: &str, line: &str) -> Option<Ran> {
    if Command::new("strace").arg("-V").output().is_err() {
        not_run("shared file systems: no strace");
        return None;
    }
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=statfs", "-e"]);
    strace.arg(format!("inject=statfs:poke_exit=@arg2={number}00000000"));
    strace.arg(env!("CARGO_BIN_EXE_manage-ports")).args(line.split_whitespace());
    strace.current_dir(world.path("")).env_clear().env("PATH", "/usr/bin:/bin");
    Some(strace.output().unwrap().into())
}

const FUSE: &str = "46557365";
const NFS: &str = "69690000";

#[test]
fn a_file_with_a_second_hard_link_is_read_with_a_warning_and_not_written() {
    let world = two();
    fs::hard_link(world.default_database(), world.path("h.db")).unwrap();
    let before = fs::read(world.default_database()).unwrap();
    for name in ["data/ports.db", "h.db"] {
        for line in WRITERS {
            let ran = world.line(&format!("-q --database {name} {line}"));
            ran.fails(3, &[name, "hard link", "symbolic link"]);
        }
        for line in ["list --format plain", "check", "allocate --model m --app 1-2"] {
            let ran = world.line(&format!("{line} --database {name}"));
            assert_eq!(ran.code, Some(0), "{ran:?}");
            assert!(ran.stderr.contains("warning") && ran.stderr.contains("hard link"), "{ran:?}");
        }
        assert!(fs::read(world.default_database()).unwrap() == before, "{name}");
    }
    fs::remove_file(world.path("h.db")).unwrap();
    world.line("allocate --model new --app 1 -q").ok();
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn a_link_made_in_between_is_seen_by_the_next_write() {
    let world = two();
    symlink("data/ports.db", world.path("soft.db")).unwrap();
    world.line("allocate --model new --app 1 -q --database soft.db").ok();
    fs::hard_link(world.default_database(), world.path("h.db")).unwrap();
    world.line("allocate --model new --app 2 -q --database soft.db").fails(3, &["soft.db", "hard link"]);
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn an_empty_file_with_a_second_name_is_not_made_a_database() {
    let world = World::new();
    world.write("data/ports.db", "");
    fs::hard_link(world.default_database(), world.path("h.db")).unwrap();
    world.line("allocate --model new --app 1 -q").fails(3, &["hard link"]);
    assert_eq!(fs::metadata(world.path("h.db")).unwrap().len(), 0);
}

#[test]
fn a_file_that_is_a_mount_point_is_read_with_a_warning_and_not_written() {
    let world = two();
    fs::create_dir(world.path("h")).unwrap();
    world.write("h/ports.db", "");
    let mount = "mount --bind data/ports.db h/ports.db";
    for line in WRITERS {
        let Some(ran) = mounted(&world, mount, &format!("-q --database h/ports.db {line}")) else { return };
        ran.fails(3, &["h/ports.db", "mount point", "mount the folder"]);
    }
    let ran = mounted(&world, mount, "list --format plain --database h/ports.db").unwrap();
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(0), 2), "{ran:?}");
    assert!(ran.stderr.contains("warning") && ran.stderr.contains("mount point"), "{ran:?}");
    // An empty file that is a mount point is not made a database either.
    world.write("empty.db", "");
    let ran =
        mounted(&world, "mount --bind empty.db h/ports.db", "allocate --model a --app 1 -q --database h/ports.db");
    ran.unwrap().fails(3, &["mount point"]);
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn a_folder_that_is_a_mount_point_works() {
    let world = two();
    fs::create_dir(world.path("h")).unwrap();
    let line = "allocate --model new --app 1 -q --database h/ports.db";
    let Some(ran) = mounted(&world, "mount --bind data h", line) else { return };
    ran.ok();
    assert_eq!(world.rows().len(), 3);
    assert_eq!(fs::read_dir(world.path("h")).unwrap().count(), 0);
}

#[test]
fn a_new_database_on_a_shared_file_system_has_a_rollback_journal() {
    for number in [FUSE, NFS] {
        let world = World::new();
        let Some(ran) = on_file_system(&world, number, "allocate --model m --app 1 -q --no-probe") else { return };
        ran.ok();
        assert_eq!(fs::read(world.default_database()).unwrap()[18..20], [1, 1]);
        let names: Vec<_> = fs::read_dir(world.path("data")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
    }
}

#[test]
fn a_database_on_a_shared_file_system_works_as_it_is_and_is_warned_of() {
    for (number, name) in [(FUSE, "FUSE"), (NFS, "NFS")] {
        let world = two();
        let line = "allocate --model m --app 3 -q --no-probe --timeout 5s";
        let Some(ran) = on_file_system(&world, number, line) else { return };
        ran.ok();
        assert_eq!(fs::read(world.default_database()).unwrap()[18..20], [2, 2], "it kept its journal mode");
        assert_eq!(fs::metadata(world.path("data/ports.db-wal")).map_or(0, |log| log.len()), 0);

        world.apps(["m/app2", "m/app3"]);
        let ran = on_file_system(&world, number, "check --json").unwrap();
        let report: Value = serde_json::from_str(ran.ok()).unwrap();
        let warnings = report["warnings"].as_array().unwrap();
        let found = warnings.iter().find(|found| found["kind"] == "weak_storage").unwrap_or_else(|| panic!("{ran:?}"));
        assert!(found["message"].as_str().unwrap().contains(name), "{found}");
        assert_eq!(on_file_system(&world, number, "check --strict").unwrap().code, Some(1));

        let ran = on_file_system(&world, number, "selftest --processes 2 -q").unwrap();
        assert!(ran.ok().contains("journal mode wal") && ran.ok().contains("PostgreSQL"), "{ran:?}");
    }
}

/// The page on which an index of the platform's database begins.
fn root_of(world: &World, index: &str) -> usize {
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
    let root: i64 =
        Connection::open(world.default_database()).unwrap().query_row(sql, [index], |row| row.get(0)).unwrap();
    root.try_into().unwrap()
}

/// Leaves an entry without its row in an index.
fn leave_an_entry(world: &World) {
    let root = root_of(world, "ix_port_configurations_backend_port");
    let name = "ix_port_configurations_backend_port";
    world.sql(&format!("PRAGMA writable_schema = ON; DELETE FROM sqlite_schema WHERE name = '{name}'"));
    world.sql("DELETE FROM port_configurations WHERE id = 400");
    world.sql(&format!(
        "PRAGMA writable_schema = ON; INSERT INTO sqlite_schema VALUES ('index', '{name}', 'port_configurations', {root},
         'CREATE UNIQUE INDEX {name} ON port_configurations (backend_port)')"
    ));
}

/// Fills a page of the table with bytes that are no tree.
fn break_the_table(world: &World) {
    const PAGE: usize = 4096;
    let root = root_of(world, "port_configurations");
    let mut bytes = fs::read(world.default_database()).unwrap();
    // The first page of the tree names the others; the last four bytes of a cell's pointer begin with a page.
    let first = &bytes[(root - 1) * PAGE..root * PAGE];
    let cell = usize::from(u16::from_be_bytes([first[12 + 2 * 3], first[13 + 2 * 3]]));
    let leaf = u32::from_be_bytes(first[cell..cell + 4].try_into().unwrap()) as usize;
    bytes[(leaf - 1) * PAGE..leaf * PAGE].fill(0xff);
    fs::write(world.default_database(), bytes).unwrap();
}

/// Fills the first page of an index with bytes that are no tree.
fn break_a_page(world: &World) {
    const PAGE: usize = 4096;
    let root = root_of(world, "ix_port_configurations_is_available");
    let mut bytes = fs::read(world.default_database()).unwrap();
    bytes[(root - 1) * PAGE..root * PAGE].fill(0xff);
    fs::write(world.default_database(), bytes).unwrap();
}

#[test]
fn the_way_out_of_damage_saves_what_can_be_read_and_is_in_the_readme() {
    let world = World::with_platform();
    break_the_table(&world);
    let error: Value = serde_json::from_str(world.line("check --json").stderr.lines().last().unwrap()).unwrap();
    let way_out = error["error"]["hint"].as_str().unwrap().split('`').nth(1).unwrap();
    let readme = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(readme.replace("\\|", "|").contains(&format!("`{way_out}`")), "{way_out}");
    if Command::new("sqlite3").arg("-version").output().is_err() {
        return not_run("what a damaged database's hint says: no sqlite3");
    }
    let way_out = way_out.replace("DAMAGED.db", "data/ports.db");
    Command::new("sh").args(["-c", &way_out]).current_dir(world.path("")).output().unwrap();
    let saved = world.line("list --database NEW.db --format plain");
    let rows = saved.ok().lines().count();
    assert!((100..750).contains(&rows), "{rows}");
}

#[test]
fn check_finds_damage_that_no_other_command_meets() {
    for (damage, rows) in [(leave_an_entry as fn(&World), 749), (break_a_page, 750)] {
        let world = World::with_platform();
        assert_eq!(world.line("check").code, Some(0));
        damage(&world);
        let before = fs::read(world.default_database()).unwrap();
        assert_eq!(world.line("list --format plain").ok().lines().count(), rows);
        world.line("check").fails(3, &["data/ports.db", "damaged", ".dump"]);
        let message = world.line("check --json").fails_as_json(3, "database");
        assert!(message.contains("damaged"), "{message}");
        assert!(fs::read(world.default_database()).unwrap() == before);
    }
}

#[test]
fn the_way_out_of_damage_that_is_named_saves_the_rows() {
    if Command::new("sqlite3").arg("--version").output().is_err() {
        not_run("the way out of damage: no sqlite3");
        return;
    }
    for (damage, rows) in
        [(leave_an_entry as fn(&World), 749..750), (break_a_page, 750..751), (break_the_table, 500..750)]
    {
        let world = World::with_platform();
        damage(&world);
        let said = world.line("check").stderr;
        let way = said.split('`').nth(1).unwrap_or_else(|| panic!("{said}"));
        let way = way.replace("DAMAGED.db", "data/ports.db").replace("NEW.db", "new.db");
        assert!(Command::new("sh").args(["-c", &way]).current_dir(world.path("")).status().unwrap().success());
        assert!(rows.contains(&world.line("list --format plain --database new.db").ok().lines().count()));
        let ran = world.line("check --database new.db");
        assert!(ran.code == Some(0) && !ran.stdout.contains("unique index"), "{ran:?}");
    }
}

/// Runs a line under this umask.
fn with_umask(world: &World, umask: &str, line: &str) -> Ran {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("umask {umask}; exec \"$0\" {line}"), env!("CARGO_BIN_EXE_manage-ports")]);
    Ran::of(shell.current_dir(world.path("")).env_clear())
}

fn mode_of(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_new_database_has_the_mode_that_the_umask_allows_a_group() {
    for (umask, mode) in [("002", 0o664), ("022", 0o644), ("007", 0o660), ("077", 0o600)] {
        for is_empty in [false, true] {
            let world = World::new();
            if is_empty {
                fs::create_dir(world.path("data")).unwrap();
                with_umask(&world, umask, "list");
            }
            with_umask(&world, umask, "allocate --model m --app 1 --no-probe -q").ok();
            for name in ["ports.db", "ports.db-wal", "ports.db-shm", "ports.db-queue"] {
                assert_eq!(mode_of(&world.path("data").join(name)), mode, "{name} under {umask}");
            }
        }
    }
}

#[test]
fn a_colleague_of_the_group_allocates_too() {
    let world = World::new();
    if fs::metadata(world.path("")).unwrap().uid() != 0 {
        not_run("a colleague of the group: not root");
        return;
    }
    let script = |line: &str| format!("umask 002; exec \"$0\" {line}");
    let run = |user: u32, line: &str| {
        use std::os::unix::process::CommandExt;
        let mut shell = Command::new("sh");
        shell.args(["-c", &script(line), world.path("manage-ports").to_str().unwrap()]);
        shell.current_dir(world.path("")).env_clear().uid(user).gid(4000);
        Ran::of(&mut shell)
    };
    fs::set_permissions(world.path(""), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_manage-ports")).arg(world.path("")).status().unwrap().success());
    fs::create_dir(world.path("data")).unwrap();
    std::os::unix::fs::chown(world.path("data"), Some(4001), Some(4000)).unwrap();
    fs::set_permissions(world.path("data"), fs::Permissions::from_mode(0o2775)).unwrap();
    for (app_num, user) in [(1, 4001), (2, 4002), (3, 4001), (4, 4003)] {
        run(user, &format!("allocate --model m --app {app_num} --no-probe -q")).ok();
    }
    assert_eq!(world.rows().len(), 4);
    assert_eq!(fs::metadata(world.path("data/ports.db-wal")).map_or(0, |log| log.len()), 0);
}

#[test]
fn a_new_database_has_small_pages() {
    let world = two();
    let size: i64 = Connection::open(world.default_database())
        .unwrap()
        .query_row("PRAGMA page_size", [], |row| row.get(0))
        .unwrap();
    assert_eq!(size, 2048);
}

#[test]
fn no_link_beside_a_database_leads_to_a_file_that_is_made_or_changed() {
    for suffix in ["-queue", "-wal", "-shm", "-journal"] {
        for (target, content) in [("nowhere", None), ("victim", Some("mine"))] {
            let world = World::new();
            fs::create_dir(world.path("data")).unwrap();
            content.into_iter().for_each(|content| drop(world.write(target, content)));
            symlink(world.path(target), world.path(format!("data/ports.db{suffix}"))).unwrap();
            let ran = world.line("allocate m 1");
            assert!(ran.code == Some(0) || ran.code == Some(3), "{suffix}: {ran:?}");
            assert_eq!(fs::read_to_string(world.path(target)).ok().as_deref(), content, "{suffix}");
        }
    }
}
