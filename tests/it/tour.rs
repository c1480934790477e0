//! The commands and outputs in the README, run from first to last, and the pictures in `docs/`.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use anstyle::{Color, RgbColor};
use anstyle_svg::{Term, WIN10_CONSOLE};

use super::fixture::{Ran, SCHEMA, World, not_run, row, without_moments};
use super::generated::is_current;

/// Runs a script of bash in a network namespace of its own, where nothing listens, and in a process namespace
/// of its own, so that the program does not expect listeners outside. The script ends with the status of its
/// last command.
const NAMESPACES: [&str; 5] = ["unshare", "-n", "-p", "-f", "--mount-proc"];

/// Python that brings the loopback device up (`netdevice(7)`: `SIOCSIFFLAGS`, `IFF_UP`).
const LOOPBACK: &str = "import fcntl, socket, struct
fcntl.ioctl(socket.socket(), 0x8914, struct.pack('16sH22x', b'lo', 1))";

/// A fenced block of a Markdown file: the language behind its fence, and its lines.
struct Block {
    language: String,
    text: String,
}

fn read(file: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap()
}

fn blocks(markdown: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines = markdown.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let text =
                lines.by_ref().take_while(|line| *line != "```").fold(String::new(), |text, line| text + line + "\n");
            blocks.push(Block { language: language.to_owned(), text });
        }
    }
    blocks
}

/// Checks `prometheus.yml` with the rules that it names, where there is a `promtool`.
const CHECK_RULES: &str = concat!(
    "cp ",
    env!("CARGO_MANIFEST_DIR"),
    "/contrib/alerts.yml . && { ! command -v promtool || promtool check config prometheus.yml; } > out || cat out"
);

/// The steps of the tour: what bash runs, and what is then to be seen.
fn steps(blocks: &[Block]) -> Vec<(String, String)> {
    let mut steps: Vec<(String, String)> = Vec::new();
    for Block { language, text } in blocks {
        match language.as_str() {
            "console" => {
                for line in text.lines() {
                    match line.strip_prefix("$ ") {
                        Some(command) => steps.push((command.to_owned(), String::new())),
                        None => writeln!(steps.last_mut().unwrap().1, "{line}").unwrap(),
                    }
                }
            }
            "toml" => steps.push((format!("cat > ~/platform/manage-ports.toml <<'END'\n{text}END"), String::new())),
            "python" => {
                // What is printed stands behind the line that prints it.
                let printed = text.lines().filter_map(|line| Some(line.split_once("  # ")?.1.to_owned() + "\n"));
                steps.push((format!("python3 - <<'END'\n{text}END"), printed.collect()));
            }
            "yaml" => steps.push((format!("cat > prometheus.yml <<'END'\n{text}END\n{CHECK_RULES}"), String::new())),
            "sh" if text != "cargo test\n" => steps.push((format!("(set -eu\n{text}) || echo failed"), String::new())),
            _ => {}
        }
    }
    steps
}

