//! Starts many copies of this program at the same time and collects their output.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::core::promise::Answered;

/// A process that has ended: its exit status, its output and its run time.
pub(super) struct Ended {
    succeeded: bool,
    stdout: String,
    stderr: String,
    pub(super) took: Duration,
}

/// Starts all commands and waits until each has ended.
///
/// The processes write their output into files in `folder`, which is created. Pipes would cost two file
/// descriptors per process while it runs, and many shells limit a process to 1,024.
pub(super) fn at_once(commands: impl Iterator<Item = Command>, folder: &Path) -> Result<Vec<Ended>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // The lock lets one process start at a time, so that this process has the files of only one open. The
    // processes themselves run in parallel.
    let starting = Mutex::new(());
    let run = |mut command: Command, name: usize| -> Result<Ended> {
        let [stdout, stderr] = ["out", "err"].map(|stream| folder.join(format!("{name}.{stream}")));
        let turn = starting.lock().map_err(|_| anyhow!("a thread ended early"))?;
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)?).stderr(create(&stderr)?);
        let start = Instant::now();
        let mut child = command.spawn().context("cannot start a copy of this program")?;
        // The `Command` holds the two files open; dropping it closes them.
        drop(command);
        drop(turn);
        let status = child.wait().context("cannot wait for a copy of this program")?;
        let took = start.elapsed();
        let _turn = starting.lock().map_err(|_| anyhow!("a thread ended early"))?;
        let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended { succeeded: status.success(), stdout: text(read(&stdout)?), stderr: text(read(&stderr)?), took })
    };
    thread::scope(|scope| {
        let mut waits = Vec::new();
        for (name, command) in commands.enumerate() {
            let run = &run;
            let wait = thread::Builder::new().spawn_scoped(scope, move || run(command, name));
            waits.push(wait.context("cannot start a thread for each copy of this program")?);
        }
        waits.into_iter().map(|wait| wait.join().unwrap_or_else(|_| Err(anyhow!("a thread ended early")))).collect()
    })
}

/// Parses the answers of the processes, all of which must have succeeded; each process asked for `each` apps.
pub(super) fn answers(ended: &[Ended], each: i64) -> Result<Vec<Answered>> {
    let failed = ended.iter().filter(|ended| !ended.succeeded).count();
    ensure!(failed == 0, "{failed} failed: {}", failure(ended));
    let mut answers = Vec::new();
    for ended in ended {
        let before = answers.len();
        for line in ended.stdout.lines() {
            answers.push(serde_json::from_str(line).context("an answer is not JSON")?);
        }
        let told = answers.len() - before;
        ensure!(i64::try_from(told).is_ok_and(|told| told == each), "{told} answers for {each} apps");
    }
    Ok(answers)
}

/// Returns the error message of the first process that failed.
fn failure(ended: &[Ended]) -> String {
    let first = ended.iter().find(|ended| !ended.succeeded);
    first.map_or_else(|| "an answer is missing".to_owned(), |ended| ended.stderr.trim_end().to_owned())
}
