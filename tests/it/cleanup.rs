//! `cleanup`.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};
use serde_json::{Value, json};

use super::fixture::{Ran, SCHEMA, World, answered, free_ports, not_run, row};

const ALL: &str = "Cleaning up all orphaned allocations...\n";

fn world() -> World {
    let world = World::new();
    world.database(SCHEMA, &[row("a/x", 1, 5001, 8001), row("a/x", 2, 5003, 8003), row("b", 1, 5005, 8005)]);
    world.apps(["a_x/app1"]);
    world
}

#[test]
fn only_apps_without_a_directory_are_removed() {
    let world = world();
    world.line("cleanup --dry-run --include-listening").is(
        0,
        "  a/x/app2: backend 5003, frontend 8003\n  b/app1: backend 5005, frontend 8005\nWould remove 2 orphaned allocation(s)\n",
        &format!("{ALL}Dry run: nothing is removed\n"),
    );
    assert_eq!(world.rows().len(), 3);
    world.line("cleanup a/x --include-listening").is(
        0,
        "  a/x/app2: backend 5003, frontend 8003\n✓ Removed 1 orphaned allocation(s)\n",
        "Cleaning up orphaned allocations for model: a/x\n",
    );
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("b", 1, 5005, 8005)]);
    world.line("cleanup --include-listening").is(
        0,
        "  b/app1: backend 5005, frontend 8005\n✓ Removed 1 orphaned allocation(s)\n",
        ALL,
    );
    world.line("cleanup").is(0, "✓ No orphaned allocations found\n", ALL);
    world.line("cleanup nobody -q").is(0, "✓ No orphaned allocations found\n", "");
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001)]);
}

#[test]
fn json_tells_what_was_removed_and_what_was_kept_and_why() {
    let world = world();
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "model = 'b'");
    let dry: Value = serde_json::from_str(&world.line("cleanup --json --dry-run --include-listening").stdout).unwrap();
    let real: Value = serde_json::from_str(&world.line("cleanup --json --include-listening").stdout).unwrap();
    assert_eq!(dry["removed"], real["removed"]);
    assert_eq!((&dry["dry_run"], &real["dry_run"]), (&json!(true), &json!(false)));
    assert_eq!(
        real["removed"],
        json!([{
            "model": "a/x", "app_num": 2, "backend_port": 5003, "frontend_port": 8003, "is_available": true,
            "created_at": "2026-01-02T03:04:05.678901Z", "updated_at": "2026-01-02T03:04:05.678901Z", "reserved_until": null,
        }])
    );
    assert_eq!(real["kept"], json!([{"model": "b", "app_num": 1, "reason": "reserved"}]));
}

#[test]
fn a_reservation_is_kept_until_it_is_over() {
    let world = world();
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z"}"#, "app_num = 2");
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "model = 'b'");
    world.line("cleanup --include-listening").is(
        0,
        "  b/app1: backend 5005, frontend 8005\n  kept a/x/app2: reserved until 2999-01-01T00:00:00Z\n\
         ✓ Removed 1 orphaned allocation(s)\n",
        ALL,
    );
}

