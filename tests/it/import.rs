//! `import`: taking over what exists, from a file and from the apps' own files.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};

use super::fixture::{Ran, Row, SCHEMA, World, platform_rows, row, shared};

/// A file of these rows in one of the platform's spellings.
fn port_config(rows: &[Row], [model_key, app_key]: [&str; 2]) -> String {
    let entries: Vec<_> = rows
        .iter()
        .map(|(model, app_num, backend, frontend)| {
            json!({model_key: model, app_key: app_num, "backend_port": backend, "frontend_port": frontend, "is_available": true})
        })
        .collect();
    Value::Array(entries).to_string()
}

const SPELLINGS: [[&str; 2]; 2] = [["model_name", "app_number"], ["model", "app_num"]];

#[test]
fn a_file_in_either_spelling_is_imported_once() {
    for spelling in SPELLINGS {
        let world = World::new();
        world.write("ports.json", port_config(&platform_rows(), spelling));
        let ran = world.line("import ports.json");
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "✓ Imported 750 allocation(s), 0 existing, 0 skipped\n"));
        let created = format!("Created database {}\n", world.default_database().display());
        assert!(ran.stderr.starts_with(&created), "{ran:?}");
        assert!(ran.stderr.contains("the port 5061 of maker_model-0.1/app1 is one that browsers refuse"), "{ran:?}");
        assert_eq!(world.rows(), platform_rows());
        world.line("import ports.json").is(0, "✓ Imported 0 allocation(s), 750 existing, 0 skipped\n", "");
        assert_eq!(world.rows(), platform_rows());
    }
}

/// The rows that the platform's own file names, where it is there.
fn platforms_own_rows(test: &str) -> Option<Vec<Row>> {
    let file = shared(test)?.join("data/port_config.json");
    let entries: Vec<Value> = serde_json::from_str(&fs::read_to_string(file).unwrap()).unwrap();
    let number = |entry: &Value, key: &str| entry[key].as_i64().unwrap();
    let of = |entry: &Value| {
        let model = entry["model_name"].as_str().unwrap();
        row(model, number(entry, "app_number"), number(entry, "backend_port"), number(entry, "frontend_port"))
    };
    Some(entries.iter().map(of).collect())
}

#[test]
fn the_platforms_own_file_is_imported() {
    let test = "the_platforms_own_file_is_imported";
    let Some(expected) = platforms_own_rows(test) else { return };
    let original = fs::read_to_string(shared(test).unwrap().join("data/port_config.json")).unwrap();
    for content in [original, port_config(&expected, SPELLINGS[1])] {
        let world = World::new();
        world.write("ports.json", content);
        for imported in [expected.len(), 0] {
            let report: Value = serde_json::from_str(&world.line("import --json ports.json").stdout).unwrap();
            let counts = (&report["imported"], &report["existing"]);
            assert_eq!(counts, (&json!(imported), &json!(expected.len() - imported)));
            assert_eq!(world.rows(), expected);
        }
    }
}

#[test]
fn one_conflict_among_750_entries_and_nothing_is_imported() {
    for spelling in SPELLINGS {
        let world = World::new();
        let (model, app_num, backend, frontend) = platform_rows()[700].clone();
        let before = [row("other", 1, 4001, backend)];
        world.database(SCHEMA, &before);
        world.write("ports.json", port_config(&platform_rows(), spelling));
        let why = format!("{model}/app{app_num}: port {backend} is the frontend of other/app1");
        world.line("import ports.json").fails(6, &["1 conflict(s), nothing was imported", &why]);
        assert_eq!(world.rows(), before);
        let ran = world.line("import ports.json --skip-conflicts");
        assert_eq!(ran.stdout, "✓ Imported 749 allocation(s), 0 existing, 1 skipped\n", "{ran:?}");
        assert!(!world.rows().contains(&row(&model, app_num, backend, frontend)));
    }
}

