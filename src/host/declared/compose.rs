//! The ports that a Compose file publishes, for the services `backend` and `frontend` and for others.

use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_saphyr::options::{DuplicateKeyPolicy, NonFiniteFloatPolicy};

use super::interpolate::interpolate;
use super::{Findings, port};
use crate::core::declared::{Role, union};

/// The parts of a document that count; the others may have any shape. Of the services, those are all or
/// the two that are given a port.
#[derive(Deserialize)]
struct Document<const ALL: bool> {
    services: Option<Services<ALL>>,
}

/// The services, each with its role.
struct Services<const ALL: bool>(Vec<(Role, Service)>);

/// One service.
#[derive(Default, Deserialize)]
struct Service {
    ports: Option<Vec<Entry>>,
}

/// One entry of a service's `ports`; a scalar is the text that it is written as.
enum Entry {
    /// `[[HOST_IP:]HOST:]CONTAINER[/PROTOCOL]`.
    Short(String),
    /// A mapping of which these two keys count.
    Long { published: String, protocol: String },
    /// Neither.
    Odd,
}

/// The ports that the services publish; variables in them are looked up by their name.
pub(super) fn ports<'a>(text: &str, lookup: &dyn Fn(&str) -> Option<&'a str>) -> Findings {
    let mut findings = Findings::default();
    // What is odd in another service must not hide the two.
    let services = match services::<true>(text).or_else(|_| services::<false>(text)) {
        Ok(services) => services,
        Err(err) => {
            // The error's own words may show what the file holds.
            let line = err.location().map(|location| format!(" at line {}", location.line())).unwrap_or_default();
            findings.problems.push(format!("is not a Compose file: it cannot be read{line}"));
            return findings;
        }
    };
    for role in Role::ALL {
        let of_role = services.iter().filter(|(found, _)| *found == role);
        let entries = of_role.filter_map(|(_, service)| service.ports.as_ref()).flatten();
        let mut ranges = Vec::new();
        for (number, entry) in (1..).zip(entries) {
            match published(entry, lookup) {
                Ok(range) => ranges.extend(range),
                // What an app is given does not depend on it.
                Err(_) if role == Role::Other => {}
                Err(reason) => findings.problems.push(format!("entry {number} of the {role}'s ports {reason}")),
            }
        }
        findings.ports.extend(union(ranges).into_iter().map(|ports| (role, ports)));
    }
    findings
}

/// The services of all documents in a file.
fn services<const ALL: bool>(text: &str) -> Result<Vec<(Role, Service)>, serde_saphyr::Error> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! { enforce_alias_anchor_ratio: false },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
        // Compose refuses a key that stands twice. Where it matters here, serde does too.
        duplicate_keys: DuplicateKeyPolicy::PassThrough,
        leading_zero_numbers_as_strings: true,
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
        with_snippet: false,
    };
    let documents: Vec<Option<Document<ALL>>> = serde_saphyr::from_multiple_with_options(text, options)?;
    Ok(documents.into_iter().flatten().filter_map(|document| document.services).flat_map(|Services(all)| all).collect())
}

/// The TCP ports of this machine that an entry publishes, if it names any.
fn published<'a>(
    entry: &Entry,
    lookup: &dyn Fn(&str) -> Option<&'a str>,
) -> Result<Option<RangeInclusive<u16>>, String> {
    let (host, protocol) = match entry {
        Entry::Short(text) => {
            let text = interpolate(text, lookup)?;
            let (ports, protocol) = text.rsplit_once('/').unwrap_or((&text, "tcp"));
            let mut parts = ports.rsplitn(3, ':');
            let container = parts.next().unwrap_or_default();
            let host = parts.next().unwrap_or_default();
            if (!container.is_empty() || !host.is_empty()) && range(container).is_none() {
                return Err("is not a port mapping".to_owned());
            }
            (host.to_owned(), protocol.to_owned())
        }
        Entry::Long { published, protocol } => (interpolate(published, lookup)?, interpolate(protocol, lookup)?),
        Entry::Odd => return Err("is not a port mapping".to_owned()),
    };
    // Without a port of the machine, or with 0, Docker picks one when the container starts.
    if matches!(host.as_str(), "" | "0") || !(protocol.is_empty() || protocol.eq_ignore_ascii_case("tcp")) {
        return Ok(None);
    }
    range(&host).map(Some).ok_or_else(|| "publishes what is not a port from 1 to 65535 or a range".to_owned())
}

