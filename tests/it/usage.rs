//! What the command line and the configuration refuse, and how every command talks.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Command, Stdio};

use rusqlite::Connection;

use crate::fixture::{Ran, Row, SCHEMA, World, commands, not_run, row};

/// What is no list of apps.
const BAD_APPS: [&str; 17] = [
    "",
    "0",
    "-1",
    "+1",
    "1,",
    ",1",
    "1,,2",
    "1--2",
    "1-",
    "0-3",
    "5-3",
    "one",
    "1.5",
    "0x1",
    " 1",
    "2147483648",
    "99999999999999999999",
];

/// What is no duration.
const BAD_DURATIONS: [&str; 8] = ["", "30", "s", "-1s", "1s ago", "soon", "1mo", "99999999999999999999s"];

/// Runs it with these variables on arguments separated by spaces.
fn with(world: &World, variables: &[(&str, &str)], line: &str) -> Ran {
    Ran::of(world.command().envs(variables.iter().copied()).args(line.split_whitespace()))
}

/// Makes a database that holds one app, whose model is the file's name.
fn holder(world: &World, path: &str) {
    let model = path.rsplit('/').next().unwrap();
    let ran = world.run(["--database", path, "allocate", "--model", model, "--app", "1"]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
}

/// The models that `list --format plain` printed.
#[track_caller]
fn models(ran: &Ran) -> Vec<&str> {
    ran.ok().lines().map(|line| line.split('\t').next().unwrap()).collect()
}

/// A table that is longer than what a pipe holds.
fn long_table() -> World {
    let world = World::new();
    let rows: Vec<Row> = (1..=5000).map(|k| row("maker_model", k, 10_000 + k, 30_000 + k)).collect();
    world.database(SCHEMA, &rows);
    world
}

/// Checks that `args`, to which the model is added, names each bad model and says what was expected.
#[track_caller]
fn refuses_bad_models(args: &[&str]) {
    let world = World::new();
    world.apps(["m/app1"]);
    for (model, shown, expected) in [
        ("", "empty", "1 to 200 characters"),
        (&"é".repeat(201), &"é".repeat(20), "1 to 200 characters"),
        ("a\tb", "a\\tb", "control character"),
        ("a\u{1b}[31mb", "a\\u{1b}[31mb", "control character"),
        ("a\u{7f}b", "a\\u{7f}b", "control character"),
        ("a\u{9b}31mb", "a\\u{9b}31mb", "control character"),
        (".", "'.'", "'.' or '..'"),
        ("..", "'..'", "'.' or '..'"),
    ] {
        let ran = world.run([args, &[model]].concat());
        ran.fails(2, &[shown, expected]);
        assert!(!ran.stderr.contains(|c: char| c.is_control() && c != '\n'), "{ran:?}");
    }
    assert!(!world.path("data").exists());
}

#[test]
fn allocate_names_a_model_that_breaks_the_rules_and_what_was_expected() {
    refuses_bad_models(&["allocate", "--app", "1", "--model"]);
}

#[test]
fn release_names_a_model_that_breaks_the_rules_and_what_was_expected() {
    refuses_bad_models(&["release", "--app", "1", "--model"]);
}

#[test]
fn cleanup_names_a_model_that_breaks_the_rules_and_what_was_expected() {
    refuses_bad_models(&["cleanup"]);
}

#[test]
fn a_line_break_in_a_model_is_shown_escaped_and_hides_nothing() {
    let world = World::new();
    for (model, shown) in [("a\nb", r"a\nb"), ("a\n\nb", r"a\n\nb")] {
        let args = ["allocate", "--app", "1", "--model", model];
        world.run(args).fails(2, &[shown, "control character"]);
        let message = world.run([&args[..], &["--json"]].concat()).fails_as_json(2, "usage");
        assert!(message.contains(shown) && message.contains("control character"), "{message}");
    }
}

#[test]
fn a_line_break_in_a_name_begins_no_line_of_a_message() {
    let world = World::new();
    let name = "x\nhint: run this\n::error::forged";
    for args in [["--config", name, "list"], ["--database", "postgresql:///?host=/x\nhint: run this", "list"]] {
        let ran = world.run(args);
        assert!(ran.code != Some(0) && ran.stderr.contains("x\\nhint: run this"), "{ran:?}");
        assert!(!ran.stderr.contains("\nhint: run") && !ran.stderr.contains("\n::"), "{ran:?}");
    }
    // clap quotes the command line in what follows its message, too.
    let ran = world.run(["show", "m", "--q\n\n\u{9b}Z\u{202e}"]);
    ran.fails(2, &["unexpected argument", "\\u{9b}Z\\u{202e}"]);
    assert!(!ran.stderr.contains(['\u{9b}', '\u{202e}']), "{ran:?}");
}

#[test]
fn a_json_error_holds_no_character_that_a_terminal_obeys() {
    let world = World::new();
    for model in ["a\u{1b}[2Jb", "a\u{7f}b", "a\u{9b}2Jb"] {
        let ran = world.run(["--json", "allocate", "--model", model, "--app", "1"]);
        ran.fails_as_json(2, "usage");
        assert!(!ran.stderr.trim_end().contains(char::is_control), "{ran:?}");
    }
}

#[test]
fn models_within_the_rules_are_taken() {
    let world = World::new();
    for model in ["é".repeat(200), "a b/c:d".into(), "...".into(), "-".into()] {
        let ran = world.run(["-q", "allocate", &format!("--model={model}"), "--app", "1"]);
        assert!(ran.ok().starts_with(&format!("{model}/app1: backend ")), "{ran:?}");
    }
}

#[test]
fn arguments_that_are_no_text_are_refused() {
    let world = World::new();
    let model = OsString::from_vec(b"a\xffb".to_vec());
    let ran = Ran::of(world.command().args(["allocate", "--app", "1", "--model"]).arg(model));
    ran.fails(2, &["UTF-8"]);
    assert!(!world.path("data").exists());
}

#[test]
fn app_lists_that_break_the_rules_are_named_with_what_was_expected() {
    let world = World::new();
    for list in BAD_APPS {
        let quoted = format!("'{list}'");
        for args in [
            &["allocate", "--model", "m", "--app", list][..],
            &["allocate", "--model", "m", "--app", "1", "--app", list],
            &["release", "--model", "m", "--app", list],
            &["release", "m", list],
            &["show", "m", list],
            &["reserve", "m", list, "--cancel"],
        ] {
            let ran = world.run(args);
            // The part that is wrong is named, without the rest of the list.
            let named = list.split(',').any(|part| ran.stderr.contains(&format!("'{part}'")));
            assert!(named, "no {quoted} in {ran:?}");
            ran.fails(2, if list == "5-3" { &["3-5"] } else { &["2147483647", "1,3,5-9"] });
        }
    }
    assert!(!world.path("data").exists());
}

#[test]
fn ten_thousand_apps_are_the_most_for_one_call() {
    let world = World::new();
    for args in [
        &["release", "m", "1-10001"][..],
        &["release", "m", "1-5000", "5001-10001"],
        &["release", "m", "1-2147483647"],
        &["allocate", "--model", "m", "--app", "1-5000,20000-30000"],
        &["allocate", "--model", "m", "--app", "1-5000", "--app", "5001-10001"],
    ] {
        world.run(args).fails(2, &["10000"]);
    }
    let ran = world.line("release m 1-10000 1-10000 10000");
    assert_eq!((ran.code, ran.stdout.lines().count()), (Some(1), 10_000));
    assert_eq!(ran.stderr, "no row of data/ports.db has the model m\n");
}

#[test]
fn what_is_no_port_is_named_with_what_was_expected() {
    let world = World::new();
    for port in ["0", "65536", "-1", "http", "80.5", "99999999999"] {
        for (bad, good) in [("--backend-port", "--frontend-port"), ("--frontend-port", "--backend-port")] {
            let (bad, good) = (format!("{bad}={port}"), format!("{good}=8001"));
            world.run(["allocate", "--model", "m", "--app", "1", &bad, &good]).fails(2, &[port, "port"]);
        }
    }
    for port in ["0", "65536"] {
        world
            .line(&format!("allocate --model m --app 1 --backend-port {port} --frontend-port 1"))
            .fails(2, &[port, "expected a port from 1 to 65535"]);
    }
    assert!(!world.path("data").exists());
}

#[test]
fn a_pair_asked_for_is_two_ports_that_differ_for_one_app() {
    let world = World::new();
    for (args, parts) in [
        ("--app 1 --backend-port 5001", &["--frontend-port"][..]),
        ("--app 1 --frontend-port 8001", &["--backend-port"]),
        ("--app 1 --backend-port 5001 --frontend-port 5001", &["5001", "differ"]),
        ("--app 1-2 --backend-port 5001 --frontend-port 8001", &["--backend-port", "--frontend-port", "one app"]),
        ("--app 1 --app 2 --backend-port 5001 --frontend-port 8001", &["--backend-port", "one app"]),
    ] {
        world.line(&format!("allocate --model m {args}")).fails(2, parts);
    }
    assert!(!world.path("data").exists());
}

#[test]
fn durations_that_are_none_are_named_with_what_was_expected() {
    let world = World::new();
    world.apps(["m/app1"]);
    for text in BAD_DURATIONS {
        let quoted = format!("'{text}'");
        let expected = [quoted.as_str(), "30s"];
        world.run(["list", &format!("--timeout={text}")]).fails(2, &[&expected[..], &["--timeout"]].concat());
        world.run(["cleanup", &format!("--min-age={text}")]).fails(2, &[&expected[..], &["--min-age"]].concat());
        if !text.is_empty() {
            let ran = Ran::of(world.command().env("MANAGE_PORTS_TIMEOUT", text).arg("list"));
            ran.fails(2, &[&expected[..], &["MANAGE_PORTS_TIMEOUT"]].concat());
        }
        world.write("manage-ports.toml", format!("timeout = '{text}'"));
        world.line("list").fails(2, &[&expected[..], &["timeout", "manage-ports.toml"]].concat());
        fs::remove_file(world.path("manage-ports.toml")).unwrap();
    }
}

#[test]
fn a_format_that_a_command_lacks_is_refused() {
    let world = World::new();
    world.apps(["m/app1"]);
    for (line, lacked, known) in [
        ("allocate --model m --app 1", &["github"][..], &["human", "json", "csv", "plain", "env"][..]),
        ("list", &["env", "github"], &["human", "json", "csv", "plain"]),
        ("check", &["csv", "plain", "env"], &["human", "json", "github"]),
        ("cleanup", &["csv", "plain", "env", "github"], &["human", "json"]),
        ("release m 1", &["csv", "plain", "env", "github"], &["human", "json"]),
    ] {
        for format in lacked {
            let ran = world.line(&format!("{line} --format {format}"));
            ran.fails(2, known);
            assert!(ran.stderr.contains(&format!("'{format}'")), "{ran:?}");
        }
    }
    world.line("allocate --model m --app 1-2 --format env").fails(2, &["env", "one app"]);
    world.line("list --format xml").fails(2, &["xml", "human", "json"]);
    assert!(!world.path("data").exists());
}

#[test]
fn every_other_wrong_word_is_named() {
    let world = World::new();
    for (line, parts) in [
        ("-v", &["subcommand"][..]),
        ("help nothing", &["'nothing'", "`manage-ports help`"]),
        ("alocate --model m --app 1", &["'alocate'"]),
        ("list --modle m", &["--modle"]),
        ("list --json --format csv", &["--json", "--format"]),
        ("list -v -q", &["--verbose", "--quiet"]),
        ("list --color sometimes", &["sometimes", "auto", "always", "never"]),
        ("list --state lost", &["lost", "allocated", "reserved", "orphaned"]),
        ("list --sort age", &["age", "model", "backend", "frontend", "created"]),
        ("list --model [", &["--model", "["]),
        ("allocate --app 1", &["--model"]),
        ("allocate --model m", &["--app"]),
        ("release", &["MODEL"]),
        ("release m", &["APPS"]),
        ("completions tcsh", &["tcsh", "bash", "zsh", "fish"]),
        ("man no-such-command", &["no-such-command"]),
    ] {
        world.line(line).fails(2, parts);
    }
    assert!(!world.path("data").exists());
}

#[test]
fn with_json_every_kind_of_failure_is_one_line() {
    let world = World::new();
    let fails = |line: &str, code, kind| {
        let message = world.line(&format!("--json {line}")).fails_as_json(code, kind);
        assert_eq!(world.line(&format!("{line} --format=json")).fails_as_json(code, kind), message);
        assert_eq!(world.line(&format!("{line} --format json")).fails_as_json(code, kind), message);
        message
    };
    assert!(fails("allocate --model m --app 0", 2, "usage").contains("'0'"));
    assert!(fails("list --modle m", 2, "usage").contains("--modle"));
    assert!(fails("allocate --model m", 2, "usage").contains("--app"));
    assert!(fails("list --config none.toml", 2, "config").contains("none.toml"));
    assert!(fails("list --database none.db", 3, "database").contains("none.db"));
    assert!(fails("cleanup", 5, "apps_dir").contains("generated/apps"));

    world.write("one.toml", "[ports]\nprobe = false\nmax = 8001\nexclude = [9999]");
    let exhausted = "allocate --config one.toml --model m --app 1-2";
    assert!(fails(exhausted, 4, "exhausted").contains("no free pair"));
    assert!(!world.path("data").exists());

    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    let conflict = "allocate --config one.toml --model m --app 1 --backend-port";
    assert!(fails(&format!("{conflict} 5001 --frontend-port 8003"), 6, "conflict").contains("a/app1"));
    assert!(fails(&format!("{conflict} 9999 --frontend-port 8003"), 6, "conflict").contains("9999"));

    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let message = world.line("--json --timeout 0s list").fails_as_json(3, "locked");
    assert!(message.contains("ports.db"), "{message}");
}

#[test]
fn without_json_an_error_is_for_people() {
    let ran = World::new().line("--database none.db list");
    ran.fails(3, &["error: ", "none.db"]);
    assert!(!ran.stderr.contains('{'), "{ran:?}");
}

#[test]
fn a_config_file_that_is_wrong_is_named_with_the_key() {
    let world = World::new();
    for (text, part) in [
        ("databse = 'x.db'", "databse"),
        ("[ports]\nbackend_bse = 5001", "backend_bse"),
        ("[prots]\nstep = 2", "prots"),
        ("[ports]\ndatabase = 'x.db'", "database"),
        ("timeout = 30", r#"expected a duration in quotes, such as "30s""#),
        ("timeout = true", r#"expected a duration in quotes, such as "30s""#),
        ("database = 5", "database"),
        ("apps_dir = ['a']", "apps_dir"),
        ("ports = 5", "ports"),
        ("[ports]\nprobe = 'yes'", "probe"),
        ("[ports]\ncontainers = 1", "containers"),
        ("preconfigured = '-'", "preconfigured = \"-\": expected a file"),
        ("[ports]\nstep = 'two'", "step"),
        ("[ports]\nstep = 1.5", "step"),
        ("[ports]\nexclude = 5432", "exclude"),
        ("[ports]\nallow_browser_blocked = 1", "allow_browser_blocked"),
        ("timeout = ", "timeout"),
        ("timeout = '1s'\ntimeout = '2s'", "timeout"),
        ("[ports\nstep = 2", "[ports"),
        ("[ports]\nbackend_base = 0", "backend_base"),
        ("[ports]\nfrontend_base = 65536", "65536"),
        ("[ports]\nbackend_base = -1", "-1"),
        ("[ports]\nstep = 0", "step"),
        ("[ports]\nmax = 65536", "max"),
        ("[ports]\nbackend_base = 6000\nfrontend_base = 6000", "6000"),
        ("[ports]\nfrontend_base = 5001", "5001"),
        ("[ports]\nexclude = [0]", "exclude = 0"),
        ("[ports]\nexclude = [65536]", "65536"),
        ("[ports]\nexclude = [-5]", "-5"),
        ("[ports]\nexclude = ['http']", "http"),
        ("[ports]\nexclude = ['7010-7000']", "7010-7000"),
        ("[ports]\nexclude = ['7000-']", "7000-"),
        ("[ports]\nexclude = ['7000-70000']", "7000-70000"),
        ("[ports]\nexclude = [true]", "true"),
        ("[ports]\nexclude = [5.5]", "5.5"),
        ("database = 'mysql://host/db'", "mysql"),
        ("\u{0}", "manage-ports.toml"),
    ] {
        world.write("manage-ports.toml", text);
        for line in ["list", "allocate --model m --app 1"] {
            world.line(line).fails(2, &["manage-ports.toml", part]);
            let message = world.line(&format!("{line} --json")).fails_as_json(2, "config");
            assert!(message.contains("manage-ports.toml") && message.contains(part), "{message}");
        }
    }
    world.write("manage-ports.toml", b"timeout = '\xff'");
    world.line("list").fails(2, &["manage-ports.toml", "UTF-8"]);
    assert!(!world.path("data").exists());
}

#[test]
fn a_planned_ports_file_that_is_wrong_is_named() {
    let world = World::new();
    world.write("conf/manage-ports.toml", "preconfigured = 'plan.json'");
    let line = "--config conf/manage-ports.toml allocate --model m --app 1";
    world.line(line).fails(2, &["conf/plan.json"]);
    for text in ["", "{}", "[5]", r#"[{"model": "m", "app_num": 0, "backend_port": 1, "frontend_port": 2}]"#] {
        world.write("conf/plan.json", text);
        world.line(line).fails(2, &["conf/plan.json"]);
        world.line(&format!("{line} --json")).fails_as_json(2, "config");
    }
    assert!(!world.path("conf/data").exists());
}

#[test]
fn a_config_file_named_but_missing_is_an_error() {
    let world = World::new();
    world.write("folder/file", "");
    for name in ["none.toml", "none/manage-ports.toml", "folder"] {
        world.run(["--config", name, "list"]).fails(2, &[name]);
        with(&world, &[("MANAGE_PORTS_CONFIG", name)], "list").fails(2, &[name]);
    }
}

#[test]
fn the_config_file_is_found_in_the_nearest_folder_above() {
    let world = World::new();
    world.write("manage-ports.toml", "apps_dir = 'far'");
    world.write("a/manage-ports.toml", "apps_dir = 'near'");
    fs::create_dir_all(world.path("a/b/c")).unwrap();
    fs::create_dir_all(world.path("d/e")).unwrap();
    for (folder, apps_dir) in [("a/b/c", "a/near"), ("a", "near"), ("d/e", "far"), (".", "far")] {
        let ran = Ran::of(world.command().current_dir(world.path(folder)).arg("cleanup"));
        ran.fails(5, &[apps_dir]);
        assert_eq!(ran.stderr.contains("near"), apps_dir.contains("near"), "{ran:?}");
    }
}

#[test]
fn paths_in_the_config_file_start_at_its_folder_and_others_where_we_are() {
    let world = World::new();
    world.write(
        "project/manage-ports.toml",
        "database = 'db/of-file.db'\napps_dir = 'made/apps'\n[ports]\nprobe = false",
    );
    fs::create_dir_all(world.path("project/deep/down")).unwrap();
    fs::create_dir_all(world.path("project/made/apps/m/app1")).unwrap();
    let run = |args: &[&str]| Ran::of(world.command().current_dir(world.path("project/deep/down")).args(args));
    let allocate = ["-q", "allocate", "--model", "m", "--app", "1"];

    run(&allocate).is(0, "m/app1: backend 5001, frontend 8001\n", "");
    assert!(world.path("project/db/of-file.db").is_file());
    run(&["cleanup"]).is(0, "✓ No orphaned allocations found\n", "Cleaning up all orphaned allocations...\n");

    run(&[&allocate[..], &["--database", "of-flag.db"]].concat()).is(0, "m/app1: backend 5001, frontend 8001\n", "");
    assert!(world.path("project/deep/down/of-flag.db").is_file());
    run(&["cleanup", "--apps-dir", "made/apps"]).fails(5, &["made/apps"]);

    let mut command = world.command();
    command.current_dir(world.path("project/deep/down")).env("MANAGE_PORTS_DATABASE", "of-variable.db");
    Ran::of(command.args(allocate)).is(0, "m/app1: backend 5001, frontend 8001\n", "");
    assert!(world.path("project/deep/down/of-variable.db").is_file());

    let ran = world.line("--config project/manage-ports.toml list --format plain");
    assert_eq!(models(&ran), ["m"]);
}

#[test]
fn the_defaults_stand_beside_the_config_file() {
    let world = World::new();
    world.write("project/manage-ports.toml", "");
    world.write("project/deep/file", "");
    let run = |args: &str| {
        let mut command = world.command();
        Ran::of(command.current_dir(world.path("project/deep")).args(args.split_whitespace()))
    };
    assert_eq!(run("-q allocate --model m --app 1").code, Some(0));
    assert!(world.path("project/data/ports.db").is_file());
    assert!(!world.path("project/deep/data").exists());
    run("cleanup").fails(5, &["project/generated/apps"]);
    fs::create_dir_all(world.path("project/generated/apps/m/app1")).unwrap();
    run("-q cleanup").is(0, "✓ No orphaned allocations found\n", "");
}

#[test]
fn the_database_comes_from_flag_then_variable_then_file_then_default() {
    let world = World::new();
    for path in ["by-flag", "by-variable", "by-file", "data/ports.db"] {
        holder(&world, path);
    }
    let variable = [("MANAGE_PORTS_DATABASE", "by-variable")];
    let list = "list --format plain";
    assert_eq!(models(&world.line(list)), ["ports.db"]);
    world.write("manage-ports.toml", "database = 'by-file'");
    assert_eq!(models(&world.line(list)), ["by-file"]);
    assert_eq!(models(&with(&world, &variable, list)), ["by-variable"]);
    assert_eq!(models(&with(&world, &variable, "list --format plain --database by-flag")), ["by-flag"]);
}

#[test]
fn the_apps_directory_comes_from_flag_then_variable_then_file_then_default() {
    let world = World::new();
    let variable = [("MANAGE_PORTS_APPS_DIR", "by-variable")];
    world.line("cleanup").fails(5, &["generated/apps"]);
    world.write("manage-ports.toml", "apps_dir = 'by-file'");
    world.line("cleanup").fails(5, &["by-file"]);
    with(&world, &variable, "cleanup").fails(5, &["by-variable"]);
    with(&world, &variable, "cleanup --apps-dir by-flag").fails(5, &["by-flag"]);
}

#[test]
fn the_config_file_comes_from_flag_then_variable_then_the_folder() {
    let world = World::new();
    for name in ["manage-ports", "by-variable", "by-flag"] {
        world.write(&format!("{name}.toml"), format!("apps_dir = 'of-{name}'"));
    }
    let variable = [("MANAGE_PORTS_CONFIG", "by-variable.toml")];
    world.line("cleanup").fails(5, &["of-manage-ports"]);
    with(&world, &variable, "cleanup").fails(5, &["of-by-variable"]);
    with(&world, &variable, "cleanup --config by-flag.toml").fails(5, &["of-by-flag"]);
}

#[test]
fn the_timeout_comes_from_flag_then_variable_then_file_then_default() {
    let world = World::new();
    world.database(SCHEMA, &[]);
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    // Whatever else would have counted waits longer than anybody has.
    let at_once = ["still locked", "tried 1 "];
    world.write("manage-ports.toml", "timeout = '0s'");
    world.line("list").fails(3, &at_once);
    world.write("manage-ports.toml", "timeout = '2h'");
    with(&world, &[("MANAGE_PORTS_TIMEOUT", "0s")], "list").fails(3, &at_once);
    with(&world, &[("MANAGE_PORTS_TIMEOUT", "2h")], "list --timeout 0s").fails(3, &at_once);
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let world = World::new();
    holder(&world, "by-file");
    world.write("manage-ports.toml", "database = 'by-file'\napps_dir = 'of-file'\ntimeout = '1s'");
    let empty = ["DATABASE", "APPS_DIR", "CONFIG", "TIMEOUT"].map(|name| format!("MANAGE_PORTS_{name}"));
    let empty: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(models(&with(&world, &empty, "list --format plain")), ["by-file"]);
    with(&world, &empty, "cleanup").fails(5, &["of-file"]);
    let ran = with(&world, &[("NO_COLOR", ""), ("CLICOLOR_FORCE", "1")], "list");
    assert!(ran.ok().contains('\u{1b}'), "{ran:?}");
}

#[test]
fn database_url_is_never_read() {
    let world = World::new();
    holder(&world, "theirs.db");
    for url in ["sqlite:///theirs.db", "postgresql://u:p@127.0.0.1:1/d", "nonsense://"] {
        with(&world, &[("DATABASE_URL", url)], "list").is(0, "No port allocations found in data/ports.db.\n", "");
    }
    assert!(!world.path("data").exists());
}

#[test]
fn a_database_may_be_named_by_a_url_as_the_platform_writes_it() {
    let world = World::new();
    let absolute = world.path("absolute.db");
    fs::create_dir(world.path("sub")).unwrap();
    for (url, path) in [
        ("sqlite:///relative.db".to_owned(), "relative.db"),
        ("sqlite:///sub/deep.db".to_owned(), "sub/deep.db"),
        (format!("sqlite:///{}", absolute.display()), "absolute.db"),
        ("sqlite+pysqlite:///driver.db".to_owned(), "driver.db"),
        (format!("sqlite+aiosqlite:///{}.2", absolute.display()), "absolute.db.2"),
    ] {
        holder(&world, path);
        let by_flag = world.run(["list", "--format", "plain", "--database", &url]);
        let by_variable = with(&world, &[("MANAGE_PORTS_DATABASE", &url)], "list --format plain");
        // In a file of another folder, from where a relative one is another one.
        world.write("conf/manage-ports.toml", format!("database = '{url}'"));
        holder(&world, &format!("conf/{path}"));
        let by_file = world.line("list --format plain --config conf/manage-ports.toml");
        let model = path.rsplit('/').next().unwrap();
        assert_eq!([models(&by_flag), models(&by_variable), models(&by_file)], [[model]; 3], "{url}");
    }
    assert!(world.path("conf/relative.db").is_file() && !world.path("conf/data").exists());
}

#[test]
fn a_database_url_that_names_no_file_is_refused() {
    let world = World::new();
    for url in ["sqlite://", "sqlite:///", "sqlite:///:memory:", ":memory:", "sqlite://host/x.db", "mysql://h/d", "://"]
    {
        let ran = world.run(["allocate", "--model", "m", "--app", "1", "--database", url]);
        ran.fails(2, &["--database"]);
        with(&world, &[("MANAGE_PORTS_DATABASE", url)], "list").fails(2, &["MANAGE_PORTS_DATABASE"]);
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
}

#[test]
fn a_postgresql_url_is_taken_from_everywhere_and_never_shows_its_password() {
    let world = World::new();
    for scheme in ["postgresql", "postgres", "postgresql+psycopg2", "postgresql+asyncpg"] {
        let url = format!("{scheme}://user:s3cret@127.0.0.1:1/thesis?sslmode=require");
        world.write("manage-ports.toml", "");
        let by_flag = world.run(["-vv", "list", "--database", &url]);
        let by_variable = with(&world, &[("MANAGE_PORTS_DATABASE", &url)], "-vv allocate --model m --app 1");
        let as_json = world.run(["--json", "list", "--database", &url]);
        as_json.fails_as_json(3, "database");
        world.write("manage-ports.toml", format!("database = '{url}'"));
        let by_file = world.line("-vv check");
        for ran in [by_flag, by_variable, as_json, by_file] {
            ran.fails(3, &["postgresql://user@127.0.0.1:1/thesis cannot be reached"]);
            assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
        }
    }
    assert!(!world.path("data").exists());
}

#[test]
fn a_url_that_is_almost_postgresqls_is_no_file_and_shows_no_password() {
    let world = World::new();
    for url in ["postgresql:/u:s3cret@h/d", "PostgreSQL:/u:s3cret@h/d", "Postgres//u:s3cret@h/d"] {
        let ran = world.run(["allocate", "m", "1", "--database", url]);
        ran.fails(2, &["--database", "postgresql://"]);
        assert!(!ran.stderr.contains("s3cret"), "{ran:?}");
    }
    assert_eq!(fs::read_dir(world.path("")).unwrap().count(), 0);
}

#[test]
fn a_configuration_file_has_an_end() {
    let world = World::new();
    world.line("--config /dev/zero list").fails(2, &["/dev/zero is larger than 1 MiB"]);
}

#[test]
fn what_a_stranger_put_into_a_folder_of_everybody_is_passed_over() {
    const STRANGER: u32 = 65533;
    let world = World::new();
    let config = world.write("all/manage-ports.toml", "timeout = 'nonsense'");
    let data = world.path("all/data");
    fs::create_dir_all(world.path("all/mine")).unwrap();
    fs::create_dir(&data).unwrap();
    fs::write(data.join("ports.db"), "a stranger's").unwrap();
    fs::set_permissions(world.path("all"), Permissions::from_mode(0o1777)).unwrap();
    if let Err(err) = chown(&config, Some(STRANGER), None).and_then(|()| chown(&data, Some(STRANGER), None)) {
        not_run(&format!("the files of a stranger: {err}"));
        return;
    }
    let list = |folder: &str| Ran::of(world.command().current_dir(world.path(folder)).args(["list"]));
    let ran = list("all/mine");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "No port allocations found in data/ports.db.\n"), "{ran:?}");
    assert_eq!(ran.stderr.matches("is passed over: another user put it").count(), 2, "{ran:?}");
    list("all").fails(2, &["error: data/ports.db: another user put it", "--database"]);
    // Who names it means it, and a folder that is not sticky is one that users share.
    let ran = Ran::of(world.command().args(["--config", "all/manage-ports.toml", "list"]));
    ran.fails(2, &["nonsense"]);
    for mode in [0o755, 0o777] {
        fs::set_permissions(world.path("all"), Permissions::from_mode(mode)).unwrap();
        list("all/mine").fails(2, &["nonsense"]);
    }
}

#[test]
fn a_config_file_that_is_wrong_beside_a_password_does_not_show_it() {
    let world = World::new();
    for text in [
        "databse = 'postgresql://user:s3cret@h/d'",
        "database = ['postgresql://user:s3cret@h/d']",
        "database = 'postgresql://user:s3cret@h/d",
        "database = 'mysql://user:s3cret@h/d'",
        "ports = 'postgresql://user:s3cret@h/d'",
        "declared.backend_variables = 'postgresql://user:s3cret@h/d'",
    ] {
        world.write("manage-ports.toml", text);
        for ran in [world.line("list"), world.line("--json list")] {
            ran.fails(2, &["manage-ports.toml"]);
            assert!(!ran.stderr.contains("s3cret"), "{text}: {ran:?}");
        }
    }
}

/// What it shows on a terminal with this variable, where there is a script(1) to make one.
fn on_terminal(world: &World, variable: &str, line: &str) -> Option<String> {
    typescript(world, &format!("env TERM=xterm {variable} {} {line}", env!("CARGO_BIN_EXE_manage-ports")))
}

/// What this line of the shell shows on a terminal; a line that says so where there is none to be had.
fn typescript(world: &World, inner: &str) -> Option<String> {
    let mut script = Command::new("script");
    script.current_dir(world.path("")).args(["-q", "-c", inner, "/dev/null"]).stdin(Stdio::null());
    let Ok(output) = script.output() else {
        let mut stderr = std::io::stderr(); // Past the test harness, which would swallow it.
        writeln!(stderr, "not run without script(1): {inner} on a terminal").unwrap();
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn a_terminal_that_knows_no_escapes_gets_no_line_that_changes() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("a_terminal_that_knows_no_escapes_gets_no_line_that_changes: no strace");
        return;
    }
    let world = World::new();
    let rows: Vec<_> = (1..=20).map(|k| row(&format!("m{k}"), 1, 5001 + 2 * k, 8001 + 2 * k)).collect();
    world.database(SCHEMA, &rows);
    world.apps((1..=20).map(|k| format!("m{k}/app1")));
    // Each folder takes its time, so that the look is a long one.
    let slow = "strace -f -qq -o strace.log -e inject=getdents64:delay_enter=100000";
    for (line, variable, shows_progress) in [
        ("check", "TERM=xterm", true),
        ("check", "TERM=dumb", false),
        ("check --json", "TERM=xterm", false),
        ("-q check", "TERM=xterm", false),
    ] {
        let inner = format!("env {variable} {slow} {} {line}", env!("CARGO_BIN_EXE_manage-ports"));
        let Some(shown) = typescript(&world, &inner) else { return };
        assert_eq!(shown.contains("\r\u{1b}[K"), shows_progress, "{variable} {line}: {shown:?}");
    }
}

/// Lines that between them print everything that has a colour somewhere.
const COLOURFUL: [&str; 6] =
    ["list", "check", "cleanup --dry-run", "release gone 1", "list --database none.db", "list --modle m"];

fn world_of_colour() -> World {
    let world = World::new();
    world.apps(["b/app1"]);
    world.database(SCHEMA, &[row("a", 1, 5001, 8001), row("b", 1, 8001, 9001)]);
    world
}

#[test]
fn nothing_is_coloured_without_a_terminal() {
    let world = world_of_colour();
    let variables =
        [("TERM", "xterm-256color"), ("COLORTERM", "truecolor"), ("CLICOLOR", "1"), ("CLICOLOR_FORCE", "0")];
    for line in COLOURFUL.into_iter().chain(["--help", "list --help", "man", "completions bash"]) {
        for line in [line.to_owned(), format!("--color auto {line}")] {
            let ran = with(&world, &variables, &line);
            assert!(!ran.stdout.contains('\u{1b}') && !ran.stderr.contains('\u{1b}'), "{line}: {ran:?}");
            assert!(!ran.stdout.contains('│') && !(ran.stdout.clone() + &ran.stderr).is_empty(), "{line}: {ran:?}");
        }
    }
}

#[test]
fn colour_is_forced_and_forbidden_by_flag_before_variable() {
    let world = world_of_colour();
    let forced = [("CLICOLOR_FORCE", "1")];
    let forbidden = [("NO_COLOR", "1")];
    for line in COLOURFUL {
        for (variables, flag, is_coloured) in [
            (&forced[..], "", true),
            (&forbidden, "", false),
            (&forbidden, "--color always", true),
            (&forbidden, "--color=always", true),
            (&[], "--color always", true),
            (&forced, "--color never", false),
            (&forced, "--color=never", false),
        ] {
            // Before the command and after it.
            for line in [format!("{flag} {line}"), format!("{line} {flag}")] {
                let ran = with(&world, variables, &line);
                let all = ran.stdout.clone() + &ran.stderr;
                assert_eq!(all.contains('\u{1b}'), is_coloured, "{line} {variables:?}: {ran:?}");
            }
        }
    }
}

#[test]
fn the_colour_flag_holds_for_help() {
    let world = World::new();
    if let Some(shown) = on_terminal(&world, "A=1", "--color never --help") {
        assert!(shown.contains("Usage:") && !shown.contains('\u{1b}'), "{shown:?}");
    }
    for line in ["--color always --help", "list --help --color always"] {
        assert!(world.line(line).ok().contains('\u{1b}'), "{line}");
    }
}

#[test]
fn formats_for_programs_have_no_colour_even_if_it_is_forced() {
    let world = world_of_colour();
    for line in [
        "list --json",
        "list --format csv",
        "list --format plain",
        "check --json",
        "check --format github",
        "cleanup --dry-run --json",
        "release gone 1 --json",
        "allocate --model a --app 1 --json",
        "allocate --model a --app 1 --format csv",
        "allocate --model a --app 1 --format plain",
        "allocate --model a --app 1 --format env",
    ] {
        let ran = with(&world, &[("CLICOLOR_FORCE", "1")], &format!("--color always {line}"));
        assert!(!ran.stdout.is_empty() && !ran.stdout.contains('\u{1b}'), "{ran:?}");
    }
    let ran = world.line("--color always --json list --database none.db");
    ran.fails_as_json(3, "database");
    assert!(!ran.stderr.contains('\u{1b}'), "{ran:?}");
}

#[test]
fn a_terminal_gets_colours_and_borders_unless_they_are_forbidden() {
    let world = world_of_colour();
    for (variable, line, is_coloured) in [
        ("A=1", "list", true),
        ("A=1", "check", true),
        ("A=1", "--help", true),
        ("A=1", "--color never list", false),
        ("A=1", "--color never check", false),
        ("NO_COLOR=1", "list", false),
        ("NO_COLOR=1", "check", false),
        ("NO_COLOR=1", "--help", false),
        ("TERM=dumb", "check", false),
    ] {
        let Some(shown) = on_terminal(&world, variable, line) else { return };
        assert_eq!(shown.contains("\u{1b}["), is_coloured, "{variable} {line}: {shown:?}");
        assert_eq!(shown.contains('│'), line.ends_with("list"), "{variable} {line}: {shown:?}");
    }
}

#[test]
fn quiet_leaves_only_errors_on_stderr() {
    let world = World::new();
    world.write("plan.json", r#"[{"model": "m", "app_num": 2, "backend_port": 5001, "frontend_port": 8001}]"#);
    world.write("manage-ports.toml", "preconfigured = 'plan.json'\n[ports]\nprobe = false");
    let planned_for_another = "-q allocate --model m --app 1 --backend-port 5001 --frontend-port 8001";
    world.line(planned_for_another).is(0, "m/app1: backend 5001, frontend 8001\n", "");
    let warned = "--quiet allocate --model m --app 2";
    world.line(warned).is(0, "m/app2: backend 5003, frontend 8003\n", "");
    world.apps(["m/app1"]);
    world.line("cleanup -q --dry-run --include-listening --min-age 0s").is(
        0,
        "  m/app2: backend 5003, frontend 8003\nWould remove 1 orphaned allocation(s)\n",
        "",
    );
    world.line("release m 9 -q").is(1, "✗ No allocation found for m/app9\n", "");
    world.line("-q list --database none.db").fails(3, &["none.db"]);
    world.line("-q allocate --model m --app 0").fails(2, &["'0'"]);

    // The same is told without the flag.
    world.line("release m 2").is(0, "✓ Released ports for m/app2\n", "");
    let ran = world.line("allocate --model m --app 2");
    assert_eq!(ran.code, Some(0));
    assert!(ran.stderr.contains("5001") && ran.stderr.contains("m/app2"), "{ran:?}");
}

#[test]
fn verbose_logs_waits_to_stderr() {
    let world = World::new();
    world.database(SCHEMA, &[]);
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let line = "list --timeout 200ms";
    let silent = world.line(line);
    silent.fails(3, &["locked"]);
    assert!(!silent.stderr.contains("waiting"), "{silent:?}");
    for flag in ["-v", "-vv", "--verbose"] {
        let ran = world.line(&format!("{flag} {line}"));
        ran.fails(3, &["locked"]);
        let waits = ran.stderr.lines().filter(|line| line.contains("waiting")).count();
        assert!(waits > 0, "{ran:?}");
    }
}

#[test]
fn help_of_every_command_has_examples() {
    let world = World::new();
    let all = world.line("--help").ok().to_owned();
    for command in &commands() {
        assert!(all.contains(&format!("  {command} ")), "{command} in {all}");
        for flag in ["--help", "-h"] {
            let ran = world.run([command.as_str(), flag]);
            let help = ran.ok();
            let examples = help.split_once("Examples:\n").expect("examples").1;
            assert!(examples.contains(&format!("manage-ports {command}")), "{help}");
            assert!(help.contains("Usage: manage-ports"), "{help}");
            let about = help.lines().next().unwrap();
            assert!(all.contains(&format!("  {about}\n")), "{about} in {all}");
        }
    }
    assert!(all.contains("Exit codes:") && all.contains("130"), "{all}");
    world.line("--version").is(0, concat!("manage-ports ", env!("CARGO_PKG_VERSION"), "\n"), "");
}

#[test]
fn help_is_an_answer_where_it_is_asked_for_and_an_error_where_nothing_is() {
    let world = World::new();
    let help = world.line("help");
    assert_eq!(help.ok(), world.line("--help").ok());
    world.line("").is(2, "", &help.stdout);
    assert!(help.stdout.contains("Usage: manage-ports") && help.stdout.contains("allocate"), "{help:?}");
    assert_eq!(world.line("help allocate").ok(), world.line("allocate --help").ok());
    assert!(world.line("--color always help").ok().contains('\u{1b}'));
}

#[test]
fn short_help_tells_a_commands_own_options_and_formats() {
    let world = World::new();
    for command in &commands() {
        let short = world.run([command.as_str(), "-h"]).ok().to_owned();
        let long = world.run([command.as_str(), "--help"]).ok().to_owned();
        for global in ["--database", "--apps-dir", "--config", "--timeout", "--color", "--quiet"] {
            let is_told = |help: &str| help.lines().any(|line| line.trim().starts_with(&format!("{global} ")));
            assert!(!is_told(&short), "{global} in {short}");
            assert!(long.contains(global), "no {global} in {long}");
        }
        // Each format that is offered is one that the command takes, and no other is.
        let Some((_, offered)) = short.split_once("--format <FORMAT>") else { continue };
        let (offered, _) = offered.split_once("[possible values: ").unwrap().1.split_once(']').unwrap();
        let offered: Vec<_> = offered.split(',').map(str::trim).collect();
        for format in ["human", "json", "csv", "plain", "env", "github", "svg"] {
            let ran = Ran::of(world.command().args(["--format", format, command]).stdin(Stdio::null()));
            let is_lacked = ran.stderr.contains("has no format") || ran.stderr.contains("invalid value");
            assert!(!(is_lacked && offered.contains(&format)), "{command} lacks {format}: {ran:?}");
            let ran = world.run([command.as_str(), "--format", format]);
            assert_eq!(ran.stderr.contains("invalid value"), !offered.contains(&format), "{command} {format}: {ran:?}");
        }
    }
}

/// A world in which the examples of every command make sense.
fn example_world() -> World {
    let world = World::new();
    let ports = |n| if n == 3 { (5101, 8101) } else { (6101 + 2 * n, 9101 + 2 * n) };
    let app = |n| row("openai_gpt-4.1", n, ports(n).0, ports(n).1);
    let rows: Vec<_> = (1..=50).map(app).chain([row("x-ai_grok-4", 1, 5201, 8201)]).collect();
    world.database(SCHEMA, &rows);
    world.apps((1..=50).map(|n| format!("openai_gpt-4.1/app{n}")).chain(["x-ai_grok-4/app1".to_owned()]));
    fs::copy(world.default_database(), world.path("old.db")).unwrap();
    let planned = r#"[{"model": "planned", "app_num": 1, "backend_port": 5301, "frontend_port": 8301}]"#;
    world.write("misc/port_config.json", planned);
    for folder in ["shared", ".local/share/bash-completion/completions", ".zfunc", ".config/fish/completions"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    // Programs that an example hands something to.
    for program in ["npm", "flask", "jq", "man"] {
        let path = world.write(&format!("programs/{program}"), "#!/bin/sh\ncat > /dev/null\n");
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    world
}

#[test]
fn every_example_in_the_help_works() {
    let folder = std::path::Path::new(env!("CARGO_BIN_EXE_manage-ports")).parent().unwrap();
    for command in commands() {
        let help = World::new().run([command.as_str(), "--help"]).ok().to_owned();
        let (_, examples) = help.split_once("Examples:\n").unwrap();
        for example in examples.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let world = example_world();
            let line = example.replace("/mnt/shared", "shared").replace("--processes 100", "--processes 4");
            let path = format!("{}:{}:/usr/bin:/bin", world.path("programs").display(), folder.display());
            let mut shell = Command::new("bash");
            shell.args(["-o", "pipefail", "-c", &line]).current_dir(world.path("")).env_clear();
            let ran = Ran::of(shell.env("PATH", path).env("HOME", world.path("")).stdin(Stdio::null()));
            // Whoever asks may be answered with no.
            assert!(matches!(ran.code, Some(0 | 1)) && !ran.stderr.contains("error:"), "{example}: {ran:?}");
        }
    }
}

#[test]
fn help_needs_neither_a_good_config_file_nor_a_database() {
    let world = World::new();
    world.write("manage-ports.toml", "nonsense");
    for line in ["--help", "list --help", "--version", "help", "help list"] {
        assert!(!world.line(line).ok().is_empty(), "{line}");
    }
}

#[test]
fn a_reader_who_stops_reading_ends_it_quietly() {
    let world = long_table();
    world.sql("UPDATE port_configurations SET frontend_port = backend_port + 1");
    for (line, code) in [
        ("list", 0),
        ("list --json", 0),
        ("list --format csv", 0),
        ("list --format plain", 0),
        ("check", 1),
        ("check --json", 1),
        ("check --format github", 1),
        ("release maker_model 1-5000 5001-10000", 1),
    ] {
        let mut child = world.start(line);
        let mut stdout = child.stdout.take().unwrap();
        // JSON has no second line to stop at.
        if line.contains("json") {
            stdout.read_exact(&mut [0; 100]).unwrap();
        } else {
            BufReader::with_capacity(100, &mut stdout).read_line(&mut String::new()).unwrap();
        }
        drop(stdout);
        let hint = if line.starts_with("release") { "maker_model has apps 1-5000 in data/ports.db\n" } else { "" };
        Ran::from(child.wait_with_output().unwrap()).is(code, "", hint);
    }
    assert_eq!(world.rows(), [], "what was released, whoever read of it");
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let world = long_table();
    world.apps(["m/app1"]);
    world.line("allocate new 1").ok();
    for line in [
        "list",
        "list --json",
        "list --format csv",
        "list --format plain",
        "check",
        "cleanup --dry-run",
        "release new 1",
        "allocate --model m --app 1",
        "--help",
        "--version",
        "list --help",
        "completions bash",
        "man",
    ] {
        let full = || File::create("/dev/full").unwrap();
        let ran = Ran::of(world.command().args(line.split_whitespace()).stdout(full()));
        assert!(ran.code.is_some_and(|code| code != 0), "{line}: {ran:?}");
        assert!(ran.stderr.contains("No space left"), "{line}: {ran:?}");
        assert!(!ran.stderr.contains("panicked"), "{line}: {ran:?}");
        let has_changes = ["release new 1", "allocate --model m --app 1"].contains(&line);
        assert_eq!(ran.stderr.contains("\nhint: the rows were changed nevertheless"), has_changes, "{line}: {ran:?}");
    }
    for line in ["list", "check", "cleanup", "release gone 1", "allocate --model m --app 2"] {
        let mut command = world.command();
        let ran =
            Ran::of(command.args(line.split_whitespace()).arg("--json").stdout(File::create("/dev/full").unwrap()));
        let last = ran.stderr.lines().last().unwrap();
        assert!(last.starts_with(r#"{"error":{"kind":"io","#), "{line}: {ran:?}");
    }
    // It was durable before it was printed, and is the same now that it can be.
    let ran = world.line("allocate --model m --app 1");
    assert!(ran.ok().ends_with(" (existing)\n"), "{ran:?}");
}

#[test]
fn the_default_database_is_the_nearest_one_above() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.apps(["m/app1"]);
    for folder in ["sub/deep", "other/data"] {
        fs::create_dir_all(world.path(folder)).unwrap();
    }
    let run = |folder: &str, line: &str| {
        Ran::of(world.command().current_dir(world.path(folder)).args(line.split_whitespace()))
    };
    assert_eq!(models(&run("sub/deep", "list --format plain")), ["m"]);
    assert_eq!(models(&run("data", "list --format plain")), ["m"]);
    let above = fs::canonicalize(world.path("")).unwrap();
    let database = above.join("data/ports.db").display().to_string();
    run("sub", "list nothing").is(0, &format!("No port allocations found in {database}.\n"), "");
    run("sub", "release m 9").is(1, "✗ No allocation found for m/app9\n", &format!("m has app 1 in {database}\n"));
    // The apps directory stands beside it, and the first allocation goes there, too.
    run("sub/deep", "cleanup -q").is(0, "✓ No orphaned allocations found\n", "");
    run("sub/deep", "allocate m 2").is(0, "m/app2: backend 5003, frontend 8003\n", "");
    assert_eq!(world.rows().len(), 2);
    assert!(!world.path("sub/deep/data").exists());

    // One that is nearer counts, also an empty one, and a configuration file ends the search.
    world.write("sub/data/ports.db", "");
    let near = above.join("sub/data/ports.db").display().to_string();
    run("sub/deep", "list").is(0, &format!("No port allocations found in {near}.\n"), "");
    world.write("other/manage-ports.toml", "");
    let beside = above.join("other/data/ports.db").display().to_string();
    run("other/data", "list").is(0, &format!("No port allocations found in {beside}.\n"), "");
}

#[test]
fn verbose_tells_what_was_chosen() {
    let world = World::new();
    fs::create_dir_all(world.path("sub")).unwrap();
    let run = |line: &str| {
        let ran = Ran::of(world.command().current_dir(world.path("sub")).args(line.split_whitespace()));
        assert_eq!(ran.code, Some(0), "{ran:?}");
        ran.stderr
    };
    let above = fs::canonicalize(world.path("")).unwrap();
    let path = |relative: &str| above.join(relative).display().to_string();
    let told = run("list -v");
    assert!(told.contains("debug: configuration file: none, as no manage-ports.toml is in this folder"), "{told}");
    assert!(told.contains("debug: database: data/ports.db (nobody named one)\n"), "{told}");
    assert!(told.contains("debug: apps directory: generated/apps (nobody named one)\n"), "{told}");

    world.database(SCHEMA, &[]);
    let told = run("list -v --apps-dir apps");
    assert!(told.contains(&format!("debug: database: {} (nobody named one)\n", path("data/ports.db"))), "{told}");
    assert!(told.contains("debug: apps directory: apps\n"), "{told}");

    world.write("manage-ports.toml", "database = 'mine.db'");
    let told = run("allocate m 1 -v");
    assert!(told.contains(&format!("debug: configuration file: {}\n", path("manage-ports.toml"))), "{told}");
    assert!(told.contains(&format!("debug: database: {}\n", path("mine.db"))), "{told}");
    assert!(told.contains(&format!("Created database {}\n", path("mine.db"))), "{told}");
    assert!(!run("list").contains("debug"));
}

#[test]
fn a_named_database_that_does_not_exist_is_an_error_but_for_those_who_make_it() {
    let world = World::new();
    world.apps(["m/app1"]);
    world.write("import.json", r#"[{"model": "m", "app_num": 1, "backend_port": 5001, "frontend_port": 8001}]"#);
    world.write("empty.db", "");
    for database in ["none.db", "empty.db"] {
        for line in ["list", "check", "cleanup", "release m 1"] {
            world.line(&format!("{line} --database {database}")).fails(3, &[database, "does not exist or is empty"]);
            with(&world, &[("MANAGE_PORTS_DATABASE", database)], line).fails(3, &[database]);
            world
                .write("conf/manage-ports.toml", format!("database = '../{database}'\napps_dir = '../generated/apps'"));
            world.line(&format!("{line} --config conf/manage-ports.toml")).fails(3, &[database]);
        }
    }
    assert_eq!(fs::metadata(world.path("empty.db")).unwrap().len(), 0);
    for line in ["allocate m 1", "reserve m 1 --for 1h", "exec m 1 -- true", "import import.json", "import --from-apps"]
    {
        for database in ["none.db", "empty.db"] {
            let ran = world.line(&format!("--database {database} {line}"));
            let path = world.path(database);
            let is_made = !line.contains("from-apps");
            let told = format!("Created database {}\n", path.display());
            assert_eq!((ran.code, ran.stderr.contains(&told)), (Some(0), is_made), "{line}: {ran:?}");
            fs::write(&path, "").unwrap();
            if database == "none.db" {
                fs::remove_file(&path).unwrap();
            }
        }
    }
}
