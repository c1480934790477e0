//! Many copies of this program at once, and what they said.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use crate::core::promise::Answered;

/// A process that has ended: what it said and how long it took.
pub(super) struct Ended {
    succeeded: bool,
    stdout: String,
    stderr: String,
    pub(super) took: Duration,
}

/// Starts all of these commands and waits for them.
///
/// They write into files in a folder that is made for them: pipes would cost two file descriptors a
/// process for as long as it runs, and many a shell allows 1,024.
pub(super) fn at_once(commands: impl Iterator<Item = Command>, folder: &Path) -> Result<Vec<Ended>> {
    fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    // One starts after the other, so that the files of one at most are open here; they run side by side.
    let starting = Mutex::new(());
    let run = |mut command: Command, name: usize| -> Result<Ended> {
        let [stdout, stderr] = ["out", "err"].map(|stream| folder.join(format!("{name}.{stream}")));
        let turn = starting.lock().map_err(|_| anyhow!("a thread ended early"))?;
        let create = |path: &Path| File::create(path).with_context(|| format!("cannot write {}", path.display()));
        command.stdin(Stdio::null()).stdout(create(&stdout)?).stderr(create(&stderr)?);
        let start = Instant::now();
        let mut child = command.spawn().context("cannot start a copy of this program")?;
        // The command holds the files open.
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

/// The answers of processes that must all have succeeded, each for so many apps.
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

/// What the first failed process said.
fn failure(ended: &[Ended]) -> String {
    let first = ended.iter().find(|ended| !ended.succeeded);
    first.map_or_else(|| "an answer is missing".to_owned(), |ended| ended.stderr.trim_end().to_owned())
}
