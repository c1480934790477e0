//! Which server to connect to: a URL as the platform writes it, and what libpq's variables and
//! password file add to it.
//!
//! A URL becomes libpq's parameters (<https://www.postgresql.org/docs/current/libpq-connect.html>),
//! and what it leaves out is filled in, so that a URL, a variable and a default are told apart in one
//! place. A password is in none of the messages, which is why a URL that cannot be read is not shown
//! and no type here has a debug form.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::{Path, PathBuf};

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use tokio_postgres::Config;

use super::error::in_full;
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
const PARAMETERS: [&str; 22] = [
    "application_name",
    "channel_binding",
    "connect_timeout",
    "dbname",
    "host",
    "hostaddr",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "load_balance_hosts",
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

/// Folders where a server on this machine may have its socket: Debian's and PostgreSQL's own.
const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// A database on a PostgreSQL server, and how to connect to it.
#[derive(Clone)]
pub struct Server {
    parameters: BTreeMap<&'static str, String>,
    pub(super) config: Config,
    pub(super) verify: Verify,
}

impl Server {
    /// Reads what follows `postgresql://` in a URL. `variable` looks a variable up in the
    /// environment; the password file is libpq's, in `home` if no variable names another.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in words and without a password.
    pub fn parse(url: &str, variable: &dyn Fn(&str) -> Option<String>, home: Option<&Path>) -> Result<Self, String> {
        let mut parameters = url_parameters(url)?;
        for (name, key) in VARIABLES {
            if let Some(value) = variable(name) {
                parameters.entry(key).or_insert(value);
            }
        }
        let passfile = parameters.remove("passfile").or_else(|| variable("PGPASSFILE")).map(PathBuf::from);
        if !parameters.contains_key("host") && !parameters.contains_key("hostaddr") {
            let port = parameters.get("port").map_or("5432", String::as_str);
            let socket =
                SOCKET_FOLDERS.iter().find(|folder| Path::new(folder).join(format!(".s.PGSQL.{port}")).exists());
            parameters.insert("host", (*socket.unwrap_or(&"localhost")).to_owned());
        }
        if let Some(path) = parameters.remove("search_path") {
            // In `options`, a backslash takes the meaning from a space.
            let path = path.replace('\\', r"\\").replace(' ', r"\ ");
            let options = parameters.entry("options").or_default();
            *options = format!("{options} -csearch_path={path}").trim_start().to_owned();
        }
        parameters.entry("application_name").or_insert_with(|| "manage-ports".to_owned());
        if !parameters.contains_key("password") {
            let passfile = passfile.or_else(|| Some(home?.join(".pgpass")));
            if let Some(password) = passfile.and_then(|path| password_from(&path, &parameters)) {
                parameters.insert("password", password);
            }
        }
        Self::new(parameters)
    }

    fn new(parameters: BTreeMap<&'static str, String>) -> Result<Self, String> {
        let get = |key: &str| parameters.get(key).map(String::as_str);
        // What a client encodes is UTF-8 here, whatever is asked for.
        let ours = ["sslmode", "sslrootcert", "client_encoding"];
        let (sslmode, verify) = Verify::of(get("sslmode"), get("sslrootcert"))?;
        let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
        let passed_on = parameters.iter().filter(|(key, _)| !ours.contains(key));
        let text: String = passed_on.map(|(key, value)| format!("{key}='{}' ", quoted(value))).collect();
        // Its message names a parameter and never a value.
        let mut config: Config = text.parse().map_err(|err: tokio_postgres::Error| in_full(&err))?;
        config.ssl_mode(sslmode);
        Ok(Self { parameters, config, verify })
    }

    /// The same database, seen through another search path.
    pub(super) fn with_search_path(&self, schema: &str) -> Result<Self, String> {
        let mut parameters = self.parameters.clone();
        let options = parameters.entry("options").or_default();
        *options = format!("{options} -csearch_path={schema}").trim_start().to_owned();
        Self::new(parameters)
    }

    /// The whole as a URL, with the password: for the environment of a process, not for eyes.
    #[must_use]
    pub fn secret_url(&self) -> String {
        let encoded = |value| utf8_percent_encode(value, NON_ALPHANUMERIC);
        let parameters = self.parameters.iter().map(|(key, value)| format!("{key}={}", encoded(value)));
        format!("postgresql:///?{}", parameters.collect::<Vec<_>>().join("&"))
    }
}

impl Display for Server {
    /// Names the database as a URL without a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let get = |key: &str| self.parameters.get(key).map_or("", String::as_str);
        let user = Some(get("user")).filter(|user| !user.is_empty()).map(|user| format!("{user}@")).unwrap_or_default();
        let host = if get("host").is_empty() { get("hostaddr") } else { get("host") };
        let (host, dbname) = (host, get("dbname"));
        let port = Some(get("port")).filter(|port| !port.is_empty()).map(|port| format!(":{port}")).unwrap_or_default();
        if host.starts_with('/') {
            return write!(f, "postgresql://{user}{port}/{dbname}?host={host}");
        }
        write!(f, "postgresql://{user}{host}{port}/{dbname}")
    }
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

/// The password that libpq's password file has for this connection, if the file is its owner's alone
/// (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).
fn password_from(path: &Path, parameters: &BTreeMap<&'static str, String>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            log::warn!("the password file {} is not used: others may read it, make it mode 0600", path.display());
            return None;
        }
    }
    let first = |key: &str, default: &str| {
        let values = parameters.get(key).map_or("", String::as_str);
        values.split(',').next().filter(|value| !value.is_empty()).unwrap_or(default).to_owned()
    };
    let host = first("host", &first("hostaddr", "localhost"));
    let host = if SOCKET_FOLDERS.contains(&host.as_str()) { "localhost".to_owned() } else { host };
    let user = first("user", &whoami::username().unwrap_or_default());
    let wanted = [host, first("port", "5432"), first("dbname", &user), user];
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
        let mut fields = fields(line);
        let password = fields.get(4)?.clone();
        fields.truncate(4);
        fields.iter().zip(&wanted).all(|(field, wanted)| field == "*" || field == wanted).then_some(password)
    })
}

