//! `allocate --env-file`: two lines set and everything else as it was, whatever stops the program.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::fixture::{Ran, SCHEMA, World};

fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world
}

#[test]
fn both_variables_are_set_and_all_else_stays() {
    let world = world();
    let path = world.write("app/.env", "# ports\r\nBACKEND_PORT=1\r\nSECRET='a b'\r\nX=\u{e9}");
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let set = || {
        let ran = world.line("allocate --model m --app 1 --env-file app/.env -q");
        assert!(ran.ok().starts_with("m/app1: backend 5001, frontend 8001"), "{ran:?}");
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        (fs::read_to_string(&path).unwrap(), mode)
    };
    let expected = "# ports\r\nBACKEND_PORT=5001\r\nSECRET='a b'\r\nX=\u{e9}\r\nFRONTEND_PORT=8001\r\n";
    assert_eq!(set(), (expected.to_owned(), 0o640));
    let modified = || fs::metadata(&path).unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(set(), (expected.to_owned(), 0o640));
    assert_eq!(modified(), before, "a file that is right already is left alone");
    assert_eq!(fs::read_dir(world.path("app")).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn a_new_file_is_made_as_any_other_and_a_link_stays_one() {
    let world = world();
    world.line("allocate --model m --app 1 --env-file new.env -q").ok();
    assert_eq!(fs::read_to_string(world.path("new.env")).unwrap(), "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    let mode = |name: &str| fs::metadata(world.path(name)).unwrap().permissions().mode();
    assert_eq!(mode("new.env"), mode("manage-ports.toml"));

    world.write("shared/real.env", "A=1\n");
    symlink("shared/real.env", world.path("link.env")).unwrap();
    world.line("allocate --model m --app 1 --env-file link.env -q").ok();
    assert!(world.path("link.env").is_symlink());
    assert_eq!(
        fs::read_to_string(world.path("shared/real.env")).unwrap(),
        "A=1\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n"
    );
}

#[test]
fn a_file_that_cannot_be_written_costs_no_ports() {
    let world = world();
    fs::create_dir(world.path("folder")).unwrap();
    symlink("nowhere", world.path("broken")).unwrap();
    for (file, why) in
        [("folder", "is not a regular file"), ("no/such/.env", "no/such does not exist"), ("broken", "broken")]
    {
        world.line(&format!("allocate --model m --app 1 --env-file {file}")).fails(1, &[file, why]);
    }
    for (file, why) in [
        (".env", "--env-file names one file for m/app1 and m/app2"),
        ("{model}.env", "--env-file names one file"),
        ("{app}/{x}", "'{x}' is unknown: expected {model}, {safe_model}, {app} or {dir}"),
    ] {
        world.line(&format!("allocate m 1-2 --env-file {file}")).fails(2, &[why]);
    }
    assert!(!world.path("data").exists());
    world.write("old.env", "BACKEND_PORT=1\n");
    world.write("manage-ports.toml", "[ports]\nprobe = false\nmax = 8001\nexclude = [8001]\n");
    world.line("allocate --model m --app 1 --env-file old.env").fails(4, &["no free pair"]);
    assert_eq!(fs::read_to_string(world.path("old.env")).unwrap(), "BACKEND_PORT=1\n");
}

#[test]
fn a_folder_in_which_it_cannot_be_made_costs_no_ports() {
    let world = world();
    world.database(SCHEMA, &[]);
    world.write("ours/other", "");
    let Some(ran) = world.line_as_nobody("allocate --model m --app 1 --env-file ours/.env") else { return };
    ran.fails(1, &["ours/.env", "the folder ours cannot be written to"]);
    assert_eq!(world.rows(), []);
    // One that is as it is to be need not be replaced.
    world.write("ours/.env", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    world.line_as_nobody("allocate --model m --app 1 --env-file ours/.env --quiet").unwrap().ok();
}

#[test]
fn what_others_write_to_the_file_while_it_waits_stays() {
    let world = world();
    world.database(SCHEMA, &[]);
    let path = world.write(".env", "A=1\n");
    let mut other = Connection::open(world.default_database()).unwrap();
    let transaction = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut waiting = world.start("allocate --model m --app 1 --env-file .env -v");
    let mut talk = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(talk.any(|line| line.unwrap().contains("waiting")));
    fs::write(&path, "A=1\nB=2\n").unwrap();
    transaction.commit().unwrap();
    assert!(waiting.wait().unwrap().success());
    assert_eq!(fs::read_to_string(path).unwrap(), "A=1\nB=2\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
}

#[test]
fn a_quote_that_is_not_closed_does_not_make_the_file_grow() {
    let world = world();
    let path = world.write(".env", "A=\"x\nBACKEND_PORT=1\n");
    for _ in 0..2 {
        world.line("allocate --model m --app 1 --env-file .env -q").ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), "A=\"x\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
    }
}

#[test]
fn what_is_no_utf8_like_text_is_refused_before_ports_are_given() {
    let world = world();
    let utf_16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
    let with_mark = |text: &str| utf_16(&format!("\u{feff}{text}"));
    for (content, why) in [
        (with_mark("A=1\r\n"), "UTF-16"),
        (utf_16("A=1\n"), "line 1: there is a NUL byte"),
        (b"\xfe\xff\0A\0=\x001".to_vec(), "UTF-16"),
        (b"\xff\xfe\0\0A\0\0\0".to_vec(), "UTF-32"),
        (b"A=1\n\nB=\0\n".to_vec(), "line 3: there is a NUL byte"),
    ] {
        let path = world.write(".env", &content);
        world.line("allocate m 1 --env-file .env").fails(1, &["env file .env", why, "hint: no ports were given"]);
        assert_eq!(fs::read(path).unwrap(), content);
        assert!(!world.path("data").exists());
    }
    // Bytes that are no UTF-8 are those of a code page: ASCII is a part of it.
    let path = world.write(".env", b"NAME=Ren\xe9\nBACKEND_PORT=1\n");
    world.line("allocate m 1 --env-file .env -q").ok();
    assert_eq!(fs::read(path).unwrap(), b"NAME=Ren\xe9\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n");
}

#[test]
fn what_readers_would_take_otherwise_is_refused_before_ports_are_given() {
    let world = world();
    for (content, line) in [
        ("BACKEND_PORT=5001\n\nBACKEND_PORT\n", "line 3: BACKEND_PORT stands there without '='"),
        ("FRONTEND_PORT=5001\nexport FRONTEND_PORT\n", "line 2: FRONTEND_PORT stands there without '='"),
        ("A=1\nBACKEND_PORT=\"1\" B=2\n", "line 2: BACKEND_PORT has text after its quotes"),
    ] {
        let path = world.write(".env", content);
        let ran = world.line("allocate m 1 --env-file .env --json");
        let message = ran.fails_as_json(1, "io");
        assert!(message.contains(line), "{message}");
        assert_eq!(fs::read_to_string(path).unwrap(), content);
        assert!(!world.path("data").exists());
    }
}

#[test]
fn what_is_no_file_of_its_own_is_refused() {
    let world = world();
    let fifo = world.path("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    symlink("/dev/null", world.path("device")).unwrap();
    symlink("circle", world.path("circle")).unwrap();
    for (file, why) in [
        ("pipe", "is not a regular file"),
        ("device", "is not a regular file"),
        ("/dev/null", "is not a regular file"),
        ("circle", "circle"),
        ("new/", "names a folder"),
        (".", "names a folder"),
    ] {
        world.line(&format!("allocate m 1 --env-file {file}")).fails(1, &["env file", why]);
    }
    // What stdout and stderr go to is a regular file here.
    for (file, stream) in [
        ("/dev/stdout", "1"),
        ("/dev/stderr", "2"),
        ("/dev/fd/1", "1"),
        ("/proc/self/fd/1", "1"),
        ("out", "1"),
        ("out", "2"),
    ] {
        let path = world.write("out", "");
        let line = format!("{} allocate m 1 --env-file {file} {stream}>>out", env!("CARGO_BIN_EXE_manage-ports"));
        let status = world.shell(&line).output().unwrap().status;
        assert_eq!(status.code(), Some(1), "{file}");
        let content = fs::read_to_string(path).unwrap();
        assert!(!content.contains("PORT="), "{file}: {content}");
    }
    assert!(!world.path("data").exists());
}

#[test]
fn of_several_apps_each_finds_its_ports_in_its_own_file() {
    let world = world();
    world.apps(["a_b/app1", "a_b/app2", "a_b/app3"]);
    world.write("generated/apps/a_b/app2/.env", "SECRET=x\nBACKEND_PORT=1\n");
    let ran = world.line("allocate a/b 1-3 --env-file {dir}/.env -q");
    assert_eq!(ran.ok().lines().count(), 3);
    let read = |path: &str| fs::read_to_string(world.path(path)).unwrap();
    for (app, before, backend) in [(1, "", 5001), (2, "SECRET=x\n", 5003), (3, "", 5005)] {
        let expected = format!("{before}BACKEND_PORT={backend}\nFRONTEND_PORT={}\n", backend + 3000);
        assert_eq!(read(&format!("generated/apps/a_b/app{app}/.env")), expected);
    }
    // The first of the four places in which the platform finds apps.
    world.apps(["a_b/app_4", "a_b/flask/app4", "a_b/flask/app_5"]);
    world.line("allocate a/b 4-5 --env-file {dir}/.env -q").ok();
    assert!(read("generated/apps/a_b/app_4/.env").contains("=5007\n"));
    assert!(read("generated/apps/a_b/flask/app_5/.env").contains("=5009\n"));
    fs::create_dir_all(world.path("x/a")).unwrap();
    world.line("allocate a/b 1,3 --env-file x/{model}-{safe_model}-{app}.env -q").ok();
    assert_eq!(read("x/a/b-a_b-3.env"), "BACKEND_PORT=5005\nFRONTEND_PORT=8005\n");
}

#[test]
fn what_stands_in_one_apps_way_costs_none_of_them_ports() {
    let world = world();
    world.line("allocate m 1 --env-file {dir}/.env").fails(5, &["apps directory", "hint: no ports were given"]);
    world.apps(["m/app1", "m/app2"]);
    world
        .line("allocate m 1-3 --env-file {dir}/.env")
        .fails(1, &["m/app3 has no directory", "for which {dir} would stand"]);
    let kept = world.write("generated/apps/m/app1/.env", "A=1\n");
    world.write("generated/apps/m/app2/.env", "A=\0\n");
    world.line("allocate m 1-2 --env-file {dir}/.env").fails(1, &["m/app2/.env", "NUL byte"]);
    // Two names of one file are one file.
    fs::remove_file(world.path("generated/apps/m/app2/.env")).unwrap();
    for link in [|from: &Path, to: &Path| symlink(from, to), |from: &Path, to: &Path| fs::hard_link(from, to)] {
        let other = world.path("generated/apps/m/app2/.env");
        link(&kept, &other).unwrap();
        let line = "allocate m 1-2 --env-file generated/apps/m/app{app}/.env";
        world.line(line).fails(2, &["one file for m/app1 and m/app2"]);
        fs::remove_file(other).unwrap();
    }
    assert_eq!(fs::read_to_string(kept).unwrap(), "A=1\n");
    assert!(!world.path("data").exists());
}

#[test]
fn which_files_were_written_and_which_were_not_is_told() {
    let world = world();
    world.database(SCHEMA, &[]);
    world.apps((1..=4).map(|app_num| format!("m/app{app_num}")));
    let mut other = Connection::open(world.default_database()).unwrap();
    let transaction = other.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut waiting = world.start("allocate m 1-4 --env-file {dir}/.env -v");
    let mut talk = BufReader::new(waiting.stderr.take().unwrap()).lines();
    assert!(talk.any(|line| line.unwrap().contains("waiting")));
    // What nobody could know when the files were looked at.
    fs::create_dir(world.path("generated/apps/m/app2/.env")).unwrap();
    transaction.commit().unwrap();
    let said: Vec<_> = talk.map(Result::unwrap).collect();
    assert_eq!(waiting.wait().unwrap().code(), Some(1));
    let error = said.iter().find(|line| line.starts_with("error: ")).unwrap();
    assert!(error.contains("the env files of m/app2 were not written, those of m/app1,3-4 were: "), "{error}");
    assert!(error.contains("m/app2/.env: it is not a regular file"), "{error}");
    assert!(said.iter().any(|line| line.contains("all of them have their ports")), "{said:?}");
    assert_eq!(world.rows().len(), 4);
    fs::remove_dir(world.path("generated/apps/m/app2/.env")).unwrap();
    world.line("allocate m 1-4 --env-file {dir}/.env -q").ok();
    let written = fs::read_to_string(world.path("generated/apps/m/app2/.env")).unwrap();
    assert_eq!(written, "BACKEND_PORT=5003\nFRONTEND_PORT=8003\n");
}

/// The recipe of docs/scripts.md: `eval "$(…)"` alone would go on with the last app's ports.
#[test]
fn a_shell_that_takes_ports_from_a_call_stops_when_the_call_fails() {
    let world = world();
    world.line("allocate m 1-2 -q").ok();
    for (options, recipe) in [
        ("-eu", r#"ports=$($MP allocate m "$app" --format env); eval "$ports""#),
        ("-eu", r#"ports=$($MP allocate m "$app" --format env) || exit; eval "$ports""#),
        ("-u", r#"ports=$($MP allocate m "$app" --format env) || exit; eval "$ports""#),
        ("-eu", r#"$MP exec m "$app" -- sh -c 'echo "$1 $BACKEND_PORT"' sh "$app"; continue"#),
    ] {
        let script = format!("set {options}; for app in 1 0 2; do {recipe}; echo \"$app $BACKEND_PORT\"; done");
        let mut shell = world.shell(&script);
        let ran = Ran::of(shell.env("MP", env!("CARGO_BIN_EXE_manage-ports")).env("PATH", "/usr/bin:/bin"));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), "1 5001\n"), "{recipe}: {ran:?}");
    }
}

#[test]
fn a_link_that_leads_out_of_an_apps_directory_is_not_written_to() {
    let world = world();
    world.apps(["m/app1", "m/app2/sub"]);
    let victim = world.write("victim", "# mine\n");
    symlink(&victim, world.path("generated/apps/m/app1/.env")).unwrap();
    symlink(world.path(""), world.path("generated/apps/m/app1/up")).unwrap();
    for file in ["{dir}/.env", "{dir}/up/victim", "{dir}/up/new"] {
        world.run(["allocate", "m", "1", "--env-file", file]).fails(1, &["a link leads out of the folder", "app1"]);
    }
    assert!(!world.path("new").exists() && !world.path("data").exists(), "no ports were given");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "# mine\n");

    // A link to a file in the directory is as good as the file, and a path that somebody names is theirs.
    symlink("sub/real", world.path("generated/apps/m/app2/.env")).unwrap();
    world.write("generated/apps/m/app2/sub/real", "");
    world.run(["allocate", "m", "2", "--env-file", "{dir}/.env", "-q"]).ok();
    assert!(fs::read_to_string(world.path("generated/apps/m/app2/sub/real")).unwrap().contains("BACKEND_PORT=5001"));
    world.run(["allocate", "m", "1", "--env-file", "{dir}/../1.env"]).ok();
    world.run(["allocate", "m", "1", "--env-file", "generated/apps/m/app1/.env"]).ok();
    assert!(fs::read_to_string(&victim).unwrap().contains("BACKEND_PORT=5003"));
}

#[test]
fn a_model_that_leads_to_another_folder_is_refused_in_a_files_name() {
    let world = world();
    fs::create_dir_all(world.path("in/a/b")).unwrap();
    fs::create_dir(world.path("out")).unwrap();
    let absolute = world.path("out").display().to_string();
    for model in ["../out", "a/../../out", &absolute] {
        let ran = world.run(["allocate", model, "1", "--env-file", "in/{model}/.env"]);
        ran.fails(2, &["{model} stands for", "which leads to another folder", "{safe_model}"]);
    }
    assert!(!world.path("out/.env").exists() && !world.path("data").exists());
    world.run(["allocate", "a/b", "1", "--env-file", "in/{model}/.env", "-q"]).ok();
    fs::create_dir(world.path("in/.._out")).unwrap();
    world.run(["allocate", "../out", "1", "--env-file", "in/{safe_model}/.env"]).ok();
    assert!(world.path("in/a/b/.env").is_file() && world.path("in/.._out/.env").is_file());
}
