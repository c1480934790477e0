//! The platform's own database: the same facts as the script that this program replaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use rusqlite::Connection;

use super::fixture::{Row, SCHEMA, WEAK_SCHEMA, World, not_run, platform_rows, row, rows_of, shared};
use super::server::{self, Server};

/// What stands in the apps tree: every app but two models' gaps.
fn is_there((model, app_num, ..): &Row) -> bool {
    !(model == "x-ai_grok-4" && (11..=30).contains(app_num) || model == "openai_o3" && app_num % 3 == 0)
}

/// The two models with gaps, in place of two of the fixture's.
fn rows() -> Vec<Row> {
    let rename = |model: String| match model.as_str() {
        "maker_model-3.16" => "openai_o3".to_owned(),
        "maker_model-4.24" => "x-ai_grok-4".to_owned(),
        _ => model,
    };
    platform_rows()
        .into_iter()
        .map(|(model, app_num, ..)| (rename(model), app_num))
        .zip(platform_rows())
        .map(|((model, app_num), (.., backend, frontend))| (model, app_num, backend, frontend))
        .collect()
}

/// What the old script printed, where it is known.
struct Golden(Option<PathBuf>);

impl Golden {
    /// Checks the lines with a tick or a cross against those of the old script.
    #[track_caller]
    fn agrees(&self, file: &str, stdout: &str) {
        let Some(folder) = &self.0 else { return };
        let marked = |text: &str| {
            text.lines().filter(|line| line.starts_with(['✓', '✗'])).map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(marked(stdout), marked(&fs::read_to_string(folder.join(file)).unwrap()), "{file}");
    }
}

/// The lines of a table that tell of an app: model, number, backend, frontend, available.
fn facts(table: &str) -> BTreeSet<Vec<String>> {
    let lines = table.lines().map(|line| line.split_whitespace().take(5).map(str::to_owned).collect::<Vec<_>>());
    lines.filter(|words| words.len() == 5 && words[1].parse::<u32>().is_ok()).collect()
}

/// Goes through a day with the platform's database.
fn story(world: &World, golden: &Golden) {
    let database = world.default_database();
    let all = rows_of(&database);
    assert_eq!(all.len(), 750);
    world.apps(all.iter().filter(|row| is_there(row)).map(|(model, app_num, ..)| format!("{model}/app{app_num}")));
    let schema_of = |database: &Path| -> Vec<String> {
        let connection = Connection::open(database).unwrap();
        let mut sql = connection.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL").unwrap();
        sql.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    };
    let schema = schema_of(&database);

    // Reading leaves every byte as it was, and nothing beside the file.
    let before = fs::read(&database).unwrap();
    let list = world.line("list");
    assert_eq!(facts(list.ok()).len(), 750);
    let expected = all.iter().map(|(model, app_num, backend, frontend)| {
        vec![model.clone(), app_num.to_string(), backend.to_string(), frontend.to_string(), "Yes".to_owned()]
    });
    assert_eq!(facts(list.ok()), expected.collect());
    assert!(list.ok().ends_with("\n\nTotal: 750 allocation(s)\n"));
    if let Golden(Some(folder)) = golden {
        assert_eq!(facts(list.ok()), facts(&fs::read_to_string(folder.join("list.txt")).unwrap()));
    }
    let check = world.line("check");
    assert_eq!(check.ok().lines().next(), Some("✓ No port conflicts found."));
    golden.agrees("check.txt", check.ok());
    let dry_run = world.line("cleanup x-ai_grok-4 --dry-run --include-listening");
    for line in ["list --json", "list --format csv", "list --format plain", "list --state orphaned", "check --json"] {
        assert_eq!(world.line(line).code, Some(0), "{line}");
    }
    assert_eq!(fs::read(&database).unwrap(), before);
    assert_eq!(fs::read_dir(world.path("data")).unwrap().count(), 1);

    let cleanup = world.line("cleanup x-ai_grok-4 --include-listening");
    assert_eq!(cleanup.code, Some(0));
    assert_eq!(cleanup.stderr, "Cleaning up orphaned allocations for model: x-ai_grok-4\n");
    assert!(cleanup.stdout.ends_with("\n✓ Removed 20 orphaned allocation(s)\n"), "{cleanup:?}");
    let removed = dry_run.stdout.replace("Would remove", "✓ Removed");
    assert_eq!(removed, cleanup.stdout, "a dry run prints what a real one does");
    golden.agrees("cleanup-model.txt", &cleanup.stdout);

    let cleanup = world.line("cleanup --include-listening");
    assert_eq!((cleanup.code, cleanup.stderr.as_str()), (Some(0), "Cleaning up all orphaned allocations...\n"));
    assert!(cleanup.stdout.ends_with("\n✓ Removed 10 orphaned allocation(s)\n"), "{cleanup:?}");
    golden.agrees("cleanup-all.txt", &cleanup.stdout);

    let release = world.line("release openai_o3 1");
    release.is(0, "✓ Released ports for openai_o3/app1\n", "");
    golden.agrees("release.txt", &release.stdout);
    let release = world.line("release openai_o3 1");
    assert_eq!((release.code, release.stdout.as_str()), (Some(1), "✗ No allocation found for openai_o3/app1\n"));
    assert!(release.stderr.starts_with("openai_o3 has apps 2, 4-5"), "{release:?}");
    golden.agrees("release-missing.txt", &release.stdout);

    let left: Vec<_> =
        all.iter().filter(|row| is_there(row) && (row.0.as_str(), row.1) != ("openai_o3", 1)).cloned().collect();
    assert_eq!(rows_of(&database), left);
    assert_eq!(schema_of(&database), schema);

    // The same app again gets the same pair; a new one gets the lowest that is free in both columns.
    let used: BTreeSet<_> = left.iter().flat_map(|(.., backend, frontend)| [*backend, *frontend]).collect();
    let (model, app_num, backend, frontend) = &left[0];
    let again = world.run(["allocate", "--model", model, "--app", &app_num.to_string(), "--format", "plain"]);
    assert_eq!(again.ok(), format!("{backend} {frontend}\n"));
    let new = world.line("allocate --model new --app 1 --no-probe --format plain");
    let slot = (0..).map(|k| (5001 + 2 * k, 8001 + 2 * k)).find(|(backend, frontend)| {
        !used.contains(backend) && !used.contains(frontend) && ![5061, 6665, 6667, 6669, 6679, 6697].contains(backend)
    });
    let (backend, frontend) = slot.unwrap();
    assert_eq!(new.ok(), format!("{backend} {frontend}\n"));
}

#[test]
fn a_day_with_a_platform_database_that_the_test_makes() {
    let world = World::new();
    world.database(SCHEMA, &rows());
    story(&world, &Golden(None));
}

#[test]
fn a_day_with_the_real_database_goes_as_the_old_script_says() {
    let Some(folder) = shared("the story on the platform's real database") else { return };
    let world = World::new();
    world.write("data/ports.db", fs::read(folder.join("data/thesis_app.db")).unwrap());
    story(&world, &Golden(Some(folder.join("golden"))));
}

#[test]
fn the_real_database_has_the_schema_that_the_tests_make() {
    let Some(folder) = shared("the comparison of the schemas") else { return };
    assert_eq!(fs::read_to_string(folder.join("data/schema-sqlite.sql")).unwrap(), SCHEMA);
}

/// Reads rows back as the platform does, with its model of the table.
const SQLALCHEMY: &str = r#"
import sys
from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, String, Table, Text, create_engine, select
table = Table("port_configurations", MetaData(),
    Column("id", Integer, primary_key=True), Column("model", String(200)), Column("app_num", Integer),
    Column("frontend_port", Integer), Column("backend_port", Integer), Column("is_available", Boolean),
    Column("metadata_json", Text), Column("created_at", DateTime(timezone=True)),
    Column("updated_at", DateTime(timezone=True)))
with create_engine("sqlite:///" + sys.argv[1]).connect() as connection:
    for row in connection.execute(select(table).order_by(table.c.id)):
        print(row.model, row.app_num, row.backend_port, row.frontend_port, row.is_available, row.metadata_json,
              row.created_at.isoformat(timespec="microseconds"), row.updated_at == row.created_at)
"#;

/// A Python with SQLAlchemy and Prometheus's client, installed from PyPI for the tests; `None`, and a line that
/// says so, where they cannot be had outside CI.
pub fn python_with_packages() -> Option<PathBuf> {
    static PYTHON: OnceLock<Option<PathBuf>> = OnceLock::new();
    PYTHON.get_or_init(install_packages).clone()
}

fn install_packages() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-packages");
    let python = folder.join("bin/python");
    let runs =
        |command: &mut Command| command.stdin(Stdio::null()).output().is_ok_and(|output| output.status.success());
    let has_it = || runs(Command::new(&python).args(["-c", "import prometheus_client, psycopg2, sqlalchemy"]));
    let install = || {
        runs(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))
            && runs(Command::new(&python).args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "sqlalchemy==2.0.44",
                "psycopg2-binary==2.9.11",
                "prometheus-client==0.26.0",
            ]))
            && has_it()
    };
    if has_it() || install() {
        return Some(python);
    }
    assert!(std::env::var_os("CI").is_none(), "packages could not be installed from PyPI");
    not_run("what Python reads: its packages could not be installed from PyPI");
    None
}

