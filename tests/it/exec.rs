//! `exec`: the command itself in place of the program, with its app's ports.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::fixture::{Ran, World, hearing_interrupts, row, send};

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world
}

/// The binary that becomes this script of the shell.
fn script(world: &World, script: &str) -> Command {
    let mut command = world.command();
    command.args(["-q", "exec", "--model", "m", "--app", "1", "--", "/bin/sh", "-c", script]);
    command
}

#[test]
fn the_command_finds_its_ports_and_keeps_its_status_and_output() {
    let world = world();
    let script = |text: &str| Ran::of(script(&world, text).env("KEPT", "yes").env("BACKEND_PORT", "1"));
    script("echo $BACKEND_PORT $FRONTEND_PORT $KEPT; echo talk >&2; exit 7").is(7, "5001 8001 yes\n", "talk\n");
    script("exit 0").is(0, "", "");
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
    let arguments = ["-q", "exec", "--model", "m", "--app", "1", "--", "/bin/echo", "--json", "--", "-v", ""];
    world.run(arguments).is(0, "--json -- -v \n", "");
}

#[test]
fn it_is_the_same_process_so_a_signal_is_its_own() {
    use std::os::unix::process::ExitStatusExt;
    let world = world();
    for (signal, number) in [("TERM", 15), ("INT", 2)] {
        let mut child = hearing_interrupts(&script(&world, "echo $$; read line"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut pid = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        assert_eq!(pid.trim(), child.id().to_string());
        send(signal, &child);
        assert_eq!(child.wait().unwrap().signal(), Some(number), "{signal}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn an_interrupt_that_was_ignored_stays_ignored() {
    let world = world();
    for (trap, is_ignored) in [("trap '' INT; ", true), ("", false)] {
        let exec = "-q exec --model m --app 1 -- grep SigIgn /proc/self/status";
        let line = format!("{trap}exec {} {exec}", env!("CARGO_BIN_EXE_manage-ports"));
        let mut shell = Command::new("/bin/sh");
        let ran = Ran::of(&mut hearing_interrupts(shell.args(["-c", &line]).current_dir(world.path(""))));
        let set = u64::from_str_radix(ran.ok().trim_start_matches("SigIgn:").trim(), 16).unwrap();
        assert_eq!(set & 0b10 != 0, is_ignored, "{trap}{ran:?}");
    }
}

#[test]
fn the_answer_is_durable_and_the_database_free_when_the_command_runs() {
    let world = world();
    let ran =
        Ran::of(&mut script(&world, &format!("{} allocate --model m --app 2", env!("CARGO_BIN_EXE_manage-ports"))));
    ran.is(0, "m/app2: backend 5003, frontend 8003\n", "");
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn what_cannot_run_gets_no_ports() {
    let world = world();
    let exec = |command: &[&str]| world.run([&["exec", "--model", "m", "--app", "1"], command].concat());
    exec(&["--", "no-such-program"]).fails(127, &["'no-such-program' was not found"]);
    exec(&["--", "./no-such-program"]).fails(127, &["was not found"]);
    exec(&["--", "/"]).fails(126, &["'/' cannot be executed"]);
    exec(&["--", "./manage-ports.toml"]).fails(126, &["'./manage-ports.toml' cannot be executed", "ermission denied"]);
    exec(&["--"]).fails(2, &["COMMAND"]);
    exec(&["/bin/true"]).fails(2, &["/bin/true"]);
    world.line("exec --model m --app 1-2 -- /bin/true").fails(2, &["'1-2' names several apps"]);
    world.line("exec --model m --app 0 -- /bin/true").fails(2, &["'0' is not an app number"]);
    world.line("exec --model .. --app 1 -- /bin/true").fails(2, &["is not a model"]);
    assert!(!world.path("data").exists());
    let message = world.line("exec --json --model m --app 1 -- no-such-program").fails_as_json(127, "usage");
    assert!(message.contains("no-such-program"), "{message}");
}

#[test]
fn without_ports_the_command_does_not_run() {
    let world = world();
    world.write("manage-ports.toml", "[ports]\nprobe = false\nmax = 8001\nexclude = [8001]\n");
    Ran::of(&mut script(&world, "echo ran")).fails(4, &["no free pair"]);
}
