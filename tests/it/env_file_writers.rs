//! `allocate --env-file` beside other writers of the same file, and killed in the middle of it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::fixture::{Ran, World, not_run};

/// So many lines another writer adds at most for each call, so that the file does not grow without bounds.
const LINES: usize = 40;

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world
}

/// Runs it for many apps, which all have one file, while another program adds lines to the file as fast as
/// it can with `add`. Returns the number of lines that were added.
fn beside_a_writer(world: &World, calls: usize, add: impl Fn(&Path, usize) + Sync) -> usize {
    let path = world.path(".env");
    let done = AtomicUsize::new(0);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut lines = 0;
            while done.load(Ordering::Relaxed) < calls {
                if lines < (done.load(Ordering::Relaxed) + 1) * LINES {
                    add(&path, lines);
                    lines += 1;
                }
                thread::yield_now();
            }
            lines
        });
        for app_num in 1..=calls {
            let ran = world.line(&format!("allocate m {app_num} --env-file .env -q"));
            done.store(if ran.code == Some(0) { app_num } else { calls }, Ordering::Relaxed);
            ran.ok();
        }
        writer.join().unwrap()
    })
}

/// Checks that each line is there once, and each of the ports. A line may stand behind a later one: its
/// writer had opened the old file.
fn all_lines_are_there(path: &Path, lines: usize) {
    let content = fs::read_to_string(path).unwrap();
    let (ours, mut theirs): (Vec<_>, Vec<_>) = content.lines().partition(|line| line.contains("_PORT="));
    let mut expected: Vec<_> = (0..lines).map(|line| format!("LINE_{line}=x")).collect();
    theirs.sort_unstable();
    expected.sort_unstable();
    assert_eq!(theirs, expected);
    assert_eq!(ours.len(), 2, "{ours:?}");
}

fn append(path: &Path, line: usize) {
    let mut file = OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(format!("LINE_{line}=x\n").as_bytes()).unwrap();
}

#[test]
fn no_line_that_another_program_appends_is_lost() {
    let world = world();
    let path = world.write(".env", "");
    let lines = beside_a_writer(&world, 60, append);
    all_lines_are_there(&path, lines);
}

#[test]
fn no_line_is_lost_from_a_file_with_two_names() {
    let world = world();
    let path = world.write(".env", "");
    fs::hard_link(&path, world.path("other")).unwrap();
    let lines = beside_a_writer(&world, 60, append);
    all_lines_are_there(&path, lines);
    assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
}

#[test]
fn a_file_that_another_program_replaces_is_not_overwritten() {
    let world = world();
    let path = world.write(".env", "");
    // It writes what it read and its line to another file, and renames that, as `sed -i` does: that may lose
    // ports, and must lose no line.
    let replace = |path: &Path, line: usize| {
        let content = format!("{}LINE_{line}=x\n", fs::read_to_string(path).unwrap());
        fs::write(world.path("edited"), content).unwrap();
        fs::rename(world.path("edited"), path).unwrap();
    };
    let lines = beside_a_writer(&world, 40, replace);
    let content = fs::read_to_string(path).unwrap();
    let theirs: Vec<_> = content.lines().filter(|line| line.starts_with("LINE_")).collect();
    let expected: Vec<_> = (0..lines).map(|line| format!("LINE_{line}=x")).collect();
    assert_eq!(theirs, expected);
}

fn has_strace(test: &str) -> bool {
    let has_it = Command::new("strace").arg("-V").output().is_ok();
    if !has_it {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run(&format!("{test}: no strace"));
    }
    has_it
}

/// Holds the program where the new file is about to take the old one's place, and calls `meanwhile`; returns
/// whether it ran.
fn in_the_moment_of_the_replacement(world: &World, test: &str, meanwhile: impl Fn(&Path)) -> bool {
    if !has_strace(test) {
        return false;
    }
    let mut traced = Command::new("timeout");
    traced.current_dir(world.path("")).env_clear().args(["-s", "KILL", "60", "strace"]);
    traced.args(["-f", "-o", "/dev/null", "-e", "trace=renameat2"]);
    traced.args(["-e", "inject=renameat2:delay_enter=1000000"]).arg(env!("CARGO_BIN_EXE_manage-ports"));
    let mut child = traced.args("allocate m 1 --env-file .env -q".split(' ')).stdout(Stdio::null()).spawn().unwrap();
    while !world.path(NEW_FILE).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a replacement");
        thread::yield_now();
    }
    meanwhile(&world.path(".env"));
    assert!(child.wait().unwrap().success());
    assert_eq!(names(&world.path("")).iter().filter(|name| name.starts_with(".env")).count(), 1);
    true
}

