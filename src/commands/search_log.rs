//! Logs with `-vv` which slots a search for pairs passed over, and why.

use crate::core::plan::Plans;
use crate::core::refusal::Reason;
use crate::core::trace::{PassedOver, Step, Trace};
use crate::store::api::Store;

/// Logs the steps of a search, each on a line. The write lock is not held any more.
pub(super) fn log_search(trace: &Trace, plans: &Plans, store: &mut dyn Store) {
    // Without the rows, the log does not tell who has a port.
    let rows = store.snapshot().unwrap_or_default();
    let owner = |port: u16| rows.iter().find(|row| row.ports().contains(&i64::from(port))).map(|row| &row.app);
    for step in &trace.steps {
        match step {
            Step::Took(app, pair) => log::trace!("{app}: chose backend {}, frontend {}", pair.backend, pair.frontend),
            Step::PlanFailed(app, pair) => {
                log::trace!("{app}: its planned pair {} {} is not free", pair.backend, pair.frontend);
            }
            Step::PassedOver(passed) => {
                let PassedOver { app, first, last, slots, port, reason } = passed;
                let slots = match slots {
                    1 => format!("slot {} {}", first.backend, first.frontend),
                    _ => format!(
                        "{slots} slots, {} {} to {} {}",
                        first.backend, first.frontend, last.backend, last.frontend
                    ),
                };
                let reason = match reason {
                    Reason::Taken => owner(*port).map_or("taken".to_owned(), |owner| format!("taken by {owner}")),
                    Reason::Planned => {
                        plans.app_of(*port).map_or("planned for others".to_owned(), |app| format!("planned for {app}"))
                    }
                    Reason::Excluded => "excluded".to_owned(),
                    Reason::BrowserBlocked => "blocked by browsers".to_owned(),
                    Reason::InUse => "listened on, or refused by the system".to_owned(),
                    Reason::NotPermitted => "not for this user to listen on".to_owned(),
                };
                log::trace!("{app}: passed over {slots}: port {port} is {reason}");
            }
        }
    }
    if trace.more > 0 {
        log::trace!("{} more steps of the search are not told", trace.more);
    }
}
