//! The promises of SECURITY.md.

use std::fs;
use std::path::Path;

use super::fixture::{WEAK_SCHEMA, World, row};
use super::server::Server;

#[test]
fn a_name_is_no_sql_on_sqlite() {
    a_name_is_no_sql(&World::new());
}

#[test]
fn a_name_is_no_sql_on_postgresql() {
    let Some(server) = Server::shared("names that look like SQL on PostgreSQL") else { return };
    a_name_is_no_sql(&World::on(server));
}

fn a_name_is_no_sql(world: &World) {
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    let names =
        ["x'); DROP TABLE port_configurations; --", "' OR '1'='1", "\"\\' $1 ?1 :a {} %s", "; COMMIT; SELECT 1"];
    for (index, name) in names.into_iter().enumerate() {
        for _ in 0..2 {
            world.run(["allocate", "--model", name, "--app", "1-3", "-q"]).ok();
        }
        world.run(["reserve", "--model", name, "--app", "1", "--for", "1h"]).ok();
        assert_eq!(world.rows().len(), 3 * (index + 1), "{name}");
    }
    for (index, name) in names.into_iter().enumerate() {
        world.run(["release", "--model", name, "--app", "1-3"]).ok();
        assert_eq!(world.rows().len(), 3 * (names.len() - index - 1), "{name}");
    }
}

#[test]
fn what_a_terminal_obeys_or_hides_in_a_name_is_in_no_answer() {
    const EVIL: &str = "a\u{1b}]0;x\u{7}\u{9b}31m\r\n\u{202e}\u{2066}\u{200b}\u{2028}\u{feff}\u{e0041}b";
    let world = World::new();
    let folder = format!("generated/apps/m/{}", EVIL.replace('/', ""));
    world.write(&format!("{folder}/app_1/.env"), format!("BACKEND_PORT={EVIL}\n{EVIL}\n"));
    world.write(&format!("{folder}/app_1/compose.yml"), format!("services: {{{EVIL:?}: {{ports: [x]}}}}\n{EVIL}"));
    world.database(WEAK_SCHEMA, &[row(EVIL, 1, 5001, 8001), row(EVIL, 2, 5001, 8003), row("m", 1, 5005, 8005)]);
    world.set_metadata(&format!("{{\"reserved_until\":{EVIL:?}}}"), "app_num = 2");
    let is_raw = |c: char| {
        c.is_control() && !matches!(c, '\n' | '\t')
            || matches!(c, '\u{200b}' | '\u{2028}' | '\u{202e}' | '\u{2066}' | '\u{feff}' | '\u{e0041}')
    };
    for line in [
        "list --long --probe",
        "list --long --json",
        "list --long --format csv",
        "list --long --format plain",
        "show 5001",
        "show 5001 --json",
        "show m 1",
        "status",
        "status --json",
        "check -v",
        "check",
        "check --json",
        "check --format github",
        "cleanup --dry-run --min-age 0s -vv",
        "cleanup --dry-run --min-age 0s --json",
        "import --from-apps --skip-conflicts --dry-run",
        "map",
        "map --json",
        "map --format svg",
    ] {
        let ran = world.line(line);
        assert!(ran.code < Some(2), "{line}: {ran:?}");
        assert!(!(ran.stdout + &ran.stderr).contains(is_raw), "{line}");
    }
    for args in [["release", EVIL, "9"], ["show", EVIL, "1"], ["cleanup", EVIL, "-v"], ["help", EVIL, "-q"]] {
        let ran = world.run(args);
        assert!(!(ran.stdout + &ran.stderr).contains(is_raw), "{args:?}");
    }
}

#[test]
fn every_test_that_the_promises_name_is_there() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in ["SECURITY.md", "docs/reliability.md"] {
        let promises = fs::read_to_string(project.join(page)).unwrap();
        let quoted = promises.split('`').skip(1).step_by(2).filter_map(|quoted| quoted.split_once("::"));
        let tests: Vec<_> = quoted.filter(|(file, _)| !file.is_empty() && !file.contains(' ')).collect();
        assert!(tests.len() > 20, "{page}: {tests:?}");
        for (file, test) in tests {
            let path = if file.starts_with("src/") { file.into() } else { format!("tests/it/{file}.rs") };
            let text = fs::read_to_string(project.join(&path)).unwrap_or_else(|err| panic!("{page}: {path}: {err}"));
            assert!(
                // A module stands for all tests in it.
                test.is_empty()
                    || text.contains(&format!("#[test]\n    fn {test}() {{"))
                    || text.contains(&format!("#[test]\nfn {test}() {{")),
                "{page}: {path} has no test {test}"
            );
        }
    }
}