#[test]
fn what_list_prints_is_imported_from_standard_input() {
    let world = World::with_platform();
    world.write("list.json", world.line("list --json").ok());
    let mut command = world.command();
    command.args(["--database", "new.db", "import", "-"]).stdin(fs::File::open(world.path("list.json")).unwrap());
    assert!(command.output().unwrap().status.success());
    let list =
        |database: &str| world.line(&format!("--database {database} list --sort backend --format csv")).ok().to_owned();
    let ports = |csv: String| csv.lines().map(|line| line.split(',').take(4).collect::<String>()).collect::<Vec<_>>();
    assert_eq!(ports(list("new.db")), ports(list("data/ports.db")));
}

#[test]
fn one_conflict_and_nothing_is_imported_unless_it_is_skipped() {
    let world = World::new();
    let entries = [row("b", 1, 8001, 9001), row("c", 1, 5005, 8005), row("a", 1, 5001, 8001), row("a", 2, 5007, 8007)];
    world.write("ports.json", port_config(&[&entries[..], &[row("c", 2, 5009, 5005)]].concat(), SPELLINGS[0]));
    world.write("clashing.json", port_config(&[row("x", 1, 5001, 8001), row("y", 1, 8001, 5001)], SPELLINGS[0]));
    world
        .line("import clashing.json")
        .fails(6, &["1 conflict(s), nothing was imported", "y/app1: port 8001 is the frontend of x/app1"]);
    assert!(!world.path("data").exists());

    let before = [row("a", 1, 5001, 8001), row("a", 2, 5003, 8003)];
    world.database(SCHEMA, &before);
    let bytes = fs::read(world.default_database()).unwrap();
    let conflicts = [
        "b/app1: port 8001 is the frontend of a/app1",
        "a/app2: it has other ports, backend 5003 and frontend 8003",
        "c/app2: port 5005 is the backend of c/app1",
    ];
    let ran = world.line("import ports.json");
    ran.fails(6, &["3 conflict(s), nothing was imported", "--skip-conflicts"]);
    ran.fails(6, &conflicts);
    let message = world.line("import ports.json --json").fails_as_json(6, "conflict");
    assert!(conflicts.iter().all(|conflict| message.contains(conflict)), "{message}");
    assert_eq!(fs::read(world.default_database()).unwrap(), bytes, "untouched");

    let ran = world.line("import ports.json --skip-conflicts --json");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(
        (&report["imported"], &report["existing"], &report["skipped"]),
        (&json!(1), &json!(1), &json!(3)),
        "{ran:?}"
    );
    assert_eq!(report["skipped_apps"][1]["model"], "a");
    for conflict in conflicts {
        let (app, why) = conflict.split_once(": ").unwrap();
        let warning = json!({"warning": {"message": format!("{app} is skipped: {why}")}}).to_string();
        assert!(ran.stderr.lines().any(|line| line == warning), "{ran:?}");
    }
    assert_eq!(world.rows(), [&before[..], &[row("c", 1, 5005, 8005)]].concat());
}

