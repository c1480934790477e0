//! `check`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::fixture::{Ran, Row, SCHEMA, WEAK_SCHEMA, World, free_ports, not_run, platform_rows, row, send, shared};

/// One of every kind of conflict, on a table that stops none of them.
fn conflicts() -> World {
    let world = World::new();
    world.database(
        WEAK_SCHEMA,
        &[
            row("a", 1, 5001, 8001),
            row("b", 1, 5001, 8003),
            row("c", 1, 5003, 8003),
            row("d", 1, 8001, 9001),
            row("e", 1, 5005, 8005),
            row("e", 1, 5007, 8007),
            row("f", 1, 70000, 8009),
            row("g/h", 1, 5009, 8011),
            row("g_h", 1, 5011, 8013),
        ],
    );
    world
}

const LINES: [&str; 7] = [
    "Backend port 5001 used by multiple apps: a/app1, b/app1",
    "Frontend port 8003 used by multiple apps: b/app1, c/app1",
    "Port 8001 used as backend by d/app1 and as frontend by a/app1; release all apps but one and allocate anew",
    "App e/app1 has 2 allocations: 5005/8005, 5007/8007; release the app and allocate anew",
    "Backend port 70000 of f/app1 is not a port from 1 to 65535; release the app and allocate anew",
    "Directory g_h/app1 belongs to multiple apps: g/h/app1, g_h/app1; release the app that is not the directory's",
    "The table has no unique index on (model, app_num); `manage-ports migrate` adds it: without it, the table does not \
     stop what others write",
];

#[test]
fn every_kind_of_conflict_is_found_on_a_table_without_constraints() {
    let world = conflicts();
    world.apps(["a/app1", "b/app1", "c/app1", "d/app1", "e/app1", "f/app1", "g_h/app1"]);
    let check = world.line("check");
    assert_eq!((check.code, check.stderr.as_str()), (Some(1), ""));
    let mut lines = check.stdout.lines();
    assert_eq!(lines.next(), Some("✗ Found 6 conflict(s):"));
    for line in &LINES[..6] {
        assert_eq!(lines.next(), Some(format!("  - {line}").as_str()));
    }
    assert_eq!(lines.next(), Some("! 3 warning(s):"));
    assert_eq!(lines.next(), Some(format!("  - {}", LINES[6]).as_str()));
    assert_eq!(
        lines.last(),
        Some("9 allocations, 7 app directories and 0 files checked: 6 conflicts in 8 apps, 3 warnings")
    );

    let check = world.line("check --json");
    assert_eq!(check.code, Some(1));
    let report: Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!(report["ok"], false);
    let kinds: Vec<_> = report["conflicts"].as_array().unwrap().iter().map(|found| &found["kind"]).collect();
    assert_eq!(
        json!(kinds),
        json!([
            "duplicate_backend_port",
            "duplicate_frontend_port",
            "cross_role_port",
            "duplicate_app",
            "invalid_port",
            "directory_clash"
        ])
    );
    assert_eq!(
        report["conflicts"][0],
        json!({
            "kind": "duplicate_backend_port", "message": LINES[0],
            "hint": "release all apps but one and allocate anew", "ports": [5001],
            "apps": [{"model": "a", "app_num": 1}, {"model": "b", "app_num": 1}], "file": null, "line": null,
        })
    );
    assert_eq!(report["warnings"][0]["kind"], "weak_schema");
    assert_eq!(report["examined"], json!({"allocations": 9, "directories": 7, "files": 0}));

    let check = world.line("check --format github");
    assert_eq!(check.code, Some(1));
    let annotation = |line: &str| line.replace("; ", "%0ATo do: ");
    let first = format!("::error title=duplicate_backend_port::{}%0ATo do: release all", LINES[0]);
    assert!(check.stdout.lines().nth(1).unwrap().starts_with(&first), "{check:?}");
    assert_eq!(check.stdout.lines().nth(7).unwrap(), format!("::warning title=weak_schema::{}", annotation(LINES[6])));
}

