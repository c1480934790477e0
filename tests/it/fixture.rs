//! A folder of its own for each test, the binary run in it, and databases as the platform makes them.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use rusqlite::{Connection, params};
use serde_json::Value;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag::register_conditional_default;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::server;

/// The platform's schema as it creates it in SQLite.
pub const SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid INTEGER NOT NULL, 
\tmodel VARCHAR(200) NOT NULL, 
\tapp_num INTEGER NOT NULL, 
\tfrontend_port INTEGER NOT NULL, 
\tbackend_port INTEGER NOT NULL, 
\tis_available BOOLEAN, 
\tmetadata_json TEXT, 
\tcreated_at DATETIME, 
\tupdated_at DATETIME, 
\tPRIMARY KEY (id), 
\tCONSTRAINT unique_model_app UNIQUE (model, app_num)
);
CREATE INDEX ix_port_configurations_app_num ON port_configurations (app_num);
CREATE INDEX ix_port_configurations_model ON port_configurations (model);
CREATE INDEX ix_port_configurations_is_available ON port_configurations (is_available);
CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (frontend_port);
CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
";

/// The same table as an old platform made it, without anything unique.
pub const WEAK_SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid INTEGER NOT NULL PRIMARY KEY,
\tmodel VARCHAR(200) NOT NULL,
\tapp_num INTEGER NOT NULL,
\tfrontend_port INTEGER NOT NULL,
\tbackend_port INTEGER NOT NULL,
\tis_available BOOLEAN,
\tmetadata_json TEXT,
\tcreated_at DATETIME,
\tupdated_at DATETIME
);
";

/// The moment that rows made by the fixture carry.
pub const MADE: &str = "2026-01-02 03:04:05.678901";

/// The program itself.
const BINARY: &str = env!("CARGO_BIN_EXE_manage-ports");

/// A row as the tests compare it: model, app number, backend and frontend port.
pub type Row = (String, i64, i64, i64);

/// A folder of its own, in which the binary runs without any environment but what a test gives it.
pub struct World {
    folder: TempDir,
    server: Option<server::Database>,
}

