//! `init`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::{Value, json};

use super::fixture::{Ran, World};

#[test]
fn a_file_is_written_that_changes_nothing() {
    let world = World::new();
    let ran = world.line("init");
    ran.is(0, "✓ Wrote manage-ports.toml\n  database        data/ports.db\n  apps directory  generated/apps\n", "");
    let text = fs::read_to_string(world.path("manage-ports.toml")).unwrap();
    for key in ["database", "apps_dir_marker", "preconfigured", "timeout", "[ports]", "backend_base", "exclude"] {
        assert!(text.contains(key), "{key} in {text}");
    }
    assert!(!world.path("data").exists());
    world.line("list").is(0, "No port allocations found in data/ports.db.\n", "");
}

#[test]
fn settings_given_are_in_the_file_and_hold_from_then_on() {
    let world = World::new();
    let ran = world.line("init --database db/mine.db --apps-dir made/apps --timeout 5s --json");
    let database = world.path("db/mine.db").display().to_string();
    let report: Value = serde_json::from_str(ran.ok()).unwrap();
    assert_eq!(report, json!({"config": "manage-ports.toml", "database": database, "apps_dir": "made/apps"}));
    world.line("list").fails(3, &["db/mine.db"]);
    assert_eq!(world.line("allocate m 1 -q").code, Some(0));
    assert!(world.path("db/mine.db").is_file());
    fs::create_dir(world.path("sub")).unwrap();
    let ran = Ran::of(world.command().current_dir(world.path("sub")).arg("cleanup"));
    ran.fails(5, &["made/apps"]);
}

#[test]
fn a_file_that_is_there_is_never_overwritten() {
    let world = World::new();
    for text in ["", "timeout = '2s'", "nonsense"] {
        world.write("manage-ports.toml", text);
        world.line("init --database x.db").fails(2, &["manage-ports.toml", "already"]);
        assert_eq!(fs::read_to_string(world.path("manage-ports.toml")).unwrap(), text);
    }
    fs::remove_file(world.path("manage-ports.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", world.path("manage-ports.toml")).unwrap();
    world.line("init").fails(2, &["already"]);

    // One in a folder above is no hindrance.
    fs::remove_file(world.path("manage-ports.toml")).unwrap();
    world.write("manage-ports.toml", "nonsense");
    fs::create_dir(world.path("sub")).unwrap();
    Ran::of(world.command().current_dir(world.path("sub")).arg("init")).ok();
    Ran::of(world.command().current_dir(world.path("sub")).arg("list")).ok();
}

#[test]
fn settings_that_cannot_be_used_leave_no_file() {
    let world = World::new();
    for (line, part) in [
        ("init --database mysql://h/d", "mysql"),
        ("init --database :memory:", "memory"),
        ("init --timeout soon", "--timeout"),
        ("init --format csv", "'csv'"),
    ] {
        world.line(line).fails(2, &[part]);
        assert!(!world.path("manage-ports.toml").exists(), "{line}");
    }
}

#[test]
fn a_file_that_holds_a_password_is_its_owners_alone() {
    for (url, mode) in [
        ("postgresql://u:s3cret@127.0.0.1/d", 0o600),
        ("postgresql://127.0.0.1/d?user=u&password=s3cret", 0o600),
        ("postgresql://u@127.0.0.1/d", 0o644),
        ("x.db", 0o644),
    ] {
        let world = World::new();
        let mut shell = world.shell("umask 022; exec \"$0\" init --database \"$1\"");
        let ran = Ran::of(shell.args([env!("CARGO_BIN_EXE_manage-ports"), url]));
        assert!(ran.code == Some(0) && !format!("{ran:?}").contains("s3cret"), "{ran:?}");
        assert_eq!(ran.stderr.contains("holds a password"), mode == 0o600, "{ran:?}");
        let found = fs::metadata(world.path("manage-ports.toml")).unwrap().permissions().mode() & 0o777;
        assert_eq!(found, mode, "{url}");
    }
}

#[test]
fn the_page_of_settings_names_every_key_and_variable() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(project.join("docs/configuration.md")).unwrap();
    let world = World::new();
    world.line("init").ok();
    let template = fs::read_to_string(world.path("manage-ports.toml")).unwrap();
    let keys: Vec<_> = template.lines().filter_map(|line| line.strip_prefix('#')?.split_once(" = ")).collect();
    assert!(keys.len() > 15, "{keys:?}");
    for (key, _) in keys {
        assert!(page.contains(&format!("\n{key} = ")), "{key}");
    }
    let help = world.line("--help").stdout;
    let words = help.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let variables: Vec<_> = words.filter(|word| word.starts_with("MANAGE_PORTS_")).collect();
    assert!(variables.len() > 3, "{help}");
    for variable in variables {
        assert!(page.contains(&format!("`{variable}`")), "{variable}");
    }
}