#[test]
fn sqlalchemy_reads_the_rows_back() {
    let Some(python) = python_with_packages() else { return };
    let world = World::new();
    world.database(SCHEMA, &[("theirs".to_owned(), 1, 6001, 9001)]);
    let created = world.line("allocate --model ours --app 1-3 --no-probe --json");
    let created: Vec<serde_json::Value> =
        created.ok().lines().map(|line| serde_json::from_str(line).unwrap()).collect();

    let output = Command::new(python).args(["-c", SQLALCHEMY]).arg(world.default_database()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let mut expected = "theirs 1 6001 9001 True None 2026-01-02T03:04:05.678901 True\n".to_owned();
    for row in created {
        let created_at = row["created_at"].as_str().unwrap().strip_suffix('Z').unwrap();
        expected.push_str(&format!(
            "ours {} {} {} True None {created_at} True\n",
            row["app_num"], row["backend_port"], row["frontend_port"]
        ));
    }
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
}

/// Works on a migrated table as the platform does, with its model of it: makes what is missing, asks what is there,
/// adds a row, and meets the constraints.
const MIGRATED: &str = r#"
import sys
from sqlalchemy import Boolean, Column, DateTime, Integer, String, Text, UniqueConstraint, create_engine, inspect
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session, declarative_base
Base = declarative_base()
class Row(Base):
    __tablename__ = "port_configurations"
    id = Column(Integer, primary_key=True)
    model = Column(String(200), nullable=False, index=True)
    app_num = Column(Integer, nullable=False, index=True)
    frontend_port = Column(Integer, nullable=False, unique=True, index=True)
    backend_port = Column(Integer, nullable=False, unique=True, index=True)
    is_available = Column(Boolean, default=True, index=True)
    metadata_json = Column(Text)
    created_at = Column(DateTime(timezone=True))
    updated_at = Column(DateTime(timezone=True))
    __table_args__ = (UniqueConstraint("model", "app_num", name="unique_model_app"),)
engine = create_engine(sys.argv[1])
Base.metadata.create_all(engine)
unique = {tuple(index["column_names"]) for index in inspect(engine).get_indexes("port_configurations") if index["unique"]}
unique |= {tuple(rule["column_names"]) for rule in inspect(engine).get_unique_constraints("port_configurations")}
print(sorted(unique))
for values in (("new", 1, 9001, 9003), ("new", 1, 9005, 9007), ("x", 1, 9001, 9009), ("x", 1, 9011, 9003)):
    row = Row(**dict(zip(("model", "app_num", "backend_port", "frontend_port"), values)))
    try:
        with Session(engine) as session:
            session.add(row)
            session.commit()
        print("added")
    except IntegrityError:
        print("refused")
with Session(engine) as session:
    print(session.query(Row).filter_by(model="new", app_num=1).one().backend_port, session.query(Row).count())
"#;

#[test]
fn the_platform_works_with_a_migrated_table() {
    let Some(python) = python_with_packages() else { return };
    let works = |world: &World, url: &str| {
        world.line("migrate -q").ok();
        let output = Command::new(&python).args(["-c", MIGRATED, url]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stderr), "");
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            "[('backend_port',), ('frontend_port',), ('model', 'app_num')]\nadded\nrefused\nrefused\nrefused\n9001 2\n"
        );
        world.line("migrate --dry-run").ok();
        world.line("allocate new 1 --format plain").is(0, "9001 9003\n", "");
    };
    let world = World::new();
    world.database(WEAK_SCHEMA, &[row("old", 1, 5001, 8001)]);
    works(&world, &format!("sqlite:///{}", world.default_database().display()));

    let Some(server) = Server::shared("the platform on a migrated table of a server") else { return };
    let world = World::on(server);
    world.sql(server::SCHEMA);
    world.sql(
        "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
         DROP INDEX ix_port_configurations_backend_port;
         INSERT INTO port_configurations (model, app_num, backend_port, frontend_port) VALUES ('old', 1, 5001, 8001)",
    );
    let url = world.server().url().replace("postgresql:", "postgresql+psycopg2:");
    works(&world, &url);
}
