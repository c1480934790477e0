//! What the tool knows: apps, ports, which pair comes next, what a conflict is, and the store.
//!
//! Nothing in here touches a terminal, the command line, the environment or a clock it was not
//! given, so that every rule can be tested with plain values.

pub mod allocation;
pub mod app;
pub mod conflict;
pub mod declared;
pub mod import;
pub mod listener;
pub mod orphan;
pub mod policy;
pub mod ports;
pub mod retry;
pub mod store;
pub mod text;
