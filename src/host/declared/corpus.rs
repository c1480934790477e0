//! These tests compare how small projects and `.env` files are read here and by Compose.
//!
//! The answers of Compose 2.40.3 are recorded in `tests/corpus`. If a Compose 2.40 is found (as `docker
//! compose`, as `docker-compose`, or by the name in MANAGE_PORTS_COMPOSE), the tests ask it again. With
//! MANAGE_PORTS_RECORD=1 they record its answers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::env::{Environment, parse};
use super::interpolate::Variable;
use super::*;

const PROJECTS: &str = include_str!("../../../tests/corpus/compose.txt");
const ENV_FILES: &str = include_str!("../../../tests/corpus/env.jsonl");
const REFUSED: &str = "refused";

/// A project and the answer of Compose about it.
struct Case {
    name: String,
    answer: String,
    files: Vec<(String, String)>,
}

/// The TCP ports that the two services and all others publish.
#[derive(Debug, Default, PartialEq, Eq)]
struct Published(BTreeMap<&'static str, BTreeSet<u16>>);

impl Published {
    fn add(&mut self, service: &str, ports: impl IntoIterator<Item = u16>) {
        let service = ["backend", "frontend"].into_iter().find(|name| *name == service).unwrap_or("other");
        let ports: Vec<_> = ports.into_iter().collect();
        if !ports.is_empty() {
            self.0.entry(service).or_default().extend(ports);
        }
    }

    fn answer(&self) -> String {
        let list = |ports: &BTreeSet<u16>| ports.iter().map(u16::to_string).collect::<Vec<_>>().join(" ");
        self.0.iter().map(|(name, ports)| format!("{name} {}", list(ports))).collect::<Vec<_>>().join("; ")
    }
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in PROJECTS.lines().filter(|line| !line.starts_with('#') || !line.contains("Compose")) {
        if let Some(name) = line.strip_prefix("=== ") {
            cases.push(Case { name: name.to_owned(), answer: String::new(), files: Vec::new() });
            continue;
        }
        let Some(case) = cases.last_mut() else { continue };
        if let Some(answer) = line.strip_prefix(">>>") {
            case.answer = answer.trim().to_owned();
        } else if let Some(path) = line.strip_prefix("--- ") {
            case.files.push((path.to_owned(), String::new()));
        } else if let Some((_, text)) = case.files.last_mut() {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (_, text) in cases.iter_mut().flat_map(|case| &mut case.files) {
        *text = text.replace("\\\n", "").replace("\\r", "\r").replace("\\ufeff", "\u{feff}").replace("\\\\", "\\");
    }
    cases
}

impl Case {
    /// Writes the project into a folder of its own.
    fn folder(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in &self.files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }
}

/// The command of the real Compose, if there is one.
static COMPOSE: LazyLock<Option<Vec<String>>> = LazyLock::new(|| {
    let named = std::env::var("MANAGE_PORTS_COMPOSE").ok();
    let candidates = [named.as_deref(), Some("docker-compose"), Some("docker compose")];
    candidates.into_iter().flatten().map(|line| line.split(' ').map(str::to_owned).collect()).find(
        |command: &Vec<String>| {
            let version = Command::new(&command[0]).args(&command[1..]).args(["version", "--short"]).output();
            version
                .is_ok_and(|found| String::from_utf8_lossy(&found.stdout).trim_start_matches('v').starts_with("2.40"))
        },
    )
});

/// Returns the configuration that the real Compose prints for a project, or `None` if it refuses the project.
fn config(folder: &Path) -> Option<Value> {
    let command = COMPOSE.as_ref().unwrap();
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).args(["config", "--format", "json"]).current_dir(folder).env_clear();
    process.env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", "/nonexistent");
    let output = process.output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

/// Returns the ports that the real Compose publishes.
fn answer_of_compose(folder: &Path) -> String {
    let Some(config) = config(folder) else { return REFUSED.to_owned() };
    let mut published = Published::default();
    let none = serde_json::Map::new();
    for (name, service) in config["services"].as_object().unwrap_or(&none) {
        let mode = service["network_mode"].as_str().unwrap_or_default();
        let has_none = |key: &Value| key.as_i64() == Some(0);
        let shares = ["service:", "container:"].iter().any(|prefix| mode.starts_with(prefix));
        if matches!(mode, "host" | "none")
            || shares
            || has_none(&service["scale"])
            || has_none(&service["deploy"]["replicas"])
        {
            continue;
        }
        for port in service["ports"].as_array().into_iter().flatten().filter(|port| port["protocol"] == "tcp") {
            let text = port["published"].as_str().unwrap_or("0");
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let (first, last): (u16, u16) = (first.parse().unwrap(), last.parse().unwrap());
            published.add(name, (first..=last).filter(|&port| port != 0));
        }
    }
    published.answer()
}

#[test]
fn a_project_publishes_what_compose_publishes_of_it() {
    let record = COMPOSE.is_some() && std::env::var_os("MANAGE_PORTS_RECORD").is_some();
    let mut text = PROJECTS.split_inclusive('\n').map(str::to_owned).collect::<Vec<_>>();
    let mut differences = Vec::new();
    let cases = cases();
    assert!(cases.len() >= 120);
    for case in &cases {
        let folder = case.folder();
        let mut answer = case.answer.clone();
        if COMPOSE.is_some() {
            let found = answer_of_compose(folder.path());
            if record {
                let at =
                    text.iter().position(|line| line.trim_end_matches('\n') == format!("=== {}", case.name)).unwrap();
                text[at + 1] = format!(">>> {found}\n").replace(">>> \n", ">>>\n");
                answer = found;
            } else if found != answer {
                differences.push(format!("{}: Compose answers {found}, recorded is {answer}", case.name));
            }
        }
        let declared = read(folder.path(), &Names::default());
        let told = || declared.unreadable.iter().chain(&declared.refused).map(|note| &note.reason).collect::<Vec<_>>();
        let mut published = Published::default();
        for found in declared.ports.iter().filter(|found| found.file != ENV_FILE) {
            published.add(found.role.name(), found.ports.clone());
        }
        // If Compose refuses something, it must be reported. Parts that can still be read may be reported,
        // too.
        let may_be_told = case.name.ends_with("(told)");
        let is_right = match answer.as_str() {
            REFUSED => !told().is_empty(),
            answer => (told().is_empty() || may_be_told) && published.answer() == answer,
        };
        if !is_right {
            differences.push(format!("{}: {answer:?} but {:?} {:?}", case.name, published.answer(), told()));
        }
    }
    if record {
        fs::write(corpus("compose.txt"), text.concat()).unwrap();
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), cases.len(), differences.join("\n"));
}

#[test]
fn an_env_file_sets_what_compose_reads_in_it() {
    let record = COMPOSE.is_some() && std::env::var_os("MANAGE_PORTS_RECORD").is_some();
    let mut recorded = String::new();
    let mut differences = Vec::new();
    let lines: Vec<Value> = ENV_FILES.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.len() >= 120);
    for line in &lines {
        let text = line["env"].as_str().unwrap();
        let mut values = line["values"].clone();
        if COMPOSE.is_some() {
            let found = values_of_compose(text);
            if record {
                recorded += &format!("{}\n", json!({"env": text, "values": found}));
                values = found;
            } else if found != values {
                differences.push(format!("{text:?}: Compose reads {found}, recorded is {values}"));
            }
        }
        let variables = parse(text.as_bytes(), &Environment::default()).unwrap();
        let ours = if variables.problems.is_empty() {
            let environment = Environment::default().with(Rc::new(variables));
            let set = ["A", "B"].into_iter().filter_map(|name| match environment.get(name) {
                Variable::Set(value) => Some((name.to_owned(), json!(value))),
                Variable::NotSet => None,
                Variable::Unknown => Some((name.to_owned(), json!(["not known"]))),
            });
            Value::Object(set.collect())
        } else {
            json!(REFUSED)
        };
        if ours != values {
            differences.push(format!("{text:?}: {values} but {ours}"));
        }
    }
    if record {
        fs::write(corpus("env.jsonl"), recorded).unwrap();
    }
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), lines.len(), differences.join("\n"));
}

/// Returns the values of A and B as the real Compose reads them.
fn values_of_compose(env: &str) -> Value {
    let root = tempfile::tempdir().unwrap();
    let probe = r#"{"A": "${A}", "HAS_A": "${A+1}", "B": "${B}", "HAS_B": "${B+1}"}"#;
    fs::write(root.path().join("compose.yaml"), format!("services: {{probe: {{image: x, environment: {probe}}}}}"))
        .unwrap();
    fs::write(root.path().join(".env"), env).unwrap();
    let Some(config) = config(root.path()) else { return json!(REFUSED) };
    let environment = &config["services"]["probe"]["environment"];
    let has = |name: &&str| environment[format!("HAS_{name}")] == "1";
    // Compose prints a dollar sign as two.
    let value = |name: &str| json!(environment[name].as_str().unwrap().replace("$$", "$"));
    Value::Object(["A", "B"].into_iter().filter(has).map(|name| (name.to_owned(), value(name))).collect())
}

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name)
}
