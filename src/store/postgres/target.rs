//! This file decides which server to connect to, from a URL as the platform writes it, libpq's environment
//! variables and its password file.
//!
//! A URL is converted to libpq's parameters, and missing ones are filled in, so that one place decides
//! between the URL, a variable and a default. No message contains a password. That is why a URL that cannot
//! be read is not shown, and no type here implements `Debug`.

use std::fmt::{self, Display};
use std::path::Path;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::error::in_full;
use super::hosts::{Host, hosts_of, in_query};
use super::parameters::{Parameters, VARIABLES};
use super::passfile::{SOCKET_FOLDERS, password_for, passwords_in};
use super::tls::Verify;
use super::url::url_parameters;

/// A database on a PostgreSQL server, with the connection parameters.
#[derive(Clone)]
pub(crate) struct PgTarget {
    parameters: Parameters,
    /// The connection parameters for each host, in the order in which they are tried.
    pub(super) hosts: Vec<Config>,
    pub(super) verify: Verify,
}

impl PgTarget {
    /// Reads the part of a URL that follows `postgresql://`. `variable` looks up a variable in the
    /// environment. libpq's password file is in `home` if no variable names another.
    ///
    /// # Errors
    ///
    /// Returns, in words and without a password, what is wrong with the URL.
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

    fn new(parameters: Parameters) -> Result<Self, String> {
        let get = |key: &str| parameters.get(key).map(String::as_str);
        let (sslmode, verify) = Verify::of(get("sslmode"), get("sslrootcert"))?;
        let passwords = match (get("password"), get("passfile")) {
            (None, Some(path)) => passwords_in(Path::new(path)),
            _ => Vec::new(),
        };
        let hosts = hosts_of(&parameters)?.into_iter().map(|host| {
            let password = password_for(&host.name, &host.port, &parameters, &passwords);
            // Data sent over a Unix socket does not leave this machine, and servers have no TLS there.
            let sslmode = if host.is_socket() { SslMode::Disable } else { sslmode };
            config(&parameters, host, password, sslmode)
        });
        let hosts = hosts.collect::<Result<_, String>>()?;
        Ok(Self { parameters, hosts, verify })
    }

    /// Tells whether a password is among the parameters, and not in a password file.
    pub(crate) fn has_password(&self) -> bool {
        self.parameters.contains_key("password")
    }

    /// Returns the target with another search path.
    pub(super) fn with_search_path(&self, schema: &str) -> Result<Self, String> {
        let mut parameters = self.parameters.clone();
        parameters.insert("search_path", schema.to_owned());
        Self::new(parameters)
    }

    /// Returns the password for each host.
    #[cfg(feature = "internals")]
    pub(crate) fn passwords(&self) -> Vec<Option<&[u8]>> {
        self.hosts.iter().map(Config::get_password).collect()
    }

    /// Returns the URL with the password. It may be put into the environment of a process, but must not be
    /// shown.
    pub(crate) fn secret_url(&self) -> String {
        let encoded = |value: &str| utf8_percent_encode(value, NON_ALPHANUMERIC).to_string();
        let parameters = self.parameters.iter().map(|(key, value)| {
            let value = if *key == "host" { encoded(&in_query(value)) } else { encoded(value) };
            format!("{key}={value}")
        });
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
            [host] if host.is_socket() => {
                let port = if host.port.is_empty() { String::new() } else { format!("&port={}", host.port) };
                write!(f, "/{}?host={}{port}", get("dbname"), host.name)
            }
            hosts => {
                let hosts = hosts.iter().map(ToString::to_string).collect::<Vec<_>>();
                write!(f, "{}/{}", hosts.join(","), get("dbname"))
            }
        }
    }
}