#[test]
fn a_reservation_that_cannot_be_read_is_kept() {
    let world = world();
    world.set_metadata(r#"{"reserved_until":"9999-12-31T23:59:59Z"}"#, "app_num = 2");
    world.set_metadata(r#"{"reserved_until":"2999-01-01T00:00:00Z","x":NaN}"#, "model = 'b'");
    world.line("cleanup --include-listening").is(
        0,
        "  kept a/x/app2: reserved until 9999-12-30T22:00:00.999999Z\n  \
         kept b/app1: its metadata names a reservation that could not be read\n\
         ✓ No orphaned allocations found\n",
        ALL,
    );
    assert!(world.line("check").stdout.contains("The reservation of b/app1 could not be read in its metadata_json"));
    assert!(world.line("reserve --model b --app 1 --for 1h").code != Some(0), "nothing can be added to it");
    world.line("release b 1").ok();
}

#[test]
fn a_row_younger_than_the_minimal_age_is_kept() {
    let world = world();
    world.line("allocate new 1 --no-probe").ok();
    let kept = |line: &str| {
        let report: Value = serde_json::from_str(&world.line(&format!("{line} --dry-run --json")).stdout).unwrap();
        report["kept"].clone()
    };
    let young = json!([{"model": "new", "app_num": 1, "reason": "too_recent"}]);
    assert_eq!(kept("cleanup --include-listening"), young, "ten minutes by default");
    assert_eq!(kept("cleanup --include-listening --min-age 0s"), json!([]));
    // Its making alone counts, and by whoever's clock it is young.
    for (created, updated, is_young) in [
        ("'-590 seconds'", "'-1 hour'", true),
        ("'-610 seconds'", "'-1 second'", false),
        ("'+1 day'", "'-1 hour'", true),
        ("NULL", "'-1 second'", false),
    ] {
        let text = |offset: &str| format!("strftime('%Y-%m-%d %H:%M:%S.000000', 'now', {offset})");
        let (created, updated) = (text(created), text(updated));
        world.sql(&format!(
            "UPDATE port_configurations SET created_at = {created}, updated_at = {updated} WHERE model = 'new'"
        ));
        let expected = if is_young { young.clone() } else { json!([]) };
        assert_eq!(kept("cleanup --include-listening"), expected, "{created} {updated}");
    }
    world.sql("UPDATE port_configurations SET created_at = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-1 hour')");
    assert_eq!(kept("cleanup --include-listening").as_array().unwrap().len(), 0);
    world.write("manage-ports.toml", "cleanup_min_age = '2h'\n");
    assert_eq!(kept("cleanup --include-listening").as_array().unwrap().len(), 3);
    assert_eq!(kept("cleanup --include-listening --min-age 30m").as_array().unwrap().len(), 0);
    let cleanup = world.line("cleanup new --include-listening");
    assert!(cleanup.stdout.starts_with("  kept new/app1: made 2"), "{cleanup:?}");
    assert!(cleanup.stdout.contains("Z, less than 2h ago\n✓ No orphaned allocations found\n"), "{cleanup:?}");
    world.write("manage-ports.toml", "cleanup_min_age = '-2h'\n");
    world.line("cleanup").fails(2, &["cleanup_min_age", "'-2h' is not a duration"]);
}

#[test]
fn a_row_whose_age_cannot_be_read_is_kept() {
    let world = world();
    world.sql(
        "UPDATE port_configurations SET created_at = 'yesterday' WHERE app_num = 2;
         UPDATE port_configurations SET created_at = NULL WHERE model = 'b'",
    );
    world.line("cleanup --min-age 1h --include-listening").is(
        0,
        "  b/app1: backend 5005, frontend 8005\n  kept a/x/app2: when it was made could not be read\n\
         ✓ Removed 1 orphaned allocation(s)\n",
        ALL,
    );
    let kept: Value = serde_json::from_str(&world.line("cleanup --min-age 0s --json").stdout).unwrap();
    assert_eq!(kept["kept"][0]["reason"], "too_recent");
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn an_app_at_any_of_its_four_places_is_kept() {
    let world = World::new();
    let rows: Vec<_> = (1..=6).map(|n| row("a/x", n, 5000 + n, 8000 + n)).collect();
    world.database(SCHEMA, &rows);
    world.apps(["a_x/app1", "a_x/app_2", "a_x/react-flask/app3"]);
    world.write("generated/apps/a_x/vue/app_4", "a file");
    // An app's own folders, and those below a folder between, are none of an app's places.
    world.apps(["a_x/app1/app5", "a_x/react-flask/deep/app6"]);
    assert_eq!(world.line("cleanup --include-listening").code, Some(0));
    assert_eq!(world.rows(), rows[..4]);
}

#[test]
fn an_empty_apps_directory_frees_nothing() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    // A volume that is not mounted; and what may be left of one.
    for place in ["", "m", "m/react", "m/lost+found", ".git/app", "app1"] {
        world.apps([place]);
        for line in ["cleanup", "cleanup m", "cleanup --dry-run", "cleanup --include-listening --min-age 0s"] {
            let ran = world.line(line);
            ran.fails(5, &["generated/apps is empty", "nothing was removed", "--allow-empty"]);
        }
    }
    // What would be kept anyway needs no apps.
    world.line("cleanup other -q").is(0, "✓ No orphaned allocations found\n", "");
    world.sql("UPDATE port_configurations SET created_at = strftime('%Y-%m-%d %H:%M:%f000', 'now')");
    assert_eq!(world.line("cleanup").code, Some(0));
    assert_eq!(world.rows().len(), 1);
    // A single app of any model shows that the volume is there.
    world.apps(["other/react/app_7"]);
    assert_eq!(world.line("cleanup --dry-run --min-age 0s").code, Some(0));
    fs::remove_dir_all(world.path("generated/apps/other")).unwrap();
    let dry = world.line("cleanup --min-age 0s --include-listening --allow-empty --dry-run");
    assert!(dry.stdout.ends_with("Would remove 1 orphaned allocation(s)\n"), "{dry:?}");
    assert_eq!(world.line("cleanup --min-age 0s --include-listening --allow-empty").code, Some(0));
    assert_eq!(world.rows(), []);
}

#[test]
fn an_apps_directory_one_level_too_high_frees_nothing() {
    let world = World::new();
    world.database(SCHEMA, &[row("gone", 1, 5001, 8001), row("a/b", 2, 5003, 8003)]);
    world.apps(["a_b/app2"]);
    let line = "cleanup --include-listening --apps-dir generated";
    for line in [line.to_owned(), format!("{line} --dry-run"), format!("{line} a/b")] {
        let expected = ["apps directory generated is one level too high: a/b/app2 stands in generated/apps"];
        world.line(&line).fails(5, &[expected[0], "nothing was removed; set --apps-dir", "to generated/apps"]);
    }
    assert_eq!(world.rows().len(), 2);
    // The way out that the message names.
    assert_eq!(world.line(&line.replace("generated", "generated/apps")).code, Some(0));
    assert_eq!(world.rows(), [row("a/b", 2, 5003, 8003)]);
    assert_eq!(world.line(&format!("{line} --allow-empty")).code, Some(0));
    assert_eq!(world.rows(), []);
}

#[test]
fn a_marker_tells_an_empty_apps_directory_from_one_that_is_not_mounted() {
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, 5001, 8001)]);
    world.write("manage-ports.toml", "apps_dir_marker = '.apps-root'\n");
    world.apps([""]);
    world.line("cleanup --allow-empty").fails(5, &["has no marker"]);
    world.write("generated/apps/.apps-root", "");
    assert_eq!(world.line("cleanup --include-listening").code, Some(0));
    assert_eq!(world.rows(), []);
}

