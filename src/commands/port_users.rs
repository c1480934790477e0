//! Finds the processes and containers that use the ports of rows, for `list`, `check`, `exec` and `release`.

use crate::config::Config;
use crate::core::allocation::Allocation;
use crate::core::listener::Listeners;
use crate::host::containers::PATIENCE;
use crate::host::port_use;

/// Returns the processes that listen on the rows' ports, and the containers that publish these ports.
pub(super) fn listeners<'a>(rows: impl IntoIterator<Item = &'a Allocation>, config: &Config) -> Listeners {
    let ports = rows.into_iter().flat_map(Allocation::valid_ports);
    port_use::look(ports, &config.container_sockets(), PATIENCE).listeners
}

/// Prints a warning for each process or container that uses a port of the rows.
pub(super) fn warn_of_listeners(rows: &[&Allocation], config: &Config) {
    let listeners = listeners(rows.iter().copied(), config);
    for row in rows {
        for (port, user) in listeners.of(row) {
            log::warn!("port {port} of {} is in use: {}", row.app, user.use_of_port());
        }
    }
}
