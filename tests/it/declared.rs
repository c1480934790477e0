//! What apps' own files declare, through `check` and `import --from-apps`.

use std::fs;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode};
use serde_json::Value;

use super::fixture::{SCHEMA, World, row};

/// A world with `m/app1` on 5001 and 8001 and `m/app2` on 5003 and 8003, where the first has these files.
fn world(files: &[(&str, &[u8])]) -> World {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
    world.apps(["m/app1", "m/app2"]);
    for (name, content) in files {
        world.write(&format!("generated/apps/m/app1/{name}"), content);
    }
    world
}

/// The findings of `check`, conflicts and warnings, each as `kind: message`.
fn findings(world: &World) -> Vec<String> {
    let ran = world.line("check --json");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
    let all = ["conflicts", "warnings"].into_iter().flat_map(|list| report[list].as_array().unwrap());
    let told = |found: &Value| format!("{}: {}", found["kind"].as_str().unwrap(), found["message"].as_str().unwrap());
    all.map(told).filter(|told| !told.starts_with("ephemeral_port")).collect()
}

/// Checks that each finding begins with what is expected, in order.
#[track_caller]
fn finds(files: &[(&str, &[u8])], expected: &[&str]) {
    let found = findings(&world(files));
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.contains(expected), "{found} is not {expected}");
    }
}

const DEFAULT: &[u8] = b"services: {backend: {ports: ['${BACKEND_PORT:-5000}:5000']}}";

#[test]
fn a_byte_that_is_no_text_makes_no_variable_a_default() {
    finds(&[(".env", b"# caf\xe9\nBACKEND_PORT=5001\n"), ("compose.yaml", DEFAULT)], &[]);
    finds(
        &[(".env", b"BACKEND_PORT=5001\xe9\n"), ("compose.yaml", DEFAULT)],
        &["unreadable: .env of m/app1", "unreadable: compose.yaml of m/app1"],
    );
    let long = [b"BACKEND_PORT=5001\n#".as_slice(), &vec![b'x'; 1 << 20]].concat();
    finds(
        &[(".env", &long), ("compose.yaml", DEFAULT)],
        &["unreadable: .env of m/app1", "unreadable: compose.yaml of m/app1"],
    );
    let utf16: Vec<u8> = "\u{feff}BACKEND_PORT=5001\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    finds(
        &[(".env", &utf16), ("compose.yaml", DEFAULT)],
        &["unreadable: .env of m/app1", "unreadable: compose.yaml of m/app1"],
    );
}

#[test]
fn an_env_file_that_may_not_be_read_is_no_conflict() {
    let world = world(&[(".env", b"BACKEND_PORT=5001\n"), ("compose.yaml", DEFAULT)]);
    for path in ["generated", "generated/apps", "generated/apps/m", "generated/apps/m/app1"] {
        fs::set_permissions(world.path(path), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let env = world.path("generated/apps/m/app1/.env");
    fs::set_permissions(env, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let Some(ran) = world.line_as_nobody("check --json") else { return };
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((ran.code, &report["conflicts"]), (Some(0), &Value::Array(vec![])), "{report}");
    let unreadable = report["warnings"].as_array().unwrap().iter().filter(|found| found["kind"] == "unreadable");
    assert_eq!(unreadable.count(), 2, "{report}");
}

#[test]
fn override_files_and_compose_file_count() {
    let base: (&str, &[u8]) = ("compose.yaml", b"services: {backend: {ports: ['5000:5000']}}");
    let over = b"services: {backend: {ports: !override ['5001:5000']}}";
    finds(&[base], &["declared_ports_differ: compose.yaml of m/app1 names backend port 5000"]);
    finds(&[base, ("compose.override.yaml", over)], &[]);
    finds(&[base, ("docker-compose.override.yml", b"services: {backend: {ports: ['5001:5000']}}")], &[]);
    finds(
        &[
            ("compose.yaml", b"services: {backend: {}}"),
            ("compose.override.yml", b"services: {backend: {ports: ['5003:1']}}"),
        ],
        &[
            "declared_ports_differ: compose.override.yml of m/app1 names backend port 5003, its allocation 5001",
            "declared_clash: compose.override.yml of m/app1 names backend port 5003, which is allocated to m/app2",
        ],
    );
    finds(
        &[
            (".env", b"COMPOSE_FILE=base.yml:dev.yml\n"),
            ("compose.yaml", b"services: {backend: {ports: ['5003:1']}}"),
            ("base.yml", b"services: {backend: {ports: ['5000:1']}}"),
            ("dev.yml", over),
        ],
        &[],
    );
}

#[test]
fn extends_and_include_are_followed() {
    finds(&[("compose.yaml", b"services: {backend: {extends: base}, base: {ports: ['5001:1']}}")], &[]);
    finds(
        &[
            ("compose.yaml", b"include: [services.yml]"),
            ("services.yml", b"services: {backend: {ports: ['5000:1']}, frontend: {ports: ['8001:1']}}"),
        ],
        &["declared_ports_differ: services.yml of m/app1 names backend port 5000"],
    );
    let world = World::new();
    world.write("generated/apps/m/app1/compose.yaml", "include: [sub/services.yml]");
    world.write(
        "generated/apps/m/app1/sub/services.yml",
        "services: {backend: {extends: {file: b.yml, service: b}}, frontend: {ports: ['8001:1']}}",
    );
    world.write("generated/apps/m/app1/sub/b.yml", "services: {b: {ports: ['5001:1']}}");
    world.write(
        "generated/apps/m/app2/compose.yaml",
        "services: {backend: {ports: ['5000:1']}, frontend: {ports: ['8003:1']}}",
    );
    world.write("generated/apps/m/app2/compose.override.yaml", "services: {backend: {ports: !override ['5003:1']}}");
    assert_eq!(world.line("import --from-apps").code, Some(0));
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001), row("m", 2, 5003, 8003)]);
}