#[test]
fn warnings_fail_only_when_strict() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5061, 8001), row("b", 1, 5003, 8003), row("c", 1, 5005, 8005)]);
    world.apps(["a/app1", "b/app1", "z/app7", "z/app07", "z/notes"]);
    world.write("generated/apps/z/app8", "a file is no app");
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "model = 'b'");
    let expected = "✓ No port conflicts found.\n\
                    ! 3 warning(s):\n  \
                    - c/app1 has no directory c/app1; `cleanup` removes the allocation\n  \
                    - Directory z/app7 has no allocation; \
                    `allocate` gives it one, `import --from-apps` the ports in its files\n  \
                    - Backend port 5061 of a/app1 is one that browsers refuse to open; \
                    release the app and allocate anew, or set allow_browser_blocked\n\
                    3 allocations, 3 app directories and 0 files checked: 0 conflicts, 3 warnings\n";
    world.line("check").is(0, expected, "");
    world.line("check --strict").is(1, expected, "");
    let lax: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let strict: Value = serde_json::from_str(&world.line("check --json --strict").stdout).unwrap();
    assert_eq!((&lax["ok"], &strict["ok"]), (&json!(true), &json!(false)));
    assert_eq!(lax["warnings"], strict["warnings"]);
    assert_eq!(lax["conflicts"], json!([]));
    // Its app is not there yet.
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "model = 'c'");
    let over = "  - The reservation of c/app1 is over; reserve it again, or let `cleanup` remove it\n";
    assert!(world.line("check").stdout.contains(over));
}

/// What is said of one app, all of which is right.
const ONE_RIGHT_APP: &str = "✓ No port conflicts found.\n\
    1 allocation, 1 app directory and 0 files checked: 0 conflicts, 0 warnings\n";

#[test]
fn a_named_apps_directory_that_is_missing_is_an_error_and_the_default_one_a_warning() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    let expected = "✓ No port conflicts found.\n! 1 warning(s):\n  - There is no apps directory generated/apps; \
                    name it with --apps-dir, as no directory and no file was checked\n\
                    1 allocation, 0 app directories and 0 files checked: 0 conflicts, 1 warning\n";
    world.line("check").is(0, expected, "");
    world.line("check --strict").is(1, expected, "");
    let report: Value = serde_json::from_str(world.line("check --json").ok()).unwrap();
    assert_eq!(report["warnings"][0]["kind"], "no_apps_dir");

    let is_missing = |ran: Ran| ran.fails(5, &["apps directory", "nope", "--apps-dir"]);
    for format in ["human", "json", "github"] {
        is_missing(world.line(&format!("check --apps-dir nope --format {format}")));
    }
    is_missing(Ran::of(world.command().arg("check").env("MANAGE_PORTS_APPS_DIR", "/nope")));
    world.write("manage-ports.toml", "apps_dir = 'nope'\n");
    is_missing(world.line("check"));
    symlink("nowhere", world.path("nope")).unwrap();
    is_missing(world.line("check"));
    fs::create_dir_all(world.path("nowhere/a/app1")).unwrap();
    world.line("check --strict").is(0, ONE_RIGHT_APP, "");
}

#[test]
fn an_apps_directory_that_is_not_the_right_one_is_a_warning() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5001, 8001)]);
    world.apps(["a/app1"]);
    world.line("check --strict").is(0, ONE_RIGHT_APP, "");
    // A directory that is not the right one is no ground for a judgement.
    world.write("manage-ports.toml", "apps_dir_marker = \".apps-root\"\n");
    let check = world.line("check --strict");
    assert_eq!(check.code, Some(1));
    assert!(
        check.stdout.contains("- ./generated/apps could not be read:")
            || check.stdout.contains("- generated/apps could not be read:"),
        "{check:?}"
    );
    assert!(check.stdout.contains(".apps-root"), "{check:?}");
}

#[test]
fn ports_that_browsers_refuse_are_fine_where_they_are_allowed() {
    let world = World::new();
    world.database(SCHEMA, &[row("a", 1, 5061, 8001)]);
    world.apps(["a/app1"]);
    world.write("manage-ports.toml", "[ports]\nallow_browser_blocked = true\n");
    world.line("check --strict").is(0, ONE_RIGHT_APP, "");
}

#[test]
fn each_missing_index_is_named_and_an_equivalent_one_counts() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[]);
    let weak = world.line("check");
    assert_eq!(weak.ok().lines().filter(|line| line.contains("unique index")).count(), 3);
    world.sql(
        "CREATE UNIQUE INDEX a ON port_configurations (app_num, model);
               CREATE UNIQUE INDEX b ON port_configurations (backend_port);
               CREATE UNIQUE INDEX c ON port_configurations (frontend_port) WHERE frontend_port > 0;
               CREATE UNIQUE INDEX d ON port_configurations (frontend_port, lower(model))",
    );
    let partial = world.line("check");
    assert_eq!(partial.ok().lines().filter(|line| line.contains("unique index")).count(), 1);
    assert!(partial.stdout.contains("(frontend_port)"));
}

