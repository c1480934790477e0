//! What is shown on terminals of 60, 80 and 200 columns.

use std::process::Command;

use insta::assert_snapshot;
use unicode_width::UnicodeWidthStr;

use super::fixture::{Ran, SCHEMA, World, row, without_moments};

/// What a line shows on a terminal of this width, and how it ends.
fn shown(world: &World, width: usize, variable: (&str, &str), line: &str) -> Ran {
    let mut python = Command::new("python3");
    python.args(["-c", include_str!("terminal.py"), &width.to_string(), env!("CARGO_BIN_EXE_manage-ports")]);
    python.args(line.split(' ')).current_dir(world.path("")).env_clear();
    Ran::of(
        python.env("TERM", "xterm").env("LC_ALL", "C.UTF-8").env("PATH", "/usr/bin:/bin").env(variable.0, variable.1),
    )
}

/// The lines without what colours them; none is wider than the terminal.
#[track_caller]
fn bare_lines(ran: &Ran, width: usize) -> String {
    let mut bare = String::new();
    let mut parts = ran.stdout.split("\u{1b}[");
    bare.push_str(parts.next().unwrap());
    for part in parts {
        bare.push_str(part.split_once('m').unwrap().1);
    }
    for line in bare.lines() {
        assert!(line.width() <= width, "{} columns of {width}: {line}", line.width());
    }
    bare
}

/// Names that need room, one of them reserved; made three days ago.
fn world() -> World {
    let world = World::new();
    let names = ["openai_gpt-4.1", "deepseek_deepseek-r1-0528-qwen3-8b:free", "模型_千问-三", "Cafe\u{301}", "דגם_אחד"];
    let rows = names.into_iter().zip(1..).map(|(name, k)| row(name, k * k * k, 4999 + 2 * k, 7999 + 2 * k));
    world.database(SCHEMA, &rows.collect::<Vec<_>>());
    world.sql(
        "UPDATE port_configurations SET created_at = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-3 days');
         UPDATE port_configurations SET metadata_json =
             json_object('reserved_until', strftime('%Y-%m-%dT%H:%M:%SZ', 'now', '+2 hours')) WHERE backend_port = 5001",
    );
    world
}

#[test]
fn a_table_fits_the_terminal() {
    let world = world();
    for width in [60, 80, 200] {
        let ran = shown(&world, width, ("A", "1"), "list");
        assert!(ran.code == Some(0) && ran.stdout.contains("\u{1b}[1m"), "{ran:?}");
        let bare = bare_lines(&ran, width);
        assert_snapshot!(format!("list_{width}"), without_moments(&bare));
        // Without colour it is the same, to the letter.
        let plain = shown(&world, width, ("NO_COLOR", "1"), "list");
        assert_eq!(plain.stdout, bare);
    }
    world.sql("UPDATE port_configurations SET is_available = 0 WHERE backend_port = 5003");
    for width in 60..=120 {
        for line in ["list", "list --probe"] {
            let bare = bare_lines(&shown(&world, width, ("A", "1"), line), width);
            let table: Vec<_> = bare.lines().filter(|line| line.starts_with(['│', '╭', '╞', '╰'])).collect();
            assert!(table.iter().all(|line| line.width() == table[0].width()), "{bare}");
            // A column that has moved below its rows says what it is.
            assert!(bare.contains("Available"), "{bare}");
        }
    }
}

#[test]
fn what_is_piped_has_the_same_columns_whatever_the_terminal() {
    let world = world();
    let first = world.line("list").ok().lines().next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(first, "Model App Backend Frontend Available Created Reserved until");
}

#[test]
fn messages_wrap_and_no_path_is_cut() {
    let world = World::new();
    let name = format!("{}/{}/none.db", "a-long-folder-name".repeat(3), "another".repeat(12));
    for width in [60, 80, 200] {
        let ran = shown(&world, width, ("NO_COLOR", "1"), &format!("list --database {name}"));
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let bare = bare_lines(&ran, width);
        assert!(bare.replace("\n  ", "").contains(&name), "{bare}");
        assert!(bare.contains("\nhint: "), "{bare}");
        // JSON stays on its line, however long.
        let json = shown(&world, width, ("A", "1"), &format!("--json list --database {name}"));
        assert_eq!(json.stdout.lines().count(), 1, "{json:?}");
    }
}

#[test]
fn a_terminal_that_tells_no_width_gets_whole_lines() {
    let world = world();
    let ran = shown(&world, 0, ("NO_COLOR", "1"), "list");
    assert!(ran.stdout.contains("│ deepseek_deepseek-r1-0528-qwen3-8b:free ┆"), "{ran:?}");
    assert!(ran.stdout.contains("Reserved until"), "{ran:?}");
}