#[test]
fn what_publishes_nothing_is_a_warning_that_says_what_it_means() {
    for (service, said) in [
        ("network_mode: host", "it uses the host's network"),
        ("network_mode: none", "it has no network"),
        ("network_mode: 'service:db'", "it uses the network of another container"),
        ("scale: 0", "it has no replica"),
        ("deploy: {replicas: 0}", "it has no replica"),
        ("profiles: [dev]", "its profile dev is off"),
    ] {
        let compose = format!("services: {{backend: {{{service}, ports: ['5001:5003']}}}}");
        let found = findings(&world(&[("compose.yaml", compose.as_bytes())]));
        let [found] = found.as_slice() else { panic!("{found:?}") };
        let expected = "not_published: compose.yaml of m/app1: the service backend does not publish backend port 5001";
        assert!(found.starts_with(expected) && found.contains(said), "{found}");
    }
    // Of other services, only the ports that an app has matter.
    let debug = b"services: {debug: {profiles: [debug], ports: ['5003:1', '9229:9229']}}";
    finds(
        &[("compose.yaml", debug)],
        &["the service debug does not publish port 5003; allocated to m/app2, as its profile debug is off"],
    );
    finds(&[("compose.yaml", b"services: {debug: {profiles: [debug], ports: ['9229:9229']}}")], &[]);
    finds(
        &[(".env", b"COMPOSE_PROFILES=debug\n"), ("compose.yaml", debug)],
        &["declared_clash: compose.yaml of m/app1 names port 5003, which is allocated to m/app2"],
    );
}

#[test]
fn one_odd_service_hides_no_other_and_a_refused_entry_is_no_port() {
    finds(
        &[("compose.yaml", b"services: {db: {ports: ['5003:5432']}, cache: 5}")],
        &["declared_clash: compose.yaml of m/app1 names port 5003", "unreadable: compose.yaml of m/app1"],
    );
    finds(
        &[("compose.yaml", b"services: {backend: {ports: ['5001:80:90', '5003:x']}}")],
        &[
            "refused_port: compose.yaml of m/app1 has a port that Compose refuses: line 1: entry 1 of the ports of backend",
        ],
    );
    finds(
        &[("compose.yaml", b"services: {backend: {ports: [{target: 1, published: 05001}]}}")],
        &["compose.yaml of m/app1 names backend port 2561, its allocation 5001"],
    );
    for value in ["5001\t# be", "#5001", "50 01"] {
        let env = format!("BACKEND_PORT={value}\n");
        finds(
            &[(".env", env.as_bytes())],
            &["unreadable: .env of m/app1 could not be read: line 1: BACKEND_PORT is not a port"],
        );
    }
}

#[test]
fn aliases_that_stand_for_millions_take_no_time() {
    let mut compose = String::from("x0: &a0 {p: 1}\n");
    for level in 1..14 {
        compose += &format!("x{level}: &a{level} {{<<: [*a{0},*a{0}]}}\n", level - 1);
    }
    compose += "services: {backend: {<<: *a13}}";
    assert!(compose.len() < 512, "{}", compose.len());
    let world = world(&[("compose.yaml", compose.as_bytes())]);
    let start = Instant::now();
    let found = findings(&world);
    // Without the bound it takes minutes in a build without optimization.
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(found.len() == 1 && found[0].starts_with("unreadable: compose.yaml of m/app1"), "{found:?}");
}