#[test]
fn a_hostile_name_cannot_forge_an_annotation() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("a\n::error::forged", 1, 5001, 8001), row("%0A::b", 1, 5001, 8003)]);
    let check = world.line("check --format github");
    let mut lines = check.stdout.lines();
    assert!(lines.next().unwrap().starts_with("::notice title=manage-ports check::2 allocations, "));
    assert!(lines.all(|line| line.starts_with("::error title=") || line.starts_with("::warning title=")));
    assert!(check.stdout.contains("%250A::b"), "{check:?}");
}

#[test]
fn the_documented_job_fails_on_a_real_clash_and_annotates_it() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/scripts.md")).unwrap();
    let (_, job) = page.split_once("jobs:\n").unwrap();
    let (job, after) = job.split_once("```\n").unwrap();
    let steps: Vec<_> = job.lines().filter_map(|line| line.trim().strip_prefix("- run: manage-ports ")).collect();
    let (_, annotations) = after.split_once("```\n").unwrap();
    let (annotations, _) = annotations.split_once("```").unwrap();

    let world = World::new();
    world.write(
        "misc/port_config.json",
        r#"[{"model_name":"openai_o3","app_number":1,"backend_port":5001,"frontend_port":8001},
            {"model_name":"qwen","app_number":1,"backend_port":5003,"frontend_port":8003}]"#,
    );
    world.write("generated/apps/openai_o3/app1/.env", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    world.write("generated/apps/qwen/app1/compose.yml", "services: {backend: {ports: ['5001:5000']}}\n");
    assert_eq!(steps.len(), 2);
    assert_eq!(world.line(steps[0]).code, Some(0));
    world.line(steps[1]).is(1, annotations, "");
    world.write("generated/apps/qwen/app1/compose.yml", "services: {backend: {ports: ['5003:5000']}}\n");
    let notice = annotations.lines().next().unwrap().replace("2 conflicts in 1 app", "0 conflicts") + "\n";
    world.line(steps[1]).is(0, &notice, "");
}

#[test]
fn a_port_of_any_service_clashes_and_is_not_the_apps() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
    world.write("generated/apps/m/app1/compose.yml", "services: {db: {ports: ['5003:5432', '8001:80', '7000:1']}}");
    world.apps(["m/app2"]);
    world.line("check").is(
        1,
        "✗ Found 1 conflict(s):\n  - compose.yml of m/app1 names port 5003, which is allocated to m/app2; \
         set the app's own ports in the file, as `allocate` prints them\n\
         2 allocations, 2 app directories and 1 file checked: 1 conflict in 1 app, 0 warnings\n",
        "",
    );
}

