//! What reads metrics: Prometheus's client for Python, promtool, node_exporter and Prometheus itself. And what
//! `contrib/` has for them.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rusqlite::Connection;
use serde_json::Value;

use super::fixture::{Ran, SCHEMA, World, not_run, row};
use super::metrics::{samples, world};
use super::platform::python_with_packages;
use super::storm::finish;

fn contrib(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(name)
}

/// Whether a program of Debian's packages is there; a line that says so where it is not, which CI does not
/// put up with.
fn has(program: &str, test: &str) -> bool {
    let is_there = Command::new(program).arg("--version").output().is_ok();
    if !is_there {
        assert!(std::env::var_os("CI").is_none(), "{program} is missing");
        not_run(&format!("{test}: no {program}"));
    }
    is_there
}

/// A world with something of every kind: its state, and its counters in `m.prom`.
fn eventful() -> (World, String) {
    let world = world();
    let models = ["m", "q\"uote\\", "new\nline", "模型"];
    let rows: Vec<_> = models.iter().zip(0..).map(|(model, k)| row(model, 1, 5001 + 2 * k, 8001 + 2 * k)).collect();
    world.database(SCHEMA, &rows);
    world.apps(["m/app1"]);
    for line in ["allocate m 1-9", "allocate m 0", "release m 2", "cleanup --min-age 0s --include-listening"] {
        world.line(&format!("{line} -q --metrics-file m.prom"));
    }
    world.database("DROP TABLE port_configurations;", &[]);
    world.database(SCHEMA, &rows);
    let state = world.line("metrics").ok().to_owned();
    (world, state)
}

/// The types, documentation and samples of each family, as JSON.
const PARSE: &str = r#"
import json, sys
from prometheus_client.parser import text_string_to_metric_families
families = {}
for family in text_string_to_metric_families(sys.stdin.read()):
    assert family.name not in families, family.name
    samples = [[sample.name, sample.labels, sample.value] for sample in family.samples]
    families[family.name] = [family.type, family.documentation, samples]
json.dump(families, sys.stdout)
"#;

#[test]
fn prometheus_client_reads_what_is_written() {
    let Some(python) = python_with_packages() else { return };
    let (world, state) = eventful();
    let parsed = |text: &str| -> Value {
        world.write("text", text);
        let stdin = File::open(world.path("text")).unwrap();
        serde_json::from_str(Ran::of(Command::new(&python).args(["-c", PARSE]).stdin(stdin)).ok()).unwrap()
    };
    for (text, types) in [
        (
            state.as_str(),
            [
                ("manage_ports_allocations", "gauge"),
                ("manage_ports_available_slots", "gauge"),
                ("manage_ports_conflicts", "gauge"),
                ("manage_ports_orphans", "gauge"),
                ("manage_ports_reserved", "gauge"),
            ]
            .as_slice(),
        ),
        (
            &fs::read_to_string(world.path("m.prom")).unwrap(),
            &[
                ("manage_ports_allocation", "counter"),
                ("manage_ports_allocation_errors", "counter"),
                ("manage_ports_cleaned", "counter"),
                ("manage_ports_lock_wait_seconds", "histogram"),
                ("manage_ports_released", "counter"),
                ("manage_ports_retries", "counter"),
            ],
        ),
    ] {
        let families = parsed(text);
        let families = families.as_object().unwrap();
        let mut found: Vec<_> =
            families.iter().map(|(name, family)| (name.as_str(), family[0].as_str().unwrap())).collect();
        found.sort_unstable();
        assert_eq!(found, types);
        assert!(families.values().all(|family| family[1].as_str().unwrap().ends_with('.')), "{families:?}");
        let count: usize = families.values().map(|family| family[2].as_array().unwrap().len()).sum();
        assert_eq!(count, samples(text).len());
    }
    let families = parsed(&state);
    let models: Vec<_> = families["manage_ports_allocations"][2].as_array().unwrap().iter().collect();
    let models: Vec<_> = models.into_iter().map(|sample| sample[1]["model"].as_str().unwrap()).collect();
    assert_eq!(models, ["m", "new\\nline", "q\"uote\\", "模型"]);
}