/// Returns the connection parameters for one host.
fn config(
    parameters: &Parameters,
    Host { name, port, address }: Host,
    password: Option<String>,
    sslmode: SslMode,
) -> Result<Config, String> {
    /// These are set in other ways. So is the encoding: a client here sends UTF-8.
    const LEFT_OUT: [&str; 9] = [
        "client_encoding",
        "host",
        "hostaddr",
        "keepalives_count",
        "passfile",
        "port",
        "search_path",
        "sslmode",
        "sslrootcert",
    ];
    let mut given: Parameters = parameters.clone();
    given.retain(|key, _| !LEFT_OUT.contains(key));
    if let Some(path) = parameters.get("search_path") {
        // In `options`, a backslash escapes a space.
        let path = path.replace('\\', r"\\").replace(' ', r"\ ");
        let options = given.entry("options").or_default();
        *options = format!("{options} -csearch_path={path}").trim_start().to_owned();
    }
    let renamed = [
        ("host", Some(name)),
        ("hostaddr", Some(address)),
        ("keepalives_retries", parameters.get("keepalives_count").cloned()),
        ("password", password),
        ("port", Some(port)),
    ];
    let renamed = renamed.into_iter().filter_map(|(key, value)| Some((key, value.filter(|value| !value.is_empty())?)));
    given.extend(renamed);
    let quoted = |value: &str| value.replace('\\', r"\\").replace('\'', r"\'");
    let text: String = given.iter().map(|(key, value)| format!("{key}='{}' ", quoted(value))).collect();
    // The message of this error names a parameter and never a value.
    let mut config: Config = text.parse().map_err(|err: tokio_postgres::Error| in_full(&err))?;
    config.ssl_mode(sslmode);
    Ok(config)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tokio_postgres::config::Host;

    use super::super::tls::Roots;
    use super::{PgTarget, SslMode, Verify};

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
            "u:secret@h/d?ssl=sometimes",
            "u:secret@/d?host=a:x&host=b:2",
            "u:secret@/d?host=a:1&host=b:2&port=3",
            "u:secret@h/d?sslcert=mine.crt",
        ] {
            let Err(message) = parse(url, &[("PGPASSWORD", "sec:ret")]) else { panic!("{url} is taken") };
            assert!(!message.contains("sec") && !message.contains("ret@"), "{url}: {message}");
        }
        assert!(parse("h/d?timeout=soon", &[]).err().unwrap().contains("timeout 'soon'"));
        assert!(parse("h/d?sslmode=always", &[]).err().unwrap().contains("verify-full"));
        assert!(parse("h/d?sslcompression=1", &[]).err().unwrap().contains("'sslcompression'"));
    }

    #[test]
    fn the_forms_of_sqlalchemy_and_its_drivers() {
        let hosts = |url: &str| {
            let target = parse(url, &[]).unwrap_or_else(|why| panic!("{url}: {why}"));
            let hosts = target.hosts.iter().map(|host| {
                let name = match &host.get_hosts()[0] {
                    Host::Tcp(name) => name.clone(),
                    Host::Unix(folder) => folder.display().to_string(),
                };
                format!("{name} {}", host.get_ports().first().map(u16::to_string).unwrap_or_default())
            });
            hosts.collect::<Vec<_>>().join("|")
        };
        for (url, expected) in [
            ("u@/d?host=a:1&host=b:2", "a 1|b 2"),
            ("u@/d?host=a:1&host=b", "a 1|b "),
            ("u@/d?host=a&host=b", "a |b "),
            ("u@/d?host=a,b&port=1,2", "a 1|b 2"),
            ("u@/d?host=a:1,b:2", "a 1|b 2"),
            ("u@/d?host=a%3A1", "a 1"),
            ("u@/d?host=%5B::1%5D:5433&host=::1", "::1 5433|::1 "),
            ("u@/d?host=/run/postgresql&port=5433", "/run/postgresql 5433"),
            ("u@/d?host=%2Frun%2Fpostgresql", "/run/postgresql "),
            ("u@/d?unix_sock=/run/postgresql/.s.PGSQL.5433", "/run/postgresql 5433"),
            ("u@/d?host=/run/one:5433&host=/run/two", "/run/one 5433|/run/two "),
            ("u@one:1/d?host=two", "two 1"),
        ] {
            assert_eq!(hosts(url), expected, "{url}");
        }

        let tls = |query: &str| parse(&format!("u@h/d?{query}"), &[]).map(|target| target.hosts[0].get_ssl_mode());
        for (query, mode) in [
            ("ssl=require", SslMode::Require),
            ("ssl=true", SslMode::Require),
            ("ssl=True", SslMode::Require),
            ("ssl=verify-full", SslMode::Require),
            ("ssl=prefer", SslMode::Prefer),
            ("ssl=disable", SslMode::Disable),
            ("ssl=false", SslMode::Disable),
            ("ssl=", SslMode::Prefer),
        ] {
            assert_eq!(tls(query), Ok(mode), "{query}");
        }
        assert!(matches!(parse("u@h/d?ssl=verify-full", &[]).unwrap().verify, Verify::Name(_)));

        let url = "u@h?database=d&timeout=7.5&prepared_statement_cache_size=0&async_fallback=true\
                   &keepalives_count=3&target_session_attrs=primary&options=-c+geqo%3Doff";
        let target = parse(url, &[]).unwrap();
        let host = &target.hosts[0];
        assert_eq!(host.get_dbname(), Some("d"));
        assert_eq!(host.get_connect_timeout(), Some(&std::time::Duration::from_secs(8)));
        assert_eq!(host.get_keepalives_retries(), Some(3));
        assert_eq!(host.get_options(), Some("-c geqo=off"));
        assert_eq!(host.get_target_session_attrs(), tokio_postgres::config::TargetSessionAttrs::ReadWrite);
    }

    #[test]
    fn roots_of_the_system_are_verified_in_full_as_by_libpq() {
        for (url, environment) in [
            ("h/d?sslrootcert=system", &[][..]),
            ("h/d?sslrootcert=system&sslmode=verify-full", &[]),
            ("h/d", &[("PGSSLROOTCERT", "system")]),
            ("h/d?sslmode=verify-full", &[("PGSSLROOTCERT", "system"), ("PGSSLMODE", "prefer")]),
        ] {
            let target = parse(url, environment).unwrap();
            assert!(matches!(target.verify, Verify::Name(Roots::System)), "{url}");
            assert_eq!(target.hosts[0].get_ssl_mode(), SslMode::Require, "{url}");
        }
        for mode in ["disable", "allow", "prefer", "require", "verify-ca"] {
            for (url, environment) in [
                (format!("h/d?sslrootcert=system&sslmode={mode}"), &[][..]),
                (format!("h/d?ssl={mode}"), &[("PGSSLROOTCERT", "system")]),
                ("h/d?sslrootcert=system".to_owned(), &[("PGSSLMODE", mode)]),
            ] {
                let why = parse(&url, environment).err().unwrap();
                assert!(why.contains(mode) && why.contains("verify-full"), "{url}: {why}");
            }
        }
    }

    #[test]
    fn a_server_is_the_same_after_a_way_through_a_url() {
        let target = parse("u:p%20'%5C@h1,h2:7/d?options=-cx%3Dy&sslmode=require", &[]).unwrap();
        let url = target.secret_url();
        let again = parse(url.strip_prefix("postgresql://").unwrap(), &[]).unwrap();
        assert!(again.hosts == target.hosts);
        assert_eq!(again.hosts[0].get_password(), Some(&b"p '\\"[..]));
        // An address keeps its zone and its port, and a folder with a colon and a number is one.
        for url in ["u@[fe80::1%25eth0]:5433,h,[::1]/d", "u@[fe80::1%25eth0]/d", "u@%2Ftmp%2Fa%3A5/d", "u@[::x]:5432/d"]
        {
            let target = parse(url, &[]).unwrap();
            let again = parse(target.secret_url().strip_prefix("postgresql://").unwrap(), &[]).unwrap();
            assert!(again.hosts == target.hosts && again.to_string() == target.to_string(), "{url} is {again}");
        }
        let environment = [("PGUSER", "me"), ("PGPASSWORD", "mine")];
        for url in ["@h/d", ":@h/d"] {
            let target = parse(url, &environment).unwrap();
            assert_eq!(
                (target.to_string().as_str(), target.hosts[0].get_password()),
                ("postgresql://me@h/d", Some(&b"mine"[..]))
            );
        }
        assert!(parse("u@[a%5Db:c]/d", &[]).is_err_and(|why| why.contains("bracket")));
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
