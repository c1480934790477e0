//! A password file is read as it is, and a password in it is found by the four fields of its line.

#![no_main]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::server_with_passwords;
use manage_ports_fuzz::{SEPARATOR, folder};

/// Writes a field as the file needs it.
fn escaped(field: &str) -> String {
    field.replace('\\', "\\\\").replace(':', "\\:")
}

fuzz_target!(|input: &[u8]| {
    thread_local! {
        static FOLDER: tempfile::TempDir = folder();
    }
    let path = FOLDER.with(|folder| folder.path().join("passfile"));
    let write = |content: &[u8]| {
        fs::write(&path, content).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode can be set");
    };
    let name = path.to_str().expect("a path in UTF-8");
    let passwords = |url: &str| server_with_passwords(url, name).expect("a URL that is right").passwords;

    write(input);
    let found = passwords("user@host:5433/ports");
    // A password stands in the file, apart from its backslashes.
    let plain = |text: &str| text.replace('\\', "");
    if let [Some(password)] = found.as_slice() {
        let password = String::from_utf8_lossy(password);
        assert!(plain(&String::from_utf8_lossy(input)).contains(&plain(&password)), "{password:?}");
    }

    // A line of its own before everything else is the one that counts.
    let text = String::from_utf8_lossy(input);
    let password: String = text.chars().filter(|c| !matches!(c, '\n' | '\r' | '\0')).take(60).collect();
    if password.is_empty() {
        return;
    }
    let mut content = format!("host:5433:ports:user:{}\n", escaped(&password)).into_bytes();
    content.extend(input.iter().filter(|&&byte| byte != SEPARATOR));
    write(&content);
    assert_eq!(passwords("user@host:5433/ports"), [Some(password.clone().into_bytes())]);
    // A password in the URL counts before the file.
    assert_eq!(passwords("user:x@host:5433/ports"), [Some(b"x".to_vec())]);
    // Another host, port, database or user has no part in that line.
    write(format!("host:5433:ports:user:{}\n", escaped(&password)).as_bytes());
    for other in ["user@other:5433/ports", "user@host:5432/ports", "user@host:5433/other", "other@host:5433/ports"] {
        assert_eq!(passwords(other), [None], "{other}");
    }
});