#[test]
fn what_cannot_be_read_is_a_warning_and_what_can_is_judged() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("n/x", 1, 5005, 8005)]);
    world.apps(["m/app1/.env"]);
    world.write("generated/apps/m/app1/compose.yml", "services: {backend: {ports: ['5001:1', '9229:9229']}}");
    world.write("generated/apps/m/app2/.env", "BACKEND_PORT=5004\nFRONTEND_PORT=nothing\n");
    world.write("generated/apps/n_x/app1/docker-compose.yaml", "services: [");
    let report: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let found = |list: &str| {
        let found = report[list].as_array().unwrap().iter();
        found.map(|found| found["message"].as_str().unwrap().split("; ").next().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(found("conflicts"), [".env of m/app2 names backend port 5004, its allocation 5003"]);
    assert_eq!(report["conflicts"][0]["ports"], json!([5003, 5004]));
    assert_eq!(report["conflicts"][0]["apps"], json!([{"model": "m", "app_num": 2}]));
    let warnings = found("warnings");
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert_eq!(warnings[0], ".env of m/app1 could not be read: is not a regular file");
    assert!(warnings[1].starts_with(".env of m/app2 could not be read: "), "{warnings:?}");
    assert!(warnings[2].starts_with("docker-compose.yaml of n/x/app1 could not be read: "), "{warnings:?}");
}

#[test]
fn a_directory_that_no_app_could_have_is_named_and_no_other_is_read_for_it() {
    let world = World::new();
    world.database(SCHEMA, &[row("a b", 1, 5001, 8001), row("c", 1, 5003, 8003)]);
    // Another app's ports, and more than one folder whose name is made the same.
    world.write("generated/apps/a_b/app1/.env", "BACKEND_PORT=5003\n");
    world.write("generated/apps/c/app1/.env", "BACKEND_PORT=5003\n");
    for folder in ["a b/app1", "a:b/app1", "my model/app3", "c/app2147483648"] {
        world.write(&format!("generated/apps/{folder}/.env"), "SECRET=1\n");
    }
    fs::create_dir_all(world.path(OsStr::from_bytes(b"generated/apps/a\xffb/app1"))).unwrap();
    let check = world.line("check");
    let lines: Vec<_> = check.stdout.lines().collect();
    let advice = "give it the name of an app's directory, or move it elsewhere";
    assert_eq!((check.code, lines.len()), (Some(1), 9), "{check:?}");
    let differs =
        "  - .env of a b/app1 names backend port 5003, its allocation 5001, and 5003 is allocated to c/app1; ";
    assert!(lines[1].starts_with(differs) && lines[1].contains("as `allocate"), "{check:?}");
    assert_eq!(
        lines[2..],
        [
            "! 5 warning(s):".to_owned(),
            format!("  - Directory a b/app1 is no app's: a model of this name has the folder a_b; {advice}"),
            format!("  - Directory a:b/app1 is no app's: a model of this name has the folder a_b; {advice}"),
            format!("  - Directory a\u{fffd}b/app1 is no app's: a model of this name has the folder a_b; {advice}"),
            format!("  - Directory c/app2147483648 is no app's: app numbers go from 1 to 2147483647; {advice}"),
            format!("  - Directory my model/app3 is no app's: a model of this name has the folder my_model; {advice}"),
            "2 allocations, 7 app directories and 3 files checked: 2 conflicts in 1 app, 5 warnings".to_owned(),
        ]
    );
}

#[test]
fn what_this_user_may_not_look_into_is_a_warning() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("shut", 1, 5003, 8003)]);
    world.apps(["m/app1", "m/app2", "shut/app1", "../../private/inner"]);
    symlink("../../private/inner", world.path("generated/apps/linked")).unwrap();
    symlink("../../../private/inner", world.path("generated/apps/m/app3")).unwrap();
    symlink("../../../private/inner", world.path("generated/apps/m/notes")).unwrap();
    symlink("nowhere", world.path("generated/apps/m/app4")).unwrap();
    for folder in ["private", "generated/apps/shut", "generated/apps/m/app2"] {
        fs::set_permissions(world.path(folder), Permissions::from_mode(0o700)).unwrap();
    }
    let Some(ran) = world.line_as_nobody("check --json") else { return };
    assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let found = |kind: &str| {
        let found = report["warnings"].as_array().unwrap().iter().filter(|found| found["kind"] == kind);
        let message =
            |found: &Value| found["message"].as_str().unwrap().split_once(": Permission denied").unwrap().0.to_owned();
        found.map(message).collect::<Vec<_>>()
    };
    let apps = |path: &str| format!("{} could not be read", Path::new("generated/apps").join(path).display());
    assert_eq!(
        found("unreadable"),
        [
            "The directory of shut/app1 could not be read".to_owned(),
            apps("linked"),
            apps("m/app3"),
            // It may be a folder with apps in it.
            apps("m/notes"),
            apps("shut"),
            ".env of m/app2 could not be read".to_owned(),
            "compose.yaml of m/app2 could not be read".to_owned(),
        ]
    );
    assert_eq!(world.line_as_nobody("check --strict").unwrap().code, Some(1));
}

#[test]
fn the_files_of_an_app_count_in_each_of_its_four_places() {
    let world = World::new();
    world.database(SCHEMA, &[row("a/b", 1, 5001, 8001), row("a/b", 2, 5003, 8003)]);
    world.apps(["a_b/app2", "a_b/react-flask/app_9"]);
    for place in ["app1", "app_1", "react-flask/app1", "react-flask/app_1"] {
        world.write(&format!("generated/apps/a_b/{place}/.env"), "BACKEND_PORT=7001\nFRONTEND_PORT=8001\n");
    }
    let report: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let messages = |list: &str| {
        let found = report[list].as_array().unwrap().iter();
        found.map(|found| found["message"].as_str().unwrap().split("; ").next().unwrap()).collect::<Vec<_>>()
    };
    let differs = |file: &str| format!("{file} of a/b/app1 names backend port 7001, its allocation 5001");
    let files = [".env", "app_1/.env", "react-flask/app1/.env", "react-flask/app_1/.env"];
    assert_eq!(messages("conflicts"), files.map(differs));
    assert_eq!(messages("warnings"), ["Directory a_b/react-flask/app_9 has no allocation"]);
}

#[test]
fn the_same_is_told_once_of_a_row_that_stands_twice() {
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("m", 1, 5061, 70000), row("m", 1, 5061, 70000), row("m", 2, 5003, 8003)]);
    world.apps(["m/app2"]);
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "app_num = 1");
    let check = world.line("check");
    let mut lines: Vec<_> = check.stdout.lines().filter(|line| line.starts_with("  - ")).collect();
    assert_eq!(lines.len(), 3 + 1 + 1 + 1 + 3, "{check:?}");
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), 9, "{check:?}");
    assert!(check.stdout.starts_with("✗ Found 3 conflict(s):\n"), "{check:?}");
}

