//! Metrics in Prometheus's text format: the state of the allocations, and counters that add up over all
//! commands.
//!
//! The format is version 0.0.4, the one that `node_exporter` reads in its textfile collector
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>).

mod state;
mod text;
mod totals;

pub(crate) use self::state::State;
pub(crate) use self::totals::{Found, Totals};
