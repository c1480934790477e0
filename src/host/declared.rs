//! The ports that an app's own files say it uses: its `.env` and its Compose file.
//!
//! Anybody may have written these files, so nothing in them is trusted: not their size, not their
//! kind, not their text. What they hold beside the two ports may be secret and is never shown.

mod compose;
mod env;
mod interpolate;

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::core::declared::{Declared, DeclaredPorts, Role};
use crate::core::ports::as_port;

/// The names of a Compose file; of several, Compose takes the first.
const COMPOSE_FILES: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];

/// The size in bytes above which a file is not read.
const MAX_SIZE: u64 = 1 << 20;

/// Reads the declared ports of the app in this directory.
pub(crate) fn read(directory: &Path) -> Declared {
    let mut declared = Declared::default();
    let variables = found(directory, ".env", &mut declared).flatten().map(|text| env::parse(&text)).unwrap_or_default();
    add(&mut declared, ".env", variables.ports());
    for name in COMPOSE_FILES {
        if let Some(text) = found(directory, name, &mut declared) {
            if let Some(text) = text {
                add(&mut declared, name, compose::ports(&text, &|name| variables.get(name)));
            }
            break;
        }
    }
    declared
}

/// The values that Compose finds for these names in a `.env` file with this content.
pub(crate) fn env_values(content: &[u8], names: &[&str]) -> Vec<Option<String>> {
    let text = String::from_utf8_lossy(content);
    let variables = env::parse(text.strip_prefix('\u{feff}').unwrap_or(&text));
    names.iter().map(|name| variables.get(name).map(str::to_owned)).collect()
}

/// What one file says: ports of a role, and what is wrong in words.
#[derive(Default)]
struct Findings {
    ports: Vec<(Role, RangeInclusive<u16>)>,
    problems: Vec<String>,
}

/// Adds what a file says; of its problems the first is told, as a file may have as many as lines.
fn add(declared: &mut Declared, file: &'static str, findings: Findings) {
    let ports = |(role, ports)| DeclaredPorts { role, ports, file };
    declared.ports.extend(findings.ports.into_iter().map(ports));
    let more = findings.problems.len().saturating_sub(1);
    if let Some(first) = findings.problems.into_iter().next() {
        let reason = if more == 0 { first } else { format!("{first}, and {more} more") };
        declared.unreadable.push((file, reason));
    }
}

/// The text of a file if it is there, `Some(None)` if it is there and unreadable, which is noted.
fn found(directory: &Path, name: &'static str, declared: &mut Declared) -> Option<Option<String>> {
    let reason = match text(&directory.join(name)) {
        Ok(Ok(text)) => return Some(Some(text)),
        Ok(Err(reason)) => reason,
        Err(err) if matches!(err.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return None,
        // Links in a circle lead nowhere.
        Err(err) if err.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => return None,
        Err(err) => err.to_string(),
    };
    declared.unreadable.push((name, reason));
    Some(None)
}

/// The text of a regular file, without a byte order mark, or why it has none.
fn text(path: &Path) -> io::Result<Result<String, String>> {
    // Opening a pipe or a device may wait or do harm, so it is looked at first. One that takes the
    // file's place in between does not block.
    if !fs::metadata(path)?.is_file() {
        return Ok(Err("is not a regular file".to_owned()));
    }
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Ok(Err("is larger than 1 MiB".to_owned()));
    }
    let text = String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned());
    Ok(text.map(|text| text.strip_prefix('\u{feff}').map(str::to_owned).unwrap_or(text)))
}