#[test]
fn a_file_that_names_every_port_makes_a_short_report() {
    let world = World::new();
    let rows: Vec<_> = (1..=300).map(|n| row("m", n, 1000 + n, 2000 + n)).collect();
    world.database(SCHEMA, &rows);
    let ports = "['1-65535:1-65535', 'x', 'y']";
    for n in 1..=300 {
        let compose = format!("services: {{backend: {{ports: {ports}}}, frontend: {{ports: {ports}}}}}");
        world.write(&format!("generated/apps/m/app{n}/compose.yml"), compose);
    }
    let check = world.line("check -v");
    let lines = |part: &str| check.stdout.lines().filter(|line| line.contains(part)).count();
    assert_eq!(check.code, Some(1));
    assert_eq!((lines("which is allocated to"), lines("names 593 more"), lines("and 3 more")), (3000, 600, 300));
    assert!(
        check.stdout.lines().all(|line| line.len() < 200),
        "{:?}",
        check.stdout.lines().max_by_key(|line| line.len())
    );
    let short = world.line("check");
    assert!(short.stdout.lines().count() < 10, "{short:?}");
    assert!(short.stdout.lines().all(|line| line.len() < 250), "{short:?}");
    let [of_long, of_short] = [&check, &short].map(|ran| ran.stdout.lines().last().unwrap().to_owned());
    assert_eq!(of_long, of_short);
}

/// Makes folders of the apps of three models, of which two apps name wrong ports in both of their files.
fn three_models_with_two_wrong_apps(world: &World, rows: &[Row]) {
    let mut models: Vec<_> = rows.iter().map(|(model, ..)| model.as_str()).collect();
    models.sort_unstable();
    models.dedup();
    for (model, app_num, backend, frontend) in rows.iter().filter(|(model, ..)| models[..3].contains(&model.as_str())) {
        let is_wrong = *model == models[1] && [4, 9].contains(app_num);
        let [backend, frontend] = [backend, frontend].map(|port| if is_wrong { port + 2 } else { *port });
        let folder = format!("generated/apps/{model}/app{app_num}");
        world.write(&format!("{folder}/.env"), format!("BACKEND_PORT={backend}\nFRONTEND_PORT={frontend}\n"));
        if app_num % 3 == 0 {
            let compose =
                "services: {backend: {ports: ['${BACKEND_PORT}:5000']}, frontend: {ports: ['$FRONTEND_PORT:80']}}";
            world.write(&format!("{folder}/compose.yaml"), compose);
        }
    }
}

#[test]
fn the_report_on_a_large_table_fits_a_screen_with_the_totals_last() {
    let world = World::with_platform();
    three_models_with_two_wrong_apps(&world, &platform_rows());
    let check = world.line("check");
    assert_eq!((check.code, check.stderr.as_str()), (Some(1), ""));
    assert!(check.stdout.lines().count() <= 50, "{}", check.stdout);
    insta::assert_snapshot!("check_large_table", check.stdout);
    let total = check.stdout.lines().last().unwrap();
    let report: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
    let [conflicts, warnings] = ["conflicts", "warnings"].map(|list| report[list].as_array().unwrap().len());
    assert!(total.ends_with(&format!("{conflicts} conflicts in 2 apps, {warnings} warnings")), "{total}");
    assert_eq!(report["examined"], json!({"allocations": 750, "directories": 90, "files": 120}));
    let long = world.line("check -v");
    assert_eq!(long.stdout.lines().filter(|line| line.starts_with("  - ")).count(), conflicts + warnings);
}

#[test]
fn the_report_on_the_platforms_own_database_fits_a_screen() {
    let Some(shared) = shared("the_report_on_the_platforms_own_database_fits_a_screen") else { return };
    let world = World::new();
    world.write("data/ports.db", fs::read(shared.join("data/thesis_app.db")).unwrap());
    three_models_with_two_wrong_apps(&world, &world.rows());
    let check = world.line("check");
    assert!(check.stdout.lines().count() <= 50, "{}", check.stdout);
    insta::assert_snapshot!("check_platforms_own_database", check.stdout);
}

