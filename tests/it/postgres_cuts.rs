//! Every message between a command and a PostgreSQL server: what becomes of the command if the connection or
//! the server ends there, or the message comes late or in pieces.
//!
//! A command runs through a proxy that knows where messages begin. An undisturbed run counts the messages of
//! both directions; then each of them is the place of each fault. After each run the rows are those before or
//! those after; with status 0 the answer is right and its rows are there, otherwise the status is 3 and stderr
//! says why; and the same command then does what is left to do.
//!
//! `cargo test` takes one point of many. With `MANAGE_PORTS_SWEEP=all` in its environment, it takes all.

use std::env;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fixture::{Ran, World, not_run, say};
use super::postgres::wait_until;
use super::server::{SCHEMA, Server};

/// Of how many points one is taken, unless all are.
const ONE_OF: usize = 31;

/// How many commands run at once, each in a database of its own.
const WORKERS: usize = 3;

/// The rows before each command.
const ROWS: &str = "TRUNCATE port_configurations RESTART IDENTITY;
    INSERT INTO port_configurations (model, app_num, backend_port, frontend_port, is_available, created_at)
    SELECT CASE WHEN n = 0 THEN 'kept' ELSE 'gone' END, n + 1, 5001 + 2 * n, 8001 + 2 * n, true, '2026-01-02'
    FROM generate_series(0, 4) AS n";

/// Takes the constraints off a table that `migrate` adds.
const WEAKEN: &str = "ALTER TABLE port_configurations DROP CONSTRAINT unique_model_app;
    DROP INDEX ix_port_configurations_backend_port, ix_port_configurations_frontend_port";

/// The table before a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Table {
    Missing,
    /// It lacks the constraints that `migrate` adds.
    Weak,
    Whole,
}

/// The commands, each with the table before it.
const LINES: [(&str, Table); 10] = [
    ("allocate new 1", Table::Missing),
    ("import import.json", Table::Missing),
    ("allocate new 1", Table::Whole),
    ("allocate new 1-2", Table::Whole),
    ("allocate kept 1", Table::Whole),
    ("reserve kept 1 --for 1h", Table::Whole),
    ("release gone 2-3", Table::Whole),
    ("cleanup --include-listening --min-age 0s", Table::Whole),
    ("import import.json", Table::Whole),
    ("migrate", Table::Weak),
];

/// Who sends a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sender {
    Command,
    Server,
}

/// What happens at a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// The connection ends before it.
    Cut,
    /// The connection ends in the middle of it.
    CutInside,
    /// The connection ends before it, and so does each later one before its message of this number.
    CutAlways,
    /// It comes in two halves.
    Halves,
    /// It comes twice, which no network does, so the command may give up.
    Repeat,
    /// It comes late.
    Delay,
    /// The server says something else before it, as it may at any time.
    Notice,
    /// The server's process for this connection is told to end before it.
    Terminate,
    /// The whole server crashes before it, and starts again.
    Crash,
}

impl Fault {
    const ALL: [Self; 9] = [
        Self::Cut,
        Self::CutInside,
        Self::CutAlways,
        Self::Halves,
        Self::Repeat,
        Self::Delay,
        Self::Notice,
        Self::Terminate,
        Self::Crash,
    ];
}

/// A place for a fault: the message with this number, from 1 on, in this direction.
#[derive(Debug, Clone, Copy)]
struct Point {
    from: Sender,
    number: usize,
    fault: Fault,
}

/// Passes connections on to a server, and lets something happen to a message.
struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    server: &'static Server,
    point: Option<Point>,
    /// How many messages the first connection had in each direction.
    counts: [AtomicUsize; 2],
    /// How many directions of the first connection have ended.
    ended: AtomicUsize,
    happened: AtomicBool,
    is_over: AtomicBool,
}

/// A connection that passes through.
struct Passing {
    shared: Arc<Shared>,
    is_first: bool,
    /// The server's process for it, once that has told its number.
    process: AtomicU32,
    sockets: [TcpStream; 2],
}

