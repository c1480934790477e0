//! Which server to connect to: a URL as the platform writes it, and what libpq's variables and
//! password file add to it.
//!
//! A URL becomes libpq's parameters (<https://www.postgresql.org/docs/current/libpq-connect.html>),
//! and what it leaves out is filled in, so that a URL, a variable and a default are told apart in one
//! place. A password is in none of the messages, which is why a URL that cannot be read is not shown
//! and no type here has a debug form.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::error::in_full;
use super::passfile::{SOCKET_FOLDERS, password_for, passwords_in};
use super::tls::Verify;

/// The variables that libpq reads, each with the parameter that it stands for.
const VARIABLES: [(&str, &str); 13] = [
    ("PGAPPNAME", "application_name"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGDATABASE", "dbname"),
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGOPTIONS", "options"),
    ("PGPASSWORD", "password"),
    ("PGPORT", "port"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGTARGETSESSIONATTRS", "target_session_attrs"),
    ("PGUSER", "user"),
];

/// The parameters of a URL. Others would change nothing or could not be met.
const PARAMETERS: [&str; 21] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "options",
    "passfile",
    "password",
    "port",
    "search_path",
    "sslmode",
    "sslnegotiation",
    "sslrootcert",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
    "client_encoding",
];

/// A database on a PostgreSQL server, and how to connect to it.
#[derive(Clone)]
pub(crate) struct PgTarget {
    parameters: BTreeMap<&'static str, String>,
    /// How to connect to each of its hosts, to be tried in turn.
    pub(super) hosts: Vec<Config>,
    pub(super) verify: Verify,
}

impl PgTarget {
    /// Reads what follows `postgresql://` in a URL. `variable` looks a variable up in the
    /// environment; the password file is libpq's, in `home` if no variable names another.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words and without a password.
    pub(crate) fn parse(
        url: &str,
        variable: &dyn Fn(&str) -> Option<String>,
        home: Option<&Path>,
    ) -> Result<Self, String> {
        let mut parameters = url_parameters(url)?;
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name) {
                parameters.entry(key).or_insert(value);
            }
        }
        if let Some(path) = variable("PGPASSFILE").or_else(|| Some(home?.join(".pgpass").to_str()?.to_owned())) {
            parameters.entry("passfile").or_insert(path);
        }
        if let Some(address) = parameters.get("hostaddr").cloned() {
            parameters.entry("host").or_insert(address);
        }
        if !parameters.contains_key("host") {
            let port = parameters.get("port").map_or("5432", String::as_str);
            let socket =
                SOCKET_FOLDERS.iter().find(|folder| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists());
            parameters.insert("host", (*socket.unwrap_or(&"localhost")).to_owned());
        }
        parameters.entry("application_name").or_insert_with(|| "manage-ports".to_owned());
        Self::new(parameters)
    }

    fn new(parameters: BTreeMap<&'static str, String>) -> Result<Self, String> {
        let get = |key: &str| parameters.get(key).map(String::as_str);
        let (sslmode, verify) = Verify::of(get("sslmode"), get("sslrootcert"))?;
        let passwords = match (get("password"), get("passfile")) {
            (None, Some(path)) => passwords_in(Path::new(path)),
            _ => Vec::new(),
        };
        let hosts = hosts_of(&parameters)?.into_iter().map(|[host, port, address]| {
            let mut parameters = parameters.clone();
            // What a client encodes is UTF-8 here, whatever is asked for.
            parameters.retain(|key, _| {
                !["client_encoding", "host", "hostaddr", "passfile", "port", "sslmode", "sslrootcert"].contains(key)
            });
            if let Some(path) = parameters.remove("search_path") {
                // In `options`, a backslash takes the meaning from a space.
                let path = path.replace('\\', r"\\").replace(' ', r"\ ");
                let options = parameters.entry("options").or_default();
                *options = format!("{options} -csearch_path={path}").trim_start().to_owned();
            }
            if let Some(password) = password_for(&host, &port, &parameters, &passwords) {
                parameters.insert("password", password);
            }
            let is_socket = host.starts_with('/');
            let named = [("host", host), ("port", port), ("hostaddr", address)];
            parameters.extend(named.into_iter().filter(|(_, value)| !value.is_empty()));
            let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
            let text: String = parameters.iter().map(|(key, value)| format!("{key}='{}' ", quoted(value))).collect();
            // Its message names a parameter and never a value.
            let mut config: Config = text.parse().map_err(|err: tokio_postgres::Error| in_full(&err))?;
            // A socket does not leave this machine, and servers have no TLS there.
            config.ssl_mode(if is_socket { SslMode::Disable } else { sslmode });
            Ok(config)
        });
        let hosts = hosts.collect::<Result<_, String>>()?;
        Ok(Self { parameters, hosts, verify })
    }

    /// The same database, seen through another search path.
    pub(super) fn with_search_path(&self, schema: &str) -> Result<Self, String> {
        let mut parameters = self.parameters.clone();
        parameters.insert("search_path", schema.to_owned());
        Self::new(parameters)
    }

    /// The whole as a URL, with the password: for the environment of a process, not for eyes.
    pub(crate) fn secret_url(&self) -> String {
        let encoded = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
        let parameters = self.parameters.iter().map(|(key, value)| format!("{key}={}", encoded(value)));
        format!("postgresql:///?{}", parameters.collect::<Vec<_>>().join("&"))
    }
}

