//! `completions` and `man`, and the files that hold what they print.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};

use super::fixture::{Ran, World, commands, not_run};

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
pub fn is_current(file: &str, printed: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, printed).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == printed, "{file} is stale: run `UPDATE_GENERATED=1 cargo test --test it`");
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
    is_current("man/manage-ports.toml.5", world.line("man manage-ports.toml").ok());
    for command in commands() {
        is_current(&format!("man/manage-ports-{command}.1"), world.line(&format!("man {command}")).ok());
    }
    world.line("man nothing").fails(2, &["nothing"]);

    // All at once, and no others.
    world.line("man --dir a/b").is(0, "", "");
    let pages = |folder: &Path| {
        let pages = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
        pages.map(|page| (page.file_name(), fs::read_to_string(page.path()).unwrap())).collect::<BTreeMap<_, _>>()
    };
    assert!(pages(&world.path("a/b")) == pages(&Path::new(env!("CARGO_MANIFEST_DIR")).join("man")));
    world.write("file", "");
    world.line("man --dir file/x").fails(1, &["file/x"]);
    world.line("man --dir a list").fails(2, &["--dir"]);
}

#[test]
fn no_reader_of_manual_pages_complains() {
    let man = Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let pages: Vec<_> = fs::read_dir(man).unwrap().map(|entry| entry.unwrap().path()).collect();
    let has = |program: &str| Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok();
    if has("mandoc") {
        Ran::of(Command::new("mandoc").args(["-Tlint", "-W", "warning"]).args(&pages)).is(0, "", "");
    } else {
        missing("mandoc");
    }
    if has("groff") && has("man") {
        for page in &pages {
            let mut command = Command::new("man");
            command.args(["--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"]).arg(page);
            let ran = Ran::of(command.env("LC_ALL", "C.UTF-8").env("MANROFFSEQ", "").env("MANWIDTH", "80"));
            assert!(ran.code == Some(0) && ran.stderr.is_empty(), "{page:?}: {ran:?}");
            assert!(ran.stdout.contains("x stop"), "{page:?} is empty");
        }
    } else {
        missing("man and groff");
    }
}

/// Says that a program is missing, which in CI is a failure.
fn missing(program: &str) {
    assert!(std::env::var_os("CI").is_none(), "{program} is missing");
    not_run(&format!("the check of the manual pages: no {program}"));
}

#[test]
fn every_page_has_its_sections_and_the_configuration_page_every_key() {
    let world = World::new();
    let mut pages: Vec<_> =
        commands().iter().map(|command| world.line(&format!("man {command}")).ok().to_owned()).collect();
    pages.push(world.line("man").ok().to_owned());
    for page in pages {
        let sections: Vec<_> = page.lines().filter_map(|line| line.strip_prefix(".SH ")).collect();
        let expected = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "ENVIRONMENT",
            "FILES",
            "\"EXIT STATUS\"",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ];
        let sections: Vec<_> = sections.into_iter().filter(|section| *section != "COMMANDS").collect();
        assert_eq!(sections, expected, "{page}");
    }
    // A key that the page has and the program does not know is an error.
    let page = world.line("man manage-ports.toml").ok().replace("\\-", "-");
    let example = page.split(".nf\n").nth(1).unwrap().split(".fi").next().unwrap();
    world.write("manage-ports.toml", example);
    world.write("misc/port_config.json", "[]");
    world.line("-q allocate m 1 --no-probe").is(0, "m/app1: backend 5001, frontend 8001\n", "");
}

#[test]
fn a_manual_page_takes_the_place_of_a_link_and_leaves_what_it_leads_to() {
    let world = World::new();
    world.write("pages/other", "");
    let victim = world.write("victim", "mine");
    symlink(&victim, world.path("pages/manage-ports.1")).unwrap();
    world.line("man --dir pages").is(0, "", "");
    assert_eq!(fs::read_to_string(victim).unwrap(), "mine");
    assert!(world.path("pages/manage-ports.1").symlink_metadata().unwrap().is_file());
}
