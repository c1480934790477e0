//! This file reads those parts of the services of one document that decide about ports.

use std::rc::Rc;

use super::interpolate::{Lookup, NoValue, interpolate};
use super::ports::published;
use super::problem::{FileName, Problem, Problems, called};
use super::services::{Entry, EntryName, Extends, Known, PathText, Profile, Resets, Service, Services};
use super::yaml::{Node, Scalar, Tag};

/// The keys that Compose knows in a service:
/// <https://github.com/compose-spec/compose-go/blob/v2.9.1/schema/compose-spec.json>.
const KEYS: &[&str] = &[
    "annotations",
    "attach",
    "blkio_config",
    "build",
    "cap_add",
    "cap_drop",
    "cgroup",
    "cgroup_parent",
    "command",
    "configs",
    "container_name",
    "cpu_count",
    "cpu_percent",
    "cpu_period",
    "cpu_quota",
    "cpu_rt_period",
    "cpu_rt_runtime",
    "cpu_shares",
    "cpus",
    "cpuset",
    "credential_spec",
    "depends_on",
    "deploy",
    "develop",
    "device_cgroup_rules",
    "devices",
    "dns",
    "dns_opt",
    "dns_search",
    "domainname",
    "entrypoint",
    "env_file",
    "environment",
    "expose",
    "extends",
    "external_links",
    "extra_hosts",
    "gpus",
    "group_add",
    "healthcheck",
    "hostname",
    "image",
    "init",
    "ipc",
    "isolation",
    "label_file",
    "labels",
    "links",
    "logging",
    "mac_address",
    "mem_limit",
    "mem_reservation",
    "mem_swappiness",
    "memswap_limit",
    "models",
    "network_mode",
    "networks",
    "oom_kill_disable",
    "oom_score_adj",
    "pid",
    "pids_limit",
    "platform",
    "ports",
    "post_start",
    "pre_stop",
    "privileged",
    "profiles",
    "provider",
    "pull_policy",
    "pull_refresh_after",
    "read_only",
    "restart",
    "runtime",
    "scale",
    "secrets",
    "security_opt",
    "shm_size",
    "stdin_open",
    "stop_grace_period",
    "stop_signal",
    "storage_opt",
    "sysctls",
    "tmpfs",
    "tty",
    "ulimits",
    "use_api_socket",
    "user",
    "userns_mode",
    "uts",
    "volumes",
    "volumes_from",
    "working_dir",
];

/// The keys of a service that decide about ports and may not be empty.
const CHECKED: [&str; 5] = ["network_mode", "networks", "ports", "profiles", "scale"];

/// Reads the services of one document.
pub(super) struct Reader<'a> {
    /// The document's file.
    pub(super) file: &'a FileName,
    /// The function that looks up variables for the document.
    pub(super) lookup: Lookup<'a, 'a>,
    /// The list for problems that do not concern the ports of a service.
    pub(super) problems: &'a Problems,
    /// The places that `!reset` and `!override` name.
    pub(super) resets: Resets,
}

