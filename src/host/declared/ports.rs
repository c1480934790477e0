//! This file reads one entry of a service's `ports` and finds the ports that it publishes on this machine.
//!
//! Short entries are read by the rules of Docker's go-connections, `nat.ParsePortSpec`:
//! <https://github.com/docker/go-connections/blob/v0.4.0/nat/nat.go>; long ones by Compose's schema:
//! <https://github.com/compose-spec/compose-go/blob/v2.9.1/schema/compose-spec.json>. What Compose lets
//! pass in `published` and `protocol` and the Docker Engine then refuses is refused here, too.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::interpolate::{Lookup, NoValue, interpolate};
use super::yaml::{Node, Scalar};

/// The keys of a long entry.
const KEYS: [&str; 7] = ["name", "mode", "host_ip", "target", "published", "protocol", "app_protocol"];

/// Returns the TCP ports that an entry publishes on this machine, or `None` if it publishes none or lets
/// Docker choose one.
///
/// # Errors
///
/// Fails when Compose refuses the entry, or when it needs a variable that is not known.
pub(super) fn published(entry: &Node, lookup: Lookup<'_, '_>) -> Result<Option<RangeInclusive<u16>>, NoValue> {
    match entry.scalar() {
        Some(Scalar::Text(text)) => short(&interpolate(text, lookup)?),
        Some(Scalar::Int(number)) => short(&number.to_string()),
        Some(_) => Err(refused("is neither text nor a whole number")),
        None => long(entry, lookup),
    }
}

fn refused(reason: &str) -> NoValue {
    NoValue::Refused(reason.to_owned())
}

/// Reads an entry such as `[[HOST_IP:]PUBLISHED:]CONTAINER[/PROTOCOL]`.
fn short(text: &str) -> Result<Option<RangeInclusive<u16>>, NoValue> {
    let mut parts = text.rsplitn(3, ':');
    let container = parts.next().unwrap_or_default();
    let host = parts.next().unwrap_or_default();
    if !parts.next().is_none_or(is_address) {
        return Err(refused("has no IP address where one stands"));
    }
    let mut parts = container.split('/');
    let container = parts.next().unwrap_or_default();
    let protocol = parts.next().filter(|protocol| !protocol.is_empty()).unwrap_or("tcp").to_ascii_lowercase();
    if container.is_empty() {
        return Err(refused("names no container port"));
    }
    let container = range(container).ok_or_else(|| refused("names no container port"))?;
    let host = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| refused("publishes what is no port"))?),
    };
    // A range may be published for one port of the container. Docker then picks a port from the range.
    let is_mismatch = host.as_ref().is_some_and(|host| host.len() != container.len()) && container.len() > 1;
    if is_mismatch {
        return Err(refused("has two ranges of different lengths"));
    }
    if !matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        return Err(refused("has a protocol that is not known"));
    }
    if *container.start() == 0 {
        return Err(refused("names no container port"));
    }
    Ok(host.and_then(fixed).filter(|_| protocol == "tcp"))
}

/// Tells whether Go's `net.SplitHostPort` and `net.ParseIP`, after a colon is appended, accept the text as an
/// IP address or as no address.
fn is_address(text: &str) -> bool {
    let address = match text.strip_prefix('[') {
        Some(inside) => inside.strip_suffix(']').filter(|inside| !inside.contains(['[', ']'])),
        None => Some(text).filter(|text| !text.contains([':', '[', ']'])),
    };
    address.is_some_and(|address| address.is_empty() || address.parse::<IpAddr>().is_ok())
}

/// Reads a port from 0 on, or a range of ports. Ignores the text after a range, as Docker does.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut parts = text.split('-');
    let start = number(parts.next()?)?;
    let end = parts.next().map_or(Some(start), number)?;
    (start <= end).then_some(start..=end)
}

/// Reads a number from 0 to 65535 that consists of digits alone.
fn number(text: &str) -> Option<u16> {
    // `parse` alone would accept a sign.
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Returns the ports of a range, or `None` if Docker chooses the port, as for 0.
fn fixed(range: RangeInclusive<u16>) -> Option<RangeInclusive<u16>> {
    let (start, end) = range.into_inner();
    Some(start.max(1)..=end).filter(|_| end > 0)
}

/// Reads an entry that is a mapping.
fn long(entry: &Node, lookup: Lookup<'_, '_>) -> Result<Option<RangeInclusive<u16>>, NoValue> {
    let entries = entry.entries().ok_or_else(|| refused("is no port mapping"))?;
    if entries.iter().any(|(key, _)| !KEYS.contains(key) && !key.starts_with("x-")) {
        return Err(refused("has a key that no port mapping has"));
    }
    let get = |key: &str| entries.iter().find(|(found, _)| *found == key).map(|(_, node)| node);
    let text = |key: &str| {
        let text = |node: &Node| {
            let text = node.text().ok_or_else(|| NoValue::Refused(format!("has a {key} that is no text")))?;
            interpolate(text, lookup)
        };
        get(key).map(|node| text(node)).transpose()
    };
    match get("target").map(|node| node.scalar()) {
        Some(Some(Scalar::Int(_))) => {}
        Some(Some(Scalar::Text(text))) if is_integer(&interpolate(text, lookup)?) => {}
        Some(_) => return Err(refused("has a target that is no whole number")),
        None => return Err(refused("has no target")),
    }
    if text("host_ip")?.is_some_and(|address| address.parse::<IpAddr>().is_err()) {
        return Err(refused("has no IP address where one stands"));
    }
    for key in ["name", "mode", "app_protocol"] {
        // The value of this key does not matter here, so it may be unknown.
        if let Err(NoValue::Refused(reason)) = text(key) {
            return Err(NoValue::Refused(reason));
        }
    }
    let published = match get("published").map(|node| node.scalar()) {
        None => String::new(),
        Some(Some(Scalar::Int(number))) => number.to_string(),
        Some(Some(Scalar::Text(text))) => interpolate(text, lookup)?,
        Some(_) => return Err(refused("publishes what is neither text nor a whole number")),
    };
    let protocol = text("protocol")?.map_or_else(|| "tcp".to_owned(), |protocol| protocol.to_ascii_lowercase());
    if !matches!(protocol.as_str(), "" | "tcp" | "udp" | "sctp") {
        return Err(refused("has a protocol that is not known"));
    }
    if published.is_empty() {
        return Ok(None);
    }
    let published = range(&published).ok_or_else(|| refused("publishes what is no port"))?;
    Ok(fixed(published).filter(|_| matches!(protocol.as_str(), "" | "tcp")))
}

/// Tells whether Go's `strconv.Atoi` accepts a text as a number.
fn is_integer(text: &str) -> bool {
    text.parse::<i64>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_chooses_port_0() {
        assert_eq!([fixed(0..=0), fixed(0..=2), fixed(3..=3)], [None, Some(1..=2), Some(3..=3)]);
    }
}
