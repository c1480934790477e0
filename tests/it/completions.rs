//! Completion, asked of the program and of real shells.

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::fixture::{Ran, SCHEMA, World, not_run, row};

/// What the shell's script would offer for the last of these words.
fn completed(world: &World, words: &[&str]) -> String {
    let mut command: Command = world.command();
    command.env("MANAGE_PORTS_COMPLETE", "fish").arg("--").args(words);
    Ran::of(&mut command).ok().to_owned()
}

#[test]
fn models_and_apps_are_completed_from_the_database() {
    let world = World::new();
    world.database(
        SCHEMA,
        &[row("openai_o3", 7, 5001, 8001), row("qwen", 9, 5003, 8003), row("op$(touch x)", 1, 5005, 8005)],
    );
    for words in [
        ["manage-ports", "release", "ope"].as_slice(),
        &["manage-ports", "cleanup", "ope"],
        &["manage-ports", "allocate", "--model", "op"],
        &["manage-ports", "list", "--model", "ope"],
    ] {
        assert_eq!(completed(&world, words), "openai_o3\n", "{words:?}");
    }
    assert_eq!(completed(&world, &["manage-ports", "release", "openai_o3", ""]).lines().next(), Some("7"));
    let of_model = completed(&world, &["manage-ports", "release", "--model", "openai_o3", ""]);
    assert_eq!(of_model.lines().next(), Some("7"), "{of_model}");
    assert_eq!(completed(&world, &["manage-ports", "release", "--model=openai_o3", ""]), of_model);
    assert!(completed(&world, &["manage-ports", "rel"]).starts_with("release"));

    fs::rename(world.path("data"), world.path("other")).unwrap();
    assert_eq!(completed(&world, &["manage-ports", "--database", "other/ports.db", "release", "q"]), "qwen\n");
    assert_eq!(completed(&world, &["manage-ports", "--database", "nowhere.db", "release", "q"]), "");
}

/// A shell, and what it is told before lines are typed into it.
struct Shell {
    argv: &'static [&'static str],
    setup: &'static str,
}

const BASH: Shell = Shell {
    argv: &["bash", "--norc", "--noprofile", "-i"],
    setup: r#"bind 'set enable-bracketed-paste off'; source ./script
              bind -x '"\C-x\C-l": echo "LINE<$READLINE_LINE>END"'"#,
};

const ZSH: Shell = Shell {
    argv: &["zsh", "-f", "-i"],
    setup: r#"autoload -U compinit; compinit -D -u; source ./script; bindkey '^U' kill-whole-line
              dump() { print -r -- "LINE<$BUFFER>END" }; zle -N dump; bindkey '^X^L' dump"#,
};

const FISH: Shell = Shell {
    argv: &["fish", "--no-config", "-i"],
    setup: r#"source ./script; bind \cx\cl 'echo "LINE<"(commandline)">END"'; bind \cu 'commandline ""'"#,
};

/// A world with models that shells break, split or quote.
fn world() -> World {
    let world = World::new();
    let models = ["openai_o3", "qwen2.5:7b", "org/x:free", "my model", "a=b"];
    let rows = models.into_iter().zip(0..).map(|(model, k)| row(model, 1 + k, 5001 + 2 * k, 8001 + 2 * k));
    let rows: Vec<_> = rows.collect();
    world.database(SCHEMA, &rows);
    world
}

/// What lines become that are typed into a shell; nothing where it is missing.
#[track_caller]
fn typed(world: &World, shell: &Shell, lines: &[&str]) -> Option<Vec<String>> {
    let name = shell.argv[0];
    if Command::new(name).arg("--version").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing");
        not_run(&format!("completion in {name}: it is not installed"));
        return None;
    }
    world.write("script", world.line(&format!("completions {name}")).ok());
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_manage-ports")).parent().unwrap();
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("tab.py")]).current_dir(world.path("")).env_clear();
    python.env("PATH", format!("{}:/usr/bin:/bin", folder.display())).env("HOME", world.path("")).env("TERM", "xterm");
    python.env("LC_ALL", "C.UTF-8").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = python.spawn().unwrap();
    let task = json!({"argv": shell.argv, "setup": shell.setup, "dump": "\x18\x0c", "lines": lines});
    child.stdin.take().unwrap().write_all(task.to_string().as_bytes()).unwrap();
    let ran = Ran::from(child.wait_with_output().unwrap());
    let became: Value = serde_json::from_str(ran.ok()).unwrap();
    Some(became.as_array().unwrap().iter().map(|line| line.as_str().unwrap().to_owned()).collect())
}

