//! `completions` and `man`, and the files that hold what they print.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::fixture::{Ran, SCHEMA, World, commands, row};

const COMPLETIONS: [(&str, &str); 5] = [
    ("bash", "completions/manage-ports.bash"),
    ("elvish", "completions/manage-ports.elv"),
    ("fish", "completions/manage-ports.fish"),
    ("powershell", "completions/_manage-ports.ps1"),
    ("zsh", "completions/_manage-ports"),
];

/// Compares a file of the project with what the program prints; rewrites it where
/// `UPDATE_GENERATED` is set.
#[track_caller]
fn is_current(file: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == printed, "{file} is stale: run `UPDATE_GENERATED=1 cargo test --test it generated`");
}

#[test]
fn the_completions_are_what_the_program_prints() {
    let world = World::new();
    for (shell, file) in COMPLETIONS {
        is_current(file, world.line(&format!("completions {shell}")).ok());
    }
    world.line("completions tcsh").fails(2, &["tcsh"]);
}

#[test]
fn the_manual_pages_are_what_the_program_prints() {
    let world = World::new();
    world.write("manage-ports.toml", "what prints fixed text reads no configuration");
    is_current("man/manage-ports.1", world.line("man").ok());
    for command in commands() {
        is_current(&format!("man/manage-ports-{command}.1"), world.line(&format!("man {command}")).ok());
    }
    world.line("man nothing").fails(2, &["nothing"]);
}

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
