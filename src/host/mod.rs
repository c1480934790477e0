//! The modules here read and change this machine's state: time and signals, users of ports, directories and
//! files.

pub(crate) mod apps_dir;
mod bind;
pub(crate) mod clock;
pub(crate) mod containers;
pub(crate) mod declared;
mod dotenv;
pub(crate) mod env_file;
pub(crate) mod ephemeral;
pub(crate) mod job_summary;
mod json_words;
mod listeners;
pub(crate) mod metrics_file;
pub(crate) mod port_config;
pub(crate) mod port_use;
pub(crate) mod program;
mod unix_http;