/// What a line becomes by Tab in every shell.
const COMPLETED: [(&str, &str); 16] = [
    ("manage-ports list --metrics-file scr\t", "manage-ports list --metrics-file script "),
    ("manage-ports rel\t", "manage-ports release "),
    ("manage-ports allocate --model=open\t", "manage-ports allocate --model=openai_o3 "),
    ("manage-ports allocate --model qwen2.5:\t", "manage-ports allocate --model qwen2.5:7b "),
    ("manage-ports release org/x:free 3\t", "manage-ports release org/x:free 3 "),
    ("manage-ports release openai_o3 3\t", "manage-ports release openai_o3 3"),
    ("manage-ports release my\t", "manage-ports release my\\ model "),
    ("manage-ports release 'my mo\t", "manage-ports release 'my model' "),
    ("manage-ports release \"my mo\t", "manage-ports release \"my model\" "),
    ("manage-ports release a=\t", "manage-ports release a=b "),
    ("manage-ports release openai_o3/a\t", "manage-ports release openai_o3/app1 "),
    ("manage-ports exec openai_o3 1 -- realpa\t", "manage-ports exec openai_o3 1 -- realpath "),
    ("manage-ports exec openai_o3 1 -- ls scr\t", "manage-ports exec openai_o3 1 -- ls script "),
    ("manage-ports show 5003\t", "manage-ports show 5003 "),
    ("manage-ports list --sort=fr\t", "manage-ports list --sort=frontend "),
    ("manage-ports --database da\t", "manage-ports --database data/"),
];

#[track_caller]
fn completes(shell: &Shell) {
    let world = world();
    let Some(became) = typed(&world, shell, &COMPLETED.map(|(line, _)| line)) else { return };
    for ((line, expected), became) in COMPLETED.into_iter().zip(became) {
        assert_eq!(became, expected, "{line:?} in {}", shell.argv[0]);
    }
}

#[test]
fn bash_completes() {
    completes(&BASH);
}

#[test]
fn zsh_completes() {
    completes(&ZSH);
}

#[test]
fn fish_completes() {
    completes(&FISH);
}

#[test]
fn bash_offers_values_before_flags() {
    // Meta-* inserts all that is offered.
    let lines = ["manage-ports release org/x:free \x1b*", "manage-ports release --model=org/x:free --app \x1b*"];
    let Some(became) = typed(&world(), &BASH, &lines) else { return };
    assert!(became[0].starts_with("manage-ports release org/x:free 3 --"), "{became:?}");
    assert_eq!(became[1], "manage-ports release --model=org/x:free --app 3 ");
}

#[test]
fn zsh_loads_the_script_from_its_path() {
    let world = world();
    world.write("functions/_manage-ports", world.line("completions zsh").ok());
    let setup = r#"fpath=($PWD/functions $fpath); autoload -U compinit; compinit -D -u
                   dump() { print -r -- "LINE<$BUFFER>END" }; zle -N dump; bindkey '^X^L' dump"#;
    let Some(became) = typed(&world, &Shell { setup, ..ZSH }, &["manage-ports rel\t"]) else { return };
    assert_eq!(became, ["manage-ports release "]);
}

#[test]
fn powershell_is_offered_no_name_that_it_would_run() {
    let world = World::new();
    for name in ["conf.toml", "conf;calc", "conf$(calc)", "conf a"] {
        world.write(name, "");
    }
    let mut command = world.command();
    command.env("MANAGE_PORTS_COMPLETE", "powershell").args(["--", "manage-ports", "--config", "conf"]);
    assert_eq!(Ran::of(&mut command).ok(), "conf.toml\n");
}