impl Display for PgTarget {
    /// Names the database as a URL without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |key: &str| self.parameters.get(key).map_or("", String::as_str);
        let hosts = hosts_of(&self.parameters).unwrap_or_default();
        let at = if get("user").is_empty() { "" } else { "@" };
        write!(f, "postgresql://{}{at}", get("user"))?;
        match hosts.as_slice() {
            [[folder, port, _]] if folder.starts_with('/') => {
                let port = if port.is_empty() { String::new() } else { format!("&port={port}") };
                write!(f, "/{}?host={folder}{port}", get("dbname"))
            }
            hosts => {
                let named = hosts.iter().map(|[host, port, _]| match (host.contains(':'), port.is_empty()) {
                    (false, true) => host.clone(),
                    (false, false) => format!("{host}:{port}"),
                    (true, true) => format!("[{host}]"),
                    (true, false) => format!("[{host}]:{port}"),
                });
                write!(f, "{}/{}", named.collect::<Vec<_>>().join(","), get("dbname"))
            }
        }
    }
}

/// The name, the port and the address of each host; what is not given is empty. One port is all hosts'.
fn hosts_of(parameters: &BTreeMap<&'static str, String>) -> Result<Vec<[String; 3]>, String> {
    let list = |key: &str| parameters.get(key).map_or("", String::as_str).split(',').collect::<Vec<_>>();
    let (names, ports, addresses) = (list("host"), list("port"), list("hostaddr"));
    if ![1, names.len()].contains(&ports.len()) || (addresses != [""] && addresses.len() != names.len()) {
        return Err("there must be as many ports and addresses as hosts, or one port for all".to_owned());
    }
    let nth = |list: &[&str], index: usize| list.get(index).or(list.first()).copied().unwrap_or_default().to_owned();
    Ok((0..names.len()).map(|host| [nth(&names, host), nth(&ports, host), nth(&addresses, host)]).collect())
}

