//! Adds what a command did to the metrics file.

use std::path::Path;

use anyhow::bail;

use crate::core::counts::Done;
use crate::error::Kind;
use crate::host::metrics_file;
use crate::metrics::{Found, Totals};

/// Adds the counts of a command, and the error that kept it from allocating ports. A command that failed to
/// do so is not a failure: the answer was given already. The user is warned.
pub(crate) fn record(file: &Path, done: &Done, error: Option<Kind>) {
    let error = error.filter(|kind| kind.is_of_allocation());
    let totals = Totals::of(done, error.map(Kind::name), &Kind::NAMES);
    // A new file tells Prometheus that all counters are 0 before the first of them rises.
    if totals.is_zero() && file.exists() {
        return;
    }
    let mut is_damaged = false;
    let updated = metrics_file::update(file, |content| {
        let mut sum = match Totals::read(&content) {
            Found::Totals(sum) => sum,
            Found::Nothing => Totals::default(),
            Found::Damaged => {
                is_damaged = true;
                Totals::default()
            }
            Found::Foreign => bail!("it holds something else than this program's counters, and is left as it is"),
        };
        sum.add(&totals);
        Ok(sum.encode()?.into_bytes())
    });
    let file = file.display();
    match updated {
        Ok(()) if is_damaged => log::warn!("the metrics file {file} was damaged: its counters begin at 0 again"),
        Ok(()) => {}
        Err(err) => log::warn!("the metrics file {file} was not updated: {err:#}"),
    }
}