#[test]
fn a_job_in_a_folder_of_its_repository_gets_paths_lines_and_a_summary() {
    let world = World::new();
    let rows: Vec<_> = (1..=29).map(|n| row("m", n, 5000 + n, 8000 + n)).collect();
    world.database(SCHEMA, &rows);
    for n in 1..=29 {
        world.write(&format!("repo/app/generated/apps/m/app{n}/.env"), format!("# a|b\nBACKEND_PORT={}\n", 6000 + n));
    }
    world.write("summary.md", "of a step before, in the middle of a line");
    let workspaces = [world.path("repo"), world.path("linked")];
    symlink("repo", world.path("linked")).unwrap();
    for (round, (workspace, folder, apps_dir)) in [
        (&workspaces[0], "repo/app", "generated/apps".to_owned()),
        (&workspaces[1], "repo/app", "../app/generated/apps".to_owned()),
        (&workspaces[0], "linked", world.path("repo/app/generated/apps").display().to_string()),
    ]
    .into_iter()
    .enumerate()
    {
        let mut job = world.command();
        job.current_dir(world.path(folder)).env("GITHUB_WORKSPACE", workspace);
        job.env("GITHUB_STEP_SUMMARY", world.path("summary.md"));
        job.args(["check", "--format", "github", "--apps-dir", &apps_dir, "--database"]).arg(world.default_database());
        let ran = Ran::of(&mut job);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(1), ""), "{ran:?}");
        let mut lines = ran.stdout.lines();
        let totals = "29 allocations, 29 app directories and 29 files checked: 29 conflicts in 29 apps, 0 warnings";
        assert_eq!(lines.next().unwrap(), format!("::notice title=manage-ports check::{totals}"));
        let first = "::error file=app/generated/apps/m/app1/.env,line=2,title=declared_ports_differ::\
                     .env of m/app1 names backend port 6001, its allocation 5001%0ATo do: ";
        assert!(lines.next().unwrap().starts_with(first), "{ran:?}");
        assert_eq!(lines.count(), 28);
        let summary = fs::read_to_string(world.path("summary.md")).unwrap();
        assert!(summary.starts_with("of a step before, in the middle of a line\n\n### manage-ports check\n\n"));
        assert_eq!(summary.matches(totals).count(), round + 1);
        let table =
            "\n\n| Kind | What was found | Where | What to do |\n| --- | --- | --- | --- |\n| declared_ports_differ | ";
        assert_eq!(summary.matches(table).count(), round + 1, "{summary}");
        assert!(summary.contains("| app/generated/apps/m/app1/.env:2 |"), "{summary}");
    }
    // A summary that cannot be written is no reason to fail, and an empty variable names none.
    let mut job = world.command();
    job.args(["check", "--format", "github", "--apps-dir", "repo/app/generated/apps"]);
    job.env("GITHUB_WORKSPACE", "").env("GITHUB_STEP_SUMMARY", "/nope/summary.md");
    let ran = Ran::of(&mut job);
    assert!(ran.stderr.starts_with("warning: the job's summary /nope/summary.md cannot be written: "), "{ran:?}");
    assert!(ran.stdout.contains("::error file=repo/app/generated/apps/m/app1/.env,line=2,"), "{ran:?}");
}

#[test]
fn with_a_probe_every_address_counts_and_udp_does_not() {
    let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
    let udp = i64::from(datagrams.local_addr().unwrap().port());
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            not_run(&format!("listening on {address}: this machine has no such address"));
            continue;
        };
        let busy = i64::from(listener.local_addr().unwrap().port());
        let [free, other] = free_ports().map(i64::from);
        let world = World::new();
        world.database(SCHEMA, &[row("there", 1, busy, free), row("gone", 1, udp, other)]);
        world.apps(["there/app1"]);
        let report: Value = serde_json::from_str(&world.line("check --probe --json").stdout).unwrap();
        let ports: Vec<_> = report["listeners"].as_array().unwrap().iter().map(|found| &found["port"]).collect();
        // A process that another test is about to start has this one's sockets for a moment.
        assert!(ports.first() == Some(&&json!(busy)) && ports.iter().all(|port| *port == busy), "{address}: {ports:?}");
        let is_listening = |found: &&Value| found["kind"] == "orphan_listening";
        assert_eq!(report["warnings"].as_array().unwrap().iter().filter(is_listening).count(), 0, "{address}");

        world.sql("UPDATE port_configurations SET model = 'away' WHERE model = 'there'");
        let report: Value = serde_json::from_str(&world.line("check --probe --json").stdout).unwrap();
        let warned: Vec<_> = report["warnings"].as_array().unwrap().iter().filter(is_listening).collect();
        assert_eq!(warned.len(), 1, "{address}: {warned:?}");
        assert_eq!(warned[0]["ports"], json!([busy]), "{address}");
    }
}