#[test]
fn models_are_chosen_by_a_glob_or_by_their_name() {
    let world = World::new();
    world.database(SCHEMA, &[row("a/1", 1, 5001, 8001), row("a/2", 1, 5003, 8003), row("[x", 1, 5005, 8005)]);
    world.apps(["other/app1"]);
    let line = |pattern: &str| world.run(["cleanup", pattern, "--include-listening"]);
    line("[x").is(
        0,
        "  [x/app1: backend 5005, frontend 8005\n✓ Removed 1 orphaned allocation(s)\n",
        "Cleaning up orphaned allocations for model: [x\n",
    );
    // Without such a row it is a pattern, and a wrong one.
    line("[x").fails(2, &["'[x' is not a pattern"]);
    line("tab\t").fails(2, &["control characters"]);
    assert!(line("b*").stdout.starts_with("✓ No orphaned"));
    line("a/*").is(
        0,
        "  a/1/app1: backend 5001, frontend 8001\n  a/2/app1: backend 5003, frontend 8003\n\
         ✓ Removed 2 orphaned allocation(s)\n",
        "Cleaning up orphaned allocations for model: a/*\n",
    );
}

#[test]
fn an_orphan_is_kept_while_a_container_api_gives_no_usable_answer() {
    let world = world();
    let socket = world.path("docker.sock");
    let server = UnixListener::bind(&socket).unwrap();
    let answer_one = || {
        let (mut connection, _) = server.accept().unwrap();
        connection.write_all(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n").unwrap();
    };
    let line = |line: &str| {
        let mut command = world.command();
        command.args(line.split_whitespace()).env("DOCKER_HOST", format!("unix://{}", socket.display()));
        Ran::of(&mut command)
    };
    let ran = thread::scope(|scope| {
        scope.spawn(answer_one);
        line("cleanup --json")
    });
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let kept = |model: &str, app_num: u32| json!({"model": model, "app_num": app_num, "reason": "unknown"});
    assert_eq!((&report["removed"], &report["kept"]), (&json!([]), &json!([kept("a/x", 2), kept("b", 1)])));
    assert_eq!(ran.stderr.matches("the ports that containers publish are not known").count(), 1, "{ran:?}");
    // Nobody is asked where it does not matter.
    let ran = line("cleanup --include-listening");
    assert_eq!((ran.code, world.rows().len()), (Some(0), 1), "{ran:?}");
}

#[test]
fn what_stands_at_the_path_counts_and_a_broken_link_does_not() {
    let world = World::new();
    let rows: Vec<_> = (1..=5).map(|n| row("m", n, 5000 + n, 8000 + n)).collect();
    world.database(SCHEMA, &rows);
    world.apps(["m", "elsewhere"]);
    let app = |n: u32| world.path(format!("generated/apps/m/app{n}"));
    fs::write(app(1), "a file").unwrap();
    symlink("../elsewhere", app(2)).unwrap();
    symlink("../nowhere", app(3)).unwrap();
    symlink("app4", app(4)).unwrap();
    world.line("cleanup -q --include-listening").ok();
    assert_eq!(world.rows(), rows[..2]);
}

#[test]
fn a_directory_that_cannot_be_used_frees_nothing() {
    let world = World::new();
    let rows = [row("m", 1, 5001, 8001)];
    world.database(SCHEMA, &rows);
    world.line("cleanup").fails(5, &["generated/apps", "nothing was removed"]);
    world.write("generated/apps", "a file");
    world.line("cleanup").fails(5, &["generated/apps", "is not a folder"]);
    fs::remove_file(world.path("generated/apps")).unwrap();
    world.apps([""; 0]);
    world.write("manage-ports.toml", "apps_dir_marker = \".apps-root\"\n");
    world.line("cleanup").fails(5, &["has no marker", ".apps-root"]);
    world.line("cleanup --dry-run").fails(5, &["has no marker"]);
    assert_eq!(world.rows(), rows);
    world.write("generated/apps/.apps-root", "");
    assert_eq!(world.line("cleanup --include-listening").code, Some(0));
    assert_eq!(world.rows(), []);
}

/// What a cleanup reports during which something happens: after its look, before its turn to write.
fn cleanup_interrupted_by(world: &World, line: &str, happen: impl FnOnce(&Connection)) -> Value {
    let mut platform = Connection::open(world.default_database()).unwrap();
    let transaction = platform.transaction_with_behavior(TransactionBehavior::Immediate).unwrap();
    let mut cleanup = world.start(line);
    // It has looked, and waits for us to finish writing.
    let mut talk = BufReader::new(cleanup.stderr.take().unwrap()).lines();
    assert!(talk.any(|line| line.unwrap().contains("waiting")));
    happen(&transaction);
    transaction.commit().unwrap();
    drop(talk);
    let ran = Ran::from(cleanup.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    serde_json::from_str(&ran.stdout).unwrap()
}

#[test]
fn a_row_that_changed_since_it_was_looked_at_is_kept() {
    let world = world();
    let report = cleanup_interrupted_by(&world, "cleanup --json -v --include-listening", |platform| {
        platform
            .execute_batch(
                "UPDATE port_configurations SET updated_at = '2026-01-02 03:04:06.000000' WHERE model = 'b';
                 DELETE FROM port_configurations WHERE app_num = 2;
                 INSERT INTO port_configurations (model, app_num, backend_port, frontend_port)
                 VALUES ('new', 1, 5003, 8003)",
            )
            .unwrap();
    });
    assert_eq!(report["removed"], json!([]));
    assert_eq!(report["kept"], json!([{"model": "b", "app_num": 1, "reason": "changed"}]));
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("b", 1, 5005, 8005), row("new", 1, 5003, 8003)]);
}

