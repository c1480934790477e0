//! A schema for each of many hosts on one server: every host has all ports, and none waits for another.

use std::process::Stdio;

use super::fixture::{answered, row};
use super::postgres::{wait_until, world};
use super::storm::finish;

const HOSTS: u32 = 20;

#[test]
fn twenty_schemas_are_written_at_once_and_none_waits_for_another() {
    let Some(world) = world("a schema for each host") else { return };
    let (server, name) = (world.server(), world.server().name());
    // Half of the hosts name their schema in the URL, the others have a role with a schema of its name.
    for host in 0..=HOSTS {
        server
            .sql(&format!("CREATE ROLE {name}_{host} LOGIN; CREATE SCHEMA {name}_{host} AUTHORIZATION {name}_{host}"));
    }
    let url = |host: u32| match host % 2 {
        0 => format!("{}?search_path={name}_{host}", server.url()),
        _ => server.url_of(&format!("{name}_{host}")),
    };
    let start = |host: u32, line: &str| {
        let mut command = world.command();
        command.args(line.split(' ')).env("MANAGE_PORTS_DATABASE", url(host));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };

    // Somebody makes a table in one schema and does not end, so that our own call waits there while it
    // makes the same table.
    let makes = server.session(&format!("BEGIN; CREATE TABLE {name}_{HOSTS}.port_configurations ()"));
    let waiting = start(HOSTS, "allocate --model m --app 1 --json -q");
    wait_until(|| {
        server.sql("SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()") == "1\n"
    });

    // While that lasts, all others get the same first ports: at once with their tables, and again.
    for app in [1, 2] {
        let children: Vec<_> = (0..HOSTS)
            .map(|host| start(host, &format!("allocate --model m --app {app} --json -q --timeout 10s --no-probe")))
            .collect();
        for child in children {
            let ran = finish(child);
            assert_eq!(answered(ran.ok()), row("m", app, 4999 + 2 * app, 7999 + 2 * app));
        }
    }

    // A table that is locked keeps nobody else waiting, either.
    let locks = server.session(&format!("BEGIN; LOCK TABLE {name}_0.port_configurations"));
    let children: Vec<_> =
        (0..HOSTS).map(|host| start(host, "allocate --model m --app 3 --json -q --timeout 10s --no-probe")).collect();
    for (host, child) in children.into_iter().enumerate() {
        let ran = finish(child);
        match host {
            0 => assert!(ran.fails_as_json(3, "locked").contains("for other writers to finish")),
            _ => assert_eq!(answered(ran.ok()), row("m", 3, 5005, 8005)),
        }
    }
    drop((makes, locks));
    assert_eq!(answered(finish(waiting).ok()), row("m", 1, 5001, 8001));
}