/// Takes a URL apart: `[user[:password]@][host[:port],…][/dbname][?key=value&…]`.
fn url_parameters(url: &str) -> Result<BTreeMap<&'static str, String>, String> {
    const UNENCODED: &str =
        "in a user's name or a password '%', '/', '?', '@' and ':' are written as %25, %2F, %3F, %40 and %3A";
    let decode = |text: &str| match percent_decode_str(text).decode_utf8() {
        Ok(text) if !text.contains('\0') => Ok(text.into_owned()),
        _ => Err(format!("a part of the URL is not UTF-8: {UNENCODED}")),
    };
    let (main, query) = url.split_once('?').unwrap_or((url, ""));
    let (authority, dbname) = main.split_once('/').unwrap_or((main, ""));
    // What is left of a password must not be taken for a name, which messages show.
    if dbname.contains(['@', '/']) || query.contains('@') {
        return Err(UNENCODED.to_owned());
    }
    let mut parameters = BTreeMap::new();
    let hosts = match authority.rsplit_once('@') {
        Some((user, hosts)) => {
            let (user, password) = user.split_once(':').map_or((user, None), |(user, password)| (user, Some(password)));
            parameters.insert("user", decode(user)?);
            if let Some(password) = password {
                parameters.insert("password", decode(password)?);
            }
            hosts
        }
        None => authority,
    };
    let mut ports = Vec::new();
    let mut names = Vec::new();
    for host in hosts.split(',').filter(|_| !hosts.is_empty()) {
        // An IPv6 address stands in brackets.
        let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((name, port)) => (name, port.strip_prefix(':').unwrap_or(port)),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        if !port.is_empty() && port.parse::<u16>().is_err() {
            return Err(format!("a host's port is no number from 0 to 65535; {UNENCODED}"));
        }
        names.push(decode(name)?);
        ports.push(port);
    }
    let mut insert = |key, value: String| {
        if !value.is_empty() {
            parameters.insert(key, value);
        }
    };
    insert("host", names.join(","));
    if ports.iter().any(|port| !port.is_empty()) {
        insert("port", ports.join(","));
    }
    insert("dbname", decode(dbname)?);
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        let Some(key) = PARAMETERS.iter().find(|known| **known == key) else {
            let known = PARAMETERS.join(", ");
            return Err(format!("'{key}' is not a parameter of a PostgreSQL URL that is known here: expected {known}"));
        };
        insert(key, decode(value)?);
    }
    Ok(parameters)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio_postgres::config::Host;

    use super::*;

    fn parse(url: &str, environment: &[(&str, &str)]) -> Result<PgTarget, String> {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        PgTarget::parse(url, &variable, None)
    }

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_password() {
        let target =
            parse("al%40ice:s%2Fcr%3At@db.example:6000/ports?connect_timeout=7&options=-cgeqo%3Doff", &[]).unwrap();
        assert_eq!(target.hosts[0].get_user(), Some("al@ice"));
        assert_eq!(target.hosts[0].get_password(), Some(&b"s/cr:t"[..]));
        assert_eq!(target.hosts[0].get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!(target.hosts[0].get_ports(), [6000]);
        assert_eq!(target.hosts[0].get_dbname(), Some("ports"));
        assert_eq!(target.hosts[0].get_options(), Some("-cgeqo=off"));
        assert_eq!(target.hosts[0].get_connect_timeout(), Some(&std::time::Duration::from_secs(7)));
        assert_eq!(target.to_string(), "postgresql://al@ice@db.example:6000/ports");
    }

    #[test]
    fn sockets_several_hosts_and_search_paths() {
        let target = parse("/ports?host=/run/pg&search_path=a%20b,public", &[]).unwrap();
        assert_eq!(target.hosts[0].get_hosts(), [Host::Unix("/run/pg".into())]);
        assert_eq!(target.hosts[0].get_options(), Some(r"-csearch_path=a\ b,public"));
        assert_eq!(target.to_string(), "postgresql:///ports?host=/run/pg");
        let target = parse("one,[::1]:6000/d?target_session_attrs=read-write", &[]).unwrap();
        let hosts: Vec<_> = target.hosts.iter().map(|host| (host.get_hosts(), host.get_ports())).collect();
        assert_eq!(hosts, [(&[Host::Tcp("one".into())][..], &[][..]), (&[Host::Tcp("::1".into())], &[6000])]);
        assert_eq!(target.to_string(), "postgresql://one,[::1]:6000/d");
        let target = parse("/d?hostaddr=127.0.0.1&port=7", &[]).unwrap();
        assert_eq!(target.hosts[0].get_hosts(), [Host::Tcp("127.0.0.1".into())]);
        assert_eq!(target.to_string(), "postgresql://127.0.0.1:7/d");
        let target = parse("u@/d?host=/run/pg&port=7&sslmode=require", &[]).unwrap();
        assert_eq!(target.hosts[0].get_ssl_mode(), SslMode::Disable);
        assert_eq!(target.to_string(), "postgresql://u@/d?host=/run/pg&port=7");
        let encoded = parse("%2Frun%2Fpg/d", &[]).unwrap();
        assert_eq!(encoded.hosts[0].get_hosts(), [Host::Unix("/run/pg".into())]);
    }

    #[test]
    fn variables_fill_in_what_the_url_leaves_out() {
        let environment = [
            ("PGHOST", "elsewhere"),
            ("PGPORT", "6001"),
            ("PGUSER", "bob"),
            ("PGPASSWORD", "secret"),
            ("PGDATABASE", "theirs"),
            ("PGSSLMODE", "require"),
        ];
        let target = parse("", &environment).unwrap();
        assert_eq!(target.to_string(), "postgresql://bob@elsewhere:6001/theirs");
        assert_eq!(target.hosts[0].get_password(), Some(&b"secret"[..]));
        assert_eq!(target.hosts[0].get_ssl_mode(), SslMode::Require);
        let target = parse("alice:mine@here/ours?sslmode=disable", &environment).unwrap();
        assert_eq!(target.to_string(), "postgresql://alice@here:6001/ours");
        assert_eq!(target.hosts[0].get_password(), Some(&b"mine"[..]));
        assert_eq!(target.hosts[0].get_ssl_mode(), SslMode::Disable);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_password() {
        for url in [
            "u:sec/ret@h/d",
            "u:sec?ret@h/d",
            "u:12/sec@ret/d",
            "u:%ff@h/d",
            "h:port/d",
            "h/d?sslmode=always",
            "h/d?sslcompression=1",
            "h/d?connect_timeout=soon",
            "h/d?sslrootcert=/nowhere&sslmode=verify-full&port=x",
        ] {
            let Err(message) = parse(url, &[("PGPASSWORD", "sec:ret")]) else { panic!("{url} is taken") };
            assert!(!message.contains("sec") && !message.contains("ret@"), "{url}: {message}");
        }
        assert!(parse("h/d?sslmode=always", &[]).err().unwrap().contains("verify-full"));
        assert!(parse("h/d?sslcompression=1", &[]).err().unwrap().contains("'sslcompression'"));
    }

    #[test]
    fn a_server_is_the_same_after_a_way_through_a_url() {
        let target = parse("u:p%20'%5C@h1,h2:7/d?options=-cx%3Dy&sslmode=require", &[]).unwrap();
        let url = target.secret_url();
        let again = parse(url.strip_prefix("postgresql://").unwrap(), &[]).unwrap();
        assert!(again.hosts == target.hosts);
        assert_eq!(again.hosts[0].get_password(), Some(&b"p '\\"[..]));
    }

    #[test]
    #[cfg(unix)]
    fn the_password_file_is_read_if_it_is_the_users_alone() {
        use std::os::unix::fs::PermissionsExt;
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".pgpass");
        fs::write(
            &path,
            "# h:*:*:*:no\nother:*:*:*:no\nh:5432:d\\:b:u:s\\:e\\\\c\nh:*:*:*:last\nlocalhost:*:*:u:here\n",
        )
        .unwrap();
        let password = |url| {
            let target = PgTarget::parse(url, &|_| None, Some(home.path())).unwrap();
            target.hosts[0].get_password().map(|password| String::from_utf8(password.to_vec()).unwrap())
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password("u@h/d:b").as_deref(), Some(r"s:e\c"));
        assert_eq!(password("u@h:5433/d:b").as_deref(), Some("last"));
        assert_eq!(password("u:mine@h/d:b").as_deref(), Some("mine"));
        assert_eq!(password("u@elsewhere/d"), None);
        assert_eq!(password("u@/d?host=/tmp").as_deref(), Some("here"));
        let second = PgTarget::parse("u@elsewhere,h:5433/d", &|_| None, Some(home.path())).unwrap();
        assert_eq!(second.hosts[1].get_password(), Some(&b"last"[..]), "each host has its own");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password("u@h/d:b"), None);
    }
}