#[test]
fn an_app_that_came_while_the_cleanup_waited_is_kept() {
    let world = world();
    let report = cleanup_interrupted_by(&world, "cleanup --json -v --include-listening", |_| world.apps(["b/app1"]));
    assert_eq!(report["kept"], json!([{"model": "b", "app_num": 1, "reason": "changed"}]));
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("b", 1, 5005, 8005)]);
}

#[test]
fn an_orphan_whose_port_is_listened_on_is_kept() {
    for address in ["0.0.0.0:0", "127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            not_run(&format!("listening on {address}: this machine has no such address"));
            continue;
        };
        let busy = i64::from(listener.local_addr().unwrap().port());
        let free: [_; 3] = free_ports().map(i64::from);
        let rows = [row("back", 1, busy, free[0]), row("front", 1, free[1], busy), row("off", 1, free[2], 70000)];
        let world = World::new();
        world.database(SCHEMA, &rows);
        world.apps(["other/app1"]);
        // Who probes for a new app is another question.
        world.write("manage-ports.toml", "[ports]\nprobe = false");

        let dry = world.line("cleanup --dry-run");
        let report: Value = serde_json::from_str(&world.line("cleanup --dry-run --json").stdout).unwrap();
        let kept = |model: &str| json!({"model": model, "app_num": 1, "reason": "listening"});
        assert_eq!(report["kept"], json!([kept("back"), kept("front")]), "{address}");
        let cleanup = world.line("cleanup");
        // A process that another test is about to start has this one's sockets for a moment.
        let without_users = |stdout: &str| {
            stdout.lines().map(|line| line.split(" is listened on by ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(without_users(&cleanup.stdout), without_users(&dry.stdout.replace("Would remove", "✓ Removed")));
        assert!(
            cleanup.stdout.starts_with(&format!("  off/app1: backend {}, frontend 70000\n", free[2])),
            "{cleanup:?}"
        );
        let pid = std::process::id();
        for model in ["back", "front"] {
            let line = cleanup.stdout.lines().find(|line| line.contains(&format!("kept {model}/"))).unwrap();
            assert!(line.starts_with(&format!("  kept {model}/app1: port {busy} is listened on by ")), "{cleanup:?}");
            assert!(line.contains(&format!(" (pid {pid})")), "{cleanup:?}");
        }
        assert_eq!(world.rows(), rows[..2]);
        let dry = world.line("cleanup --include-listening --dry-run");
        let cleanup = world.line("cleanup --include-listening");
        assert!(cleanup.stdout.ends_with("✓ Removed 2 orphaned allocation(s)\n"), "{cleanup:?}");
        assert_eq!(dry.stdout.replace("Would remove", "✓ Removed"), cleanup.stdout);
        assert_eq!(world.rows(), []);
    }
}

#[test]
fn an_orphan_whose_port_has_only_datagrams_is_removed() {
    let datagrams = UdpSocket::bind("0.0.0.0:0").unwrap();
    let [free] = free_ports();
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, datagrams.local_addr().unwrap().port().into(), free.into())]);
    world.apps(["other/app1"]);
    assert!(world.line("cleanup").stdout.ends_with("✓ Removed 1 orphaned allocation(s)\n"));
    assert_eq!(world.rows(), []);
}

