//! Gives every generated app a backend and a frontend port of its own, safely from many processes.
//!
//! [`core`] is the allocator as a library: which pair an app gets, what a conflict is, and the
//! store that decides and writes in one transaction. The rest is the command line program, entered
//! through [`cli::run`].

pub mod cli;
mod commands;
mod config;
pub mod core;
pub mod error;
mod host;
mod output;