#[test]
fn promtool_finds_no_fault() {
    if !has("promtool", "promtool_finds_no_fault") {
        return;
    }
    let (world, state) = eventful();
    world.write("state.prom", state);
    for file in ["m.prom", "state.prom"] {
        let stdin = File::open(world.path(file)).unwrap();
        Ran::of(Command::new("promtool").args(["check", "metrics"]).stdin(stdin)).is(0, "", "");
    }
    let rules = Ran::of(Command::new("promtool").args(["check", "rules"]).arg(contrib("alerts.yml")));
    assert!(rules.code == Some(0) && rules.stdout.contains("3 rules found"), "{rules:?}");
    // Each alert is shown to fire where it should, and not to fire where it should not.
    let mut test = Command::new("promtool");
    let ran = Ran::of(test.args(["test", "rules", "alerts_test.yml"]).current_dir(contrib("")));
    assert!(ran.code == Some(0) && ran.stdout.contains("SUCCESS"), "{ran:?}");
    let [rules, tests] = ["alerts.yml", "alerts_test.yml"].map(|name| fs::read_to_string(contrib(name)).unwrap());
    for alert in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(tests.matches(&format!("alertname: {alert}\n")).count() >= 2, "{alert}");
    }
}

/// The names that look like this program's metrics.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("manage_ports_")).map(str::to_owned).collect()
}

/// The queries of the dashboard.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(contrib("grafana-dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let mut queries = Vec::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        for target in panel["targets"].as_array().unwrap() {
            queries.push(target["expr"].as_str().unwrap().to_owned());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        queries.extend(variable["definition"].as_str().map(str::to_owned));
    }
    assert!(queries.len() > 10);
    queries
}

#[test]
fn dashboard_and_alerts_ask_for_metrics_that_there_are() {
    let (world, state) = eventful();
    let all = format!("{state}{}", fs::read_to_string(world.path("m.prom")).unwrap());
    let emitted: BTreeSet<_> = samples(&all).keys().flat_map(|name| names(name)).collect();
    let asked = names(&queries().concat());
    assert_eq!(asked.difference(&emitted).collect::<Vec<_>>(), [""; 0]);
    assert_eq!(emitted.difference(&asked).collect::<Vec<_>>(), [""; 0], "no panel shows them");
    let rules = fs::read_to_string(contrib("alerts.yml")).unwrap();
    let asked = names(&rules);
    assert!(asked.len() == 3 && asked.is_subset(&emitted), "{asked:?}");
}

#[test]
fn the_recipe_for_the_state_works() {
    let (world, state) = eventful();
    let text = fs::read_to_string(contrib("README.md")).unwrap();
    let script = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert_eq!(script.lines().count(), 3);
    fs::create_dir(world.path("collected")).unwrap();
    let script = script.replace("/var/lib/prometheus/node-exporter", "collected");
    let folder = Path::new(env!("CARGO_BIN_EXE_manage-ports")).parent().unwrap();
    let path = format!("{}:/usr/bin:/bin", folder.display());
    Ran::of(world.shell(&script).env("PATH", &path)).is(0, "", "");
    assert_eq!(fs::read_to_string(world.path("collected/manage_ports_state.prom")).unwrap(), state);
    // A failure leaves the old state.
    world.write("manage-ports.toml", "nonsense");
    Ran::of(world.shell(&script).env("PATH", &path)).fails(2, &[]);
    assert_eq!(fs::read_to_string(world.path("collected/manage_ports_state.prom")).unwrap(), state);
}

/// A server on a loopback port that the kernel chose; it ends with the test.
struct Server {
    child: Child,
    port: u16,
}

impl Server {
    /// Starts a server that logs where it listens.
    fn start(world: &World, program: &str, args: &[&str]) -> Self {
        let log = world.path(format!("{program}.log"));
        let mut command = Command::new(program);
        command.args(args).arg("--web.listen-address=127.0.0.1:0").current_dir(world.path("")).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let mut port = None;
        wait_until(|| {
            let log = fs::read_to_string(&log).unwrap();
            assert!(child.try_wait().unwrap().is_none(), "{log}");
            let listening = log.lines().find(|line| line.contains("\"Listening on\""));
            let address = listening.and_then(|line| line.split_once("address=127.0.0.1:"));
            port = address.and_then(|(_, port)| port.split_whitespace().next()?.parse().ok());
            port.is_some()
        });
        Self { child, port: port.unwrap() }
    }