#[test]
fn a_listener_of_another_user_keeps_an_orphan() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = listener.local_addr().unwrap().port();
    let [free] = free_ports();
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, free.into(), busy.into())]);
    world.apps(["other/app1"]);
    let Some(ran) = world.line_as_nobody("cleanup") else { return };
    ran.is(
        0,
        &format!(
            "  kept m/app1: port {busy} is listened on by a process that cannot be seen from here\n\
             ✓ No orphaned allocations found\n"
        ),
        ALL,
    );
    assert_eq!(world.rows().len(), 1);
}

#[test]
fn an_orphan_on_whose_port_a_server_starts_meanwhile_is_kept() {
    let [first, second, third, fourth] = free_ports().map(i64::from);
    let world = World::new();
    world.database(SCHEMA, &[row("m", 1, first, second), row("m", 2, third, fourth)]);
    world.apps(["other/app1"]);
    let mut server = None;
    let report = cleanup_interrupted_by(&world, "cleanup --json -v", |_| {
        server = Some(TcpListener::bind(format!("127.0.0.1:{second}")).unwrap());
    });
    assert_eq!(report["kept"], json!([{"model": "m", "app_num": 1, "reason": "listening"}]));
    assert_eq!(world.rows(), [row("m", 1, first, second)]);
}

