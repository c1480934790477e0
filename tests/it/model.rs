//! Random sequences of commands, some of them at once in several processes, against a model in memory: each
//! answer, each exit code and the rows after each step.
//!
//! What ran at once must look as if it had run in some order. A cleanup counts as two events, as it reads the
//! table before it takes the lock and removes what has not changed since.
//!
//! `PROPTEST_CASES=500 cargo test --test it model::` tries more sequences than a test run does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Stdio;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Value, json};

use super::fixture::{Ran, SCHEMA, WEAK_SCHEMA, World};
use super::server::{self, Server};
use super::storm::finish;

/// Slot k is `(BACKEND + 2k, BACKEND + 2 + 2k)`, so that a port is the frontend of one slot and the backend of
/// the next, which no index of the table knows. There are few, so that they run out.
const CONFIG: &str = "timeout = \"3m\"\ncleanup_min_age = \"0s\"\n[ports]\nprobe = false\nbackend_base = 20001\n\
                      frontend_base = 20003\nmax = 20023\nexclude = [20009]\n";
const BACKEND: u16 = 20001;
const MAX: u16 = 20023;
const EXCLUDED: u16 = 20009;

/// An app whose directory always stands, so that the apps directory is never empty.
const KEPT: App = ("kept", 1);
const MODELS: [&str; 2] = ["a", "b"];
const APPS: u32 = 4;

