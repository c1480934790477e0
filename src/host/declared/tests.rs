//! These tests read apps' files in cases that cannot be compared with Compose: unknown values, files outside
//! the app's directory, and hostile files.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::{FileType, Mode};

use super::project::{BASE_NAMES, OVERRIDE_NAMES};
use super::*;
use crate::core::allocation::PortPair;
use crate::core::declared::WhyUnpublished;

/// A file or a link in an app's directory.
type File<'a> = (&'a str, &'a [u8]);

fn folder(files: &[File<'_>]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = root.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    root
}

fn declared(files: &[File<'_>]) -> Declared {
    read(folder(files).path(), &Names::default())
}

fn ports(declared: &Declared) -> Vec<(Role, u16, &str, usize)> {
    let each = |found: &'_ DeclaredPorts| found.ports.clone().map(|port| (found.role, port)).collect::<Vec<_>>();
    let all = declared.ports.iter().flat_map(|found| each(found).into_iter().map(move |one| (found, one)));
    all.map(|(found, (role, port))| (role, port, found.file.as_str(), found.line)).collect()
}

fn told(notes: &[Note]) -> Vec<String> {
    notes.iter().map(|note| format!("{}: {}", note.file, note.reason)).collect()
}

const NOTHING: [&str; 0] = [];

/// Returns the CPU time of this thread, which other processes do not affect.
fn busy() -> Duration {
    let times = fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(times.split(' ').next().unwrap().parse().unwrap())
}

#[test]
fn a_compose_file_may_be_utf_16_with_its_mark() {
    let text = "services:\n  backend: {ports: ['5001:80']} # \u{1f980}\n";
    let units: Vec<_> = std::iter::once(0xfeff).chain(text.encode_utf16()).collect();
    for bytes in [u16::to_le_bytes, u16::to_be_bytes].map(|of| units.iter().copied().flat_map(of).collect::<Vec<u8>>())
    {
        let found = declared(&[("compose.yml", &bytes)]);
        assert_eq!(ports(&found), [(Role::Backend, 5001, "compose.yml", 2)]);
        let cut_off = declared(&[("compose.yml", &bytes[..bytes.len() - 1])]);
        assert_eq!(told(&cut_off.unreadable), ["compose.yml: is not UTF-8 text"]);
    }
}

#[test]
fn ports_are_told_with_file_and_line() {
    let base = b"services:\n  backend:\n    ports:\n      - '${BACKEND_PORT:-1}:5000'\n  frontend:\n    ports: ['$WEB:80', x]\n";
    let over = b"services:\n  db:\n    extends: {file: sub/db.yml, service: db}\n    ports:\n    - 1:1\n";
    let found = declared(&[
        (".env", b"\xef\xbb\xbf# x\r\nBACKEND_PORT=5001\r\nexport FRONTEND_PORT='8001' # web\r\nWEB=8003\r\n"),
        ("docker-compose.yml", base),
        ("docker-compose.override.yaml", over),
        ("sub/db.yml", b"services:\n  db: {ports: ['5432:5432']}\n"),
    ]);
    assert_eq!(
        ports(&found),
        [
            (Role::Backend, 5001, ".env", 2),
            (Role::Frontend, 8001, ".env", 3),
            (Role::Backend, 5001, "docker-compose.yml", 4),
            (Role::Other, 1, "docker-compose.override.yaml", 5),
            (Role::Other, 5432, "sub/db.yml", 2),
            (Role::Frontend, 8003, "docker-compose.yml", 6),
        ]
    );
    let refused = "docker-compose.yml: line 6: entry 2 of the ports of frontend names no container port";
    assert_eq!(told(&found.refused), [refused]);
    assert_eq!((told(&found.unreadable), found.files), (vec![], 4));
    // The program's own environment variables must not replace any.
    assert!(std::env::var_os("PATH").is_some());
    let found = declared(&[("compose.yml", b"services: {backend: {ports: ['${PATH:-5001}:1']}}")]);
    assert_eq!(ports(&found), [(Role::Backend, 5001, "compose.yml", 1)]);
}

#[test]
fn a_variable_that_is_empty_declares_nothing() {
    let found = declared(&[(".env", b"BACKEND_PORT=\nFRONTEND_PORT=''\n")]);
    assert_eq!(found, Declared { files: 1, ..Declared::default() });
}

#[test]
fn the_first_of_the_names_that_a_file_has_counts() {
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let names = Names {
        backend_variables: list(&["API_PORT", "BACKEND_PORT"]),
        frontend_variables: list(&["WEB_PORT"]),
        backend_services: list(&["api", "backend"]),
        frontend_services: list(&["web", "ui"]),
    };
    let compose = b"services: {backend: {ports: ['1:1']}, api: {ports: ['2:2']}, ui: {ports: ['3:3']}, frontend: {ports: ['4:4']}}";
    let env = b"BACKEND_PORT=5\nAPI_PORT=6\nFRONTEND_PORT=7\n";
    let found = read(folder(&[(".env", env), ("compose.yml", compose)]).path(), &names);
    let found: Vec<_> = ports(&found).into_iter().map(|(role, port, ..)| (role, port)).collect();
    use Role::{Backend, Frontend, Other};
    assert_eq!(found, [(Backend, 6), (Backend, 2), (Other, 1), (Other, 4), (Frontend, 3)]);
}

#[test]
fn what_needs_something_unknown_is_not_known_and_no_default() {
    let compose: File<'_> =
        ("compose.yml", b"services:\n  backend: {ports: ['${BACKEND_PORT:-5000}:80', '9229:9229']}\n");
    let bad_value: File<'_> = (".env", b"BACKEND_PORT=\xe9\n");
    let found = declared(&[bad_value, compose]);
    assert_eq!(ports(&found), [(Role::Backend, 9229, "compose.yml", 2)]);
    assert_eq!(found.unknown_in_compose, [Role::Backend]);
    assert_eq!(
        told(&found.unreadable),
        [
            ".env: line 1: BACKEND_PORT is not UTF-8 text",
            "compose.yml: line 2: entry 1 of the ports of backend needs the variable BACKEND_PORT, which could not be read",
        ]
    );
    assert!(found.pair().is_err());
    // An invalid byte does not matter if no value needs it.
    let found = declared(&[(".env", b"# caf\xe9\nBACKEND_PORT=5001\nNAME=\xe9\n"), compose]);
    assert_eq!(ports(&found)[0..2], [(Role::Backend, 5001, ".env", 2), (Role::Backend, 5001, "compose.yml", 2)]);
    assert_eq!((told(&found.unreadable), found.unknown_in_compose), (vec![], vec![]));
    // An unreadable file does not matter either if no value needs it.
    let both = b"services: {backend: {ports: ['5001:1']}, frontend: {ports: ['8001:1']}}";
    let utf16: File<'_> = (".env", b"\xff\xfeB\0=\x001\0");
    let found = declared(&[utf16, ("compose.yml", both)]);
    assert_eq!(found.pair(), Ok(PortPair::new(5001, 8001)));
    assert_eq!(told(&found.unreadable), [".env: is not UTF-8 text but UTF-16 or UTF-32"]);
    // These values decide about whole services or files.
    for (env, compose, why) in [
        (
            &b"COMPOSE_PROFILES=\xe9"[..],
            &b"services: {backend: {profiles: [a], ports: ['1:1']}}"[..],
            "COMPOSE_PROFILES",
        ),
        (b"A=\xe9", b"services: {backend: {network_mode: $A, ports: ['1:1']}}", "the variable A"),
        (b"A=\xe9", b"services: {backend: {scale: $A, ports: ['1:1']}}", "the variable A"),
        (b"A=\xe9", b"services: {backend: {profiles: [$A], ports: ['1:1']}}", "the variable A"),
        (b"COMPOSE_FILE=\xe9", b"services: {backend: {ports: ['1:1']}}", "COMPOSE_FILE"),
        (b"A=\xe9", b"include: [$A]\nservices: {frontend: {ports: ['1:1']}}", "the variable A"),
    ] {
        let found = declared(&[(".env", env), ("compose.yml", compose)]);
        assert!(found.of(Role::Backend).next().is_none(), "{why}: {found:?}");
        assert!(found.unknown_in_compose.contains(&Role::Backend), "{why}: {found:?}");
        assert!(told(&found.unreadable).concat().contains(why), "{why}: {found:?}");
    }
}

#[test]
fn a_pipe_that_nothing_needs_is_no_matter() {
    let pipe = |files: &[File<'_>]| {
        let root = folder(files);
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join(".env"), FileType::Fifo, Mode::RWXU, 0).unwrap();
        let found = read(root.path(), &Names::default());
        (found.pair(), told(&found.unreadable))
    };
    let both = b"services: {backend: {ports: ['5001:1']}, frontend: {ports: ['8001:1']}}";
    assert_eq!(pipe(&[("compose.yml", both)]), (Ok(PortPair::new(5001, 8001)), vec![]));
    let included: [File<'_>; 2] = [("compose.yml", b"include: [s.yml]"), ("s.yml", both)];
    assert_eq!(pipe(&included), (Ok(PortPair::new(5001, 8001)), vec![]));
    let one = b"services: {backend: {ports: ['5001:1']}}";
    let (pair, reasons) = pipe(&[("compose.yml", one)]);
    assert_eq!((pair.is_err(), reasons), (true, vec![".env: is not a regular file".to_owned()]));
    let needs = b"services: {backend: {ports: ['5001:1']}, frontend: {ports: ['${A-8001}:1']}}";
    let (pair, reasons) = pipe(&[("compose.yml", needs)]);
    assert!(pair.is_err() && reasons.len() == 2, "{reasons:?}");
}

#[test]
fn only_files_inside_the_directory_are_read_and_others_are_told_once() {
    let root = folder(&[
        ("shared.yml", b"services: {backend: {ports: ['6666:1']}, frontend: {ports: ['6666:1']}}"),
        ("shared.env", b"BACKEND_PORT=6666\n"),
        ("app/inside.yml", b"services: {frontend: {ports: ['8001:1']}}"),
        ("app/sub/base.yml", b"services: {base: {ports: ['5001:1']}}"),
    ]);
    let app = root.path().join("app");
    let inside = app.join("inside.yml").display().to_string();
    let outside = root.path().join("shared.yml").display().to_string();
    symlink("../shared.yml", app.join("link.yml")).unwrap();
    symlink("..", app.join("up")).unwrap();
    symlink("sub", app.join("down")).unwrap();
    let found = |compose: &str| {
        fs::write(app.join("compose.yml"), compose).unwrap();
        read(&app, &Names::default())
    };
    for path in
        ["../shared.yml", "sub/../../shared.yml", "link.yml", "up/shared.yml", &outside, "https://example.com/x.git"]
    {
        for compose in [
            format!("include: ['{path}', '{path}']\nservices: {{db: {{ports: ['1:1']}}}}"),
            format!("services: {{db: {{ports: ['1:1']}}, backend: {{extends: {{file: '{path}', service: backend}}}}}}"),
        ] {
            let found = found(&compose);
            assert_eq!(
                ports(&found),
                [(Role::Other, 1, "compose.yml", 1 + usize::from(compose.starts_with("include")))]
            );
            assert_eq!(
                found.unreadable.len(),
                if path == "link.yml" || path == "up/shared.yml" { found.unreadable.len() } else { 1 },
                "{found:?}"
            );
            assert!(told(&found.unreadable).concat().contains("outside the app's directory"), "{found:?}");
            assert!(found.pair().is_err(), "{found:?}");
        }
    }
    for path in ["./inside.yml", "sub/../inside.yml", &inside] {
        let found = found(&format!(
            "include: ['{path}']\nservices: {{backend: {{extends: {{file: down/base.yml, service: base}}}}}}"
        ));
        assert_eq!((found.pair(), told(&found.unreadable)), (Ok(PortPair::new(5001, 8001)), vec![]), "{path}");
    }
    // The app's own two files, and a directory that is itself a link.
    fs::remove_file(app.join("compose.yml")).unwrap();
    symlink("../shared.yml", app.join("compose.yml")).unwrap();
    symlink("../shared.env", app.join(".env")).unwrap();
    let found = read(&app, &Names::default());
    assert_eq!(ports(&found), []);
    let outside = "leads outside the app's directory";
    assert_eq!(told(&found.unreadable), [format!(".env: {outside}"), format!("compose.yml: {outside}")]);
    symlink("app", root.path().join("linked")).unwrap();
    fs::remove_file(app.join(".env")).unwrap();
    symlink("own.env", app.join(".env")).unwrap();
    fs::write(app.join("own.env"), "BACKEND_PORT=5001\n").unwrap();
    let found = read(&root.path().join("linked"), &Names::default());
    assert_eq!(ports(&found), [(Role::Backend, 5001, ".env", 1)]);
}

#[test]
fn a_service_that_publishes_nothing_says_why() {
    use WhyUnpublished::{HostNetwork, NoNetwork, NoReplicas, Profiles, SharedNetwork};
    for (key, why) in [
        ("network_mode: host", HostNetwork),
        ("network_mode: none", NoNetwork),
        ("network_mode: 'service:db'", SharedNetwork),
        ("network_mode: 'container:db'", SharedNetwork),
        ("scale: 0", NoReplicas),
        ("deploy: {replicas: 0}", NoReplicas),
        ("profiles: [a, b]", Profiles(vec!["a".into(), "b".into()])),
        ("profiles: [a], network_mode: host", Profiles(vec!["a".into()])),
    ] {
        let compose = format!("services:\n  backend: {{{key}, ports: ['5001-5003:1', '5002:2']}}\n  other: {{{key}}}");
        let found = declared(&[("compose.yml", compose.as_bytes())]);
        let [unpublished] = found.unpublished.as_slice() else { panic!("{key}: {found:?}") };
        assert_eq!(
            (&unpublished.service, &unpublished.ports, unpublished.line),
            (&"backend".into(), &vec![5001..=5003], 2)
        );
        assert_eq!((&unpublished.why, ports(&found), told(&found.unreadable)), (&why, vec![], vec![]), "{key}");
    }
}

/// Reads a project whose files are merged in this order, and returns its ports and problems.
fn merged(base: &str, over: &str) -> (Vec<u16>, Vec<String>) {
    let found = declared(&[("compose.yml", base.as_bytes()), ("compose.override.yml", over.as_bytes())]);
    (ports(&found).into_iter().map(|(_, port, ..)| port).collect(), told(&found.unreadable))
}

#[test]
fn a_later_file_adds_to_an_earlier_one_or_resets_it() {
    let base = "services:\n  backend: {ports: ['5001:1'], networks: [a], scale: 0}\n";
    let over = |text: &str| merged(base, &format!("services:\n  backend: {text}\n"));
    let both = "compose.yml: line 2 has a service backend with both network_mode and networks";
    assert_eq!(over("{network_mode: bridge, scale: 1}"), (vec![], vec![both.to_owned()]));
    assert_eq!(over("{network_mode: bridge, networks: !reset null, scale: 1}"), (vec![5001], vec![]));
    assert_eq!(over("{scale: !reset null}"), (vec![5001], vec![]));
    assert_eq!(over("{}"), (vec![], vec![]));
    // Nothing may stand only where an earlier file says more.
    let nothing = "\n---\nservices:\n  backend:\n    ports:";
    assert_eq!(over(&format!("{{scale: 1}}{nothing}")), (vec![5001], vec![]));
    let (ports, reasons) = over(&format!("{{scale: 1, ports: !reset null}}{nothing}"));
    assert_eq!((ports.len(), reasons.len()), (0, 1));
    assert!(reasons[0].contains("has nothing at ports in the service backend"), "{reasons:?}");
    // Below !override, the tags mean nothing.
    let (ports, reasons) = over("!override\n    ports: !reset ['5003:1']");
    assert_eq!((ports, reasons), (vec![5003], vec![]));
}

#[test]
fn a_service_that_is_extended_may_reset_what_it_extends() {
    let base = "services:\n  b: {extends: c, ports: ['5001:1']}\n  c: {ports: ['5003:1']}\n";
    let reset = format!("{base}---\nservices:\n  b: {{extends: !reset null}}\n");
    for (base, expected) in [(base, &[5001, 5003][..]), (&reset, &[5001])] {
        let found = declared(&[
            ("compose.yml", b"services: {backend: {extends: {file: b.yml, service: b}}}"),
            ("b.yml", base.as_bytes()),
        ]);
        assert_eq!(ports(&found).into_iter().map(|(_, port, ..)| port).collect::<Vec<_>>(), expected);
    }
}

#[test]
fn of_ports_that_entries_have_in_common_each_is_told_once() {
    for (entries, expected) in [
        ("'5001-5002:1', '5001-5003:2'", vec![5001..=5003]),
        ("'5001-5003:1', '5002-5003:2'", vec![5001..=5003]),
        ("'5002-5003:1', '5001:2'", vec![5001..=5001, 5002..=5003]),
    ] {
        let found = declared(&[("compose.yml", format!("services: {{backend: {{ports: [{entries}]}}}}").as_bytes())]);
        assert_eq!(found.ports.into_iter().map(|found| found.ports).collect::<Vec<_>>(), expected, "{entries}");
    }
}

#[test]
fn whole_numbers_of_containers_and_empty_mappings_are_read_as_compose_reads_them() {
    for (keys, is_published, reason) in [
        ("scale: 2.0", true, ""),
        ("scale: -1.0", false, "a number of containers that is no whole number"),
        ("scale: 1.5", false, "a number of containers that is no whole number"),
        ("scale: x", false, "a number of containers that is no whole number"),
        ("networks: {a: {}}, network_mode: bridge", false, "both network_mode and networks"),
        ("networks: {}, network_mode: bridge", true, ""),
        ("extends: {service: c, file: }", true, ""),
    ] {
        let compose = format!("services: {{c: {{}}, backend: {{ports: ['5001:1'], {keys}}}}}");
        let found = declared(&[("compose.yml", compose.as_bytes())]);
        let reasons = told(&found.unreadable).concat();
        assert_eq!(
            (found.of(Role::Backend).next().is_some(), reasons.is_empty()),
            (is_published, is_published),
            "{keys}: {reasons}"
        );
        assert!(reasons.contains(reason), "{keys}: {reasons}");
    }
}

#[test]
fn a_list_of_files_may_not_have_an_empty_name() {
    let found = declared(&[(".env", b"COMPOSE_FILE=compose.yml:\n"), ("compose.yml", b"services: {}")]);
    assert_eq!(told(&found.unreadable), [".env: COMPOSE_FILE has an empty name in its list"]);
}

#[test]
fn one_service_or_entry_that_is_wrong_hides_no_other() {
    let compose =
        b"services: {db: {ports: ['5003:5432', x, '5005:1']}, cache: 5, backend: {ports: ['5001:1']}, bad: {ports: 7}}";
    let found = declared(&[("compose.yml", compose)]);
    let all: Vec<_> = ports(&found).into_iter().map(|(role, port, ..)| (role, port)).collect();
    assert_eq!(all, [(Role::Backend, 5001), (Role::Other, 5003), (Role::Other, 5005)]);
    let reason = "compose.yml: line 1 has ports that are no list in the service bad, and 1 more";
    assert_eq!((told(&found.unreadable), found.refused.len()), (vec![reason.to_owned()], 1));
    // It is known whether the two services publish more ports.
    assert!(!found.unknown_in_compose.contains(&Role::Backend), "{found:?}");
    let entries = "x,".repeat(35_000);
    let compose = format!("services: {{backend: {{ports: [{entries}'5001:1']}}, frontend: {{ports: [x]}}}}");
    let found = declared(&[(".env", b"BACKEND_PORT=x\nFRONTEND_PORT=y\n"), ("compose.yml", compose.as_bytes())]);
    assert_eq!(told(&found.unreadable), [".env: line 1: BACKEND_PORT is not a port from 1 to 65535, and 1 more"]);
    let reason = "compose.yml: line 1: entry 1 of the ports of backend names no container port, and 35000 more";
    assert_eq!(told(&found.refused), [reason]);
}

#[test]
fn of_files_that_are_merged_one_that_cannot_be_read_makes_all_unknown() {
    let base: File<'_> = ("compose.yml", b"services: {backend: {ports: ['5000:1']}, frontend: {ports: ['8001:1']}}");
    for over in [&b"services: ["[..], b"\xff", &vec![b'#'; (1 << 20) + 1]] {
        let found = declared(&[base, ("compose.override.yml", over)]);
        assert_eq!((ports(&found), found.unreadable.len()), (vec![], 1), "{found:?}");
        assert_eq!(found.unknown_in_compose, [Role::Backend, Role::Frontend]);
    }
}

#[test]
fn what_is_no_text_file_is_named_and_what_leads_nowhere_is_not_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    let names = Names::default();
    assert_eq!(read(path, &names), Declared::default());
    assert_eq!(read(&path.join("missing"), &names), Declared::default());
    fs::write(path.join("file"), "").unwrap();
    assert_eq!(read(&path.join("file"), &names), Declared::default());
    symlink("nowhere", path.join(".env")).unwrap();
    symlink("compose.yml", path.join("compose.yml")).unwrap();
    assert_eq!(read(path, &names), Declared::default());

    let reasons = |path: &Path| read(path, &names).unreadable.into_iter().map(|note| note.reason).collect::<Vec<_>>();
    let other = "is not a regular file";
    fs::remove_file(path.join(".env")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, path.join(".env"), FileType::Fifo, Mode::RWXU, 0).unwrap();
    fs::create_dir(path.join("compose.yaml")).unwrap();
    fs::write(path.join("docker-compose.yml"), "services: {backend: {ports: ['1:1']}}").unwrap();
    assert_eq!(reasons(path), [other, other]);
    assert_eq!(read(path, &names).ports, []);

    fs::remove_file(path.join(".env")).unwrap();
    symlink(".env", path.join(".env")).unwrap();
    assert_eq!(reasons(path), ["is a link in a circle", other]);
    fs::remove_file(path.join(".env")).unwrap();
    symlink("file", path.join(".env")).unwrap();
    assert_eq!(reasons(path), [other]);
    let mut long = b"BACKEND_PORT=5001\n".to_vec();
    long.resize(1 << 20, b'#');
    fs::write(path.join("file"), &long).unwrap();
    assert_eq!(ports(&read(path, &names)), [(Role::Backend, 5001, ".env", 1)]);
    long.push(b'\n');
    fs::write(path.join("file"), &long).unwrap();
    assert_eq!(reasons(path), ["is larger than 1 MiB", other]);

    fs::write(path.join("file"), "").unwrap();
    fs::set_permissions(path.join("file"), fs::Permissions::from_mode(0o0)).unwrap();
    // Root may read everything.
    if fs::read(path.join("file")).is_err() {
        assert!(reasons(path)[0].contains("denied"), "{:?}", reasons(path));
    }
}

#[test]
fn compose_takes_the_first_of_its_names() {
    let text = |port| format!("services: {{backend: {{ports: ['{port}:1']}}}}");
    let texts = [1, 2, 3, 4].map(text);
    let over = text(9);
    for (first, base) in BASE_NAMES.into_iter().enumerate() {
        let mut files: Vec<File<'_>> =
            BASE_NAMES.into_iter().zip(texts.iter().map(String::as_bytes)).skip(first).collect();
        let port = u16::try_from(first + 1).unwrap();
        assert_eq!(ports(&declared(&files)), [(Role::Backend, port, base, 1)]);
        files.push((OVERRIDE_NAMES[first], over.as_bytes()));
        let expected = [(Role::Backend, port, base, 1), (Role::Backend, 9, OVERRIDE_NAMES[first], 1)];
        assert_eq!(ports(&declared(&files)), expected);
    }
}

#[test]
fn hostile_files_are_unreadable_in_no_time() {
    let levels = |count: usize, alias: &dyn Fn(usize) -> String| {
        let lines: Vec<_> = (1..count).map(|level| format!("x{level}: &a{level} {}\n", alias(level - 1))).collect();
        format!("x0: &a0 {{p: 1}}\n{}", lines.concat())
    };
    let merges = levels(14, &|below| format!("{{<<: [*a{below},*a{below}]}}"));
    assert!(merges.len() < 511, "{}", merges.len());
    let laughs = levels(40, &|below| format!("[*a{below}, *a{below}]"));
    let nested = |open: &str| format!("services: {{}}\nx: {}", open.repeat(200_000));
    let many = "services: {backend: {extends: b}, b: {ports: ['1:1']}}\n---\n".repeat(10_000);
    let chain: String =
        (0..2_000).map(|n| format!("  s{n}: {{extends: s{}, ports: ['1-65535:1']}}\n", n + 1)).collect();
    let extended: String = (0..2_000).map(|n| format!("  s{n}: {{extends: {{file: b.yml, service: b}}}}\n")).collect();
    let wide: String = (0..50_000).map(|n| format!("'{}:1',", 1 + n)).collect();
    let base = format!("services: {{b: {{ports: [{wide}]}}}}");
    for (what, compose) in [
        ("merges", format!("{merges}services: {{backend: {{<<: *a13, ports: ['5001:1']}}}}")),
        ("laughs", format!("{laughs}services: {{backend: {{ports: *a39}}}}")),
        ("laughs elsewhere", format!("{laughs}services: {{backend: {{ports: ['5001:1']}}}}")),
        ("flow lists", nested("[")),
        ("flow mappings", nested("{a: ")),
        ("block lists", nested("- ")),
        ("documents", many),
        ("a chain", format!("services:\n{chain}  s2000: {{}}\n")),
        ("a big file that is extended", format!("services:\n{extended}")),
        ("many includes", format!("include: [{}]\nservices: {{}}\n", "b.yml,".repeat(20_000))),
        ("itself in an include", "include: [compose.yml, compose.yml]\n".to_owned()),
        ("dollars", format!("services: {{backend: {{ports: ['{}']}}}}", "${A:-".repeat(100_000))),
        ("braces", format!("services: {{backend: {{ports: ['{}']}}}}", "${A:-{".repeat(100_000))),
        ("a long name", format!("services: {{{}: 5}}", "a".repeat(1_000_000))),
    ] {
        let root = folder(&[("compose.yml", compose.as_bytes()), ("b.yml", base.as_bytes())]);
        let start = busy();
        let found = read(root.path(), &Names::default());
        let took = busy() - start;
        // A build without optimization is some thirty times slower.
        let most = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 100 });
        assert!(took < most, "{what}: {took:?}");
        assert!(!found.unreadable.is_empty() || !found.refused.is_empty(), "{what}: {found:?}");
        let longest = found.unreadable.iter().map(|note| note.reason.len()).max();
        assert!(longest.unwrap_or(0) < 300, "{what}: {longest:?}");
    }
    let text = format!("services: {{backend: {{ports: [{}]}}}}", "'1-65535:1-65535',".repeat(40_000));
    let found = declared(&[("compose.yml", text.as_bytes())]);
    assert_eq!((found.ports.len(), &found.ports[0].ports), (1, &(1..=65535)));
}