#[test]
fn a_file_that_is_none_of_ours_is_refused() {
    let world = World::new();
    for (content, why) in [
        ("", "is not a port configuration"),
        ("{}", "is not a port configuration"),
        (r#"[{"model":"a","app_num":1,"backend_port":1,"frontend_port":65536}]"#, "entry 1: ports 1 and 65536"),
        (r#"[{"model":"a","app_num":0,"backend_port":1,"frontend_port":2}]"#, "'0' is not an app number"),
        (r#"[["m",null,1,null,5001,8001]]"#, "entry 1: is [\"m\",null,1,null,5001,8001]: expected an object"),
        (
            r#"[{"model":"a","app_num":1,"backend_port":"1"}]"#,
            "entry 1: backend_port is \"1\": expected a whole number",
        ),
    ] {
        world.write("ports.json", content);
        world.line("import ports.json").fails(2, &["ports.json", why]);
    }
    world.line("import missing.json").fails(2, &["missing.json"]);
    world.line("import").fails(2, &["FILE"]);
    world.line("import ports.json --from-apps").fails(2, &["--from-apps"]);
    world.write("ports.json", "[]");
    world.line("import ports.json").is(0, "✓ Imported 0 allocation(s), 0 existing, 0 skipped\n", "");
    assert!(!world.path("data").exists());
}

/// Writes app folders that declare these rows, half in a Compose file and half in a `.env`.
fn declare(world: &World, rows: &[Row]) {
    for (index, (model, app_num, backend, frontend)) in rows.iter().enumerate() {
        let folder = format!("generated/apps/{model}/app{app_num}");
        if index % 2 == 0 {
            let compose = format!(
                "services:\n  backend:\n    build: ./backend\n    ports:\n      - \"{backend}:5000\"\n  \
                 frontend:\n    ports:\n      - target: 80\n        published: {frontend}\n"
            );
            world.write(&format!("{folder}/docker-compose.yml"), compose);
        } else {
            world.write(
                &format!("{folder}/.env"),
                format!("# ports\nBACKEND_PORT={backend}\nexport FRONTEND_PORT='{frontend}'\n"),
            );
        }
    }
}

#[test]
fn a_database_made_from_app_folders_equals_what_they_declare() {
    let world = World::new();
    declare(&world, &platform_rows());
    let ran = world.line("import --from-apps");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "✓ Imported 750 allocation(s), 0 existing, 0 skipped\n"));
    let mut rows = world.rows();
    rows.sort();
    let mut expected = platform_rows();
    expected.sort();
    assert_eq!(rows, expected);
    world.line("import --from-apps").is(0, "✓ Imported 0 allocation(s), 750 existing, 0 skipped\n", "");
}

#[test]
fn the_folders_of_the_platforms_own_file_are_imported() {
    let Some(mut expected) = platforms_own_rows("the_folders_of_the_platforms_own_file_are_imported") else { return };
    let world = World::new();
    declare(&world, &expected);
    assert_eq!(world.line("import --from-apps").code, Some(0));
    let mut rows = world.rows();
    rows.sort();
    expected.sort();
    assert_eq!(rows, expected);
}

#[test]
fn apps_that_have_an_allocation_keep_it_and_the_others_are_all_or_none() {
    let world = World::new();
    world.database(SCHEMA, &[row("a/x", 1, 5001, 8001), row("b", 1, 5003, 8003)]);
    declare(
        &world,
        &[row("a_x", 1, 5001, 8001), row("b", 1, 6001, 9001), row("c", 1, 5003, 9003), row("d", 1, 7001, 9005)],
    );
    world.line("import --from-apps").fails(6, &["1 conflict(s)", "c/app1: port 5003 is the backend of b/app1"]);
    assert_eq!(world.rows().len(), 2);
    let ran = world.line("import --from-apps --skip-conflicts");
    assert_eq!(ran.stdout, "✓ Imported 1 allocation(s), 1 existing, 1 skipped\n", "{ran:?}");
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("b", 1, 5003, 8003), row("d", 1, 7001, 9005)]);
    world.run(["import", "--from-apps", "--apps-dir", "nowhere"]).fails(5, &["nowhere", "nothing was imported"]);
}

#[test]
fn apps_are_imported_from_each_of_the_platforms_four_places() {
    let world = World::new();
    let env = |backend: u16| format!("BACKEND_PORT={backend}\nFRONTEND_PORT={}\n", backend + 3000);
    for (place, backend) in [
        ("app1", 5001),
        ("app_2", 5003),
        ("react/app3", 5005),
        ("react/app_4", 5007),
        ("app5", 5009),
        ("vue/app5", 5009),
    ] {
        world.write(&format!("generated/apps/m/{place}/.env"), env(backend));
    }
    // It stands twice, and the two do not agree.
    world.write("generated/apps/m/app6/.env", env(5011));
    world.write("generated/apps/m/vue/app_6/.env", env(5013));
    let ran = world.line("import --from-apps");
    assert_eq!(ran.stdout, "✓ Imported 5 allocation(s), 0 existing, 1 skipped\n", "{ran:?}");
    assert!(ran.stderr.contains("m/app6 is skipped: 2 backend ports are declared: 5011 in "), "{ran:?}");
    assert_eq!(world.rows(), [1, 2, 3, 4, 5].map(|n| row("m", n, 4999 + 2 * n, 7999 + 2 * n)));
}