#[test]
fn an_apps_directory_that_is_a_file_is_a_warning_and_an_empty_one_makes_orphans() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.write("generated/apps", "a file");
    let check = world.line("check");
    assert_eq!((check.code, check.stderr.as_str()), (Some(0), ""));
    assert!(check.stdout.starts_with("✓ No port conflicts found.\n! 1 warning(s):\n"), "{check:?}");
    assert!(check.stdout.contains("generated/apps is not a folder; make it readable"), "{check:?}");
    assert_eq!(world.line("check --strict").code, Some(1));

    fs::remove_file(world.path("generated/apps")).unwrap();
    world.apps([""; 0]);
    let expected = "✓ No port conflicts found.\n! 1 warning(s):\n  \
                    - m/app1 has no directory m/app1; `cleanup` removes the allocation\n\
                    1 allocation, 0 app directories and 0 files checked: 0 conflicts, 1 warning\n";
    world.line("check").is(0, expected, "");
}

#[test]
fn with_a_probe_it_tells_who_listens_and_warns_where_the_app_is_gone() {
    let world = World::new();
    let [there, gone] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [there, gone] = [&there, &gone].map(|listener| i64::from(listener.local_addr().unwrap().port()));
    world.database(SCHEMA, &[row("m", 1, there, 1), row("m", 2, gone, 2)]);
    world.apps(["m/app1"]);
    let report: Value = serde_json::from_str(&world.line("check --probe --json").stdout).unwrap();
    let listeners = report["listeners"].as_array().unwrap().iter();
    let listeners: BTreeSet<_> =
        listeners.map(|found| (found["port"].as_i64().unwrap(), found["pid"].as_u64().unwrap())).collect();
    let pid = u64::from(std::process::id());
    // What this machine has on the two low ports is its own.
    assert!(listeners.contains(&(there, pid)) && listeners.contains(&(gone, pid)), "{listeners:?}");
    let warnings: Vec<_> =
        report["warnings"].as_array().unwrap().iter().filter(|found| found["kind"] == "orphan_listening").collect();
    assert!(warnings.iter().any(|found| found["ports"] == json!([gone])), "{warnings:?}");
    assert!(warnings.iter().all(|found| found["apps"] == json!([{"model": "m", "app_num": 2}])), "{warnings:?}");

    let human = world.line("check --probe");
    assert!(human.ok().contains(&format!("  - {there} of m/app1: ")), "{human:?}");
    let expected = format!("Port {gone} of m/app2, whose directory is gone, is listened on by ");
    assert!(human.stdout.contains(&expected), "{human:?}");
    assert!(!world.line("check").ok().contains("listened on"));
    assert_eq!(world.line("check --probe --strict").code, Some(1));
}

#[test]
fn ten_thousand_apps_with_one_percent_of_each_fault_are_reported_whole() {
    let world = World::new();
    // App n has backend 1000 + n and frontend 20000 + n, and every hundredth some fault.
    let rows: Vec<_> = (1..=10_000)
        .filter(|n| n % 100 != 1)
        .map(|n| match n % 100 {
            2 => row("m", n, 1000 + n + 1, 20_000 + n),
            4 => row("m", n, 1000 + n, 20_000 + n + 1),
            6 => row("m", n, 1000 + n, 1000 + n + 1),
            8 => row("m", n, 1000 + n, 70_000 + n),
            _ => row("m", n, 1000 + n, 20_000 + n),
        })
        .collect();
    world.database(WEAK_SCHEMA, &rows);
    for n in (1..=10_000).filter(|n| n % 100 != 10) {
        let folder = format!("generated/apps/m/app{n}");
        match n % 100 {
            20 => world.write(&format!("{folder}/.env"), format!("BACKEND_PORT={}\n", 40_000 + n)),
            22 => world.write(
                &format!("{folder}/compose.yml"),
                format!("services: {{backend: {{ports: ['{}:1', '{}:2']}}}}", 1000 + n, 1001 + n),
            ),
            24 => world.write(&format!("{folder}/compose.yml"), "services: ["),
            26 => world.write(&format!("{folder}/.env/a"), "a folder"),
            n if n % 2 == 0 => world.write(&format!("{folder}/.env"), "SECRET=1\n"),
            _ => world.write(&format!("{folder}/README.md"), "an app"),
        };
    }
    let check = world.line("check --json");
    assert_eq!((check.code, check.stderr.as_str()), (Some(1), ""));
    let report: Value = serde_json::from_str(&check.stdout).unwrap();
    let mut kinds = BTreeMap::new();
    for found in ["conflicts", "warnings"].iter().flat_map(|list| report[list].as_array().unwrap()) {
        *kinds.entry(found["kind"].as_str().unwrap()).or_insert(0) += 1;
    }
    kinds.retain(|kind, _| !["ephemeral_port", "browser_blocked_port", "weak_schema"].contains(kind));
    let expected = [
        ("cross_role_port", 100),
        ("declared_clash", 100),
        ("declared_ports_differ", 100),
        ("duplicate_backend_port", 100),
        ("duplicate_frontend_port", 100),
        ("invalid_port", 100),
        ("orphaned", 100),
        ("unallocated_app", 100),
        ("unreadable", 200),
    ];
    assert_eq!(kinds, expected.into());
    assert_eq!(world.line("check --json").stdout, check.stdout, "the same again");
}

