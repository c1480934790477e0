//! `--env-file`: writes the ports of apps into their env files.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::{unless_interrupted, watch};
use crate::config::Config;
use crate::core::allocation::{Allocation, Outcome, PortPair};
use crate::core::app::{AppId, Presence, safe_model};
use crate::core::declared::{Names, Role};
use crate::core::text::{LISTED, Shown, ranges};
use crate::error::{Error, Kind, Result};
use crate::host::apps_dir::AppsDir;
use crate::host::env_file::EnvFile;

/// The env file of each app.
pub(super) struct EnvFiles<'a> {
    files: HashMap<AppId, EnvFile>,
    /// The names of the variables that are written.
    names: &'a Names,
}

impl<'a> EnvFiles<'a> {
    /// Finds the env file of each app, and refuses files that could not be written, before ports are given.
    ///
    /// # Errors
    ///
    /// Kind `usage` if the template has an unknown placeholder or names one file for two apps, `apps_dir` if
    /// app directories are needed and the apps directory cannot be read, `io` if a file cannot be written.
    pub(super) fn inspect(template: &Path, apps: &[AppId], config: &'a Config) -> Result<Self> {
        let template = Template::parse(template.as_os_str())?;
        let paths = template.paths(apps, config)?;
        ensure_different(apps.iter().zip(&paths), |(path, _)| path.clone())?;
        let names: Vec<_> = Role::GIVEN.into_iter().flat_map(|role| config.declared.variables(role)).collect();
        let names: Vec<_> = names.into_iter().map(String::as_str).collect();
        let mut files = Vec::with_capacity(apps.len());
        let mut obstacles = Vec::new();
        for (path, inside) in &paths {
            unless_interrupted()?;
            match EnvFile::inspect(path, inside.as_deref(), &names) {
                Ok(file) => files.push(file),
                Err(err) => obstacles.push(err),
            }
        }
        if let Some(first) = obstacles.first() {
            let message = match obstacles.len() - 1 {
                0 => format!("{first:#}"),
                more => format!("{first:#}; {more} more of the {} env files cannot be written", apps.len()),
            };
            return Err(Error::msg(Kind::Io, message).hint("no ports were given"));
        }
        ensure_different(apps.iter().zip(&files), EnvFile::identity)?;
        Ok(Self { files: apps.iter().cloned().zip(files).collect(), names: &config.declared })
    }

    /// Checks that the app's file can take this pair. A read-only file passes only if it already holds the
    /// pair.
    ///
    /// # Errors
    ///
    /// Kind `io` if the file cannot take the pair.
    pub(super) fn check(&self, app: &AppId, pair: PortPair) -> Result<()> {
        let checked = self.files.get(app).map_or(Ok(()), |file| file.check(&self.names.with_ports(pair.ports())));
        checked.map_err(|err| Error::new(Kind::Io, err).hint("no ports were given"))
    }

    /// Writes the env file of each app.
    ///
    /// # Errors
    ///
    /// Fails if a file could not be written; the message names the files that were.
    pub(super) fn write(&self, outcomes: &[Outcome], config: &Config) -> Result<()> {
        let mut written = Vec::new();
        let mut failed = Vec::new();
        for Outcome { allocation, .. } in outcomes {
            let Some(file) = self.files.get(&allocation.app) else { continue };
            let result = match unless_interrupted() {
                Ok(()) => file.set(&self.names.with_ports(allocation.ports()), config.timeout),
                Err(err) => Err(err.into_cause()),
            };
            match result {
                Ok(()) => written.push(allocation),
                Err(err) => failed.push((allocation, err)),
            }
        }
        let Some((first, _)) = failed.first() else { return Ok(()) };
        let kind = if unless_interrupted().is_err() { Kind::Interrupted } else { Kind::Io };
        let hint = match outcomes {
            [_] => format!("{} has its ports; once this is mended, the same call writes the file", first.app),
            _ => "all of them have their ports; once this is mended, the same call writes the other files".to_owned(),
        };
        Err(Error::msg(kind, told(&written, &failed)).hint(hint))
    }
}

/// Returns a message that names the files that were written and those that were not.
fn told(written: &[&Allocation], failed: &[(&Allocation, anyhow::Error)]) -> String {
    let reasons: Vec<_> = failed.iter().take(LISTED).map(|(_, err)| format!("{err:#}")).collect();
    let reasons = reasons.join("; ");
    if written.is_empty() && failed.len() == 1 {
        return reasons;
    }
    let apps = |rows: &mut dyn Iterator<Item = &Allocation>| {
        let rows: Vec<_> = rows.collect();
        let nums: BTreeSet<_> = rows.iter().map(|row| row.app.app_num).collect();
        rows.first()
            .map_or("no app".to_owned(), |row| format!("{}/app{}", Shown(&row.app.model), ranges(&nums).join(",")))
    };
    let failed_apps = apps(&mut failed.iter().map(|(row, _)| *row));
    let written_apps = apps(&mut written.iter().copied());
    let more = if failed.len() > LISTED { "; and so on" } else { "" };
    format!("the env files of {failed_apps} were not written, those of {written_apps} were: {reasons}{more}")
}

/// Fails if two apps have the same file.
fn ensure_different<'a, T: 'a, K: std::hash::Hash + Eq>(
    files: impl Iterator<Item = (&'a AppId, &'a T)>,
    key: impl Fn(&'a T) -> K,
) -> Result<()> {
    let mut seen = HashMap::new();
    for (app, file) in files {
        if let Some(other) = seen.insert(key(file), app) {
            let message = format!("--env-file names one file for {other} and {app}");
            return Err(Error::usage(message).hint("put {app} or {dir} into its name"));
        }
    }
    Ok(())
}

/// A path with placeholders for the parts that differ between apps.
struct Template<'a>(Vec<Piece<'a>>);

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece<'a> {
    Text(&'a [u8]),
    Model,
    SafeModel,
    App,
    Dir,
}