#[test]
fn the_lock_is_free_while_directories_are_looked_at() {
    if Command::new("strace").arg("-V").output().is_err() {
        assert!(std::env::var_os("CI").is_none(), "strace is missing");
        not_run("the_lock_is_free_while_directories_are_looked_at: no strace");
        return;
    }
    let world = world();
    let folder = world.path("generated/apps/b");
    fs::create_dir_all(&folder).unwrap();
    let mut traced = Command::new("strace");
    traced.current_dir(world.path("")).env_clear().args(["-f", "-qq", "-o", "trace", "-P"]).arg(&folder);
    // The look at one folder takes longer than anybody waits for the lock.
    traced.args(["-e", "inject=openat:delay_exit=1500000", env!("CARGO_BIN_EXE_manage-ports")]);
    traced.args(["--apps-dir"]).arg(world.path("generated/apps"));
    traced.args(["cleanup", "--timeout", "500ms", "--include-listening", "--json", "-q"]);
    let traced = traced.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut others = 0;
    while !fs::read_to_string(world.path("trace")).unwrap_or_default().contains("openat(") {
        assert_eq!(world.line("allocate other 1 --no-probe --timeout 400ms").code, Some(0));
        others += 1;
    }
    assert_eq!(world.line("allocate other 2 --no-probe --timeout 400ms").code, Some(0));
    let ran = Ran::from(traced.wait_with_output().unwrap());
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(report["removed"].as_array().unwrap().len(), 2, "{ran:?}");
    assert_eq!(world.rows().len(), 1 + 1 + usize::from(others > 0));
}

#[test]
fn where_listeners_may_be_hidden_a_note_says_so_once() {
    let world = world();
    let [dry, again] = ["--dry-run", "--include-listening"].map(|flag| {
        let mut command = Command::new("unshare");
        command.current_dir(world.path("")).env_clear().args(["-n", env!("CARGO_BIN_EXE_manage-ports"), "cleanup"]);
        command.arg(flag).output()
    });
    let is_possible = |output: &Output| !String::from_utf8_lossy(&output.stderr).contains("unshare failed");
    let Some(dry) = dry.ok().filter(is_possible).map(Ran::from) else {
        not_run("where_listeners_may_be_hidden_a_note_says_so_once: no namespace can be made");
        return;
    };
    if Path::new("/var/run/docker.sock").exists() || Path::new("/run/podman/podman.sock").exists() {
        not_run("where_listeners_may_be_hidden_a_note_says_so_once: a container API may answer here");
        return;
    }
    assert_eq!(dry.code, Some(0), "{dry:?}");
    let notes: Vec<_> = dry.stderr.lines().filter(|line| line.starts_with("note: this is a")).collect();
    assert_eq!(notes.len(), 1, "{dry:?}");
    assert!(notes[0].contains("run cleanup where the apps' ports are published"), "{dry:?}");
    // Who does not ask is told nothing.
    assert!(!Ran::from(again.unwrap()).stderr.contains("note: "));
}