#[test]
fn nothing_secret_is_told() {
    let found = declared(&[
        (".env", b"SECRET=hunter2\nBACKEND_PORT=$SECRET\nFRONTEND_PORT='hunter2\nhunter2 hunter2\n"),
        (
            "compose.yml",
            b"services:\n  a: {image: $SECRET, network_mode: '${X:?hunter2}', ports: ['hunter2:1', '$SECRET']}\n  b: hunter2\nhunter2: hunter2: hunter2\n",
        ),
        ("compose.override.yml", b"services:\n  a: {ports: ['${SECRET:?}:1', {target: hunter2}, '${hunter2}:${']}\nx-y: '${X:?hunter2}'\n"),
    ]);
    assert!(found.unreadable.len() > 1, "{found:?}");
    let found = format!("{found:?}");
    assert!(!found.replace("variable hunter2", "").contains("hunter2"), "{found}");
    assert_eq!(told(&declared(&[]).unreadable), NOTHING);
}

#[test]
fn the_value_of_a_variable_is_told_in_no_path_and_no_profile() {
    let found = declared(&[
        (".env", b"SECRET=hunter2\n"),
        (
            "compose.yml",
            b"include: ['${SECRET}', {path: a.yml, env_file: ['${SECRET}x']}]\nservices:\n  a: {ports: ['1:1'], profiles: ['${SECRET}']}\n  b: {extends: {service: c, file: './${SECRET}y'}}\n",
        ),
        ("a.yml", b"services: {}\n"),
    ]);
    let reasons = told(&found.unreadable);
    for name in ["${SECRET}: is not there", "${SECRET}x: is not there", "./${SECRET}y: is not there"] {
        assert!(reasons.iter().any(|reason| reason.starts_with(name)), "{name} in {reasons:?}");
    }
    let whys: Vec<_> = found.unpublished.iter().map(|unpublished| &unpublished.why).collect();
    assert_eq!(whys, [&WhyUnpublished::Profiles(vec!["${SECRET}".to_owned()])]);
    assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
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
        extends in "[a-c{}:, *&!]{0,12}",
    ) {
        let entries: String = entries.iter().map(|entry| format!("\n      - {entry}")).collect();
        let compose = format!("services:\n  a:\n    extends: {extends}\n  backend:\n    ports:{entries}\n");
        let found = declared(&[(".env", env.as_bytes()), ("compose.yaml", compose.as_bytes())]);
        for note in &found.unreadable {
            prop_assert!(!note.reason.is_empty() && !note.reason.contains(char::is_control), "{}", note.reason);
        }
        let _ = found.pair();
    }
}
