//! A throwaway PostgreSQL server for the tests, from the binaries on this machine.
//!
//! The process that starts it holds a pipe to it: whatever becomes of the tests, the server ends
//! with them and takes its folder along.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use super::fixture::{free_ports, not_run};

/// The platform's schema as it creates it in PostgreSQL.
pub const SCHEMA: &str = "\
CREATE TABLE port_configurations (
\tid SERIAL NOT NULL, 
\tmodel VARCHAR(200) NOT NULL, 
\tapp_num INTEGER NOT NULL, 
\tfrontend_port INTEGER NOT NULL, 
\tbackend_port INTEGER NOT NULL, 
\tis_available BOOLEAN, 
\tmetadata_json TEXT, 
\tcreated_at TIMESTAMP WITH TIME ZONE, 
\tupdated_at TIMESTAMP WITH TIME ZONE, 
\tPRIMARY KEY (id), 
\tCONSTRAINT unique_model_app UNIQUE (model, app_num)
);
CREATE INDEX ix_port_configurations_is_available ON port_configurations (is_available);
CREATE INDEX ix_port_configurations_model ON port_configurations (model);
CREATE INDEX ix_port_configurations_app_num ON port_configurations (app_num);
CREATE UNIQUE INDEX ix_port_configurations_backend_port ON port_configurations (backend_port);
CREATE UNIQUE INDEX ix_port_configurations_frontend_port ON port_configurations (frontend_port);
";

/// What starts a server and ends it with its standard input.
const SCRIPT: &str = include_str!("../server.sh");

/// A server with a port of its own on 127.0.0.1 and a socket in its folder.
pub struct Server {
    folder: PathBuf,
    port: u16,
    binaries: PathBuf,
    databases: AtomicU32,
    /// Its end is the server's.
    _process: (Child, ChildStdin),
}

impl Server {
    /// The one that all tests share; without PostgreSQL, a line that says what was not run.
    pub fn shared(what: &str) -> Option<&'static Self> {
        static SERVER: OnceLock<Option<Server>> = OnceLock::new();
        let server = SERVER.get_or_init(Self::start).as_ref();
        if server.is_none() {
            not_run(&format!("{what}: no PostgreSQL server on this machine"));
        }
        server
    }

    /// Starts one; nothing where it is not installed, which CI does not put up with.
    pub fn start() -> Option<Self> {
        let Some(binaries) = binaries() else {
            assert!(std::env::var_os("CI").is_none(), "PostgreSQL's server is not installed");
            return None;
        };
        let [port] = free_ports();
        let folder = tempfile::Builder::new().prefix("manage-ports-pg-").tempdir().unwrap().keep();
        write_certificates(&folder);
        let mut command = as_user();
        command.args(["sh", "-c", SCRIPT, "server"]).arg(&folder).arg(&binaries).arg(port.to_string());
        if is_root() {
            assert!(Command::new("chown").args(["-R", "postgres"]).arg(&folder).status().unwrap().success());
        }
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the server did not start: {}", fs::read_to_string(folder.join("log")).unwrap());
        let pipe = process.stdin.take().unwrap();
        Some(Self { folder, port, binaries, databases: AtomicU32::default(), _process: (process, pipe) })
    }

    /// A new, empty database on this server.
    pub fn database(&'static self) -> Database {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let database = Database { server: self, name };
        psql(&mut self.psql_command("postgres"), &format!("CREATE DATABASE {}", database.name));
        database
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder with its socket, its log and its certificates.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Ends all that it does at once, as a crash would, and starts it again.
    pub fn crash(&self) {
        let mut command = as_user();
        let pg_ctl = self.binaries.join("pg_ctl");
        command
            .arg(pg_ctl)
            .args(["-w", "-s", "-m", "immediate", "-D"])
            .arg(self.path("data"))
            .arg("-l")
            .arg(self.path("log"));
        assert!(command.arg("restart").stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap().success());
    }

    fn psql_command(&self, database: &str) -> Command {
        let mut command = Command::new(self.binaries.join("psql"));
        command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-h"]).arg(&self.folder);
        command.args(["-p", &self.port.to_string(), "-d", database]);
        command
    }
}

/// A database on a throwaway server.
pub struct Database {
    server: &'static Server,
    name: String,
}

impl Database {
    pub fn server(&self) -> &'static Server {
        self.server
    }

    /// The database's URL, for a role that needs no password.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// The same for some role, with what else stands before the `@`.
    pub fn url_of(&self, role: &str) -> String {
        format!("postgresql://{role}@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// The same through another port, on which somebody listens who passes things on.
    pub fn url_through(&self, port: u16) -> String {
        format!("postgresql://postgres@127.0.0.1:{port}/{}?sslmode=disable", self.name)
    }

    /// The database's name on the server.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs SQL and returns its rows: a line each, the columns separated by `|`.
    #[track_caller]
    pub fn sql(&self, sql: &str) -> String {
        psql(&mut self.server.psql_command(&self.name), sql)
    }

    /// Runs SQL in another database of the same server.
    #[track_caller]
    pub fn sql_in(&self, name: &str, sql: &str) -> String {
        psql(&mut self.server.psql_command(name), sql)
    }

    /// Starts a session that runs this SQL and stays as it is until it is dropped.
    pub fn session(&self, sql: &str) -> Session {
        let mut command = self.server.psql_command(&self.name);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut input = process.stdin.take().unwrap();
        writeln!(input, "{sql};\n\\echo done").unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert_eq!(line, "done\n");
        Session { process, input: Some(input), _output: output }
    }

    /// The definition of the table, as a dump writes it.
    pub fn dump(&self) -> String {
        let mut command = Command::new(self.server.binaries.join("pg_dump"));
        command.args(["-s", "-O", "-U", "postgres", "-t", "port_configurations", "-h"]).arg(&self.server.folder);
        succeeded(command.args(["-p", &self.server.port.to_string(), &self.name]).output().unwrap())
    }
}

/// A session that holds what it locked.
pub struct Session {
    process: Child,
    input: Option<ChildStdin>,
    _output: BufReader<ChildStdout>,
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        self.process.wait().unwrap();
    }
}

#[track_caller]
fn psql(command: &mut Command, sql: &str) -> String {
    succeeded(command.args(["-c", sql]).stdin(Stdio::null()).output().unwrap())
}

#[track_caller]
fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// A command line of the user that the server runs as: it refuses to be root's.
fn as_user() -> Command {
    if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]);
        command
    } else {
        Command::new("env")
    }
}

/// The folder with the server's programs.
fn binaries() -> Option<PathBuf> {
    let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
    let told = told.map(|output| PathBuf::from(String::from_utf8(output.stdout).unwrap().trim()));
    // Debian keeps a folder for each version.
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().map(|entry| entry.unwrap().path().join("bin"));
    told.into_iter().chain(versions).find(|folder| folder.join("initdb").is_file() && folder.join("psql").is_file())
}

/// Writes an authority's certificate, and the server's, which names `localhost` and no address.
fn write_certificates(folder: &Path) {
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let certificate = authority.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let server = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(folder.join("authority.crt"), certificate.pem()).unwrap();
    fs::write(folder.join("server.crt"), server.pem()).unwrap();
    fs::write(folder.join("server.key"), key.serialize_pem()).unwrap();
}