#[test]
fn what_was_removed_can_be_imported_again() {
    let world = world();
    world.set_metadata(r#"{"reserved_until":"2001-01-01T00:00:00Z"}"#, "model = 'b'");
    let removed = world.line("cleanup --json -q --include-listening");
    assert_eq!(world.rows().len(), 1);
    world.write("removed.json", removed.ok());
    world.line("import removed.json").is(0, "✓ Imported 2 allocation(s), 0 existing, 0 skipped\n", "");
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("a/x", 2, 5003, 8003), row("b", 1, 5005, 8005)]);
}

#[test]
fn a_model_whose_folder_is_a_link_to_nowhere_is_kept() {
    let world = world();
    fs::remove_dir_all(world.path("generated/apps/a_x")).unwrap();
    symlink("/nowhere/a_x", world.path("generated/apps/a_x")).unwrap();
    let ran = world.line("cleanup a/x --json -q");
    let report: Value = serde_json::from_str(&ran.stdout).unwrap();
    let kept = |app_num: u32| json!({"model": "a/x", "app_num": app_num, "reason": "unreadable"});
    assert_eq!((&report["removed"], &report["kept"]), (&json!([]), &json!([kept(1), kept(2)])));
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn a_marker_is_a_file_inside_the_apps_directory() {
    let world = world();
    for marker in ["", ".", "./.", "/etc/passwd", "../manage-ports.toml"] {
        world.write("manage-ports.toml", format!("apps_dir_marker = \"{marker}\"\n"));
        world.line("cleanup").fails(2, &["apps_dir_marker", "expected a file inside the apps directory"]);
    }
    world.write("manage-ports.toml", "apps_dir_marker = \"a_x\"\n");
    world.apps(["a_x/app1"]);
    world.line("cleanup").fails(5, &["a_x is not a file"]);
    world.write("manage-ports.toml", "apps_dir = \"\"\n");
    world.line("cleanup").fails(2, &["apps_dir is empty"]);
    assert_eq!(world.rows().len(), 3);
}

#[test]
fn a_folder_that_may_not_be_read_keeps_its_apps() {
    let world = world();
    let locked = world.path("generated/apps/b");
    fs::create_dir_all(&locked).unwrap();
    fs::set_permissions(&locked, Permissions::from_mode(0o000)).unwrap();
    let Some(ran) = world.line_as_nobody("cleanup --json -q --include-listening") else { return };
    let report: Value = serde_json::from_str(&ran.stdout).unwrap_or_else(|err| panic!("{err}: {ran:?}"));
    assert_eq!(report["kept"], json!([{"model": "b", "app_num": 1, "reason": "unreadable"}]));
    assert_eq!(world.rows(), [row("a/x", 1, 5001, 8001), row("b", 1, 5005, 8005)]);

    let apps = world.path("generated/apps");
    fs::set_permissions(&apps, Permissions::from_mode(0o000)).unwrap();
    let ran = world.line_as_nobody("cleanup --include-listening").unwrap();
    fs::set_permissions(&apps, Permissions::from_mode(0o755)).unwrap();
    ran.fails(5, &["generated/apps", "Permission denied", "nothing was removed"]);
    assert_eq!(world.rows().len(), 2);
}

#[test]
fn sixty_allocate_while_a_cleanup_leaves_all_that_is_young() {
    let world = World::new();
    world.write("manage-ports.toml", "timeout = \"3m\"\n[ports]\nprobe = false\n");
    world.database(SCHEMA, &[row("old", 1, 5001, 8001)]);
    world.apps(["other/app1"]);
    let children: Vec<_> = (1..=60).map(|n| world.start(&format!("allocate --model m --app {n} --json"))).collect();
    let is_over = AtomicBool::new(false);
    let answers: BTreeSet<_> = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let ran = world.line("cleanup --min-age 1h --include-listening -q");
                assert_eq!(ran.code, Some(0), "{ran:?}");
            }
        });
        let ended: Vec<Ran> = children.into_iter().map(|child| child.wait_with_output().unwrap().into()).collect();
        is_over.store(true, Ordering::Relaxed);
        ended.iter().map(|ran| answered(ran.ok())).collect()
    });
    world.line("cleanup --min-age 1h --include-listening -q").ok();
    assert_eq!(answers.len(), 60);
    assert_eq!(world.rows().into_iter().collect::<BTreeSet<_>>(), answers, "the old one is gone, and nothing else");
}

