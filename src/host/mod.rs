//! What the tool sees on this machine: time and signals, listeners, directories and files.

pub(crate) mod apps_dir;
pub(crate) mod clock;
pub(crate) mod declared;
mod dotenv;
pub(crate) mod env_file;
pub(crate) mod ephemeral;
pub(crate) mod listeners;
pub(crate) mod port_config;
