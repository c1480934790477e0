//! Contains the rules of the tool, on plain values: apps, ports, the choice of a pair, and conflicts.
//!
//! Nothing here touches a terminal, a file, a socket, a thread, a clock, a random number or a log,
//! so that every rule can be tested with plain values.

pub(crate) mod allocation;
pub(crate) mod app;
pub(crate) mod app_folder;
pub(crate) mod apps_dir;
pub(crate) mod clock;
pub(crate) mod conflict;
pub(crate) mod counts;
pub(crate) mod declared;
pub(crate) mod fit;
pub(crate) mod glob;
pub(crate) mod hint;
pub(crate) mod import;
pub(crate) mod listener;
pub(crate) mod map;
pub(crate) mod migration;
pub(crate) mod orphan;
pub(crate) mod path;
pub(crate) mod place;
pub(crate) mod plan;
pub(crate) mod policy;
pub(crate) mod ports;
pub(crate) mod promise;
pub(crate) mod refusal;
pub(crate) mod schema;
pub(crate) mod text;
pub(crate) mod trace;
