//! Gives every generated app a backend and a frontend port of its own, safely from many processes.
//!
//! The library serves the binary alone, which enters it through [`cli::run`].

#[cfg(windows)]
compile_error!(
    "manage-ports does not run on Windows itself: build it and run it in WSL, the Windows Subsystem for Linux"
);

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
