//! What PostgreSQL costs, as ratios of things measured in one run, as in `ratios.rs`.
//!
//! A throwaway server on loopback keeps its data on the disk that is measured. Callers have a password,
//! as a server asks for by default.
//!
//! - To connect and run `SELECT 1` is what `psql` does, as a whole process. The floor is this file's own
//!   binary: it connects with the same library as this program, runs `SELECT 1` and ends.
//!   With TLS, which Debian's servers have switched on and no client needs to ask for, it connects
//!   through this program's library and asks for two settings.
//! - A storm has an empty table in every round, and the floor has storms, too: what two cores need to
//!   connect so often is the least that a storm can take.
//! - The ways to lock are this file's own binary again, as [`choose_and_insert`]: the same three round
//!   trips, but for what keeps others from coming between choosing and inserting.
#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

mod measure;

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Instant;

use manage_ports::internals;
use tokio::runtime::Builder;
use tokio_postgres::{Client, NoTls, error::SqlState};

use self::measure::{
    AT_ONCE, Result, Samples, Table, at_once, in_turn, milliseconds, note, note_storm, program, succeed,
};

const TABLE: &Table = &[
    ("allocate", "psql, SELECT 1", Some(1.3)),
    ("allocate", "connect and SELECT 1", Some(1.3)),
    ("allocate, TLS", "connect and SELECT 1, TLS", Some(1.3)),
    ("allocate, 10,000 rows", "connect and SELECT 1", None),
    ("allocate again", "connect and SELECT 1", None),
    ("allocate", "SQLite", None),
    ("64 at once", "allocate", Some(8.0)),
    ("64 at once, connect and SELECT 1", "connect and SELECT 1", None),
    ("64 at once", "64 at once, connect and SELECT 1", None),
    ("64 at once", "64 at once, SQLite", None),
    ("64 at once, failures", "64 at once, callers", Some(0.0)),
    ("64 at once, table", "64 at once, connect and SELECT 1", None),
    ("64 at once, advisory", "64 at once, table", None),
    ("64 at once, serializable", "64 at once, table", None),
    ("64 at once, optimistic", "64 at once, table", None),
];

const SINGLE_ROUNDS: usize = 101;
const STORM_ROUNDS: usize = 9;
const CONNECT: &str = "connect";
const CONNECT_TLS: &str = "connect-tls";
const CHOOSE: &str = "choose";

fn main() -> Result<()> {
    let args: Vec<_> = env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [CONNECT, url] => run(url, async |client| Ok(client.batch_execute("SELECT 1").await?)),
        [CONNECT_TLS, url] => Ok(internals::connect_to_server(url)?),
        [CHOOSE, way, url, app] => {
            let app = app.parse()?;
            run(url, async |client| choose_and_insert(client, way, app).await)
        }
        [AT_ONCE, count, path, ref args @ ..] => at_once(count.parse()?, path, args),
        ref args if args.contains(&"--bench") => bench(),
        // `cargo test --all-targets` only wants to know that it starts.
        _ => Ok(()),
    }
}