#[test]
fn a_directory_that_no_app_could_have_is_skipped_and_no_other_is_read_for_it() {
    let world = World::new();
    declare(&world, &[row("a_b", 1, 5001, 8001), row("c", 1, 5003, 8003), row("c", 2_147_483_648, 5005, 8005)]);
    world.apps(["a:b/app1"]);
    declare(&world, &[row("my model", 1, 5007, 8007)]);
    let ran = world.line("import --from-apps");
    assert_eq!(ran.stdout, "✓ Imported 2 allocation(s), 0 existing, 3 skipped\n", "{ran:?}");
    for warning in [
        "a:b/app1 is skipped: its directory is no app's: a model of this name has the folder a_b\n",
        "c/app2147483648 is skipped: its directory is no app's: app numbers go from 1 to 2147483647\n",
        "my model/app1 is skipped: its directory is no app's: a model of this name has the folder my_model\n",
    ] {
        assert!(ran.stderr.contains(&format!("warning: {warning}")), "{warning} in {ran:?}");
    }
    assert_eq!(world.rows(), [row("a_b", 1, 5001, 8001), row("c", 1, 5003, 8003)]);
}

/// Every way in which an app's files say what ports it uses, or fail to.
#[test]
fn every_form_is_adopted_or_named_in_a_warning() {
    let world = World::new();
    let pair = |n: usize| (5001 + 2 * n, 8001 + 2 * n);
    let compose = |n: usize, backend: &str, frontend: &str| {
        let (b, f) = pair(n);
        let text = format!("services:\n  backend:\n    ports: [{backend}]\n  frontend:\n    ports: [{frontend}]\n");
        text.replace("BBBB", &b.to_string()).replace("FFFF", &f.to_string())
    };
    let adopted: [(&str, &dyn Fn(usize) -> String); 7] = [
        (".env", &(|n| format!("BACKEND_PORT={}\nFRONTEND_PORT={}\n", pair(n).0, pair(n).1))),
        (
            ".env",
            &(|n| format!("# c\r\n\r\nexport BACKEND_PORT=\"{}\" # x\r\nFRONTEND_PORT='{}'\r\n", pair(n).0, pair(n).1)),
        ),
        ("docker-compose.yml", &(|n| compose(n, "\"BBBB:5000\"", "'FFFF:80/tcp'"))),
        ("docker-compose.yaml", &(|n| compose(n, "BBBB:5000", "\"127.0.0.1:FFFF:80\""))),
        ("compose.yml", &(|n| compose(n, "\"[::1]:BBBB:5000\"", "{target: 80, published: FFFF}"))),
        (
            "compose.yaml",
            &(|n| {
                compose(
                    n,
                    "{target: 5000, published: \"BBBB\", protocol: tcp, host_ip: 127.0.0.1}",
                    "\"FFFF:80\", \"53:53/udp\", \"9229\"",
                )
            }),
        ),
        ("compose.yaml", &(|n| compose(n, "\"${BACKEND_PORT:-BBBB}:5000\"", "\"${FRONTEND_PORT-FFFF}:80\""))),
    ];
    let mut expected = Vec::new();
    for (n, (file, content)) in adopted.iter().enumerate() {
        let app_num = n + 1;
        world.write(&format!("generated/apps/good/app{app_num}/{file}"), content(n));
        expected.push(row("good", app_num as i64, pair(n).0 as i64, pair(n).1 as i64));
    }
    // A Compose file whose ports come from the .env beside it.
    let n = adopted.len();
    let (b, f) = pair(n);
    world.write(&format!("generated/apps/good/app{}/.env", n + 1), format!("BACKEND_PORT={b}\nUI={f}\n"));
    world.write(
        &format!("generated/apps/good/app{}/compose.yml", n + 1),
        compose(n, "\"${BACKEND_PORT:-1}:5000\"", "\"${UI}:80\""),
    );
    expected.push(row("good", n as i64 + 1, b as i64, f as i64));

    let bad: [(&str, &[u8]); 9] = [
        ("compose.yml", b"services: [}"),
        ("compose.yml", b"\xff\xfe\x00services"),
        ("compose.yml", b"services:\n  backend:\n    ports: {a: 1}\n"),
        (".env", b"BACKEND_PORT=\xff\n"),
        (".env", b"BACKEND_PORT=5001\n"),
        (".env", b"BACKEND_PORT=abc\nFRONTEND_PORT=8001\n"),
        (".env", b"BACKEND_PORT=7001\nFRONTEND_PORT=7001\n"),
        (".env", b""),
        ("README.md", b"no ports"),
    ];
    for (n, (file, content)) in bad.iter().enumerate() {
        world.write(&format!("generated/apps/bad/app{}/{file}", n + 1), content);
    }
    fs::create_dir_all(world.path("generated/apps/bad/app10/.env")).unwrap();
    let huge = fs::File::create(world.write("generated/apps/bad/app11/compose.yml", "services:\n")).unwrap();
    huge.set_len(50 << 20).unwrap();
    world.write("generated/apps/bad/app12/.env", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    world.write("generated/apps/bad/app12/compose.yml", compose(0, "\"6001:5000\"", "\"FFFF:80\""));

    let ran = world.line("import --from-apps");
    assert_eq!(ran.stdout, format!("✓ Imported {} allocation(s), 0 existing, 12 skipped\n", n + 1), "{ran:?}");
    let mut warnings = String::new();
    for app_num in 1..=12 {
        write!(warnings, "warning: bad/app{app_num} is skipped: ").unwrap();
        assert!(ran.stderr.contains(&warnings), "{warnings} in {ran:?}");
        warnings.clear();
    }
    let mut rows = world.rows();
    rows.sort();
    assert_eq!(rows, expected);
}

#[test]
fn a_dry_run_says_what_would_be_imported_and_changes_nothing() {
    let world = World::new();
    world.write("ports.json", port_config(&[row("a", 1, 5001, 8001), row("b", 1, 5061, 8003)], SPELLINGS[0]));
    let ran = world.line("import --dry-run ports.json");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), "Would import 2 allocation(s), 0 existing, 0 skipped\n"));
    assert!(ran.stderr.contains("the port 5061 of b/app1 is one that browsers refuse"), "{ran:?}");
    assert!(!world.default_database().exists());
    world.database(SCHEMA, &[row("a", 1, 5001, 8001), row("c", 1, 5005, 8003)]);
    world
        .line("import --dry-run ports.json")
        .fails(6, &["1 conflict(s)", "b/app1: port 8003 is the frontend of c/app1"]);
    let report = json!({"dry_run": true, "imported": 0, "existing": 1, "skipped": 1, "skipped_apps":
        [{"model": "b", "app_num": 1, "reason": "port 8003 is the frontend of c/app1"}]});
    let ran = world.line("import --dry-run --skip-conflicts --json ports.json");
    assert_eq!((ran.code, serde_json::from_str::<Value>(&ran.stdout).unwrap()), (Some(0), report));
    assert_eq!(world.rows().len(), 2);
    world.write("generated/apps/d/app1/.env", "BACKEND_PORT=5007\nFRONTEND_PORT=8007\n");
    world.line("import --from-apps --dry-run").is(0, "Would import 1 allocation(s), 0 existing, 0 skipped\n", "");
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn a_model_in_either_name_of_its_folder_is_the_same() {
    let world = World::new();
    world.database(SCHEMA, &[row("openai_gpt-4", 1, 5001, 8001)]);
    world.write("ports.json", port_config(&[row("openai/gpt-4", 1, 5001, 8001)], SPELLINGS[0]));
    world.line("import ports.json").is(0, "✓ Imported 0 allocation(s), 1 existing, 0 skipped\n", "");
    world.write("ports.json", port_config(&[row("openai/gpt-4", 1, 5001, 8003)], SPELLINGS[0]));
    world.line("import ports.json").fails(6, &["openai/gpt-4/app1: port 5001 is the backend of openai_gpt-4/app1"]);
}