impl World {
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), server: None }
    }

    /// A world whose default database is on this server, and empty.
    pub fn on(server: &'static server::Server) -> Self {
        Self { server: Some(server.database()), ..Self::new() }
    }

    /// The world's database on a server.
    pub fn server(&self) -> &server::Database {
        self.server.as_ref().unwrap()
    }

    /// A world whose default database is one of the platform's with 750 apps of 25 models.
    pub fn with_platform() -> Self {
        let world = Self::new();
        world.database(SCHEMA, &platform_rows());
        world
    }

    /// The path of something in the world.
    pub fn path(&self, relative: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(relative)
    }

    /// Where the default database is.
    pub fn default_database(&self) -> PathBuf {
        self.path("data/ports.db")
    }

    /// Writes a file and the folders it stands in.
    pub fn write(&self, relative: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Makes the directories of apps, named `<safe model>/app<N>`, in the default apps directory.
    pub fn apps<S: AsRef<str>>(&self, directories: impl IntoIterator<Item = S>) {
        fs::create_dir_all(self.path("generated/apps")).unwrap();
        for directory in directories {
            fs::create_dir_all(self.path("generated/apps").join(directory.as_ref())).unwrap();
        }
    }

    /// Makes the default database with this schema and these rows.
    pub fn database(&self, schema: &str, rows: &[Row]) {
        fs::create_dir_all(self.path("data")).unwrap();
        let mut connection = Connection::open(self.default_database()).unwrap();
        let transaction = connection.transaction().unwrap();
        transaction.execute_batch(schema).unwrap();
        for (model, app_num, backend, frontend) in rows {
            transaction
                .execute(
                    "INSERT INTO port_configurations
                     (model, app_num, backend_port, frontend_port, is_available, created_at, updated_at)
                     VALUES (?1, ?2, ?3, ?4, 1, ?5, ?5)",
                    params![model, app_num, backend, frontend, MADE],
                )
                .unwrap();
        }
        transaction.commit().unwrap();
    }

    /// Runs SQL on the default database.
    pub fn sql(&self, sql: &str) {
        match &self.server {
            Some(server) => drop(server.sql(sql)),
            None => Connection::open(self.default_database()).unwrap().execute_batch(sql).unwrap(),
        }
    }

    /// Writes this metadata into the rows that the condition names.
    pub fn set_metadata(&self, metadata: &str, condition: &str) {
        self.sql(&format!("UPDATE port_configurations SET metadata_json = '{metadata}' WHERE {condition}"));
    }

    /// The rows of the default database, in the order of their making.
    pub fn rows(&self) -> Vec<Row> {
        let Some(server) = &self.server else { return rows_of(&self.default_database()) };
        let rows = server.sql(ROWS);
        let rows = rows.lines().map(|line| line.split('|').collect::<Vec<_>>());
        let number = |text: &str| text.parse().unwrap();
        rows.map(|row| (row[0].to_owned(), number(row[1]), number(row[2]), number(row[3]))).collect()
    }

    /// The binary, about to run in the world's folder.
    pub fn command(&self) -> Command {
        heed_signals();
        self.set_up(program())
    }

    /// A command in the world's folder and without an environment of its own.
    fn set_up(&self, mut command: Command) -> Command {
        command.current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        if let Some(server) = &self.server {
            command.env("MANAGE_PORTS_DATABASE", server.url());
        }
        command
    }

    /// Runs the binary to its end.
    pub fn run<S: AsRef<str>>(&self, args: impl IntoIterator<Item = S>) -> Ran {
        let mut command = self.command();
        command.args(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        Ran::of(&mut command)
    }

    /// Runs the binary to its end on arguments separated by spaces.
    pub fn line(&self, line: &str) -> Ran {
        self.run(line.split_whitespace())
    }

    /// The same as another user, where we may become one; a line that says so where not.
    pub fn line_as_nobody(&self, line: &str) -> Option<Ran> {
        const NOBODY: u32 = 65534;
        // What stands in the world is ours alone.
        for (path, mode) in [("", 0o777), ("data", 0o777), ("data/ports.db", 0o666)] {
            fs::set_permissions(self.path(path), Permissions::from_mode(mode)).unwrap();
        }
        // Another user may not mount what the command otherwise does.
        let mut command = self.set_up(Command::new(BINARY));
        match command.args(line.split_whitespace()).uid(NOBODY).gid(NOBODY).output() {
            Ok(output) => Some(output.into()),
            Err(err) => {
                not_run(&format!("{line} as another user: {err}"));
                None
            }
        }
    }

    /// A shell that runs this script in the world's folder.
    pub fn shell(&self, script: &str) -> Command {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        shell
    }

    /// Starts the binary on arguments separated by spaces, its output kept for later.
    pub fn start(&self, line: &str) -> Child {
        let mut command = self.command();
        command.args(line.split_whitespace()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().unwrap()
    }
}

/// The binary, which sees Linux's usual ephemeral range: tests choose ports outside it. Where this
/// machine has a wider one, it runs in a mount namespace of its own that holds a file with the usual.
fn program() -> Command {
    const RANGE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
    const MOUNT: &str = r#"mount --bind "$0" "$1" && shift && exec "$@""#;
    static WRAPPER: LazyLock<Vec<OsString>> = LazyLock::new(|| {
        let range = fs::read_to_string(RANGE).unwrap_or_default();
        let first = range.split_whitespace().next().and_then(|port| port.parse::<u16>().ok());
        if first.is_none_or(|first| first >= 32768) {
            return Vec::new();
        }
        let usual = Path::new(env!("CARGO_TARGET_TMPDIR")).join("usual-range");
        fs::write(&usual, "32768\t60999\n").unwrap();
        let is_root = fs::metadata("/proc/self").unwrap().uid() == 0;
        let words = ["unshare", if is_root { "-m" } else { "-rm" }, "sh", "-c", MOUNT].map(OsString::from);
        let wrapper: Vec<_> = words.into_iter().chain([usual.into(), RANGE.into()]).collect();
        let works = Command::new(&wrapper[0]).args(&wrapper[1..]).arg("true").output();
        assert!(works.is_ok_and(|works| works.status.success()), "{RANGE} is {range:?}, and unshare(1) does not work");
        wrapper
    });
    let Some((unshare, arguments)) = WRAPPER.split_first() else { return Command::new(BINARY) };
    let mut command = Command::new(unshare);
    command.args(arguments).arg(BINARY);
    command
}

/// The same command with an ear for Ctrl-C, which tests that run in a shell's background lack.
pub fn hearing_interrupts(command: &Command) -> Command {
    let mut hearing = Command::new("/usr/bin/env");
    hearing.arg("--default-signal=INT").arg(command.get_program()).args(command.get_args()).env_clear();
    if let Some(folder) = command.get_current_dir() {
        hearing.current_dir(folder);
    }
    hearing
}

/// Lets the programs that tests start heed the signals that end a process, also where these tests run in the
/// background or under `nohup` and ignore some: a signal that a process handles is not ignored by its children.
fn heed_signals() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for signal in [SIGHUP, SIGINT, SIGTERM] {
            register_conditional_default(signal, Arc::new(AtomicBool::new(true))).unwrap();
        }
    });
}

/// Presses Ctrl-C.
pub fn interrupt(child: &Child) {
    send("INT", child);
}

