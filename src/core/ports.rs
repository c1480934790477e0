//! Tells which numbers are ports, keeps sets of them, and knows the ports that browsers refuse.

use std::fmt::{self, Debug};

/// Returns the number as a port if it is from 1 to 65535.
pub(crate) fn as_port(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|&port| port != 0)
}

/// Reads a port from 1 to 65535 that consists of digits alone.
pub(crate) fn parse_port(text: &str) -> Option<u16> {
    // Rust would also read a number with a plus sign.
    text.parse().ok().filter(|_| !text.starts_with('+')).and_then(as_port)
}

/// A set of TCP ports, kept as a bitmap of 65,536 bits.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct PortSet(Box<[u64; 1024]>);

impl PortSet {
    /// Makes an empty set.
    pub(crate) fn new() -> Self {
        Self(Box::new([0; 1024]))
    }

    /// Adds a port.
    pub(crate) fn insert(&mut self, port: u16) {
        self.0[usize::from(port) / 64] |= 1 << (port % 64);
    }

    /// Tells whether the port is in the set.
    pub(crate) fn contains(&self, port: u16) -> bool {
        self.0[usize::from(port) / 64] & (1 << (port % 64)) != 0
    }
}

impl Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..=u16::MAX).filter(|&port| self.contains(port))).finish()
    }
}

impl Default for PortSet {
    fn default() -> Self {
        Self::new()
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> Self {
        let mut set = Self::new();
        set.extend(ports);
        set
    }
}

impl Extend<u16> for PortSet {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, ports: I) {
        for port in ports {
            self.insert(port);
        }
    }
}

/// The ports that browsers refuse to open, in rising order.
///
/// Source: the table "bad port" of the WHATWG Fetch Standard, section "Port blocking",
/// <https://fetch.spec.whatwg.org/#port-blocking>.
pub(crate) const BROWSER_BLOCKED: [u16; 83] = [
    0, 1, 7, 9, 11, 13, 15, 17, 19, 20, 21, 22, 23, 25, 37, 42, 43, 53, 69, 77, 79, 87, 95, 101, 102, 103, 104, 109,
    110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513, 514, 515, 526, 530, 531,
    532, 540, 548, 554, 556, 563, 587, 601, 636, 989, 990, 993, 995, 1719, 1720, 1723, 2049, 3659, 4045, 4190, 5060,
    5061, 6000, 6566, 6665, 6666, 6667, 6668, 6669, 6679, 6697, 10080,
];

/// Tells whether browsers refuse to open this port; see [`BROWSER_BLOCKED`].
pub(crate) fn is_browser_blocked(port: u16) -> bool {
    BROWSER_BLOCKED.binary_search(&port).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_of_the_bitmap_hold() {
        let set: PortSet = [0, 63, 64, 65535].into_iter().collect();
        for port in [0, 63, 64, 65535] {
            assert!(set.contains(port), "{port}");
        }
        for port in [1, 62, 65, 127, 128, 65534] {
            assert!(!set.contains(port), "{port}");
        }
    }

    #[test]
    fn the_blocked_ports_can_be_searched() {
        assert!(BROWSER_BLOCKED.is_sorted());
        assert!(is_browser_blocked(0) && is_browser_blocked(5061) && is_browser_blocked(10080));
        assert!(!is_browser_blocked(5001) && !is_browser_blocked(8001));
    }

    #[test]
    fn a_number_is_a_port_from_1_to_65535() {
        let numbers = [-1, 0, 1, 65535, 65536, i64::MAX];
        assert_eq!(numbers.map(as_port), [None, None, Some(1), Some(65535), None, None]);
    }

    #[test]
    fn a_port_is_digits_from_1_to_65535() {
        for (text, expected) in [
            ("1", Some(1)),
            ("65535", Some(65535)),
            ("08001", Some(8001)),
            ("0", None),
            ("65536", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1_0", None),
            ("٣", None),
        ] {
            assert_eq!(parse_port(text), expected, "{text}");
        }
    }

    #[test]
    fn a_set_is_shown_as_its_ports() {
        assert_eq!(format!("{:?}", PortSet::from_iter([65535, 1, 0])), "{0, 1, 65535}");
    }
}