impl Proxy {
    fn start(server: &'static Server, point: Option<Point>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            point,
            counts: [AtomicUsize::new(0), AtomicUsize::new(0)],
            ended: AtomicUsize::new(0),
            happened: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        let proxy = Self { port, shared: Arc::clone(&shared) };
        thread::spawn(move || {
            let mut is_first = true;
            for client in listener.incoming() {
                if shared.is_over.load(Ordering::SeqCst) {
                    return;
                }
                // A server that is not there yet is as one that ends the connection.
                let (Ok(client), Ok(upstream)) = (client, TcpStream::connect(("127.0.0.1", shared.server.port())))
                else {
                    continue;
                };
                for socket in [&client, &upstream] {
                    socket.set_nodelay(true).unwrap();
                }
                let passing = Arc::new(Passing {
                    shared: Arc::clone(&shared),
                    is_first,
                    process: AtomicU32::new(0),
                    sockets: [client.try_clone().unwrap(), upstream.try_clone().unwrap()],
                });
                is_first = false;
                let other = Arc::clone(&passing);
                let (from, to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                thread::spawn(move || other.pass(Sender::Command, from, to));
                thread::spawn(move || passing.pass(Sender::Server, upstream, client));
            }
        });
        proxy
    }

    /// Waits until the first connection is over, and with it whatever was to happen to its messages.
    fn wait(&self) {
        wait_until(|| self.shared.ended.load(Ordering::SeqCst) == 2);
    }

    fn counts(&self) -> [usize; 2] {
        self.shared.counts.each_ref().map(|count| count.load(Ordering::SeqCst))
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        // It waits for a connection.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Passing {
    fn pass(&self, side: Sender, mut from: TcpStream, mut to: TcpStream) {
        let mut number = 0;
        while let Ok(message) = read_message(&mut from, side == Sender::Command && number == 0) {
            number += 1;
            if side == Sender::Server && message[0] == b'K' {
                self.process.store(u32::from_be_bytes(message[5..9].try_into().unwrap()), Ordering::SeqCst);
            }
            if self.is_first {
                self.shared.counts[side as usize].store(number, Ordering::SeqCst);
            }
            if self.meet(side, number, &message, &mut to).and_then(|rest| to.write_all(rest)).is_err() {
                break;
            }
        }
        self.cut();
        if self.is_first {
            self.shared.ended.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Lets happen what is to happen at this message, and returns what of it is still to be passed on; an error
    /// where the connection is to end.
    fn meet<'a>(&self, side: Sender, number: usize, message: &'a [u8], to: &mut TcpStream) -> io::Result<&'a [u8]> {
        let Some(point) = self.shared.point else { return Ok(message) };
        let is_here = (point.from, point.number) == (side, number);
        if !is_here || !self.is_first && point.fault != Fault::CutAlways {
            return Ok(message);
        }
        let passed_on = self.happen(point.fault, message, to);
        self.shared.happened.store(true, Ordering::SeqCst);
        passed_on
    }

    fn happen<'a>(&self, fault: Fault, message: &'a [u8], to: &mut TcpStream) -> io::Result<&'a [u8]> {
        let cut = || Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        let (first, second) = message.split_at(message.len() / 2);
        match fault {
            Fault::Cut | Fault::CutAlways => return cut(),
            Fault::CutInside => {
                to.write_all(first)?;
                return cut();
            }
            Fault::Halves => {
                to.write_all(first)?;
                thread::sleep(Duration::from_millis(3));
                return Ok(second);
            }
            Fault::Repeat => to.write_all(message)?,
            Fault::Delay => thread::sleep(Duration::from_millis(60)),
            Fault::Notice => to.write_all(NOTICE)?,
            Fault::Terminate => match self.process.load(Ordering::SeqCst) {
                0 => return cut(),
                process => terminate(process),
            },
            Fault::Crash => self.shared.server.crash(),
        }
        Ok(message)
    }