#[test]
fn apps_that_are_being_made_keep_their_rows() {
    const MAKERS: u32 = 4;
    const APPS: u32 = 300;
    let world = World::new();
    world.database(SCHEMA, &[row("old", 1, 64_001, 64_003)]);
    world.apps(["other/app1"]);
    let is_over = AtomicBool::new(false);
    let make = &|app_num: u32| {
        let answer = answered(world.line(&format!("allocate m {app_num} --json --no-probe")).ok());
        // The platform writes the first file a moment after it has the ports.
        thread::sleep(Duration::from_millis(30));
        world.apps([format!("m/app{app_num}")]);
        answer
    };
    let answers: BTreeSet<_> = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let ran = world.line("cleanup -q");
                    assert_eq!(ran.code, Some(0), "{ran:?}");
                }
            });
        }
        let makers = (0..MAKERS).map(|maker| {
            let apps = (1..=APPS).filter(move |app_num| app_num % MAKERS == maker);
            scope.spawn(move || apps.map(make).collect::<Vec<_>>())
        });
        let makers: Vec<_> = makers.collect();
        let answers = makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect();
        is_over.store(true, Ordering::Relaxed);
        answers
    });
    world.line("cleanup -q").ok();
    assert_eq!(answers.len(), APPS as usize);
    assert_eq!(world.rows().into_iter().collect::<BTreeSet<_>>(), answers, "the old one is gone, and nothing else");
}

#[test]
fn every_line_of_the_documented_table_has_a_test_of_its_name() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/cleanup.md")).unwrap();
    let (_, table) = page.split_once("| what cleanup will never remove |").unwrap();
    let names: Vec<String> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.split(" |").next())
        .map(|line| line.to_lowercase().replace(['`', ',', '-'], "").replace(' ', "_"))
        .collect();
    assert!(names.len() > 9, "{names:?}");
    for name in names {
        assert!(include_str!("cleanup.rs").contains(&format!("#[test]\nfn {name}() {{")), "no test {name}");
    }
}

#[test]
fn a_model_that_no_row_has_gets_the_nearest_one_as_a_hint() {
    let world = World::new();
    world.apps(["openai_gpt-4.1/app1"]);
    world.database(SCHEMA, &[row("openai_gpt-4.1", 1, 5001, 8001)]);
    world.line("cleanup openai_gpt4").is(
        0,
        "✓ No orphaned allocations found\n",
        "Cleaning up orphaned allocations for model: openai_gpt4\n\
         no row of data/ports.db has the model openai_gpt4: did you mean openai_gpt-4.1?\n",
    );
    let named = world.line("cleanup openai_gpt-4.1");
    assert_eq!(named.stderr, "Cleaning up orphaned allocations for model: openai_gpt-4.1\n");
}
