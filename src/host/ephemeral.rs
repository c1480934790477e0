//! This file reads which ports this machine gives to outgoing connections.

use std::fs;
use std::ops::RangeInclusive;

use crate::core::ports::PortSet;

/// Returns this machine's ephemeral port range, or `None` if the kernel does not tell it.
///
/// Source: `net.ipv4.ip_local_port_range`, which IPv6 shares; see the kernel's
/// `Documentation/networking/ip-sysctl.rst`.
pub(crate) fn range() -> Option<RangeInclusive<u16>> {
    parse_range(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

/// Returns the ports that this machine never gives to outgoing connections, even if they are in the range.
/// The set is empty if the kernel does not tell them.
///
/// Source: `net.ipv4.ip_local_reserved_ports`, see [`range`].
pub(crate) fn reserved() -> PortSet {
    parse_list(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default())
}

fn parse_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

/// Reads ports and ranges such as `8080,9148-9200`. Skips anything else.
fn parse_list(text: &str) -> PortSet {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<u16>().ok()?..=last.parse().ok()?)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read() {
        assert_eq!(parse_range("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse_range(""), None);
        let ports = |ports: &[u16]| ports.iter().copied().collect::<PortSet>();
        assert_eq!(parse_list("8080,9148-9150\n"), ports(&[8080, 9148, 9149, 9150]));
        assert_eq!(parse_list("65534-65535"), ports(&[65534, 65535]));
        assert_eq!(parse_list("\n"), PortSet::new());
    }
}