    /// The body of an answer, if there is one.
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned())
    }

    /// What Prometheus answers to a query.
    fn query(&self, query: &str) -> Value {
        let query = utf8_percent_encode(query, NON_ALPHANUMERIC);
        let answer = self.get(&format!("/api/v1/query?query={query}")).unwrap_or_default();
        serde_json::from_str(&answer).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Waits until something is so, which is looked for again and again.
#[track_caller]
fn wait_until(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(120);
    while !is_so() {
        assert!(Instant::now() < deadline, "it does not come");
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn node_exporter_serves_the_counters_and_prometheus_fires_an_alert_on_them() {
    let test = "node_exporter_serves_the_counters_and_prometheus_fires_an_alert_on_them";
    if !has("prometheus-node-exporter", test) || !has("prometheus", test) {
        return;
    }
    let world = world();
    world.database(SCHEMA, &[]);
    fs::create_dir_all(world.path("collected")).unwrap();
    let file = "collected/manage_ports.prom";
    // From the first call on, there are counters, at 0.
    world.line(&format!("list --metrics-file {file}"));
    let textfile = ["--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory=collected"];
    let exporter = Server::start(&world, "prometheus-node-exporter", &textfile);

    // The rules are those of the project, but for the minutes that an alert is pending.
    let rules = fs::read_to_string(contrib("alerts.yml")).unwrap();
    world.write("alerts.yml", rules.replace("for: 5m", "for: 0s"));
    world.write(
        "prometheus.yml",
        format!(
            "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\nrule_files: [alerts.yml]\nscrape_configs:\n\
             - job_name: node\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            exporter.port
        ),
    );
    let prometheus = Server::start(&world, "prometheus", &["--config.file=prometheus.yml", "--storage.tsdb.path=tsdb"]);
    let value = |query: &str| {
        let value = prometheus.query(query)["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
        value.and_then(|value| value.parse::<f64>().ok())
    };
    wait_until(|| value("sum(manage_ports_retries_total)") == Some(0.0));

    // Sixty at once, and then some who find the database locked by another program.
    let children: Vec<_> = (1..=60).map(|n| world.start(&format!("allocate m {n} -q --metrics-file {file}"))).collect();
    children.into_iter().for_each(|child| assert_ne!(finish(child).ok(), ""));
    let served = samples(
        &exporter
            .get("/metrics")
            .unwrap()
            .lines()
            .filter(|line| line.starts_with("manage_ports"))
            .collect::<Vec<_>>()
            .join("\n"),
    );
    assert_eq!(served, samples(&fs::read_to_string(world.path(file)).unwrap()));
    assert_eq!(served["manage_ports_allocation_total{outcome=\"created\"}"], 60.0);
    let lock = Connection::open(world.default_database()).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    let retried = "manage_ports_retries_total{reason=\"writer\"}";
    wait_until(|| {
        let line = format!("allocate n 1 -q --timeout 500ms --metrics-file {file}");
        let children: Vec<_> = (0..8).map(|_| world.start(&line)).collect();
        children.into_iter().for_each(|child| finish(child).fails(3, &["locked"]));
        samples(&fs::read_to_string(world.path(file)).unwrap())[retried] > 700.0
    });
    wait_until(|| {
        let alerts: Value =
            serde_json::from_str(&prometheus.get("/api/v1/alerts").unwrap_or_default()).unwrap_or_default();
        let mut alerts = alerts["data"]["alerts"].as_array().into_iter().flatten();
        alerts.any(|alert| alert["labels"]["alertname"] == "ManagePortsRetriesRising" && alert["state"] == "firing")
    });
    assert_eq!(value("manage_ports_allocation_total{outcome=\"created\"}"), Some(60.0));

    // Prometheus understands each query of the dashboard.
    for query in queries().into_iter().filter(|query| !query.starts_with("label_values(")) {
        let asked = query.replace("$__rate_interval", "1m").replace("$instance", ".*");
        assert_eq!(prometheus.query(&asked)["status"], "success", "{query}");
    }
}