#[test]
fn the_form_of_the_file_is_named_where_it_has_another() {
    let world = World::new();
    for (text, said) in [
        (
            r#"{"model":"m","app_num":1,"backend_port":1,"frontend_port":2}"#,
            "it is a JSON object: expected a JSON array",
        ),
        (r#"{"allocations":[]}"#, "it is a JSON object: expected a JSON array"),
        ("\"ports\"", "expected a JSON array"),
    ] {
        world.write("ports.json", text);
        let ran = world.line("import ports.json");
        ran.fails(2, &["ports.json is not a port configuration", said]);
    }
    assert!(!world.default_database().exists());
}

#[test]
fn what_cleanup_removed_is_imported_again() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
    world.apps(["m/app2"]);
    let rows = world.rows();
    let removed = world.line("cleanup --json --min-age 0s");
    assert_eq!(world.rows().len(), 1, "{removed:?}");
    world.write("removed.json", &removed.stdout);
    world.line("import removed.json").is(0, "✓ Imported 1 allocation(s), 0 existing, 0 skipped\n", "");
    let mut again = world.rows();
    again.sort();
    assert_eq!(again, rows);
}

#[test]
fn a_reservation_that_cannot_be_read_is_not_dropped() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    for metadata in [r#"{"reserved_until":"next week"}"#, r#"{"reserved_until":5}"#, r#"{"reserved_until":{"a":1}}"#] {
        world.set_metadata(metadata, "app_num = 1");
        let list = world.line("list --json");
        world.write("list.json", &list.stdout);
        let ran = world.line("--database new.db import list.json");
        ran.fails(2, &["entry 1: m/app1 is reserved until", "expected a moment such as"]);
        assert!(!world.path("new.db").exists());
    }
    world.set_metadata(r#"{"reserved_until":"2099-01-01T00:00:00Z"}"#, "app_num = 1");
    world.write("list.json", &world.line("list --json").stdout);
    assert_eq!(world.line("--database new.db import list.json").code, Some(0));
    assert!(world.line("--database new.db list --json").stdout.contains("2099-01-01T00:00:00Z"));
}