type App = (&'static str, u32);
type Pair = (u16, u16);

/// What a step asks of the program.
#[derive(Debug, Clone)]
enum Command {
    Allocate(&'static str, Vec<u32>),
    AllocatePair(App, Pair),
    Reserve(&'static str, Vec<u32>, u32),
    Cancel(&'static str, Vec<u32>),
    Release(&'static str, Vec<u32>),
    ReleaseAll(&'static str),
    Import(Vec<(App, Pair)>, bool),
    Cleanup(Option<&'static str>),
    List,
    Check,
}

/// A step: commands that run at once, or a directory that comes or goes.
#[derive(Debug, Clone)]
enum Step {
    Run(Vec<Command>),
    MakeDirectory(App),
    RemoveDirectory(App),
}

fn app() -> impl Strategy<Value = App> {
    (select(&MODELS[..]), 1..=APPS)
}

fn apps() -> impl Strategy<Value = (&'static str, Vec<u32>)> {
    (select(&MODELS[..]), subsequence((1..=APPS).collect::<Vec<_>>(), 1..=3).prop_shuffle())
}

fn pair() -> impl Strategy<Value = Pair> {
    let port = || (0u16..14).prop_map(|k| BACKEND + 2 * k);
    (port(), port()).prop_filter("two ports", |(backend, frontend)| backend != frontend)
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        4 => apps().prop_map(|(model, nums)| Command::Allocate(model, nums)),
        2 => (app(), pair()).prop_map(|(app, pair)| Command::AllocatePair(app, pair)),
        2 => (apps(), 1..=3u32).prop_map(|((model, nums), hours)| Command::Reserve(model, nums, hours)),
        1 => apps().prop_map(|(model, nums)| Command::Cancel(model, nums)),
        2 => apps().prop_map(|(model, nums)| Command::Release(model, nums)),
        1 => select(&MODELS[..]).prop_map(Command::ReleaseAll),
        2 => (vec((app(), pair()), 1..=3), any::<bool>()).prop_map(|(entries, skip)| Command::Import(entries, skip)),
        2 => prop::option::of(select(&MODELS[..])).prop_map(Command::Cleanup),
        1 => Just(Command::List),
        1 => Just(Command::Check),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => command().prop_map(|command| Step::Run(vec![command])),
        4 => vec(command(), 2..=3).prop_map(Step::Run),
        2 => app().prop_map(Step::MakeDirectory),
        1 => app().prop_map(Step::RemoveDirectory),
    ]
}

impl Command {
    /// The command line. An import's file stands at `import<index>.json`.
    fn line(&self, index: usize) -> String {
        let list = |nums: &[u32]| nums.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
        match self {
            Self::Allocate(model, nums) => format!("allocate {model} {} --json", list(nums)),
            Self::AllocatePair((model, num), (backend, frontend)) => {
                format!("allocate {model} {num} --backend-port {backend} --frontend-port {frontend} --json")
            }
            Self::Reserve(model, nums, hours) => format!("reserve {model} {} --for {hours}h --json", list(nums)),
            Self::Cancel(model, nums) => format!("reserve {model} {} --cancel --json", list(nums)),
            Self::Release(model, nums) => format!("release {model} {} --json", list(nums)),
            Self::ReleaseAll(model) => format!("release {model} --all --json"),
            Self::Import(_, false) => format!("import import{index}.json"),
            Self::Import(_, true) => format!("import import{index}.json --skip-conflicts"),
            // What this machine listens on must not decide the test.
            Self::Cleanup(model) => format!("cleanup {} --include-listening --json", model.unwrap_or_default()),
            Self::List => "list --json".to_owned(),
            Self::Check => "check --json".to_owned(),
        }
    }
}

/// An answer: the exit code, and what was printed, in a form that the model gives, too.
type Answer = (i32, Vec<String>);

/// What the program answered.
fn answer(command: &Command, ran: &Ran) -> Answer {
    let code = ran.code.unwrap_or_else(|| panic!("{ran:?}"));
    assert!(!ran.stderr.contains("panicked") && [0, 1, 4, 6].contains(&code), "{command:?}: {ran:?}");
    let of = |row: &Value| {
        let created = if row["created"] == json!(true) { " created" } else { "" };
        let held = if row["reserved_until"].is_string() { " held" } else { "" };
        format!(
            "{}/{} {} {}{held}{created}",
            row["model"].as_str().unwrap(),
            row["app_num"],
            row["backend_port"],
            row["frontend_port"]
        )
    };
    let document = || serde_json::from_str::<Value>(&ran.stdout).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
    let rows = |rows: &Value| rows.as_array().unwrap().iter().map(of).collect::<Vec<_>>();
    let lines = match command {
        _ if matches!(code, 4 | 6) => {
            assert_eq!(ran.stdout, "", "{ran:?}");
            Vec::new()
        }
        Command::Allocate(..) | Command::AllocatePair(..) | Command::Reserve(..) | Command::Cancel(..) => {
            ran.stdout.lines().map(|line| of(&serde_json::from_str(line).unwrap())).collect()
        }
        Command::Release(..) | Command::ReleaseAll(_) => {
            let document = document();
            let missing = document["not_found"].as_array().unwrap().iter();
            let missing = missing.map(|app| format!("no {}/{}", app["model"].as_str().unwrap(), app["app_num"]));
            rows(&document["released"]).into_iter().chain(missing).collect()
        }
        Command::Import(..) => ran.stdout.lines().filter(|line| line.contains("Imported")).map(str::to_owned).collect(),
        Command::Cleanup(_) => rows(&document()["removed"]),
        Command::List => rows(&document()),
        Command::Check => {
            let document = document();
            assert_eq!(document["conflicts"], json!([]), "{ran:?}");
            let warnings = document["warnings"].as_array().unwrap().iter();
            vec![format!("{} orphaned", warnings.filter(|found| found["kind"] == json!("orphaned")).count())]
        }
    };
    (code, lines)
}

/// A row of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Row {
    pair: Pair,
    /// For how many hours it is held, if it is.
    held: Option<u32>,
    /// Another number after each change.
    version: u64,
}

/// The table and the directories, as they should be.
#[derive(Debug, Clone, Default)]
struct Model {
    rows: BTreeMap<App, Row>,
    directories: BTreeSet<App>,
    changes: u64,
}

/// An event: a whole command, or one of the two parts of a cleanup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Whole(usize),
    Look(usize),
    Remove(usize),
}

impl Model {
    fn new() -> Self {
        let mut model = Self::default();
        model.directories.insert(KEPT);
        model.insert(KEPT, (BACKEND, BACKEND + 2));
        model
    }

    fn insert(&mut self, app: App, pair: Pair) {
        self.changes += 1;
        self.rows.insert(app, Row { pair, held: None, version: self.changes });
    }

    fn is_taken(&self, port: u16) -> bool {
        self.rows.values().any(|row| row.pair.0 == port || row.pair.1 == port)
    }

    fn lowest_slot(&self) -> Option<Pair> {
        let slots = (BACKEND..=MAX - 2).step_by(2).map(|backend| (backend, backend + 2));
        let is_free = |port: u16| port != EXCLUDED && !self.is_taken(port);
        slots.into_iter().find(|&(backend, frontend)| is_free(backend) && is_free(frontend))
    }

    fn line(&self, app: App) -> String {
        let Row { pair: (backend, frontend), held, .. } = &self.rows[&app];
        let held = if held.is_some() { " held" } else { "" };
        format!("{}/{} {backend} {frontend}{held}", app.0, app.1)
    }

    fn orphans(&self, of: Option<&str>) -> Vec<(App, u64)> {
        let of = self.rows.iter().filter(|(app, row)| {
            of.is_none_or(|model| model == app.0) && row.held.is_none() && !self.directories.contains(*app)
        });
        of.map(|(app, row)| (*app, row.version)).collect()
    }

    /// Gives apps their pairs, and holds them: all or none.
    fn give(&mut self, model: &'static str, nums: &[u32], hours: Option<u32>) -> Answer {
        let mut after = self.clone();
        let mut lines = Vec::new();
        for &num in nums {
            let app = (model, num);
            let is_new = !after.rows.contains_key(&app);
            if is_new {
                let Some(pair) = after.lowest_slot() else { return (4, Vec::new()) };
                after.insert(app, pair);
            }
            after.hold(app, hours);
            lines.push(after.line(app) + if is_new { " created" } else { "" });
        }
        *self = after;
        (0, lines)
    }

    fn hold(&mut self, app: App, hours: Option<u32>) {
        let Some(row) = self.rows.get_mut(&app) else { return };
        if hours.is_some() && row.held < hours {
            self.changes += 1;
            (row.held, row.version) = (hours, self.changes);
        }
    }

    fn import(&mut self, entries: &[(App, Pair)], skips: bool) -> Answer {
        let mut after = self.clone();
        let (mut imported, mut existing, mut skipped) = (0, 0, 0);
        for &(app, pair) in entries {
            match after.rows.get(&app) {
                Some(row) if row.pair == pair => existing += 1,
                None if !after.is_taken(pair.0) && !after.is_taken(pair.1) => {
                    after.insert(app, pair);
                    imported += 1;
                }
                _ => skipped += 1,
            }
        }
        if skipped > 0 && !skips {
            return (6, Vec::new());
        }
        *self = after;
        (0, vec![format!("✓ Imported {imported} allocation(s), {existing} existing, {skipped} skipped")])
    }

    /// What a whole command does and answers.
    fn run(&mut self, command: &Command) -> Answer {
        match command {
            Command::Allocate(model, nums) => self.give(model, nums, None),
            Command::Reserve(model, nums, hours) => self.give(model, nums, Some(*hours)),
            Command::AllocatePair(app, pair) => match self.rows.get(app) {
                Some(row) if row.pair == *pair => (0, vec![self.line(*app)]),
                None if ![pair.0, pair.1].iter().any(|&port| port == EXCLUDED || self.is_taken(port)) => {
                    self.insert(*app, *pair);
                    (0, vec![self.line(*app) + " created"])
                }
                _ => (6, Vec::new()),
            },
            Command::Cancel(model, nums) => {
                let apps: Vec<_> = nums.iter().map(|&num| (*model, num)).collect();
                let found: BTreeSet<_> = apps.iter().copied().filter(|app| self.rows.contains_key(app)).collect();
                let Self { rows, changes, .. } = self;
                for (_, row) in rows.iter_mut().filter(|(app, row)| found.contains(app) && row.held.is_some()) {
                    *changes += 1;
                    (row.held, row.version) = (None, *changes);
                }
                let lines = apps.iter().filter(|app| found.contains(app)).map(|&app| self.line(app)).collect();
                (i32::from(found.len() < apps.len()), lines)
            }
            Command::Release(model, nums) => {
                let asked: BTreeSet<_> = nums.iter().map(|&num| (*model, num)).collect();
                let (found, missing): (Vec<_>, Vec<_>) = asked.iter().partition(|app| self.rows.contains_key(*app));
                let lines: Vec<_> = found.iter().map(|&app| self.line(app)).collect();
                // The apps that have no row are told in the order in which they were named.
                let missing = nums.iter().filter(|num| missing.contains(&(*model, **num)));
                let missing: Vec<_> = missing.map(|num| format!("no {model}/{num}")).collect();
                self.rows.retain(|app, _| !asked.contains(app));
                (i32::from(!missing.is_empty()), [lines, missing].concat())
            }
            Command::ReleaseAll(model) => {
                let found: Vec<_> = self.rows.keys().copied().filter(|app| app.0 == *model).collect();
                let lines: Vec<_> = found.iter().map(|&app| self.line(app)).collect();
                self.rows.retain(|app, _| app.0 != *model);
                (i32::from(found.is_empty()), lines)
            }
            Command::Import(entries, skips) => self.import(entries, *skips),
            Command::Cleanup(of) => {
                let orphans = self.orphans(*of);
                self.remove(&orphans)
            }
            Command::List => (0, self.list()),
            Command::Check => (0, vec![format!("{} orphaned", self.orphans(None).len())]),
        }
    }

    /// The second part of a cleanup: removes those of the orphans that have not changed.
    fn remove(&mut self, orphans: &[(App, u64)]) -> Answer {
        let is_same = |(app, version): &&(App, u64)| self.rows.get(app).is_some_and(|row| row.version == *version);
        let removed: Vec<_> = orphans.iter().filter(is_same).map(|(app, _)| *app).collect();
        let lines = removed.iter().map(|&app| self.line(app)).collect();
        self.rows.retain(|app, _| !removed.contains(app));
        (0, lines)
    }

    fn list(&self) -> Vec<String> {
        self.rows.keys().map(|&app| self.line(app)).collect()
    }

    /// Returns the model after an order of these commands in which each gives the answer that it gave, and which
    /// leaves these rows.
    fn explained(&self, commands: &[Command], answers: &[Answer], rows: &[String]) -> Option<Self> {
        let mut looks = vec![Vec::new(); commands.len()];
        self.explained_from(commands, answers, rows, &events(commands), &mut looks)
    }

    fn explained_from(
        &self,
        commands: &[Command],
        answers: &[Answer],
        rows: &[String],
        left: &[Event],
        looks: &mut Vec<Vec<(App, u64)>>,
    ) -> Option<Self> {
        if left.is_empty() {
            return (self.list() == rows).then(|| self.clone());
        }
        left.iter().enumerate().find_map(|(at, event)| {
            let mut after = self.clone();
            let is_as_answered = match *event {
                Event::Whole(index) => after.run(&commands[index]) == answers[index],
                Event::Look(index) => {
                    let Command::Cleanup(of) = commands[index] else { return None };
                    looks[index] = after.orphans(of);
                    true
                }
                Event::Remove(index) if left.contains(&Event::Look(index)) => return None,
                Event::Remove(index) => after.remove(&looks[index]) == answers[index],
            };
            let rest: Vec<_> =
                left.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, event)| *event).collect();
            let seen = looks.clone();
            let explained =
                is_as_answered.then(|| after.explained_from(commands, answers, rows, &rest, looks)).flatten();
            *looks = seen;
            explained
        })
    }
}

/// The events of commands that run at once.
fn events(commands: &[Command]) -> Vec<Event> {
    let of = |(index, command): (usize, &Command)| match command {
        Command::Cleanup(_) => vec![Event::Look(index), Event::Remove(index)],
        _ => vec![Event::Whole(index)],
    };
    commands.iter().enumerate().flat_map(of).collect()
}

/// Runs commands at once, and returns what each answered.
fn run(world: &World, commands: &[Command]) -> Vec<Answer> {
    let start = |(index, command): (usize, &Command)| {
        if let Command::Import(entries, _) = command {
            let entry = |((model, num), (backend, frontend)): &(App, Pair)| json!({"model": model, "app_num": num, "backend_port": backend, "frontend_port": frontend});
            let entries: Vec<_> = entries.iter().map(entry).collect();
            world.write(&format!("import{index}.json"), Value::from(entries).to_string());
        }
        let mut process = world.command();
        process.args(command.line(index).split_whitespace()).arg("-q");
        process.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = commands.iter().enumerate().map(start).collect();
    commands.iter().zip(children).map(|(command, child)| answer(command, &finish(child))).collect()
}

/// Runs the steps in a world whose table is empty.
fn follow(world: &World, steps: &[Step]) -> Result<(), TestCaseError> {
    world.write("manage-ports.toml", CONFIG);
    drop(fs::remove_dir_all(world.path("generated")));
    world.apps(["kept/app1"]);
    let mut model = Model::new();
    let first = Command::Allocate(KEPT.0, vec![KEPT.1]);
    prop_assert_eq!(run(world, &[first]), [(0, vec!["kept/1 20001 20003 created".to_owned()])]);
    for step in steps {
        match step {
            Step::MakeDirectory(app) => {
                world.apps([format!("{}/app{}", app.0, app.1)]);
                model.directories.insert(*app);
            }
            Step::RemoveDirectory(app) => {
                drop(fs::remove_dir(world.path(format!("generated/apps/{}/app{}", app.0, app.1))));
                model.directories.remove(app);
            }
            Step::Run(commands) => {
                let answers = run(world, commands);
                let rows = run(world, &[Command::List]).remove(0).1;
                match model.explained(commands, &answers, &rows) {
                    Some(after) => model = after,
                    None => {
                        let why =
                            format!("no order explains {commands:?}: {answers:?}, then {rows:?}, after {model:?}");
                        return Err(TestCaseError::fail(why));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Tries sequences of steps.
fn explore(cases: u32, follow: impl Fn(usize, &[Step]) -> Result<(), TestCaseError>) {
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 200, ..default };
    let steps = (0..3usize, vec(step(), 1..=12));
    let result = TestRunner::new(config).run(&steps, |(kind, steps)| follow(kind, &steps));
    result.unwrap_or_else(|err| panic!("{err}"));
}

#[test]
fn any_sequence_of_commands_is_as_the_model_says_on_sqlite() {
    explore(16, |kind, steps| {
        let world = World::new();
        match kind {
            0 => {}
            1 => world.database(SCHEMA, &[]),
            _ => world.database(WEAK_SCHEMA, &[]),
        }
        follow(&world, steps)
    });
}

#[test]
fn any_sequence_of_commands_is_as_the_model_says_on_postgresql() {
    let Some(server) = Server::shared("sequences of commands on PostgreSQL") else { return };
    let world = World::on(server);
    explore(16, |_, steps| {
        world.sql(&format!("DROP TABLE IF EXISTS port_configurations; {}", server::SCHEMA));
        follow(&world, steps)
    });
}

#[test]
fn the_model_finds_the_order_and_no_other_answer() {
    let model = Model::new();
    let commands = [Command::Allocate("a", vec![1]), Command::Cleanup(None), Command::Allocate("a", vec![2])];
    let made = |num, backend| (0, vec![format!("a/{num} {backend} {} created", backend + 2)]);
    let kept = "kept/1 20001 20003".to_owned();
    // The first app is seen, the other gets the next slot, and then the first is removed.
    let answers = [made(1, 20005), (0, vec!["a/1 20005 20007".to_owned()]), made(2, 20011)];
    let rows = ["a/2 20011 20013".to_owned(), kept.clone()];
    assert!(model.explained(&commands, &answers, &rows).is_some());
    // Both have the same ports, and neither was released.
    let answers = [made(1, 20005), (0, Vec::new()), made(2, 20005)];
    let rows = ["a/1 20005 20007".to_owned(), "a/2 20005 20007".to_owned(), kept];
    assert!(model.explained(&commands, &answers, &rows).is_none());
}
