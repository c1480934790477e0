//! This file reads libpq's password file, `~/.pgpass`.

use std::fs;
use std::path::Path;

use super::parameters::Parameters;

/// The default folders of a server's socket: Debian's and PostgreSQL's own. The password file calls a server
/// in one of them `localhost`.
pub(super) const SOCKET_FOLDERS: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Returns the lines of libpq's password file, each as its fields. Returns none if anybody but the owner has
/// rights on the file (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).
pub(super) fn passwords_in(path: &Path) -> Vec<Vec<String>> {
    let Ok(text) = fs::read(path) else { return Vec::new() };
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o077 != 0) {
            log::warn!("the password file {} is not used: others may read it, make it mode 0600", path.display());
            return Vec::new();
        }
    }
    let text = String::from_utf8_lossy(&text);
    text.lines().filter(|line| !line.starts_with('#')).map(fields).collect()
}

/// Returns the first password in these lines that matches this host, port, database and user.
pub(super) fn password_for(host: &str, port: &str, parameters: &Parameters, lines: &[Vec<String>]) -> Option<String> {
    let given = |key: &str| parameters.get(key).cloned();
    let host = if SOCKET_FOLDERS.contains(&host) { "localhost" } else { host };
    let port = if port.is_empty() { "5432" } else { port };
    let user = given("user").unwrap_or_else(|| whoami::username().unwrap_or_default());
    let dbname = given("dbname").unwrap_or_else(|| user.clone());
    let wanted = [host, port, &dbname, &user];
    lines.iter().find_map(|line| match line.as_slice() {
        [matched @ .., password] if matched.len() == wanted.len() => {
            let is_for = matched.iter().zip(wanted).all(|(field, wanted)| field == "*" || field == wanted);
            is_for.then(|| password.clone())
        }
        _ => None,
    })
}

/// Splits a line of a password file into its fields, which colons separate. A backslash escapes the next
/// character.
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