/// Sends a signal.
pub fn send(signal: &str, child: &Child) {
    // The shell has it built in; not every machine has the program.
    let kill = format!("kill -{signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

/// What a run of the binary printed, and how it ended.
#[derive(Debug)]
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(command: &mut Command) -> Self {
        command.output().unwrap().into()
    }

    /// Checks status, stdout and stderr, all to the letter.
    #[track_caller]
    pub fn is(&self, code: i32, stdout: &str, stderr: &str) {
        assert_eq!((self.code, self.stdout.as_str(), self.stderr.as_str()), (Some(code), stdout, stderr));
    }

    /// Checks that it succeeded without talk, and returns stdout.
    #[track_caller]
    pub fn ok(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:?}");
        &self.stdout
    }

    /// Checks that it failed with this code, nothing on stdout and each of these in stderr.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:?}");
        for part in parts {
            assert!(self.stderr.contains(part), "no {part:?} in {self:?}");
        }
        assert!(!self.stderr.contains("panicked"), "{self:?}");
    }

    /// Checks that it failed with this code, nothing on stdout and one line of JSON on stderr, an
    /// error of this kind and nothing else, and returns its message, with the hint in brackets.
    #[track_caller]
    pub fn fails_as_json(&self, code: i32, kind: &str) -> String {
        self.fails(code, &[]);
        let line = self.stderr.strip_suffix('\n').unwrap();
        assert!(!line.contains('\n'), "more than a line in {self:?}");
        let error: serde_json::Value = serde_json::from_str(line).unwrap();
        let message = error["error"]["message"].as_str().unwrap();
        let hint = &error["error"]["hint"];
        assert_eq!(error, serde_json::json!({"error": {"kind": kind, "message": message, "hint": hint}}));
        assert!(!message.is_empty() && !message.contains('\n'), "{self:?}");
        assert!(hint.is_null() || hint.as_str().is_some_and(|hint| !hint.is_empty()), "{self:?}");
        hint.as_str().map_or_else(|| message.to_owned(), |hint| format!("{message} ({hint})"))
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

const ROWS: &str = "SELECT model, app_num, backend_port, frontend_port FROM port_configurations ORDER BY id";

/// The rows of a database, in the order of their making.
pub fn rows_of(database: &Path) -> Vec<Row> {
    let connection = Connection::open(database).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(30)).unwrap();
    let mut rows = connection.prepare(ROWS).unwrap();
    let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

/// 750 apps of 25 models with ports as the platform's `port_config.json` gives them.
pub fn platform_rows() -> Vec<Row> {
    (0..750).map(|k| (format!("maker_model-{}.{}", k / 150, k / 30), k % 30 + 1, 5001 + 2 * k, 8001 + 2 * k)).collect()
}

/// The names of all commands, from the program's own help.
pub fn commands() -> Vec<String> {
    let help = World::new().line("--help");
    let (_, list) = help.ok().split_once("\nCommands:\n").unwrap();
    let (list, _) = list.split_once("\n\n").unwrap();
    // A description that goes on is indented more than a name.
    let names = list.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names: Vec<_> = names.filter(|name| !name.is_empty()).map(str::to_owned).collect();
    assert!(names.len() > 10, "{list}");
    names
}

/// A row, written short.
pub fn row(model: &str, app_num: i64, backend: i64, frontend: i64) -> Row {
    (model.to_owned(), app_num, backend, frontend)
}

/// A line of `allocate --json` as the row that it answers.
#[track_caller]
pub fn answered(line: &str) -> Row {
    let value: Value = serde_json::from_str(line).unwrap_or_else(|err| panic!("{err}: {line:?}"));
    let number = |key: &str| value[key].as_i64().unwrap();
    row(value["model"].as_str().unwrap(), number("app_num"), number("backend_port"), number("frontend_port"))
}

/// A folder of the project's shared data, or a line that says what was not run without it.
pub fn shared(what: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("shared");
    if folder.join("data").is_dir() {
        return Some(folder);
    }
    not_run(&format!("{what}: no ../shared"));
    None
}

/// A text in which each moment is the same, with or without a fraction of its second.
pub fn without_moments(text: &str) -> String {
    let is_moment = |part: &str| {
        let digits = |c: char| match c {
            _ if c.is_ascii_digit() => '0',
            'T' => ' ',
            _ => c,
        };
        part.chars().map(digits).eq("0000-00-00 00:00:00".chars())
    };
    let mut shown = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if rest.get(..19).is_some_and(is_moment) {
            shown.push_str("YYYY-MM-DD hh:mm:ss");
            rest = &rest[19..];
            rest = rest.strip_prefix('.').map_or(rest, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
        } else {
            shown.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    shown
}

/// Says in one line what a test did not do.
pub fn not_run(what: &str) {
    say(&format!("not run: {what}"));
}

/// Says in one line what people are to see of a test.
#[expect(clippy::explicit_write, reason = "the harness swallows what eprintln prints")]
pub fn say(what: &str) {
    writeln!(std::io::stderr(), "{what}").unwrap();
}

/// Ports that nothing listens on, from the kernel; free again on return.
///
/// Nothing listens on them here either: a process that another test is about to start has copies of these
/// sockets for a moment, and nobody is in the way of one that does not listen (`SO_REUSEADDR`).
pub fn free_ports<const N: usize>() -> [u16; N] {
    let sockets = [(); N].map(|()| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_reuse_address(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket
    });
    sockets.each_ref().map(|socket| socket.local_addr().unwrap().as_socket().unwrap().port())
}