#[test]
fn pythons_numbers_that_are_none_may_stand_in_keys_that_are_ignored() {
    let world = World::new();
    let entry = r#"{"model":"m","app_num":1,"backend_port":5001,"frontend_port":8001,"a":NaN,"b":[Infinity,{"c":-Infinity}],"d":"NaN"}"#;
    world.write("ports.json", format!("[{entry}]"));
    let ran = world.line("import ports.json");
    assert_eq!((ran.code, world.rows()), (Some(0), vec![row("m", 1, 5001, 8001)]), "{ran:?}");
    world.write("ports.json", entry.replace("5001", "NaN"));
    assert_eq!(world.line("import ports.json").code, Some(2));
}

#[test]
fn a_file_of_very_many_entries_takes_little_memory_and_its_conflicts_are_folded() {
    const ENTRIES: i64 = 200_000;
    let world = World::new();
    let mut file = String::from("[");
    for number in 0..ENTRIES {
        let port = 1 + number % 30_000;
        let comma = if number == 0 { "" } else { ",\n" };
        write!(
            file,
            r#"{comma}{{"model_name":"maker_model-{number}","app_number":{},"backend_port":{port},"frontend_port":{},"note":"{number}"}}"#,
            1 + number % 40,
            port + 30_000,
        )
        .unwrap();
    }
    file.push(']');
    world.write("ports.json", file);
    let run = |args: &str| {
        let mut shell = std::process::Command::new("sh");
        // The whole data of the process, in KiB.
        let line = format!("ulimit -d 61440 && exec {} {args}", env!("CARGO_BIN_EXE_manage-ports"));
        Ran::of(shell.args(["-c", &line]).current_dir(world.path("")).env_clear())
    };
    let ran = run("import ports.json");
    ran.fails(6, &["170000 conflict(s), nothing was imported:", "\n  and 169900 more\n"]);
    assert_eq!(ran.stderr.matches("is the backend of").count(), 100, "{ran:?}");
    let ran = run("import ports.json --skip-conflicts --dry-run");
    assert_eq!(ran.stdout, "Would import 30000 allocation(s), 0 existing, 170000 skipped\n");
    assert!(ran.stderr.contains("169900 more apps are skipped"), "{}", ran.stderr.len());
}

#[test]
fn a_model_as_long_as_a_file_is_not_told_in_full() {
    let world = World::new();
    world.write("ports.json", port_config(&[row(&"a".repeat(1 << 20), 1, 5001, 8001)], SPELLINGS[0]));
    let ran = world.line("import ports.json");
    ran.fails(2, &["ports.json: entry 1: 'aaaa", "…' is not a model", "it has 1048576"]);
    assert!(ran.stderr.len() < 500, "{}", ran.stderr.len());
}
