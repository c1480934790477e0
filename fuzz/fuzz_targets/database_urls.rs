//! The name of a database is read or refused, opens the same database again, and shows no password.

#![no_main]

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use manage_ports::internals::database;
use manage_ports_fuzz::{SECRET, SEPARATOR};

fuzz_target!(|input: &[u8]| {
    if let Ok(named) = database(OsStr::from_bytes(input)) {
        let again = database(&named.secret).expect("a process of our own opens it");
        assert_eq!((&again.shown, &again.secret), (&named.shown, &named.secret));
        assert_eq!(again.passwords, named.passwords);
    }

    // The same with a password, in which anybody may forget to encode characters.
    let mut parts = input.splitn(3, |&byte| byte == SEPARATOR).map(|part| String::from_utf8_lossy(part).into_owned());
    let [user, password, rest] = [(); 3].map(|()| parts.next().unwrap_or_default());
    if user.contains(['@', '/', '?', ':', '&', '#']) || rest.contains(SECRET) || user.contains(SECRET) {
        return;
    }
    for scheme in ["postgresql", "postgres", "postgresql+psycopg2"] {
        for url in [
            format!("{scheme}://{user}:{SECRET}{password}{SECRET}@{rest}"),
            format!("{scheme}://{user}@{}?password={SECRET}", rest.replace(['?', '#'], "")),
        ] {
            let shown = database(OsStr::new(&url)).map_or_else(|why| why, |named| named.shown);
            assert!(!shown.contains(SECRET), "{url} is shown as {shown}");
        }
    }
});
