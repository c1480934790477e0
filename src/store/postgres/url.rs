//! This file reads a PostgreSQL URL into parameters:
//! `[user[:password]@][host[:port],…][/dbname][?key=value&…]`.

use percent_encoding::percent_decode_str;

use super::hosts::{name_and_port, name_and_port_in_query};
use super::parameters::{Parameters, parameter};

/// The advice about a URL that cannot be parsed.
const UNENCODED: &str =
    "in a user's name or a password '%', '/', '?', '@' and ':' are written as %25, %2F, %3F, %40 and %3A";

/// Parses the part of a URL that follows `postgresql://`.
///
/// # Errors
///
/// Returns, in words and without a password, what is wrong with the URL. A URL that cannot be read is not
/// shown.
pub(super) fn url_parameters(url: &str) -> Result<Parameters, String> {
    let (main, query) = url.split_once('?').unwrap_or((url, ""));
    let (authority, dbname) = main.split_once('/').unwrap_or((main, ""));
    // A part of a password must not be taken for a name, because messages show names.
    if dbname.contains(['@', '/']) || query.contains('@') {
        return Err(UNENCODED.to_owned());
    }
    let mut parameters = Parameters::new();
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
            // As in libpq, an empty part is not given.
            if !user.is_empty() {
                parameters.insert("user", decode(user)?);
            }
            if let Some(password) = password.filter(|password| !password.is_empty()) {
                parameters.insert("password", decode(password)?);
            }
            hosts
        }
        None => authority,
    };
    if !hosts.is_empty() {
        let named = hosts.split(',').map(|host| {
            let (name, port) = name_and_port(host);
            let name = decode(name)?;
            // The folder of a socket is read as it is in a query.
            if port.is_empty() && name.starts_with('/') {
                let (name, port) = name_and_port_in_query(&name);
                return Ok((name.to_owned(), port.to_owned()));
            }
            Ok((name, port.to_owned()))
        });
        add_hosts(&mut parameters, &named.collect::<Result<Vec<_>, String>>()?)?;
    }
    if !dbname.is_empty() {
        parameters.insert("dbname", decode(dbname)?);
    }
    add_query(&mut parameters, query)?;
    Ok(parameters)
}

/// Adds the parameters of a URL's query, which override the rest of the URL.
fn add_query(parameters: &mut Parameters, query: &str) -> Result<(), String> {
    // SQLAlchemy repeats `host` for each of several hosts.
    let mut hosts = Vec::new();
    let mut has_port = false;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match parameter(&decode(key)?, &decode(value)?)? {
            Some(("host", value)) => hosts.extend(value.split(',').map(|host| {
                let (name, port) = name_and_port_in_query(host);
                (name.to_owned(), port.to_owned())
            })),
            Some((key, value)) => {
                has_port |= key == "port";
                parameters.insert(key, value);
            }
            None => {}
        }
    }
    if hosts.is_empty() {
        return Ok(());
    }
    if has_port && hosts.iter().any(|(_, port)| !port.is_empty()) {
        return Err("ports are given both with the hosts and as 'port'".to_owned());
    }
    add_hosts(parameters, &hosts)
}

/// Adds hosts by their names and ports.
fn add_hosts(parameters: &mut Parameters, hosts: &[(String, String)]) -> Result<(), String> {
    if hosts.iter().any(|(_, port)| !port.is_empty() && port.parse::<u16>().is_err()) {
        return Err(format!("a host's port is no number from 0 to 65535; {UNENCODED}"));
    }
    if hosts.iter().any(|(name, _)| name.contains(['[', ']'])) {
        return Err("a host's name has a bracket; an IPv6 address is written [::1]".to_owned());
    }
    let (names, ports): (Vec<_>, Vec<_>) = hosts.iter().map(|(name, port)| (name.as_str(), port.as_str())).unzip();
    if names != [""] {
        parameters.insert("host", names.join(","));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        parameters.insert("port", ports.join(","));
    }
    Ok(())
}

/// Decodes percent-encoded text.
fn decode(text: &str) -> Result<String, String> {
    match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(format!("a part of the URL is not UTF-8: {UNENCODED}")),
    }
}