/// The fields of a line of a password file; a backslash takes the meaning from a colon.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, fields.last_mut()) {
            (':', _) => fields.push(String::new()),
            ('\\', Some(field)) => field.extend(chars.next()),
            (c, Some(field)) => field.push(c),
            (_, None) => {}
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::{Host, SslMode};

    use super::*;

    fn parse(url: &str, environment: &[(&str, &str)]) -> Result<Server, String> {
        let variable =
            |name: &str| environment.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        Server::parse(url, &variable, None)
    }

    #[test]
    fn a_url_is_taken_apart_and_shown_without_its_password() {
        let server =
            parse("al%40ice:s%2Fcr%3At@db.example:6000/ports?connect_timeout=7&options=-cgeqo%3Doff", &[]).unwrap();
        assert_eq!(server.config.get_user(), Some("al@ice"));
        assert_eq!(server.config.get_password(), Some(&b"s/cr:t"[..]));
        assert_eq!(server.config.get_hosts(), [Host::Tcp("db.example".into())]);
        assert_eq!(server.config.get_ports(), [6000]);
        assert_eq!(server.config.get_dbname(), Some("ports"));
        assert_eq!(server.config.get_options(), Some("-cgeqo=off"));
        assert_eq!(server.config.get_connect_timeout(), Some(&std::time::Duration::from_secs(7)));
        assert_eq!(server.to_string(), "postgresql://al@ice@db.example:6000/ports");
    }

    #[test]
    fn sockets_several_hosts_and_search_paths() {
        let server = parse("/ports?host=/run/pg&search_path=a%20b,public", &[]).unwrap();
        assert_eq!(server.config.get_hosts(), [Host::Unix("/run/pg".into())]);
        assert_eq!(server.config.get_options(), Some(r"-csearch_path=a\ b,public"));
        assert_eq!(server.to_string(), "postgresql:///ports?host=/run/pg");
        let server = parse("one,[::1]:6000/d?target_session_attrs=read-write", &[]).unwrap();
        assert_eq!(server.config.get_hosts(), [Host::Tcp("one".into()), Host::Tcp("::1".into())]);
        assert_eq!(server.config.get_ports(), [5432, 6000]);
        let encoded = parse("%2Frun%2Fpg/d", &[]).unwrap();
        assert_eq!(encoded.config.get_hosts(), [Host::Unix("/run/pg".into())]);
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
        let server = parse("", &environment).unwrap();
        assert_eq!(server.to_string(), "postgresql://bob@elsewhere:6001/theirs");
        assert_eq!(server.config.get_password(), Some(&b"secret"[..]));
        assert_eq!(server.config.get_ssl_mode(), SslMode::Require);
        let server = parse("alice:mine@here/ours?sslmode=disable", &environment).unwrap();
        assert_eq!(server.to_string(), "postgresql://alice@here:6001/ours");
        assert_eq!(server.config.get_password(), Some(&b"mine"[..]));
        assert_eq!(server.config.get_ssl_mode(), SslMode::Disable);
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
        let server = parse("u:p%20'%5C@h1,h2:7/d?options=-cx%3Dy&sslmode=require", &[]).unwrap();
        let url = server.secret_url();
        let again = parse(url.strip_prefix("postgresql://").unwrap(), &[]).unwrap();
        assert!(again.config == server.config);
        assert_eq!(again.config.get_password(), Some(&b"p '\\"[..]));
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
            let server = Server::parse(url, &|_| None, Some(home.path())).unwrap();
            server.config.get_password().map(|password| String::from_utf8(password.to_vec()).unwrap())
        };
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(password("u@h/d:b").as_deref(), Some(r"s:e\c"));
        assert_eq!(password("u@h:5433/d:b").as_deref(), Some("last"));
        assert_eq!(password("u:mine@h/d:b").as_deref(), Some("mine"));
        assert_eq!(password("u@elsewhere/d"), None);
        assert_eq!(password("u@/d?host=/tmp").as_deref(), Some("here"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert_eq!(password("u@h/d:b"), None);
    }
}
