//! Checks each promise of a self-test on the answers that processes gave and the rows in the table.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Deserialize;

use super::allocation::Allocation;

/// The results of a self-test.
pub(crate) struct Report {
    /// The promises, each with a message about how it was broken, or `None` if it held.
    pub(crate) promises: Vec<(String, Option<String>)>,
    /// The number of new allocations a second, of all processes together.
    pub(crate) per_second: f64,
    /// The median time that a process took, from start to exit.
    pub(crate) p50: Duration,
    /// The 99th percentile of the time that a process took, from start to exit.
    pub(crate) p99: Duration,
    /// The time that writing and syncing 4 KiB takes on this machine, if it could be measured.
    pub(crate) sync: Option<Duration>,
    /// How the scratch database stored the rows, if it could be opened.
    pub(crate) mode: Option<ScratchMode>,
}

/// How a scratch database stored the rows.
pub(crate) struct ScratchMode {
    /// The journal mode, as the database names it.
    pub(crate) journal: String,
    /// How writers waited for each other, as a phrase.
    pub(crate) waiting: &'static str,
    /// The storage that the database was on, with its weakness if it has one, as a phrase.
    pub(crate) storage: String,
}

/// The fields that are read from the line that `allocate --json` prints.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct Answered {
    pub(crate) app_num: i64,
    pub(crate) backend_port: i64,
    pub(crate) frontend_port: i64,
    pub(crate) created: bool,
}

/// Checks that the table has exactly one row, that all answers agree with it, and that exactly one process
/// inserted it.
pub(crate) fn same_answer(answers: &[Answered], rows: &[Allocation]) -> Result<()> {
    let created = answers.iter().filter(|answer| answer.created).count();
    ensure!(created == 1, "{created} processes say that they made the row");
    ensure!(rows.len() == 1, "there are {} rows", rows.len());
    let differing = answers.iter().filter(|answer| !is_row(answer, &rows[0])).count();
    ensure!(differing == 0, "{differing} answers differ from the row");
    Ok(())
}

/// Checks that each answer has its row and that no port occurs twice in the table.
pub(crate) fn own_answers(answers: &[Answered], rows: &[Allocation]) -> Result<()> {
    let lost = answers.iter().filter(|answer| !rows.iter().any(|row| is_row(answer, row))).count();
    ensure!(lost == 0, "{lost} answers are not in the table");
    let ports: HashSet<_> = rows.iter().flat_map(Allocation::ports).collect();
    ensure!(ports.len() == 2 * rows.len(), "{} ports stand twice", 2 * rows.len() - ports.len());
    Ok(())
}

/// Checks what [`own_answers`] checks, and that each process inserted the rows that it asked for.
pub(crate) fn all_made(answers: &[Answered], rows: &[Allocation]) -> Result<()> {
    let found = answers.iter().filter(|answer| !answer.created).count();
    ensure!(found == 0, "{found} rows were there already, left by a batch that was not made as a whole");
    own_answers(answers, rows)
}

fn is_row(answer: &Answered, row: &Allocation) -> bool {
    row.app.app_num == answer.app_num && row.ports() == [answer.backend_port, answer.frontend_port]
}

#[cfg(test)]
mod tests {
    use super::super::allocation::tests::row;
    use super::*;

    fn answer(app_num: i64, backend_port: i64, created: bool) -> Answered {
        Answered { app_num, backend_port, frontend_port: backend_port + 3000, created }
    }

    #[test]
    fn one_row_is_one_answer_that_one_process_made() {
        let rows = [row(1, "m", 1, 5001, 8001)];
        let both = [answer(1, 5001, true), answer(1, 5001, false)];
        same_answer(&both, &rows).unwrap();
        for (answers, rows) in [
            (&[answer(1, 5001, true), answer(1, 5001, true)][..], &rows[..]),
            (&[answer(1, 5001, false)], &rows),
            (&[answer(1, 5001, true), answer(1, 5003, false)], &rows),
            (&both, &[]),
            (&both, &[rows[0].clone(), row(2, "m", 1, 5003, 8003)]),
        ] {
            assert!(same_answer(answers, rows).is_err(), "{answers:?} {rows:?}");
        }
    }

    #[test]
    fn each_answer_has_its_row_and_no_port_stands_twice() {
        let rows = [row(1, "m", 1, 5001, 8001), row(2, "m", 2, 5003, 8003)];
        let answers = [answer(1, 5001, true), answer(2, 5003, true)];
        own_answers(&answers, &rows).unwrap();
        all_made(&answers, &rows).unwrap();
        assert!(own_answers(&answers, &rows[..1]).is_err(), "a lost row");
        let twice = [rows[0].clone(), row(2, "m", 2, 8001, 9001)];
        assert!(own_answers(&answers[..1], &twice).is_err(), "a port twice");
        assert!(all_made(&[answer(1, 5001, false)], &rows).is_err(), "a row that somebody else made");
    }
}