/// A port, or a range of them.
fn range(text: &str) -> Option<RangeInclusive<u16>> {
    let (start, end) = text.split_once('-').unwrap_or((text, text));
    let (start, end) = (port(start)?, port(end)?);
    (start <= end).then_some(start..=end)
}

impl<'de, const ALL: bool> Deserialize<'de> for Services<ALL> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ServicesVisitor::<ALL>)
    }
}

/// Takes the services by their names.
struct ServicesVisitor<const ALL: bool>;

impl<'de, const ALL: bool> Visitor<'de> for ServicesVisitor<ALL> {
    type Value = Services<ALL>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("services")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Services<ALL>, A::Error> {
        let mut services = Vec::new();
        while let Some(key) = map.next_key::<Entry>()? {
            let role = if let Entry::Short(name) = &key { Role::of_service(name) } else { Role::Other };
            if role == Role::Other && !ALL {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            if role != Role::Other && services.iter().any(|(found, _)| *found == role) {
                return Err(A::Error::duplicate_field(role.name()));
            }
            services.push((role, map.next_value::<Option<Service>>()?.unwrap_or_default()));
        }
        Ok(Services(services))
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EntryVisitor)
    }
}

/// Takes an entry of any shape, so that an odd one does not hide the others.
struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a port mapping")
    }

    fn visit_str<E>(self, text: &str) -> Result<Entry, E> {
        Ok(Entry::Short(text.to_owned()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Entry, E> {
        Ok(Entry::Short(number.to_string()))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Entry, E> {
        Ok(Entry::Short(number.to_string()))
    }

    fn visit_i128<E>(self, _: i128) -> Result<Entry, E> {
        Ok(Entry::Odd)
    }

    fn visit_u128<E>(self, _: u128) -> Result<Entry, E> {
        Ok(Entry::Odd)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Entry, E> {
        Ok(Entry::Odd)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Entry, E> {
        Ok(Entry::Odd)
    }

    fn visit_unit<E>(self) -> Result<Entry, E> {
        Ok(Entry::Short(String::new()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Entry, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Entry::Odd)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entry, A::Error> {
        let (mut published, mut protocol) = (String::new(), String::new());
        let (mut is_odd, mut is_known) = (false, false);
        while let Some(key) = map.next_key::<Entry>()? {
            let place = match &key {
                Entry::Short(key) if key == "published" => &mut published,
                Entry::Short(key) if key == "protocol" => &mut protocol,
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    is_known |= matches!(&key, Entry::Short(key) if key == "target");
                    continue;
                }
            };
            is_known = true;
            match map.next_value()? {
                Entry::Short(text) => *place = text,
                Entry::Long { .. } | Entry::Odd => is_odd = true,
            }
        }
        // `5001:` with nothing behind it is a mapping too.
        Ok(if is_odd || !is_known { Entry::Odd } else { Entry::Long { published, protocol } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> (Vec<u16>, Vec<u16>, Vec<String>) {
        let lookup = |name: &str| match name {
            "PORT" => Some("5001"),
            "SECRET" => Some("hunter2"),
            "EMPTY" => Some(""),
            _ => None,
        };
        let Findings { ports, problems } = ports(text, &lookup);
        let of = |role| ports.iter().filter(|(of, _)| *of == role).flat_map(|(_, ports)| ports.clone()).collect();
        (of(Role::Backend), of(Role::Frontend), problems)
    }

    #[test]
    fn an_entry_publishes_the_ports_of_this_machine() {
        for (entry, expected) in [
            (r#""5001:5000""#, vec![5001]),
            ("5001:5000", vec![5001]),
            ("'5001:5000'", vec![5001]),
            ("22:22", vec![22]),
            ("1:59", vec![1]),
            (r#""127.0.0.1:5001:5000""#, vec![5001]),
            (r#""[::1]:5001:5000""#, vec![5001]),
            (r#""127.0.0.1::5000""#, vec![]),
            (r#""5001:5000/tcp""#, vec![5001]),
            (r#""5001:5000/TCP""#, vec![5001]),
            (r#""5001:5000/udp""#, vec![]),
            (r#""5001-5003:5000-5002""#, vec![5001, 5002, 5003]),
            (r#""127.0.0.1:5001-5002:5000""#, vec![5001, 5002]),
            (r#""65535:1""#, vec![65535]),
            ("\"5000\"", vec![]),
            ("5000", vec![]),
            ("0:5000", vec![]),
            (r#"":5000""#, vec![]),
            ("", vec![]),
            ("~", vec![]),
            ("{target: 5000, published: 5001}", vec![5001]),
            ("{target: 5000, published: \"5001\", protocol: tcp, mode: host, host_ip: 127.0.0.1}", vec![5001]),
            ("{target: 5000, published: 5001-5002}", vec![5001, 5002]),
            ("{target: 5000, published: 5001, protocol: udp}", vec![]),
            ("{target: 5000}", vec![]),
            ("{target: 5000, published: }", vec![]),
            ("{target: 5000, published: \"\", 1: 2, [a]: b}", vec![]),
            ("$PORT:5000", vec![5001]),
            ("\"${PORT}:5000\"", vec![5001]),
            ("\"${NONE:-5003}:5000\"", vec![5003]),
            ("\"${EMPTY:-${NONE:-5005}}:${PORT}\"", vec![5005]),
            ("\"${EMPTY-5003}:5000\"", vec![]),
            ("\"${NONE}:5000\"", vec![]),
            ("\"${NONE}\"", vec![]),
            ("{target: 5000, published: \"${PORT?}\"}", vec![5001]),
            ("{target: 5000, published: \"${PORT}\", protocol: \"${NONE:-udp}\"}", vec![]),
        ] {
            let text = format!("services:\n  backend:\n    ports:\n      - {entry}\n");
            assert_eq!(found(&text), (expected, vec![], vec![]), "{entry}");
        }
    }

    #[test]
    fn an_entry_that_is_wrong_is_named_and_hides_no_other() {
        let mapping = "is not a port mapping";
        let port = "publishes what is not a port from 1 to 65535 or a range";
        for (entry, reason) in [
            ("abc", mapping),
            ("{}", mapping),
            ("{5001: 5000}", mapping),
            ("5001:", mapping),
            ("5001:abc", mapping),
            ("\"5001:\"", mapping),
            ("5001:5000:", mapping),
            ("-5", mapping),
            ("80.5", mapping),
            (".nan", mapping),
            ("true", mapping),
            ("99999999999999999999999", mapping),
            ("[5001:5000]", mapping),
            ("{published: [5001]}", mapping),
            ("abc:5000", port),
            ("70000:5000", port),
            ("5003-5001:5000-5002", port),
            ("0-5:5000-5005", port),
            ("{published: -1}", port),
            ("{published: 70000}", port),
            ("\"$SECRET:5000\"", port),
            ("\"${NONE:?hunter2}:5000\"", "needs the variable NONE, which .env does not set"),
            ("\"${PORT:5000\"", "has a '${' that is not closed"),
        ] {
            let text = format!("services:\n  frontend:\n    ports:\n      - {entry}\n      - 8001:80\n");
            let problem = format!("entry 1 of the frontend's ports {reason}");
            assert_eq!(found(&text), (vec![], vec![8001], vec![problem]), "{entry}");
        }
    }

    #[test]
    fn services_count_in_a_document_of_any_shape() {
        for (text, backend, frontend) in [
            ("", vec![], vec![]),
            ("# nothing", vec![], vec![]),
            ("---\n...\n", vec![], vec![]),
            ("services:", vec![], vec![]),
            ("services: {}", vec![], vec![]),
            ("services: {backend: , frontend: {ports: }}", vec![], vec![]),
            ("services: {backend: {ports: []}}", vec![], vec![]),
            ("services: {db: {ports: ['5432:5432']}, backend: {ports: ['1:1', '2:1', '1:1']}}", vec![1, 2], vec![]),
            ("services: {frontend: {ports: ['8-9:8-9', '5-20:5-20', '6:6']}}", vec![], (5..=20).collect()),
            (
                "name: 5\nnetworks: [1]\n1: {a: b, a: c}\nx: .nan\ny: !odd z\n\
                 services: {db: 5, backend: {image: [], environment: {A: 1, A: 2}, ports: ['1:1']}}",
                vec![1],
                vec![],
            ),
            (
                "x-ports: &ports ['1:1', '2:2']\nx-web: &web {ports: [3:3]}\n\
                 services:\n  backend: {ports: *ports}\n  frontend: {<<: *web, image: x}",
                vec![1, 2],
                vec![3],
            ),
            (
                "x: &x {ports: [3:3]}\ny: &y {ports: [4:4]}\nservices: {backend: {<<: [*x, *y]}, frontend: {ports: [5:5], <<: *x}}",
                vec![3],
                vec![5],
            ),
            (
                "x: &x {published: 7}\nservices: {backend: {ports: [{<<: *x, target: 1}, {<<: *x, published: 8}]}}",
                vec![7, 8],
                vec![],
            ),
            ("services: {backend: {ports: [1:1]}}\n---\nservices: {backend: {ports: [2:2]}}", vec![1, 2], vec![]),
            ("services:\r\n  backend:\r\n    ports:\r\n      - \"1:1\"\r\n", vec![1], vec![]),
        ] {
            assert_eq!(found(text), (backend, frontend, vec![]), "{text}");
        }
    }

    #[test]
    fn other_services_have_ports_too_and_may_be_odd() {
        let others = |text: &str| {
            assert_eq!(found(text), (vec![1], vec![], vec![]), "{text}");
            let others = ports(text, &|_| None).ports.into_iter().filter(|(role, _)| *role == Role::Other);
            others.map(|(_, ports)| ports).collect::<Vec<_>>()
        };
        let all = "services: {db: {ports: ['5432:5432', odd:1, 0:1]}, 5: {ports: !override [010:1, '7-8:7-8']}, none: ,
             twice: !x {ports: [9:9]}, twice: {image: x}, backend: {ports: [1:1]}";
        assert_eq!(others(&format!("{all}}}")), [7..=10, 5432..=5432]);
        for odd in ["5", "[1]", "{ports: {a: b}}", "340282366920938463463374607431768211455"] {
            assert_eq!(others(&format!("{all}, odd: {odd}}}")), []);
        }
    }

    #[test]
    fn a_file_that_compose_cannot_read_is_named_on_one_line() {
        let nested = |open: &str| format!("services: {{}}\nx: {}", open.repeat(200_000));
        let laughs = (1..40).fold("a0: &a0 [x, x]\n".to_owned(), |text, number| {
            let before = format!("*a{}", number - 1);
            text + &format!("a{number}: &a{number} [{before}, {before}]\n")
        });
        for text in [
            "[]",
            "- services",
            "5",
            "text",
            "services: 5",
            "services: [backend]",
            "services: {backend: 5}",
            "services: {backend: [ports]}",
            "services: {backend: {ports: {}}}",
            "services: {backend: {ports: 5001:5000}}",
            "services: {backend: {ports: [1:1], ports: [2:2]}}",
            "services: {}\nservices: {}",
            "services: {backend: *none}",
            "a: b: c",
            "a: [",
            "\"",
            "a: &a [*a]",
            "a\n---\n]",
            &nested("["),
            &nested("{a: "),
            &nested("- "),
            &format!("services: {{backend: {{ports: {}", "[".repeat(200_000)),
            &format!("{laughs}services: {{backend: {{ports: *a39}}}}"),
            &format!("{laughs}x: *a39"),
        ] {
            let (backend, frontend, problems) = found(text);
            let text: String = text.chars().take(80).collect();
            assert_eq!((backend, frontend, problems.len()), (vec![], vec![], 1), "{text}");
            assert!(!problems[0].is_empty() && problems[0].lines().count() == 1, "{text}");
        }
    }

    #[test]
    fn many_wide_ranges_are_one() {
        let text = format!("services: {{backend: {{ports: [{}]}}}}", "'1-65535:1-65535',".repeat(40_000));
        assert_eq!(ports(&text, &|_| None).ports, [(Role::Backend, 1..=65535)]);
    }
}