#[test]
fn a_folder_that_cannot_be_synced_is_an_error() {
    if !has_strace("a folder that cannot be synced") {
        return;
    }
    let world = world();
    fs::create_dir(world.path("sub")).unwrap();
    // The first call makes the file, the second one replaces it.
    for line in ["allocate m 1 --env-file sub/.env", "allocate m 2 --env-file sub/.env"] {
        let mut traced = Command::new("strace");
        traced.current_dir(world.path("")).env_clear().args(["-f", "-o", "/dev/null", "-P"]).arg(world.path("sub"));
        traced.args(["-e", "inject=fsync:error=EIO", env!("CARGO_BIN_EXE_manage-ports")]);
        let ran = Ran::of(traced.args(line.split(' ')));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{ran:?}");
        assert!(ran.stderr.contains("its folder could not be synced: Input/output error"), "{ran:?}");
        world.line(line).ok();
    }
}

#[test]
fn what_is_added_in_the_moment_of_the_replacement_is_kept() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    let ports = "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n";
    for (added, expected) in [
        ("LINE=1\n", format!("A=1\n{ports}LINE=1\n")),
        // What is added may set other ports.
        ("BACKEND_PORT=9\n", format!("A=1\n{ports}BACKEND_PORT=5001\n")),
    ] {
        let path = world.write(".env", "A=1\n");
        let add =
            |path: &Path| OpenOptions::new().append(true).open(path).unwrap().write_all(added.as_bytes()).unwrap();
        if !in_the_moment_of_the_replacement(&world, "what_is_added_in_the_moment_of_the_replacement_is_kept", add) {
            return;
        }
        assert_eq!(fs::read_to_string(path).unwrap(), expected);
    }
}

#[test]
fn a_file_that_is_rewritten_or_replaced_in_the_moment_of_the_replacement_is_kept() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    let path = world.write(".env", "A=1\n");
    let rewrite = |path: &Path| fs::write(path, "B=2\n").unwrap();
    let replace = |path: &Path| {
        fs::write(world.path("edited"), "C=3\n").unwrap();
        fs::rename(world.path("edited"), path).unwrap();
    };
    let test = "a_file_that_is_rewritten_or_replaced_in_the_moment_of_the_replacement_is_kept";
    let check = |other: &dyn Fn(&Path), line: &str| {
        fs::write(&path, "A=1\n").unwrap();
        if in_the_moment_of_the_replacement(&world, test, other) {
            let expected = format!("{line}\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
            assert_eq!(fs::read_to_string(&path).unwrap(), expected);
        }
    };
    // The second one takes the place of our new file, which is gone then.
    let replace_twice = |path: &Path| {
        replace(path);
        while !fs::read_to_string(path).unwrap().contains("_PORT=") {
            thread::yield_now();
        }
        fs::write(world.path("edited"), "D=4\n").unwrap();
        fs::rename(world.path("edited"), path).unwrap();
    };
    check(&rewrite, "B=2");
    check(&replace, "C=3");
    check(&replace_twice, "D=4");
}

#[test]
fn several_calls_for_one_file_do_not_lose_each_others_ports() {
    let world = world();
    let path = world.write(".env", "A=1\n");
    world.line("allocate m 1-24 -q").ok();
    thread::scope(|scope| {
        for app_num in 1..=24 {
            let world = &world;
            // On a busy machine each of them waits for those before it.
            let line = format!("allocate m {app_num} --env-file .env -q --timeout 10m");
            scope.spawn(move || world.line(&line).ok().to_owned());
        }
    });
    let content = fs::read_to_string(&path).unwrap();
    let backend: u32 = content.lines().find_map(|line| line.strip_prefix("BACKEND_PORT=")).unwrap().parse().unwrap();
    assert_eq!(content, format!("A=1\nBACKEND_PORT={backend}\nFRONTEND_PORT={}\n", backend + 3000));
    assert_eq!(fs::read_dir(world.path("")).unwrap().filter(|entry| is_env(entry.as_ref().unwrap())).count(), 1);
}

fn is_env(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_string_lossy().starts_with(".env")
}

#[test]
fn a_lock_that_another_program_keeps_is_waited_for_as_long_as_timeout_says() {
    let world = world();
    world.line("allocate m 1 -q").ok();
    let path = world.write(".env", "A=1\n");
    let file = fs::File::open(&path).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let ran = world.line("allocate m 1 --env-file .env --timeout 50ms");
    ran.fails(1, &["env file .env", "another process has it locked: waited 0.1 s", "m/app1 has its ports"]);
    assert_eq!(fs::read_to_string(&path).unwrap(), "A=1\n");
    drop(file);
    world.line("allocate m 1 --env-file .env -q").ok();
}

/// The system calls that change anything of a file.
const CALLS: [&str; 12] = [
    "write",
    "pwrite64",
    "ftruncate",
    "fallocate",
    "fsync",
    "fchmod",
    "fchown",
    "fsetxattr",
    "linkat",
    "renameat2",
    "unlink",
    "flock",
];

const NEW_FILE: &str = ".env.manage-ports-new";

