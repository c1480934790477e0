//! How things are measured: in turn, as whole processes, and their medians divided.

use std::collections::BTreeMap;
use std::error::Error;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What was measured, by name: milliseconds, but for failures.
pub(crate) type Samples = BTreeMap<String, Vec<f64>>;

/// What is measured, against what, and the ratio to reach where there is one.
pub(crate) type Table = [(&'static str, &'static str, Option<f64>)];

/// The argument with which a bench's own binary starts a storm.
pub(crate) const AT_ONCE: &str = "at-once";

/// A process of a storm: the milliseconds when it started and exited, and whether it failed.
struct Run {
    start: f64,
    end: f64,
    failures: f64,
}

impl Run {
    fn parse(line: &str) -> Result<Self> {
        match line.split(' ').map(str::parse).collect::<std::result::Result<Vec<_>, _>>()?[..] {
            [start, end, failures] => Ok(Self { start, end, failures }),
            _ => Err(format!("not a run: {line}").into()),
        }
    }
}

/// Starts a process for each app together, `{app}` in its arguments being the app, and prints each as a [`Run`].
pub(crate) fn at_once(count: usize, path: &str, args: &[&str]) -> Result<()> {
    let (began, barrier) = (Instant::now(), Barrier::new(count));
    let run = |app: usize| -> Result<()> {
        let mut command = program(path, "", &[]);
        command.args(args.iter().map(|arg| arg.replace("{app}", &app.to_string())));
        barrier.wait();
        let start = milliseconds(began.elapsed());
        let status = command.status()?;
        let end = milliseconds(began.elapsed());
        println!("{start} {end} {}", u8::from(!status.success()));
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (1..=count).map(|app| scope.spawn(move || run(app))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a thread died")?)
    })
}

/// Notes a storm's wall, p99, fair queue's wall and failures, from what [`at_once`] printed.
pub(crate) fn note_storm(samples: &mut Samples, name: &str, count: usize, storm: Output) -> Result<()> {
    let runs = String::from_utf8(storm.stdout)?.lines().map(Run::parse).collect::<Result<Vec<_>>>()?;
    if runs.len() != count {
        return Err(format!("{name}: {} callers", runs.len()).into());
    }
    let first = runs.iter().map(|run| run.start).fold(f64::INFINITY, f64::min);
    let ends: Vec<_> = runs.iter().map(|run| run.end - first).collect();
    let times: Vec<_> = runs.iter().map(|run| run.end - run.start).collect();
    note(samples, name, quantile(&ends, 1.0));
    note(samples, &format!("{name}, fair queue"), 2.0 * quantile(&ends, 0.5));
    note(samples, &format!("{name}, p99"), quantile(&times, 0.99));
    for run in runs {
        note(samples, &format!("{name}, callers"), 1.0);
        note(samples, &format!("{name}, failures"), run.failures);
    }
    Ok(())
}

/// Everyone once, beginning with another one each round and going back every second time round.
pub(crate) fn in_turn<T>(all: &[T], round: usize) -> impl Iterator<Item = &T> {
    let count = all.len();
    let goes_back = (round / count) % 2 == 1;
    (0..count).map(move |turn| &all[(round + if goes_back { count - turn } else { turn }) % count])
}

/// A process without environment, input and output; nothing here keeps it from `posix_spawn`.
pub(crate) fn program(path: impl AsRef<OsStr>, args: &str, paths: &[&Path]) -> Command {
    let mut command = Command::new(path);
    command.env_clear().args(args.split_whitespace()).args(paths);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

pub(crate) fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().map_err(|err| format!("{command:?}: {err}"))?;
    if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}").into()) }
}

pub(crate) fn note(samples: &mut Samples, name: &str, value: f64) {
    samples.entry(name.to_owned()).or_default().push(value);
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The value that this share of the values does not exceed, by the nearest rank.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
pub(crate) fn quantile(values: &[f64], share: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let rank = (values.len() as f64 * share).ceil() as usize;
    values[rank.max(1) - 1]
}

/// Prints the table; `missing` names the program that a row without samples would have needed.
pub(crate) fn print(table: &Table, samples: &Samples, missing: fn(&[&str]) -> &'static str) -> Result<()> {
    println!("{:<34}{:<36}{:>9}{:>9}{:>7}{:>7}", "what", "against", "ms", "ms", "ratio", "reach");
    for &(what, against, reach) in table {
        print!("{what:<34}{against:<36}");
        let (Some(measured), Some(other)) = (figure(samples, what), figure(samples, against)) else {
            println!("  {} is not on the PATH", missing(&[what, against]));
            continue;
        };
        let ratio = measured / other;
        print!("{measured:>9.2}{other:>9.2}{ratio:>7.2}");
        match reach {
            Some(reach) => println!("{reach:>7.2}  {}", if ratio <= reach { "reached" } else { "missed" }),
            None => println!("{:>7}", "-"),
        }
    }
    println!();
    for (name, failures) in samples.iter().filter(|(name, _)| name.ends_with("failures")) {
        println!("{name}: {} of {} callers", failures.iter().sum::<f64>(), failures.len());
    }
    println!("cores: {}", thread::available_parallelism()?);
    Ok(())
}

/// The median, or how many there were of all callers and failures.
fn figure(samples: &Samples, name: &str) -> Option<f64> {
    let values = samples.get(name)?;
    let is_count = name.ends_with("callers") || name.ends_with("failures");
    Some(if is_count { values.iter().sum() } else { quantile(values, 0.5) })
}
