//! Writes a first configuration file: the given settings, and every other key as a comment.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::FILE_NAME;
use super::database::may_hold_password;
use crate::error::{Error, Kind, Result};
use crate::flags::GlobalArgs;

/// Every key with its default, as a comment. A given setting replaces the line of its key.
const TEMPLATE: &str = r#"# manage-ports.toml: every key is optional. Relative paths start at this file's folder.

# The database: a path, or a URL such as "postgresql://user@host/ports".
#database = "data/ports.db"

# The folder that holds the apps as <model>/app<N>.
#apps_dir = "generated/apps"

# A cleanup refuses to run unless this file is inside apps_dir: for a volume that may not be mounted.
#apps_dir_marker = ".apps-root"

# The platform's file of ports that are planned for apps. There is none by default.
#preconfigured = "misc/port_config.json"

# The longest wait for other writers, all retries together.
#timeout = "30s"

# A cleanup keeps rows that are younger than this.
#cleanup_min_age = "10m"

[ports]
# Slot k is the pair (backend_base + k * step, frontend_base + k * step), up to the port max.
#backend_base = 5001
#frontend_base = 8001
#step = 2
#max = 65535

# Ports that are never given: numbers, and ranges such as "7000-7010".
#exclude = []

# Whether ports may be given that browsers refuse to open (the "bad ports" of the WHATWG).
#allow_browser_blocked = false

# Whether to pass over ports that something on this machine listens on.
#probe = true

# Whether allocate asks Docker or Podman, too, which ports containers publish.
#containers = false

[declared]
# What an app's own files call its two ports. The first of a list that a file sets counts.
#backend_variables = ["BACKEND_PORT"]
#frontend_variables = ["FRONTEND_PORT"]
#backend_services = ["backend"]
#frontend_services = ["frontend"]
"#;

/// Writes a configuration file with the settings from the flags into the current folder, and returns its
/// path. If the database's URL holds a password, nobody but the owner may read the file.
///
/// # Errors
///
/// Fails if the file already exists or cannot be written.
pub(crate) fn write_file(flags: &GlobalArgs) -> Result<PathBuf> {
    let text = filled(flags)?;
    let path = Path::new(FILE_NAME);
    let is_secret = flags.database.as_ref().is_some_and(may_hold_password);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(if is_secret { 0o600 } else { 0o666 })
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()).inspect_err(|_| remove(path)));
    match written {
        Ok(()) => {
            if is_secret {
                log::info!("{FILE_NAME} holds a password, so only you may read it; ~/.pgpass keeps a password apart");
            }
            Ok(path.to_owned())
        }
        Err(err) if err.kind() == io::ErrorKind::AlreadyExists => {
            Err(Error::msg(Kind::Config, format!("{FILE_NAME} is in this folder already, and was left as it is"))
                .hint("edit it, or move it away to begin anew"))
        }
        Err(err) => Err(Error::new(Kind::Io, anyhow::Error::new(err).context(format!("could not write {FILE_NAME}")))),
    }
}

/// Removes a configuration file that this process has just created.
pub(crate) fn remove(path: &Path) {
    // If the removal fails, the error that the caller reports already names the file.
    let _ = std::fs::remove_file(path);
}

/// Returns the template with the settings from the flags.
fn filled(flags: &GlobalArgs) -> Result<String> {
    let database = flags.database.as_ref().map(|name| ("database", name.to_str()));
    let apps_dir = flags.apps_dir.as_ref().map(|path| ("apps_dir", path.to_str()));
    let timeout = flags.timeout.as_ref().map(|text| ("timeout", Some(text.as_str())));
    let mut text = TEMPLATE.to_owned();
    for (key, value) in [database, apps_dir, timeout].into_iter().flatten() {
        let Some(value) = value else {
            return Err(Error::usage(format!(
                "--{}: a configuration file holds UTF-8 text only",
                key.replace('_', "-")
            )));
        };
        let comment = format!("#{key} = ");
        let filled = |line: &str| match line.starts_with(&comment) {
            true => format!("{key} = {}\n", toml::Value::from(value)),
            false => format!("{line}\n"),
        };
        text = text.lines().map(filled).collect();
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::File;
    use super::*;

    /// Returns the template with all of its keys set.
    fn uncommented() -> String {
        TEMPLATE
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix('#').unwrap_or(line)))
            .filter(|line| !line.starts_with(' '))
            .collect()
    }

    #[test]
    fn the_template_is_a_configuration_file_with_and_without_its_comments() {
        assert!(toml::from_str::<File>(TEMPLATE).is_ok());
        let file: File = toml::from_str(&uncommented()).unwrap();
        assert_eq!(file.database.as_deref(), Some("data/ports.db"));
        assert_eq!(file.timeout.as_deref(), Some("30s"));
        assert!(super::super::limits(&file.ports).is_ok());
    }

    #[test]
    fn settings_given_take_the_place_of_their_comments() {
        let flags = GlobalArgs {
            database: Some("a \"b\"\\c.db".into()),
            apps_dir: Some("apps".into()),
            ..GlobalArgs::default()
        };
        let text = filled(&flags).unwrap();
        let file: File = toml::from_str(&text).unwrap();
        assert_eq!(file.database.as_deref(), Some("a \"b\"\\c.db"));
        assert_eq!(file.apps_dir, Some("apps".into()));
        assert_eq!(file.timeout, None);
        assert_eq!(text.lines().count(), TEMPLATE.lines().count());
    }
}