/// One way to be timed.
#[derive(Clone, Copy)]
enum Call {
    /// The field's own client.
    Psql,
    /// Connects and asks nothing.
    Connect,
    /// The same with TLS.
    ConnectTls,
    /// Allocates with TLS.
    AllocateTls,
    /// Allocates for a new app, in this database.
    Allocate(&'static str),
    /// Allocates for an app that has its ports.
    Again,
    /// Allocates in SQLite.
    Sqlite,
    /// Allocates by another way to lock.
    Choose(&'static str),
}

const SINGLES: &[(&str, Call)] = &[
    ("psql, SELECT 1", Call::Psql),
    ("connect and SELECT 1", Call::Connect),
    ("allocate", Call::Allocate("few")),
    ("connect and SELECT 1, TLS", Call::ConnectTls),
    ("allocate, TLS", Call::AllocateTls),
    ("allocate, 10,000 rows", Call::Allocate("many")),
    ("allocate again", Call::Again),
    ("SQLite", Call::Sqlite),
];

const STORMS: &[(&str, Call)] = &[
    ("64 at once", Call::Allocate("storm")),
    ("64 at once, connect and SELECT 1", Call::Connect),
    ("64 at once, SQLite", Call::Sqlite),
    ("64 at once, table", Call::Choose("table")),
    ("64 at once, advisory", Call::Choose("advisory")),
    ("64 at once, serializable", Call::Choose("serializable")),
    ("64 at once, optimistic", Call::Choose("optimistic")),
];

fn bench() -> Result<()> {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR")).join("postgres-ratios");
    let _ = fs::remove_dir_all(&scratch);
    fs::create_dir_all(&scratch)?;
    let Some(server) = Server::start(&scratch)? else {
        println!("PostgreSQL's server is not installed: nothing to measure");
        return Ok(());
    };
    fs::write(scratch.join("manage-ports.toml"), "")?;
    let bench = Bench { scratch, server };
    let mut samples = Samples::new();
    for (database, apps) in [("few", "1"), ("many", "1-10000"), ("storm", "1")] {
        bench.server.sql("postgres", &format!("CREATE DATABASE {database}"))?;
        bench.server.sql(database, "GRANT ALL ON SCHEMA public TO secret")?;
        succeed(
            &mut bench.ours(&bench.server.url(database), &format!("allocate --no-probe --model old --app {apps}")),
        )?;
        bench.server.sql(database, "VACUUM ANALYZE port_configurations")?;
    }
    succeed(&mut bench.ours(&bench.sqlite(), "allocate --model old --app 1"))?;
    bench.singles(&mut samples)?;
    bench.storms(&mut samples)?;
    measure::print(TABLE, &samples, |_| "PostgreSQL")?;
    println!("rounds: {SINGLE_ROUNDS} of each single call, {STORM_ROUNDS} of each storm");
    let Bench { scratch, server } = bench;
    drop(server);
    Ok(fs::remove_dir_all(scratch)?)
}

/// A server, and the folder for everything else.
struct Bench {
    scratch: PathBuf,
    server: Server,
}

impl Bench {
    fn sqlite(&self) -> String {
        self.scratch.join("ports.db").display().to_string()
    }

    /// This program on a database, with arguments separated by spaces.
    fn ours(&self, database: &str, args: &str) -> Command {
        let config = self.scratch.join("manage-ports.toml");
        program(
            env!("CARGO_BIN_EXE_manage-ports"),
            args,
            &[Path::new("--database"), Path::new(database), Path::new("--config"), &config],
        )
    }

    /// What a call runs for this app.
    fn call(&self, call: Call, app: &str) -> Result<Command> {
        let allocate = format!("allocate --model new --app {app}");
        Ok(match call {
            Call::Psql => {
                let mut psql = program(&self.server.psql, "-X -d", &[Path::new(&self.server.url("few"))]);
                psql.args(["-c", "SELECT 1"]);
                psql
            }
            Call::Connect => program(env::current_exe()?, CONNECT, &[Path::new(&self.server.url("few"))]),
            Call::ConnectTls => program(env::current_exe()?, CONNECT_TLS, &[Path::new(&self.server.tls_url("few"))]),
            Call::AllocateTls => self.ours(&self.server.tls_url("few"), &format!("allocate --model tls --app {app}")),
            Call::Allocate(database) => self.ours(&self.server.url(database), &allocate),
            Call::Again => self.ours(&self.server.url("few"), "allocate --model old --app 1"),
            Call::Sqlite => self.ours(&self.sqlite(), &allocate),
            Call::Choose(way) => {
                let url = self.server.url("storm");
                program(env::current_exe()?, &format!("{CHOOSE} {way}"), &[Path::new(&url), Path::new(app)])
            }
        })
    }

    fn singles(&self, samples: &mut Samples) -> Result<()> {
        for round in 0..=SINGLE_ROUNDS {
            for (name, call) in in_turn(SINGLES, round) {
                let mut command = self.call(*call, &(round + 1).to_string())?;
                let start = Instant::now();
                succeed(&mut command)?;
                let time = start.elapsed();
                // The first round only warms up.
                if round > 0 {
                    note(samples, name, milliseconds(time));
                }
            }
        }
        Ok(())
    }

    fn storms(&self, samples: &mut Samples) -> Result<()> {
        for round in 0..STORM_ROUNDS {
            for (name, call) in in_turn(STORMS, round) {
                let command = self.call(*call, "{app}")?;
                let mut storm = program(env::current_exe()?, &format!("{AT_ONCE} 64"), &[]);
                storm.arg(command.get_program()).args(command.get_args());
                storm.stdout(Stdio::piped()).stderr(Stdio::inherit());
                note_storm(samples, name, 64, storm.output()?)?;
                self.server.sql("storm", "DELETE FROM port_configurations WHERE model = 'new'")?;
                let _ = self.ours(&self.sqlite(), "release new 1-64").status()?;
            }
        }
        Ok(())
    }
}

/// A throwaway server, which ends on drop.
struct Server {
    port: u16,
    psql: PathBuf,
    process: Child,
    pipe: Option<ChildStdin>,
}

impl Server {
    /// Starts one in a folder of its own below `scratch`; nothing where it is not installed.
    fn start(scratch: &Path) -> Result<Option<Self>> {
        let told = Command::new("pg_config").arg("--bindir").output().ok().filter(|output| output.status.success());
        let Some(binaries) = told.map(|told| String::from_utf8(told.stdout)).transpose()? else { return Ok(None) };
        let binaries = PathBuf::from(binaries.trim());
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let folder = tempfile::Builder::new().prefix("server-").tempdir_in(scratch)?.keep();
        let certificate = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        fs::write(folder.join("server.crt"), certificate.cert.pem())?;
        fs::write(folder.join("server.key"), certificate.signing_key.serialize_pem())?;
        // It refuses to run as root.
        let is_root = Command::new("id").arg("-u").output()?.stdout
            == b"0
";
        let mut command = if is_root {
            succeed(Command::new("chown").args(["-R", "postgres"]).arg(&folder))?;
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        command.args(["-c", include_str!("../tests/server.sh"), "server"]).arg(&folder).arg(&binaries);
        let mut process = command.arg(port.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().ok_or("no pipe")?).read_line(&mut line)?;
        if line != "ready\n" {
            return Err("the server did not start".into());
        }
        let pipe = process.stdin.take();
        Ok(Some(Self { port, psql: binaries.join("psql"), process, pipe }))
    }

    fn url(&self, database: &str) -> String {
        format!("{}?sslmode=disable", self.tls_url(database))
    }

    /// A URL with which TLS is used, as the server has it.
    fn tls_url(&self, database: &str) -> String {
        format!("postgresql://secret:hunter2@127.0.0.1:{}/{database}", self.port)
    }

    fn sql(&self, database: &str, sql: &str) -> Result<()> {
        let mut psql = program(&self.psql, "-X -q -h 127.0.0.1 -U postgres", &[]);
        succeed(psql.args(["-p", &self.port.to_string(), "-d", database, "-c", sql]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.process.wait();
    }
}

/// Connects and does something.
fn run(url: &str, what: impl AsyncFnOnce(&mut Client) -> Result<()>) -> Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(async {
        let (mut client, connection) = tokio_postgres::connect(url, NoTls).await?;
        tokio::spawn(connection);
        what(&mut client).await
    })
}

/// Looks for the app's row, chooses the lowest free pair, inserts and commits, as long as it takes.
async fn choose_and_insert(client: &mut Client, way: &str, app: i32) -> Result<()> {
    loop {
        client.query("SELECT id FROM port_configurations WHERE model = 'new' AND app_num = $1", &[&app]).await?;
        let begin = match way {
            "table" => "BEGIN; LOCK TABLE port_configurations IN SHARE ROW EXCLUSIVE MODE",
            "advisory" => "BEGIN; SELECT pg_advisory_xact_lock(1)",
            "serializable" => "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "optimistic" => "BEGIN",
            _ => return Err(format!("{way} is no way to lock").into()),
        };
        let tried: std::result::Result<(), tokio_postgres::Error> = async {
            client.batch_execute(begin).await?;
            let rows = client.query("SELECT backend_port, frontend_port FROM port_configurations", &[]).await?;
            let taken: Vec<i32> = rows.iter().flat_map(|row| [row.get(0), row.get(1)]).collect();
            let is_free = |slot: &(i32, i32)| !taken.contains(&slot.0) && !taken.contains(&slot.1);
            let slot = (0..).map(|k| (5001 + 2 * k, 8001 + 2 * k)).find(is_free).unwrap_or_default();
            let sql = "INSERT INTO port_configurations
                 (model, app_num, backend_port, frontend_port, is_available, created_at, updated_at)
                 VALUES ('new', $1, $2, $3, true, now(), now())";
            client.execute(sql, &[&app, &slot.0, &slot.1]).await?;
            client.batch_execute("COMMIT").await
        }
        .await;
        match tried {
            Ok(()) => return Ok(()),
            Err(err)
                if [Some(&SqlState::UNIQUE_VIOLATION), Some(&SqlState::T_R_SERIALIZATION_FAILURE)]
                    .contains(&err.code()) =>
            {
                client.batch_execute("ROLLBACK").await?;
            }
            Err(err) => return Err(err.into()),
        }
    }
}