/// A port from 1 to 65535 in digits.
fn port(text: &str) -> Option<u16> {
    // `parse` alone takes a sign.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number).and_then(as_port)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use proptest::prelude::*;
    use rustix::fs::{FileType, Mode};

    use super::*;

    fn declared(files: &[(&str, &[u8])]) -> Declared {
        let root = tempfile::tempdir().unwrap();
        for (name, bytes) in files {
            fs::write(root.path().join(name), bytes).unwrap();
        }
        read(root.path())
    }

    fn ports(declared: &Declared) -> Vec<(Role, u16, &str)> {
        let each = |found: &DeclaredPorts| {
            let (role, file) = (found.role, found.file);
            found.ports.clone().map(move |port| (role, port, file))
        };
        declared.ports.iter().flat_map(each).collect()
    }

    #[test]
    fn both_files_are_read_and_the_variables_of_one_serve_the_other() {
        let found = declared(&[
            (".env", b"\xef\xbb\xbfBACKEND_PORT=5001\r\nexport FRONTEND_PORT='8001' # web\r\nWEB=8003\r\n"),
            (
                "docker-compose.yml",
                b"\xef\xbb\xbfservices:\n  backend:\n    ports: ['${BACKEND_PORT:-1}:5000']\n  frontend:\n    ports: ['$WEB:80', x]\n",
            ),
        ]);
        let compose = "docker-compose.yml";
        assert_eq!(
            ports(&found),
            [
                (Role::Backend, 5001, ".env"),
                (Role::Frontend, 8001, ".env"),
                (Role::Backend, 5001, compose),
                (Role::Frontend, 8003, compose),
            ]
        );
        assert_eq!(found.unreadable, [(compose, "entry 2 of the frontend's ports is not a port mapping".to_owned())]);
        assert!(std::env::var_os("PATH").is_some());
        let found = declared(&[("compose.yml", b"services: {backend: {ports: ['${PATH:-5001}:1']}}")]);
        assert_eq!(ports(&found), [(Role::Backend, 5001, "compose.yml")]);
    }

    #[test]
    fn of_a_files_problems_the_first_is_told() {
        let entries = "x,".repeat(35_000);
        let compose = format!("services: {{backend: {{ports: [{entries}'5001:1']}}, frontend: {{ports: [x]}}}}");
        let found = declared(&[(".env", b"BACKEND_PORT=x\nFRONTEND_PORT=y\n"), ("compose.yml", compose.as_bytes())]);
        assert_eq!(
            found.unreadable,
            [
                (".env", "line 1: BACKEND_PORT is not a port from 1 to 65535, and 1 more".to_owned()),
                ("compose.yml", "entry 1 of the backend's ports is not a port mapping, and 35000 more".to_owned()),
            ]
        );
        assert_eq!(ports(&found), [(Role::Backend, 5001, "compose.yml")]);
    }

    #[test]
    fn compose_takes_the_first_of_its_names() {
        let texts = [1, 2, 3, 4].map(|port| format!("services: {{backend: {{ports: ['{port}:1']}}}}"));
        let files: Vec<_> = COMPOSE_FILES.into_iter().zip(texts.iter().map(String::as_bytes)).collect();
        for first in 0..4 {
            let port = u16::try_from(first + 1).unwrap();
            assert_eq!(ports(&declared(&files[first..])), [(Role::Backend, port, COMPOSE_FILES[first])]);
        }
    }

    #[test]
    fn what_is_no_text_file_is_named_and_what_leads_nowhere_is_not_there() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path();
        assert_eq!(read(path), Declared::default());
        assert_eq!(read(&path.join("missing")), Declared::default());
        fs::write(path.join("file"), "").unwrap();
        assert_eq!(read(&path.join("file")), Declared::default());
        symlink("nowhere", path.join(".env")).unwrap();
        symlink("compose.yml", path.join("compose.yml")).unwrap();
        assert_eq!(read(path), Declared::default());

        let reasons = |path: &Path| read(path).unreadable.into_iter().map(|(_, reason)| reason).collect::<Vec<_>>();
        let other = "is not a regular file";
        fs::remove_file(path.join(".env")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path.join(".env"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        fs::create_dir(path.join("compose.yaml")).unwrap();
        fs::write(path.join("docker-compose.yml"), "services: {backend: {ports: ['1:1']}}").unwrap();
        assert_eq!(reasons(path), [other, other]);
        assert_eq!(read(path).ports, []);

        fs::remove_file(path.join(".env")).unwrap();
        symlink("file", path.join(".env")).unwrap();
        assert_eq!(reasons(path), [other]);
        let mut long = b"BACKEND_PORT=5001\n".to_vec();
        long.resize(1 << 20, b'#');
        fs::write(path.join("file"), &long).unwrap();
        assert_eq!(ports(&read(path)), [(Role::Backend, 5001, ".env")]);
        long.push(b'\n');
        fs::write(path.join("file"), &long).unwrap();
        assert_eq!(reasons(path), ["is larger than 1 MiB", other]);
        fs::write(path.join("file"), b"BACKEND_PORT=5001\n\xff").unwrap();
        assert_eq!(reasons(path), ["is not UTF-8 text", other]);

        fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o0)).unwrap();
        // Root may read everything.
        if fs::read(path.join("file")).is_err() {
            assert!(reasons(path)[0].contains("denied"), "{:?}", reasons(path));
        }
    }

    #[test]
    fn a_port_is_digits_from_1_to_65535() {
        for (text, expected) in [
            ("1", Some(1)),
            ("65535", Some(65535)),
            ("08001", Some(8001)),
            ("0", None),
            ("65536", None),
            ("", None),
            ("+1", None),
            ("-1", None),
            ("1 ", None),
            ("1_0", None),
            ("٣", None),
        ] {
            assert_eq!(port(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(env: Vec<u8>, compose: Vec<u8>) {
            declared(&[(".env", &env), ("compose.yaml", &compose)]);
        }

        #[test]
        fn no_text_close_to_the_real_one_makes_it_panic(
            env in "(export )?(BACKEND_PORT|FRONTEND_PORT|A)( ?[=:] ?)?[$A{}:?+'\"\\\\#0-9 \r\n-]{0,20}(\nA=[$A'\"é\\\\{}]{0,5}){0,3}",
            entries in prop::collection::vec("[0-9$A{}:?+&*!|>é'\"\\[\\],. \n/-]{0,16}", 0..5),
        ) {
            let entries: String = entries.iter().map(|entry| format!("\n      - {entry}")).collect();
            let compose = format!("services:\n  backend:\n    ports:{entries}\n");
            let found = declared(&[(".env", env.as_bytes()), ("compose.yaml", compose.as_bytes())]);
            for (_, reason) in &found.unreadable {
                prop_assert!(!reason.is_empty() && !reason.contains(char::is_control), "{reason}");
            }
            let _ = found.pair();
        }
    }
}