    fn cut(&self) {
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// A notice from the server, and a parameter that it has changed.
const NOTICE: &[u8] = b"N\0\0\0\x20SNOTICE\0VNOTICE\0C00000\0Mhi\0\0S\0\0\0\x17application_name\0x\0";

/// Reads a message. The first one of a connection has no letter before its length.
fn read_message(from: &mut TcpStream, is_first: bool) -> io::Result<Vec<u8>> {
    let head = if is_first { 0 } else { 1 };
    let mut message = vec![0; head + 4];
    from.read_exact(&mut message)?;
    let length = u32::from_be_bytes(message[head..].try_into().unwrap());
    message.resize(head + usize::try_from(length).unwrap(), 0);
    from.read_exact(&mut message[head + 4..])?;
    Ok(message)
}

/// Tells a process of the server to end, as `pg_terminate_backend` does, and waits until it has.
fn terminate(process: u32) {
    let _ = Command::new("sh").args(["-c", &format!("kill -TERM {process}")]).output();
    let start = Instant::now();
    while Path::new(&format!("/proc/{process}")).exists() && start.elapsed() < Duration::from_secs(5) {
        thread::sleep(Duration::from_millis(1));
    }
}

/// The worlds of one worker: a database without the table, one with a weak one, and one with a whole one.
struct Worlds([World; 3]);

impl Worlds {
    fn new(server: &'static Server) -> Self {
        let worlds = [(); 3].map(|()| World::on(server));
        worlds[Table::Whole as usize].sql(SCHEMA);
        for world in &worlds {
            world.write("manage-ports.toml", "[ports]\nprobe = false\n");
            world.write(
                "import.json",
                r#"[{"model": "imported", "app_number": 1, "backend_port": 20101, "frontend_port": 20103}]"#,
            );
            world.apps(["kept/app1"]);
        }
        Self(worlds)
    }

    /// The world with the rows from which a command starts.
    fn prepared(&self, table: Table) -> &World {
        let world = &self.0[table as usize];
        if table != Table::Whole {
            world.sql("DROP TABLE IF EXISTS port_configurations");
        }
        if table == Table::Weak {
            world.sql(&format!("{SCHEMA} {WEAKEN}"));
        }
        if table != Table::Missing {
            world.sql(ROWS);
        }
        world
    }
}

/// The number of unique indexes, and the rows, each with whether it is reserved.
fn held(world: &World) -> String {
    if world.server().sql("SELECT to_regclass('port_configurations') IS NULL") == "t\n" {
        return String::new();
    }
    world.server().sql(
        "SELECT count(*) FROM pg_index WHERE indrelid = 'port_configurations'::regclass AND indisunique;
         SELECT model, app_num, backend_port, frontend_port, metadata_json LIKE '%reserved_until%'
         FROM port_configurations ORDER BY model, app_num",
    )
}

/// Runs a line through a proxy. Far beyond `--timeout`, it is ended.
fn run_through(world: &World, proxy: &Proxy, line: &str) -> Ran {
    let always = proxy.shared.point.is_some_and(|point| point.fault == Fault::CutAlways);
    let mut command = Command::new("timeout");
    command.env_clear();
    // Whatever else happens is overcome in less, also on a machine that is busy.
    command.env("MANAGE_PORTS_TIMEOUT", if always { "1s" } else { "30s" });
    command.args(["-s", "KILL", "90", env!("CARGO_BIN_EXE_manage-ports")]).args(line.split(' ')).arg("--json");
    command.current_dir(world.path("")).env("PATH", "/usr/bin:/bin");
    Ran::of(command.env("MANAGE_PORTS_DATABASE", world.server().url_through(proxy.port)))
}

/// How often a command is run until its first connection comes as far as a message. A server that is busy may end
/// a connection sooner: other tests have all of its connections at times.
const TRIES: usize = 8;

/// A line on a database, and what an undisturbed run does.
struct Case {
    line: &'static str,
    table: Table,
    before: String,
    after: String,
    answer: String,
    counts: [usize; 2],
}

impl Case {
    fn new(worlds: &Worlds, (line, table): (&'static str, Table)) -> Self {
        let run = || {
            let world = worlds.prepared(table);
            let before = held(world);
            let proxy = Proxy::start(world.server().server(), None);
            let ran = run_through(world, &proxy, line);
            assert_eq!(ran.code, Some(0), "{line}: {ran:?}");
            proxy.wait();
            let (after, answer) = (held(world), normal(&ran.stdout));
            Self { line, table, before, after, answer, counts: proxy.counts() }
        };
        let mut case = run();
        for _ in 0..TRIES {
            let before = mem::replace(&mut case, run());
            // Two runs with as many messages were disturbed by nobody.
            if before.counts == case.counts {
                return case;
            }
        }
        panic!("{line}: no two runs with as many messages");
    }

    fn points(&self, fault: Fault) -> impl Iterator<Item = Point> {
        let sides: &[Sender] =
            if fault == Fault::Notice { &[Sender::Server] } else { &[Sender::Command, Sender::Server] };
        sides.iter().flat_map(move |&from| {
            // Before the server has answered, it may say nothing else.
            let first = if fault == Fault::Notice { 2 } else { 1 };
            (first..=self.counts[from as usize]).map(move |number| Point { from, number, fault })
        })
    }

    /// Lets a command meet a fault, and returns its status; an error where anything is wrong with it.
    fn attack(&self, worlds: &Worlds, point: Point) -> Result<Option<i32>, String> {
        for _ in 0..TRIES {
            if let (true, code) = self.try_attack(worlds, point)? {
                return Ok(code);
            }
        }
        // The messages may have been counted while somebody else disturbed both runs.
        let again = Self::new(worlds, (self.line, self.table));
        if again.counts[point.from as usize] < point.number {
            return Ok(Some(0));
        }
        Err(format!("no connection came so far in {TRIES} runs"))
    }

    /// Runs a command with a fault before it, and returns whether it met that, too.
    fn try_attack(&self, worlds: &Worlds, point: Point) -> Result<(bool, Option<i32>), String> {
        let world = worlds.prepared(self.table);
        let proxy = Proxy::start(world.server().server(), Some(point));
        let ran = run_through(world, &proxy, self.line);
        // The last message may be on its way, or the server about to start again.
        proxy.wait();
        let rows = held(world);
        let wrong = |why: &str| Err(format!("{why}, rows {rows:?}, {ran:?}"));
        if ran.stderr.contains("panicked") {
            return wrong("it panicked");
        }
        // Everything that happens once is overcome.
        let may_fail = matches!(point.fault, Fault::CutAlways | Fault::Repeat);
        match ran.code {
            Some(0) if normal(&ran.stdout) != self.answer => return wrong("another answer"),
            Some(0) if rows != self.after => return wrong("an answer, and not its rows"),
            Some(0) => {}
            Some(3) if !may_fail => return wrong("it failed"),
            Some(3) if rows != self.before && rows != self.after => return wrong("it failed half"),
            Some(3) if ran.stdout.is_empty() && ran.stderr.contains(r#"{"error":{"kind":""#) => {}
            _ => return wrong("it ended oddly"),
        }
        let again = Ran::of(world.command().args(self.line.split(' ')).arg("--json"));
        let is_done = self.line.starts_with("release") && rows == self.after;
        if again.code != Some(i32::from(is_done)) || held(world) != self.after {
            return wrong(&format!("the next call is wrong: {again:?}, rows {:?}", held(world)));
        }
        Ok((proxy.shared.happened.load(Ordering::SeqCst), ran.code))
    }
}

/// An answer without its moments.
fn normal(stdout: &str) -> String {
    fn walk(value: &mut Value) {
        match value {
            Value::String(text) if text.starts_with("20") && text.contains('T') => *text = "MOMENT".to_owned(),
            Value::Array(values) => values.iter_mut().for_each(walk),
            Value::Object(map) => map.values_mut().for_each(walk),
            _ => {}
        }
    }
    let lines = stdout.lines().map(|line| {
        let mut value = serde_json::from_str(line).unwrap();
        walk(&mut value);
        value.to_string()
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Attacks every line at one of so many points of these faults, or at all.
fn sweep(name: &str, server: &'static Server, workers: usize, one_of: usize, faults: &[Fault]) {
    let start = Instant::now();
    let all = env::var_os("MANAGE_PORTS_SWEEP").is_some_and(|value| value == "all");
    let first = Worlds::new(server);
    let cases: Vec<_> = LINES.iter().map(|line| Case::new(&first, *line)).collect();
    let points = |fault: &Fault| {
        let points = cases.iter().flat_map(|case| case.points(*fault).map(move |point| (case, point)));
        points.step_by(if all { 1 } else { one_of }).collect::<Vec<_>>()
    };
    let points: Vec<_> = faults.iter().flat_map(points).collect();
    let (next, failed) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let wrong = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                let worlds = Worlds::new(server);
                while let Some((case, point)) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    match case.attack(&worlds, *point) {
                        Ok(Some(0)) => {}
                        Ok(_) => drop(failed.fetch_add(1, Ordering::Relaxed)),
                        Err(why) => wrong
                            .lock()
                            .unwrap()
                            .push(format!("{point:?} of `{}`, table {:?}: {why}", case.line, case.table)),
                    }
                }
            });
        }
    });
    say(&format!(
        "{name}: {} faults at {} messages of {} commands, {} ended with status 3, {:.0} s",
        points.len(),
        cases.iter().flat_map(|case| case.counts).sum::<usize>(),
        cases.len(),
        failed.into_inner(),
        start.elapsed().as_secs_f64()
    ));
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} went wrong:\n{}", wrong.len(), points.len(), wrong.join("\n"));
}

#[test]
fn a_connection_may_end_or_stall_at_any_message() {
    let Some(server) = Server::shared("connections that end") else { return };
    let faults: Vec<_> = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Crash).collect();
    sweep("connections", server, WORKERS, ONE_OF, &faults);
}

#[test]
fn a_server_that_ends_in_the_middle_of_a_message_is_asked_again() {
    let Some(server) = Server::shared("half a message") else { return };
    let worlds = Worlds::new(server);
    let case = Case::new(&worlds, LINES[2]);
    // The second message is one of those that come while the connection is made.
    for number in [1, 2, case.counts[Sender::Server as usize]] {
        let point = Point { from: Sender::Server, number, fault: Fault::CutInside };
        assert_eq!(case.attack(&worlds, point), Ok(Some(0)), "{number}");
    }
}

#[test]
fn a_server_may_crash_at_any_message() {
    let Some(server) = Server::start() else { return not_run("crashes: no PostgreSQL server") };
    let server: &'static Server = Box::leak(Box::new(server));
    sweep("crashes", server, 1, 4 * ONE_OF, &[Fault::Crash]);
}