#[test]
fn an_app_whose_env_file_is_a_pipe_is_taken_from_its_compose_file() {
    let world = World::new();
    world.database(SCHEMA, &[]);
    world.write(
        "generated/apps/m/app1/compose.yaml",
        "services: {backend: {ports: ['5001:1']}, frontend: {ports: ['8001:1']}}",
    );
    let pipe = world.path("generated/apps/m/app1/.env");
    rustix::fs::mknodat(rustix::fs::CWD, pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
    world.line("import --from-apps").is(0, "✓ Imported 1 allocation(s), 0 existing, 0 skipped\n", "");
    assert_eq!(world.rows(), [row("m", 1, 5001, 8001)]);
    assert_eq!(findings(&world), [""; 0]);
}

#[test]
fn only_files_inside_the_apps_directory_are_read() {
    let world = world(&[(
        "compose.yaml",
        b"include: [../app2/compose.yaml, ../app2/compose.yaml]\nservices: {backend: {ports: ['5001:1']}}",
    )]);
    world.write("generated/apps/m/app2/compose.yaml", "services: {frontend: {ports: ['8003:1']}}");
    let found = findings(&world);
    let expected =
        "unreadable: compose.yaml of m/app1 could not be read: line 1 includes what is outside the app's directory";
    assert!(found.len() == 1 && found[0].starts_with(expected), "{found:?}");
    fs::remove_file(world.path("generated/apps/m/app1/compose.yaml")).unwrap();
    std::os::unix::fs::symlink("../app2/compose.yaml", world.path("generated/apps/m/app1/compose.yaml")).unwrap();
    assert_eq!(findings(&world).len(), 1, "{:?}", findings(&world));
}

#[test]
fn the_configuration_names_variables_and_services() {
    let world = world(&[
        (".env", b"API_PORT=5001\nBACKEND_PORT=5003\nWEB_PORT=8001\n"),
        ("compose.yaml", b"services: {api: {ports: ['5001:1']}, web: {ports: ['8001:1']}}"),
    ]);
    assert!(!findings(&world).is_empty());
    let config = "[declared]\nbackend_variables = [\"API_PORT\", \"BACKEND_PORT\"]\nfrontend_variables = [\"WEB_PORT\"]\n\
                  backend_services = [\"server\", \"api\"]\nfrontend_services = [\"web\"]\n";
    world.write("manage-ports.toml", config);
    assert_eq!(findings(&world), [""; 0]);
    world.sql("DELETE FROM port_configurations WHERE app_num = 1");
    world.line("import --from-apps --skip-conflicts");
    assert!(world.rows().contains(&row("m", 1, 5001, 8001)), "{:?}", world.rows());
    for (table, said) in [
        ("backend_variables = []", "backend_variables is empty"),
        ("frontend_services = []", "frontend_services is empty"),
        ("backend_variables = [\"A B\"]", "backend_variables: 'A B' is not"),
        ("backend_variables = [\"1A\"]", "backend_variables: '1A' is not"),
        ("backend_services = [\"\"]", "backend_services: '' is not"),
        (
            "backend_variables = [\"FRONTEND_PORT\"]",
            "backend_variables and frontend_variables both have 'FRONTEND_PORT'",
        ),
        ("frontend_services = [\"web\", \"backend\"]", "backend_services and frontend_services both have 'backend'"),
        ("variables = [\"A\"]", "unknown field"),
        ("backend_services = \"api\"", "invalid type"),
    ] {
        world.write("manage-ports.toml", format!("[declared]\n{table}\n"));
        world.line("check").fails(2, &["manage-ports.toml", said]);
    }
    world.write("manage-ports.toml", "preconfigured = \"-\"\n");
    world.line("allocate m 3").fails(2, &["preconfigured"]);
}

#[test]
fn all_variables_of_the_configuration_are_set() {
    let world = World::new();
    let config = "[declared]\nbackend_variables = [\"API_PORT\", \"BACKEND_PORT\", \"API_PORT\"]\nfrontend_variables = [\"WEB_PORT\"]\n";
    world.write("manage-ports.toml", config);
    world.write("my.env", "FRONTEND_PORT=1\nAPI_PORT=2\n");
    let set = "API_PORT=5001\nBACKEND_PORT=5001\nWEB_PORT=8001\n";
    let ran = world.line("allocate m 1 --format env --env-file my.env --no-probe");
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), set), "{ran:?}");
    let written = fs::read_to_string(world.path("my.env")).unwrap();
    assert_eq!(written, "FRONTEND_PORT=1\nAPI_PORT=5001\nBACKEND_PORT=5001\nWEB_PORT=8001\n");
    let env = world.line("exec m 1 -- /usr/bin/env").stdout;
    let mut lines: Vec<_> = env.lines().filter(|line| line.contains("_PORT=")).collect();
    lines.sort_unstable();
    assert_eq!(lines.join("\n") + "\n", set);
}

#[test]
fn a_line_that_compose_refuses_makes_no_default_count() {
    let world = World::new();
    world.apps(["m/app1"]);
    let app = world.path("generated/apps/m/app1");
    fs::write(app.join("compose.yaml"), "services:\n  backend: {image: a, ports: ['${BACKEND_PORT:-5000}:80']}\n")
        .unwrap();
    for line in ["\"BACKEND_PORT\"=5001", "set BACKEND_PORT=5001", "BACKEND_PORT+=5001", "a b"] {
        fs::write(app.join(".env"), format!("{line}\nFRONTEND_PORT=8001\n")).unwrap();
        let import = world.line("import --from-apps");
        assert!(!world.line("list --format plain").ok().contains("5000"), "{line}: {import:?}");
        world.line("release m 1 -q");
        world.line("allocate m 1 --backend-port 5001 --frontend-port 8001 --no-probe -q").ok();
        let report: Value = serde_json::from_str(&world.line("check --json").stdout).unwrap();
        assert_eq!(report["conflicts"], Value::Array(Vec::new()), "{line}");
        assert!(report["warnings"].as_array().unwrap().iter().any(|found| found["kind"] == "unreadable"), "{line}");
        world.line("release m 1 -q").ok();
    }
}