/// Kills it at each of its system calls that change a file, and calls `look` after each kill. The last
/// call of each kind is not killed.
fn killed_at_each_call(world: &World, test: &str, prepare: impl Fn(), look: impl Fn(&str)) {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run(&format!("{test}: no strace"));
        return;
    }
    world.line("allocate m 1 -q").ok();
    for call in CALLS {
        for nth in 1.. {
            prepare();
            let mut traced = Command::new("strace");
            traced.current_dir(world.path("")).env_clear();
            traced.args(["-f", "-o", "/dev/null", "-e", &format!("trace={call}")]);
            traced.args(["-e", &format!("inject={call}:signal=KILL:when={nth}")]);
            traced.arg(env!("CARGO_BIN_EXE_manage-ports")).args("allocate m 1 --env-file app/.env".split(' '));
            let ran = Ran::of(&mut traced);
            look(&format!("{call} {nth}"));
            if ran.code == Some(0) {
                break;
            }
        }
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn killed_at_any_moment_it_leaves_the_old_file_or_the_new_one() {
    let world = world();
    let old = "A=1\nBACKEND_PORT=1\nFRONTEND_PORT=2\nB=2\n".repeat(500);
    let new = old.replace("PORT=1\n", "PORT=5001\n").replace("PORT=2\n", "PORT=8001\n");
    let folder = world.path("app");
    let seen = [const { AtomicBool::new(false) }; 3];
    let prepare = || {
        let _ = fs::remove_file(folder.join(".env"));
        world.write("app/.env", &old);
        fs::set_permissions(folder.join(".env"), PermissionsExt::from_mode(0o604)).unwrap();
    };
    killed_at_each_call(&world, "killed_at_any_moment_it_leaves_the_old_file_or_the_new_one", prepare, |at| {
        let content = fs::read_to_string(folder.join(".env")).unwrap();
        assert!(content == new || content == old, "{at}: {content:.200}");
        seen[usize::from(content == new)].store(true, Ordering::Relaxed);
        if names(&folder) == [".env"] {
            return;
        }
        // A whole copy, with the rights of the file; the next call removes it, whether or not it has to
        // write.
        assert_eq!(names(&folder), [".env", NEW_FILE], "{at}");
        seen[2].store(true, Ordering::Relaxed);
        let left = folder.join(NEW_FILE);
        let content = fs::read_to_string(&left).unwrap();
        assert!(content == new || content == old, "{at}: {content:.200}");
        assert_eq!(fs::metadata(left).unwrap().mode(), fs::metadata(folder.join(".env")).unwrap().mode());
        world.line("allocate m 1 --env-file app/.env -q").ok();
        assert_eq!(names(&folder), [".env"], "{at}");
        assert_eq!(fs::read_to_string(folder.join(".env")).unwrap(), new);
    });
    assert!(seen.iter().all(|seen| seen.load(Ordering::Relaxed)), "old, new, and a copy beside it: {seen:?}");
}

#[test]
fn killed_in_the_middle_of_a_change_in_place_it_leaves_no_mixture() {
    let world = world();
    let folder = world.path("app");
    for (old, new) in [
        ("A=1\n", "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n"),
        ("BACKEND_PORT=6001\nA=1\nFRONTEND_PORT=9001\n", "BACKEND_PORT=5001\nA=1\nFRONTEND_PORT=8001\n"),
        ("BACKEND_PORT=1\nFRONTEND_PORT=2\nA=1", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\nA=1"),
        ("BACKEND_PORT=50010\nFRONTEND_PORT=8001\nA=1\n", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\nA=1\n"),
    ] {
        let prepare = || {
            let _ = fs::remove_dir_all(&folder);
            let path = world.write("app/.env", old);
            fs::hard_link(path, folder.join("other")).unwrap();
        };
        killed_at_each_call(&world, "killed_in_the_middle_of_a_change_in_place", prepare, |at| {
            let content = fs::read_to_string(folder.join(".env")).unwrap();
            let is_shorter = new.len() < old.len();
            let is_filled = is_shorter && content.len() == old.len() && content.trim_end() == new.trim_end();
            assert!(content == old || content == new || is_filled, "{at}: {content}");
            assert_eq!(names(&folder), [".env", "other"], "{at}");
            assert_eq!(fs::read_to_string(folder.join("other")).unwrap(), content);
        });
        assert_eq!(fs::read_to_string(folder.join(".env")).unwrap(), new);
    }
}

#[test]
fn killed_while_it_makes_a_file_it_leaves_none_or_the_whole_one() {
    let world = world();
    let folder = world.path("app");
    let prepare = || {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir(&folder).unwrap();
    };
    killed_at_each_call(&world, "killed_while_it_makes_a_file_it_leaves_none_or_the_whole_one", prepare, |at| {
        if names(&folder).is_empty() {
            return;
        }
        assert_eq!(names(&folder), [".env"], "{at}");
        let content = fs::read_to_string(folder.join(".env")).unwrap();
        assert_eq!(content, "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n", "{at}");
    });
}