/// Sends Ctrl-C when the program comes to a file, in a look that goes on behind it.
#[test]
fn an_interrupt_ends_a_look_at_once_with_nothing_printed() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("an_interrupt_ends_a_look_at_once_with_nothing_printed: no strace");
        return;
    }
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003), row("m", 3, 5005, 8005)]);
    world.write("generated/apps/m/app1/.env", "BACKEND_PORT=5003\n");
    world.write("generated/apps/m/app2/.env", "BACKEND_PORT=5001\n");
    let bytes = fs::read(world.default_database()).unwrap();
    let apps = world.path("generated/apps");
    let in_apps = |path: &str| apps.join(path).display().to_string();
    let tcp = || "/proc/net/tcp".to_owned();
    for (line, call, path) in [
        ("check", "openat", in_apps("m/app1/.env")),
        ("check", "openat", in_apps("m")),
        ("check --probe --json", "openat", tcp()),
        ("list --state orphaned", "openat", in_apps("m")),
        ("list --probe", "openat", tcp()),
        ("cleanup --dry-run -q", "openat", in_apps("m")),
        ("cleanup -q", "openat", tcp()),
        ("import --from-apps", "openat", in_apps("m/app2/.env")),
    ] {
        let mut traced = Command::new("strace");
        traced.current_dir(world.path("")).env_clear().env("MANAGE_PORTS_APPS_DIR", &apps);
        traced.args(["-f", "-qq", "-o", "/dev/null", "-P", &path, "-e", &format!("inject={call}:signal=INT:when=1")]);
        let mut ran = Ran::of(traced.arg(env!("CARGO_BIN_EXE_manage-ports")).args(line.split_whitespace()));
        // It tells where the links in a path lead.
        ran.stderr = ran.stderr.split_inclusive('\n').filter(|line| !line.starts_with("strace: ")).collect();
        match line.contains("--json") {
            true => assert_eq!(ran.fails_as_json(130, "interrupted"), "interrupted", "{line}"),
            false => ran.is(130, "", "error: interrupted\n"),
        }
    }
    assert_eq!(fs::read(world.default_database()).unwrap(), bytes);
}

#[test]
fn folders_that_vanish_during_the_look_do_no_harm() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("folders_that_vanish_during_the_look_do_no_harm: no strace");
        return;
    }
    // Stopped before the folder of the model is listed, and before the first file of an app is read.
    for stopped_at in ["m", "m/app1/.env"] {
        let world = World::new();
        world.database(SCHEMA, &(1..=30).map(|n| row("m", n, 1000 + n, 2000 + n)).collect::<Vec<_>>());
        for n in 1..=30 {
            world.write(&format!("generated/apps/m/app{n}/.env"), format!("BACKEND_PORT={}\n", 1000 + n));
        }
        let apps = world.path("generated/apps").canonicalize().unwrap();
        let log = world.write("strace.log", "");
        let mut traced = Command::new("strace");
        traced.current_dir(world.path("")).env_clear().env("MANAGE_PORTS_APPS_DIR", &apps);
        // -D makes the program the child, and strace its grandchild.
        traced.args(["-D", "-f", "-qq", "-e", "inject=openat:signal=STOP:when=1", "-o"]).arg(&log);
        traced.arg("-P").arg(apps.join(stopped_at)).args([env!("CARGO_BIN_EXE_manage-ports"), "check", "--json"]);
        let child = traced.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();

        let deadline = Instant::now() + Duration::from_secs(60);
        while !fs::read_to_string(&log).unwrap().contains("stopped by SIGSTOP") {
            assert!(Instant::now() < deadline, "the look does not come to {stopped_at}");
        }
        fs::rename(apps.join("m"), world.path("elsewhere")).unwrap();
        fs::remove_dir_all(world.path("elsewhere")).unwrap();
        send("CONT", &child);

        let mut ran = Ran::from(child.wait_with_output().unwrap());
        ran.stderr = ran.stderr.split_inclusive('\n').filter(|line| !line.starts_with("strace: ")).collect();
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""), "{stopped_at}: {ran:?}");
        let report: Value = serde_json::from_str(&ran.stdout).unwrap();
        assert_eq!(report["conflicts"], json!([]), "{stopped_at}");
    }
}
