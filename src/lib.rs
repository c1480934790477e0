//! Gives every generated app a backend and a frontend port of its own, safely from many processes.
//!
//! The library serves the binary alone, which enters it through [`cli::run`].

pub mod cli;
mod commands;
mod config;
mod core;
mod error;
mod flags;
mod host;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub mod internals;
mod metrics;
mod output;
mod store;