impl Reader<'_> {
    /// Returns the services under the key `services`.
    ///
    /// Returns `None` if the value is not a mapping, which is reported.
    pub(super) fn services(&mut self, node: &Node) -> Option<Services> {
        let mut services = Services::new();
        if self.is_reset(node, &[]) {
            return Some(services);
        }
        let Some(entries) = node.entries() else {
            self.problems.add(Problem::at(self.file, node.line, "has services that are no mapping"));
            return None;
        };
        let is_override = node.tag == Tag::Override;
        for (name, node) in entries {
            if !is_override && self.is_reset(node, &[name]) {
                continue;
            }
            let service = self.service(name, node, is_override || node.tag == Tag::Override);
            services.insert(name.to_owned(), service);
        }
        Some(services)
    }

    /// Tells whether a node is removed. Records the place if it has one of the two tags.
    fn is_reset(&mut self, node: &Node, place: &[&str]) -> bool {
        if matches!(node.tag, Tag::Reset | Tag::Override) {
            self.resets.push(place.iter().map(|&part| part.to_owned()).collect());
        }
        node.tag == Tag::Reset
    }

    /// Reads a service. Below `!override`, the two tags have no effect.
    fn service(&mut self, name: &str, node: &Node, is_override: bool) -> Service {
        let mut service = Service::new(self.file, node.line);
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')) {
            service.notes.push(self.at(node, "has a service with a name that Compose refuses".to_owned()));
        }
        if node.is_null() {
            service.is_empty = true;
            service.problem = Some(self.at(node, format!("has nothing in the service {}", called(name))));
            return service;
        }
        let Some(entries) = node.entries() else {
            service.problem = Some(self.at(node, format!("has a service {} that is no mapping", called(name))));
            return service;
        };
        for (key, node) in entries {
            if !is_override && self.is_reset(node, &[name, key]) {
                continue;
            }
            if let Some(key) = CHECKED.into_iter().find(|checked| *checked == key) {
                if node.is_null() {
                    service
                        .nulls
                        .push((key, self.at(node, format!("has nothing at {key} in the service {}", called(name)))));
                    continue;
                }
                service.present.push(key);
            }
            if let Err(what) = self.key(&mut service, key, node, name, is_override) {
                service.problem.get_or_insert(self.at(node, format!("has {what} in the service {}", called(name))));
            }
        }
        service
    }

    fn at(&self, node: &Node, reason: String) -> Problem {
        Problem::at(self.file, node.line, reason)
    }

    /// Reads one key of a service.
    ///
    /// # Errors
    ///
    /// Returns the reason in words when Compose refuses the value and the key concerns ports.
    fn key(
        &mut self,
        service: &mut Service,
        key: &str,
        node: &Node,
        name: &str,
        is_override: bool,
    ) -> Result<(), &'static str> {
        match key {
            "ports" => service.ports = self.ports(node, name).ok_or("ports that are no list")?,
            "network_mode" => {
                let mode = node.text().ok_or("a network_mode that is no text")?;
                service.network_mode = self.known(node, interpolate(mode, self.lookup), name)?;
            }
            "networks" => {
                let is_empty = |len: Option<usize>| len.is_none_or(|len| len == 0);
                service.has_networks =
                    !is_empty(node.items().map(<[_]>::len)) || !is_empty(node.entries().map(|all| all.len()));
            }
            "profiles" => {
                for item in node.items().ok_or("profiles that are no list")? {
                    let profile = item.text().ok_or("a profile that is no text")?;
                    let known = self.known(item, interpolate(profile, self.lookup), name)?;
                    service.profiles.extend(known.map(|name| Profile { name, written: profile.to_owned() }));
                }
            }
            "scale" => service.scale = self.count(node, name)?,
            "deploy" if node.is_null() => {}
            "deploy" => {
                for (key, node) in node.entries().ok_or("a deploy that is no mapping")? {
                    if key == "replicas" && (is_override || !self.is_reset(node, &[name, "deploy", key])) {
                        service.replicas = self.count(node, name)?;
                    }
                }
            }
            "extends" => service.extends = self.extends(node)?,
            key => {
                if KEYS.binary_search(&key).is_err() && !key.starts_with("x-") {
                    let reason = format!("has a key in the service {} that Compose does not know", called(name));
                    service.notes.push(self.at(node, reason));
                }
                self.check_variables(node);
            }
        }
        Ok(())
    }

    fn ports(&self, node: &Node, name: &str) -> Option<Vec<Entry>> {
        let service: Rc<str> = called(name).into();
        let items = node.items()?.iter().filter(|item| item.tag != Tag::Reset);
        let entry = |(number, item): (usize, &Rc<Node>)| Entry {
            file: Rc::clone(self.file),
            line: item.line,
            name: EntryName { service: Rc::clone(&service), number },
            published: published(item, self.lookup),
        };
        Some((1..).zip(items).map(entry).collect())
    }

    /// Converts a value that unknown variables may make unknown. If Compose refuses a part of it, it refuses
    /// the whole value.
    fn known<T>(&self, node: &Node, value: Result<T, NoValue>, name: &str) -> Result<Option<Known<T>>, &'static str> {
        match value {
            Ok(value) => Ok(Some(Known::Value(value))),
            Err(NoValue::Unknown(reason)) => Ok(Some(Known::Unknown(
                self.at(node, format!("has a value in the service {} that {reason}", called(name))),
            ))),
            Err(NoValue::Refused(_)) => Err("a value that Compose refuses"),
        }
    }

    /// Returns the requested number of containers.
    fn count(&self, node: &Node, name: &str) -> Result<Option<Known<i64>>, &'static str> {
        const WRONG: &str = "a number of containers that is no whole number from 0 on";
        let count = match node.scalar() {
            Some(Scalar::Int(number)) => Ok(number),
            // Go's JSON schema accepts this as a whole number.
            Some(Scalar::Float(0.0)) => Ok(0),
            Some(Scalar::Float(number)) if number.fract() == 0.0 && number > 0.0 => Ok(1),
            Some(Scalar::Text(text)) => match interpolate(text, self.lookup) {
                // What is no number is refused below, like a negative one.
                Ok(text) => Ok(text.parse().unwrap_or(-1)),
                Err(err) => Err(err),
            },
            _ => return Err(WRONG),
        };
        if matches!(count, Ok(..0)) { Err(WRONG) } else { self.known(node, count, name) }
    }

    fn extends(&self, node: &Node) -> Result<Option<Extends>, &'static str> {
        const WRONG: &str = "an extends that names no service";
        let text = |node: &Node| interpolate(node.text().ok_or(WRONG)?, self.lookup).map_err(|_| WRONG);
        let line = node.line;
        let Some(entries) = node.entries() else {
            return Ok(Some(Extends { line, service: text(node)?, file: None }));
        };
        let get = |key: &str| entries.iter().find(|(found, _)| *found == key).map(|(_, node)| node);
        let file = match get("file") {
            Some(node) if !node.is_null() => {
                let path = text(node).map_err(|_| "an extends that names no file")?;
                Some(PathText { path, written: node.text().unwrap_or_default().to_owned() })
            }
            _ => None,
        };
        Ok(Some(Extends { line, service: text(get("service").ok_or(WRONG)?)?, file }))
    }

    /// Reports text whose variables Compose could not replace, because Compose then refuses the whole file.
    pub(super) fn check_variables(&self, node: &Node) {
        if let Some(text) = node.text().filter(|text| text.contains('$'))
            && let Err(NoValue::Refused(reason)) = interpolate(text, self.lookup)
        {
            self.problems.add(self.at(node, format!("has a text that {reason}")));
        }
        for item in node.items().unwrap_or_default() {
            self.check_variables(item);
        }
        for (_, node) in node.entries().unwrap_or_default() {
            self.check_variables(node);
        }
    }
}