impl<'a> Template<'a> {
    fn parse(text: &'a OsStr) -> Result<Self> {
        let mut pieces = Vec::new();
        let mut rest = text.as_bytes();
        while let Some(start) = rest.iter().position(|&byte| byte == b'{') {
            let Some(length) = rest[start..].iter().position(|&byte| byte == b'}') else { break };
            let end = start + length;
            let piece = match &rest[start + 1..end] {
                b"model" => Piece::Model,
                b"safe_model" => Piece::SafeModel,
                b"app" => Piece::App,
                b"dir" => Piece::Dir,
                other => {
                    let name = String::from_utf8_lossy(other);
                    return Err(Error::usage(format!(
                        "--env-file: '{{{}}}' is unknown: expected {{model}}, {{safe_model}}, {{app}} or {{dir}}",
                        Shown(&name)
                    )));
                }
            };
            pieces.extend([Piece::Text(&rest[..start]), piece]);
            rest = &rest[end + 1..];
        }
        pieces.push(Piece::Text(rest));
        Ok(Self(pieces))
    }

    /// Returns the path of each app's file, and the folder that no link in the path may lead out of.
    fn paths(&self, apps: &[AppId], config: &Config) -> Result<Vec<(PathBuf, Option<PathBuf>)>> {
        if self.0.contains(&Piece::Model)
            && let Some(AppId { model, .. }) = apps.iter().find(|app| leads_elsewhere(&app.model))
        {
            let message = format!("--env-file: {{model}} stands for '{}', which leads to another folder", Shown(model));
            return Err(Error::usage(message).hint("put {safe_model} in place of {model}"));
        }
        if !self.0.contains(&Piece::Dir) {
            return Ok(apps.iter().map(|app| (self.path(app, None), None)).collect());
        }
        let apps_dir = AppsDir::open(&config.apps_dir, None)
            .map_err(|err| Error::new(Kind::AppsDir, err).hint("no ports were given; check --apps-dir"))?;
        let places = apps_dir.places_of_apps(apps, watch("apps looked for"))?;
        let path = |(app, place): (&AppId, _)| {
            let dir = directory(app, place, &config.apps_dir)?;
            Ok((self.path(app, Some(&dir)), Some(dir).filter(|_| self.is_inside_dir())))
        };
        apps.iter().zip(places).map(path).collect()
    }

    /// Tells whether the path is inside the app's directory as long as no link leads out of it. Anybody may have
    /// made the files there, and a link among them must not lead to a file of this user.
    fn is_inside_dir(&self) -> bool {
        let leads_up = |piece: &Piece<'_>| matches!(piece, Piece::Text(text) if has_parent(text));
        let mut pieces = self.0.iter().skip_while(|piece| **piece == Piece::Text(b""));
        pieces.next() == Some(&Piece::Dir) && !self.0.iter().any(leads_up)
    }

    fn path(&self, app: &AppId, dir: Option<&Path>) -> PathBuf {
        let mut path = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.extend_from_slice(text),
                Piece::Model => path.extend_from_slice(app.model.as_bytes()),
                Piece::SafeModel => path.extend_from_slice(safe_model(&app.model).as_bytes()),
                Piece::App => path.extend_from_slice(app.app_num.to_string().as_bytes()),
                Piece::Dir => path.extend_from_slice(dir.map_or(b"", |dir| dir.as_os_str().as_bytes())),
            }
        }
        OsString::from_vec(path).into()
    }
}

/// Tells whether a part of a path is `..`.
fn has_parent(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// Tells whether a model, as a part of a path, leads out of the folder before it.
fn leads_elsewhere(model: &str) -> bool {
    model.starts_with('/') || has_parent(model.as_bytes())
}

/// Returns the directory of an app, or an error if the app has none.
fn directory(app: &AppId, place: (Presence, Option<PathBuf>), apps_dir: &Path) -> Result<PathBuf> {
    let why = match place {
        (Presence::Unreadable(why), _) => format!("the directory of {app}, for which {{dir}} stands: {why}"),
        (Presence::Present, Some(path)) => return Ok(path),
        _ => format!("{app} has no directory in {}, for which {{dir}} would stand", apps_dir.display()),
    };
    Err(Error::msg(Kind::Io, format!("--env-file: {why}")).hint("no ports were given"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_stand_for_the_app() {
        let app = AppId::new("a/b:c", 3);
        for (template, expected) in [
            (".env", ".env"),
            ("{model}/{app}.env", "a/b:c/3.env"),
            ("x/{safe_model}-{app}-{app}", "x/a_b_c-3-3"),
            ("{dir}/.env", "some/dir/.env"),
            ("a{b", "a{b"),
            ("a}b", "a}b"),
        ] {
            let path = Template::parse(template.as_ref()).unwrap().path(&app, Some(Path::new("some/dir")));
            assert_eq!(path, Path::new(expected), "{template}");
        }
        for unknown in ["{x}", "{}", "{app }", "{Model}", "{{app}}", "${HOME}"] {
            assert!(Template::parse(unknown.as_ref()).is_err(), "{unknown}");
        }
        let bytes = OsStr::from_bytes(b"\xff{app}");
        assert_eq!(Template::parse(bytes).unwrap().path(&app, None).as_os_str().as_bytes(), b"\xff3");
    }
}
