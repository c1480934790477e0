//! The texts that every manual page shares: exit codes, environment variables, files and configuration keys.

/// The exit codes and their meanings.
pub(crate) const EXIT_CODES: [(&str, &str); 10] = [
    ("0", "done"),
    ("1", "the answer is no: conflicts, nothing to release or show, a table to migrate; or it could not be written"),
    ("2", "bad usage or configuration"),
    ("3", "the database cannot be used"),
    ("4", "no free pair is left"),
    ("5", "the apps directory cannot be used"),
    ("6", "the ports asked for are taken or refused"),
    ("126", "exec: the command cannot be executed"),
    ("127", "exec: the command was not found"),
    ("130", "interrupted"),
];

/// The environment variables that the program reads.
pub(super) const ENVIRONMENT: [(&str, &str); 9] = [
    ("MANAGE_PORTS_DATABASE", "The database, unless --database names one. DATABASE_URL is never read."),
    ("MANAGE_PORTS_APPS_DIR", "The apps directory, unless --apps-dir names one."),
    ("MANAGE_PORTS_CONFIG", "The configuration file, unless --config names one."),
    ("MANAGE_PORTS_TIMEOUT", "The longest wait for other writers, unless --timeout gives one."),
    ("MANAGE_PORTS_METRICS_FILE", "The file in which commands count what they do, unless --metrics-file names one."),
    ("NO_COLOR", "Use no colours, unless --color says otherwise."),
    ("CLICOLOR_FORCE", "Use colours although no terminal reads them, unless --color says otherwise."),
    ("DOCKER_HOST", "The socket of the container API that is asked which ports containers publish, as unix://PATH."),
    ("PGPASSFILE, PGPASSWORD and others", "What libpq reads, for a database on a PostgreSQL server."),
];

/// The files that the program reads and writes.
pub(super) const FILES: [(&str, &str); 3] = [
    (
        "manage-ports.toml",
        "The configuration file, in the current folder or the nearest one above it. See manage-ports.toml(5).",
    ),
    (
        "data/ports.db",
        "The database that is used where nobody named one: beside the configuration file, else in the current folder \
         or the nearest one above it that has one.",
    ),
    ("generated/apps", "The apps directory where nobody named one: app N of MODEL is in MODEL/appN below it."),
];

/// A key of the configuration file, with its table, name, default and meaning.
pub(super) struct Key {
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    pub(super) default: &'static str,
    pub(super) text: &'static str,
}

const fn key(table: &'static str, name: &'static str, default: &'static str, text: &'static str) -> Key {
    Key { table, name, default, text }
}

/// The keys of the configuration file, in the order of the manual page.
pub(super) const KEYS: [Key; 18] = [
    key("", "database", r#""data/ports.db""#, "The database: a path or a URL, as --database takes it."),
    key("", "apps_dir", r#""generated/apps""#, "The folder that holds MODEL/appN."),
    key(
        "",
        "apps_dir_marker",
        r#"".apps-root""#,
        "A file that must be inside apps_dir, or cleanup removes nothing: it is missing where a volume is not mounted. \
         There is none by default.",
    ),
    key(
        "",
        "preconfigured",
        r#""misc/port_config.json""#,
        "A file of planned ports, an array of objects as import reads it. There is none by default.",
    ),
    key("", "timeout", r#""30s""#, "The longest wait for other writers, all retries together."),
    key("", "cleanup_min_age", r#""10m""#, "Cleanup keeps allocations that are younger."),
    key("ports", "backend_base", "5001", "The backend port of the first pair."),
    key("ports", "frontend_base", "8001", "The frontend port of the first pair."),
    key("ports", "step", "2", "How far the ports of a pair are from those of the next."),
    key("ports", "max", "65535", "The highest port that is given."),
    key("ports", "exclude", r#"[5432, "6379", "7000-7010"]"#, "Ports and ranges that are not given; none by default."),
    key(
        "ports",
        "allow_browser_blocked",
        "false",
        "Whether to give ports that browsers refuse to open: the \"bad ports\" of https://fetch.spec.whatwg.org/.",
    ),
    key("ports", "probe", "true", "Whether to skip ports that something on this machine listens on."),
    key(
        "ports",
        "containers",
        "false",
        "Whether allocate also asks Docker or Podman which ports containers publish. Other commands always ask.",
    ),
    key("declared", "backend_variables", r#"["BACKEND_PORT"]"#, "The variables that hold an app's backend port."),
    key("declared", "frontend_variables", r#"["FRONTEND_PORT"]"#, "The variables that hold an app's frontend port."),
    key("declared", "backend_services", r#"["backend"]"#, "The Compose services that publish an app's backend port."),
    key(
        "declared",
        "frontend_services",
        r#"["frontend"]"#,
        "The Compose services that publish an app's frontend port.",
    ),
];
