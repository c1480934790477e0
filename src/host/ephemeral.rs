//! The ports that this machine gives to outgoing connections.

use std::fs;
use std::ops::RangeInclusive;

/// This machine's ephemeral port range, where the kernel tells it.
///
/// Source: `net.ipv4.ip_local_port_range`, which IPv6 shares; see the kernel's
/// `Documentation/networking/ip-sysctl.rst`.
pub(crate) fn range() -> Option<RangeInclusive<u16>> {
    parse(&fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?)
}

fn parse(text: &str) -> Option<RangeInclusive<u16>> {
    let (first, last) = text.trim().split_once(char::is_whitespace)?;
    Some(first.parse().ok()?..=last.trim().parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        assert_eq!(parse("32768\t60999\n"), Some(32768..=60999));
        assert_eq!(parse(""), None);
    }
}