/// A command in the namespaces, in which the program is on the `PATH`; none where that is not permitted.
fn in_namespaces(world: &World, arguments: &[&str]) -> Option<Command> {
    let works = Command::new(NAMESPACES[0]).args(&NAMESPACES[1..]).arg("true").output();
    if !works.is_ok_and(|ran| ran.status.success()) {
        not_run("the tour: namespaces of its own, as unshare(1) does not work or is not permitted");
        return None;
    }
    let program = Path::new(env!("CARGO_BIN_EXE_manage-ports"));
    let mut command = Command::new(NAMESPACES[0]);
    command.args(&NAMESPACES[1..]).args(["sh", "-c", r#"python3 -c "$0" && exec "$@""#, LOOPBACK]).args(arguments);
    command.current_dir(world.path("")).env_clear().env("HOME", world.path("")).stdin(Stdio::null());
    command.env("PYTHONPATH", world.path("site"));
    command.env("PATH", format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", program.parent().unwrap().display()));
    Some(command)
}

/// The text as everybody sees it: in the same home, and not in a container.
fn anywhere(text: &str, world: &World) -> String {
    let home = world.path("");
    let text = text.replace(home.to_str().unwrap().trim_end_matches('/'), "/home/you");
    let lines = text.lines().filter(|line| !line.starts_with("note: "));
    lines.fold(String::new(), |text, line| text + line + "\n")
}

/// A folder in which the tour begins: an empty one for apps, and the platform's.
fn home() -> World {
    let world = World::new();
    fs::create_dir(world.path("apps")).unwrap();
    world.database(SCHEMA, &[row("openai_gpt-4.1", 1, 5001, 8001), row("openai_gpt-4.1", 2, 5002, 8002)]);
    world.sql("PRAGMA journal_mode = wal");
    fs::create_dir_all(world.path("platform/instance")).unwrap();
    fs::rename(world.default_database(), world.path("platform/instance/app.db")).unwrap();
    world.write("platform/misc/port_config.json", "[]");
    for app_num in 1..=2 {
        fs::create_dir_all(world.path(format!("platform/generated/apps/openai_gpt-4.1/app{app_num}"))).unwrap();
    }
    // The Python module as `pip install --target` puts it.
    fs::create_dir_all(world.path("site/bin")).unwrap();
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/manage_ports");
    assert!(Command::new("cp").arg("-r").arg(module).arg(world.path("site")).status().unwrap().success());
    symlink(env!("CARGO_BIN_EXE_manage-ports"), world.path("site/bin/manage-ports")).unwrap();
    world
}

#[test]
fn every_command_of_the_readme_prints_what_stands_there() {
    let world = home();
    let steps = steps(&blocks(&read("README.md")));
    assert!(steps.len() > 12, "{} steps", steps.len());
    let script = steps.iter().map(|(command, _)| format!("printf '\\036'\n{command}\n")).collect::<String>();
    let Some(mut bash) = in_namespaces(&world, &["bash", "-c", &format!("exec 2>&1\n{script}")]) else { return };
    let ran = Ran::of(&mut bash);
    let seen: Vec<_> = ran.stdout.split('\u{1e}').skip(1).collect();
    assert_eq!(seen.len(), steps.len(), "{ran:?}");
    for ((command, expected), seen) in steps.iter().zip(seen) {
        assert_eq!(without_moments(&anywhere(seen, &world)), without_moments(expected), "$ {command}");
    }
}

/// The moment that rows in pictures carry.
const MADE: &str = "UPDATE port_configurations SET created_at = '2026-11-02 09:30:00.000000'";

/// A picture of a terminal of 80 columns in which these commands are typed.
fn picture(world: &World, commands: &[&str]) -> Option<String> {
    let typed = commands
        .iter()
        .map(|command| format!("printf '\\033[32m$\\033[0m %s\\n' '{}'\n{command}\n", command.replace('\'', r"'\''")));
    let script = typed.collect::<String>();
    let arguments = ["python3", "-c", include_str!("terminal.py"), "80", "bash", "-c", &script];
    let mut terminal = in_namespaces(world, &arguments)?;
    let ran = Ran::of(terminal.env("TERM", "xterm").env("LC_ALL", "C.UTF-8"));
    assert!(ran.code.is_some_and(|code| code < 2), "{ran:?}");
    let light = Color::Rgb(RgbColor(0xd0, 0xd0, 0xd0));
    let dark = Color::Rgb(RgbColor(0x1c, 0x1c, 0x1c));
    Some(Term::new().palette(WIN10_CONSOLE).fg_color(light).bg_color(dark).render_svg(&anywhere(&ran.stdout, world)))
}

#[test]
fn the_pictures_are_what_a_terminal_shows() {
    let world = World::new();
    let is_current = |name: &str, commands: &[&str]| {
        let Some(picture) = picture(&world, commands) else { return false };
        is_current(&format!("docs/{name}.svg"), &picture);
        true
    };
    let exec = "manage-ports exec blog 1 -- sh -c 'echo listen on $BACKEND_PORT'";
    if !is_current("allocate", &["manage-ports allocate shop 1", "manage-ports allocate blog 1-2", exec]) {
        return;
    }
    world.apps(["shop/app1", "blog/app1"]);
    world.write("generated/apps/shop/app1/.env", "BACKEND_PORT=5003\n");
    world.write("generated/apps/blog/app1/compose.yaml", "services: {backend: {ports: ['5004:5003']}}\n");
    let reserve = in_namespaces(&world, &["manage-ports", "reserve", "chat", "1-20", "--for", "2h", "-q"]);
    Ran::of(&mut reserve.unwrap()).ok();
    world.sql(MADE);
    is_current("list", &["manage-ports list shop blog"]);
    is_current("check", &["manage-ports check"]);
    is_current("map", &["manage-ports map"]);
    is_current("status", &["manage-ports status"]);
}
