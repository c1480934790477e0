//! Formats answers as tables, lines, JSON, CSV or annotations. The commands decide; this module only writes.

pub(crate) mod check;
pub(crate) mod csv;
pub(crate) mod github;
mod grid;
pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod log;
pub(crate) mod look;
pub(crate) mod map;
pub(crate) mod progress;
pub(crate) mod show;
pub(crate) mod status;
pub(crate) mod table;
mod when;

use std::io::{self, Write};

/// A writer to a pipe whose reader may stop early, as `head` does; later output is then dropped.
pub(crate) struct Pipe<W> {
    inner: W,
    is_closed: bool,
}

impl<W: Write> Pipe<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, is_closed: false }
    }

    fn pass<T>(&mut self, result: io::Result<T>, unread: T) -> io::Result<T> {
        match result {
            Err(err) if err.kind() == io::ErrorKind::BrokenPipe => {
                self.is_closed = true;
                Ok(unread)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Pipe<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.is_closed {
            return Ok(bytes.len());
        }
        let result = self.inner.write(bytes);
        self.pass(result, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.inner.flush();
        self.pass(result, ())
    }
}

#[cfg(test)]
mod tests {
    use crate::core::declared::Names;
    use std::path::Path;

    use insta::assert_snapshot;
    use jiff::Timestamp;

    use super::look::Look;
    use super::*;
    use crate::core::allocation::{Allocation, Outcome, State};
    use crate::core::app::AppId;
    use crate::core::conflict::{Examined, Finding, Kind, Report};
    use crate::core::listener::{Listener, Listeners};
    use crate::core::migration::Migration;
    use crate::core::orphan::{Kept, KeptReason, Sweep};
    use crate::core::place::{Listed, Place};
    use crate::core::schema::UniqueIndex;

    const PLAIN: Look = Look { is_terminal: false, has_colour: false, width: None };
    const COLOURED: Look = Look { is_terminal: true, has_colour: true, width: None };

    /// A time three days after the rows were made.
    fn now() -> Timestamp {
        "2026-01-05T03:04:06Z".parse().unwrap()
    }

    /// Rows such as other programs may write: with a comma and a quote, a control character, no times.
    fn rows() -> Vec<Allocation> {
        let row = |id, model: &str, app_num: i64| Allocation {
            id,
            app: AppId::new(model, app_num),
            backend_port: 5001 + 2 * id,
            frontend_port: 8001 + 2 * id,
            is_available: true,
            metadata: None,
            created_at_is_unreadable: false,
            created_at: Some("2026-01-02T03:04:05.678901Z".parse().unwrap()),
            updated_at: Some("2026-01-02T03:04:05.678902Z".parse().unwrap()),
        };
        let mut rows = vec![row(0, "openai_gpt-4.1", 1), row(1, "a,\"b\"", 2), row(2, "e\u{1b}[31m\tf\u{9b}", -1)];
        rows[1].metadata = Some(r#"{"reserved_until":"2026-02-01T00:00:00Z","theirs":1}"#.into());
        rows[2].is_available = false;
        rows[2].created_at = None;
        rows[2].updated_at = None;
        rows
    }

    /// A program with a hostile name, a process that may not be seen, and a process whose program is not
    /// known.
    fn listeners() -> Listeners {
        let listener =
            |pid, program: Option<&str>| Listener { pid, program: program.map(str::to_owned), ..Listener::default() };
        let container =
            Listener { container: Some("shop-web-1".into()), project: Some("shop".into()), ..Listener::default() };
        let found = [
            (5001, listener(Some(1234), Some("python3"))),
            (8001, listener(None, None)),
            (8001, container),
            (8003, listener(Some(9), Some("a\u{1b}[31m\t, b"))),
            (8003, listener(Some(8), None)),
        ];
        found.into_iter().collect()
    }

    fn outcomes() -> Vec<Outcome> {
        rows().into_iter().map(|allocation| Outcome { created: allocation.id == 0, allocation }).collect()
    }

    fn findings() -> Vec<Finding> {
        let finding = |kind, message: &str| Finding {
            kind,
            message: message.into(),
            ports: vec![5001],
            apps: vec![AppId::new("a", 1), AppId::new("b\u{9b}", 2)],
            file: (kind == Kind::DeclaredClash).then(|| "a,b:/app1/.env".to_owned()),
            line: (kind == Kind::DeclaredClash).then_some(7),
        };
        vec![
            finding(Kind::DuplicateBackendPort, "Backend port 5001 used by multiple apps: a/app1, b%/app2"),
            finding(Kind::DeclaredClash, ".env of a/app1 names backend port 5001, which is allocated to b/app2"),
            finding(Kind::Orphaned, "a/app1 has no directory a/app1"),
        ]
    }

    fn sweep() -> Sweep {
        let kept = Kept { app: AppId::new("k", 3), reason: KeptReason::TooRecent, why: "made just now".into() };
        Sweep { orphans: rows(), kept: vec![kept] }
    }

    fn written(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn allocate() {
        assert_snapshot!("allocate_human", written(|out| human::outcomes(out, &outcomes())));
        assert_snapshot!("allocate_plain", written(|out| human::plain_outcomes(out, &outcomes())));
        assert_snapshot!("allocate_env", written(|out| human::env_outcomes(out, &Names::default(), &outcomes()[..1])));
        assert_snapshot!("allocate_json", written(|out| json::outcomes(out, &outcomes())));
        assert_snapshot!("allocate_csv", written(|out| csv::outcomes(out, &outcomes())));
    }

    #[test]
    fn list() {
        let rows = rows();
        let listed: Vec<_> = rows.iter().map(|row| Listed { row, place: None }).collect();
        assert_snapshot!("list_human", written(|out| table::rows(out, PLAIN, now(), &listed, None)));
        let terminal = |listeners| written(|out| table::rows(out, COLOURED, now(), &listed, listeners));
        assert_snapshot!("list_terminal", terminal(None).escape_debug());
        assert_snapshot!("list_json", written(|out| json::rows(out, &listed, None)));
        assert_snapshot!("list_csv", written(|out| csv::rows(out, &listed, None)));
        assert_snapshot!("list_plain", written(|out| csv::plain(out, &listed, None)));

        let listeners = listeners();
        let listeners = Some(&listeners);
        assert_snapshot!("list_probe_human", written(|out| table::rows(out, PLAIN, now(), &listed, listeners)));
        assert_snapshot!("list_probe_terminal", terminal(listeners).escape_debug());
        assert_snapshot!("list_probe_json", written(|out| json::rows(out, &listed, listeners)));
        assert_snapshot!("list_probe_csv", written(|out| csv::rows(out, &listed, listeners)));
        assert_snapshot!("list_probe_plain", written(|out| csv::plain(out, &listed, listeners)));
    }

    #[test]
    fn long_list() {
        let rows = rows();
        let places = [
            (State::Allocated, Some("generated/apps/openai_gpt-4.1/app1")),
            (State::Reserved, Some("a\u{1b}b")),
            (State::Orphaned, None),
        ];
        let place = |(state, directory): (_, Option<&str>)| Place { state, directory: directory.map(str::to_owned) };
        let listed: Vec<_> =
            rows.iter().zip(places).map(|(row, seen)| Listed { row, place: Some(place(seen)) }).collect();
        assert_snapshot!("list_long_human", written(|out| table::rows(out, PLAIN, now(), &listed, None)));
        assert_snapshot!("list_long_json", written(|out| json::rows(out, &listed, None)));
        assert_snapshot!("list_long_csv", written(|out| csv::rows(out, &listed, Some(&listeners()))));
        assert_snapshot!("list_long_plain", written(|out| csv::plain(out, &listed, None)));
    }

    /// Rows that need much room: a long name; wide, combining and right-to-left characters; great numbers.
    fn wide_rows() -> Vec<Allocation> {
        let names = ["deepseek_deepseek-r1-0528-qwen3-8b:free", "模型_千问-三", "Cafe\u{301}_e\u{301}", "דגם_אחד", "b"];
        let mut rows: Vec<_> = names
            .into_iter()
            .zip(0..)
            .map(|(name, id)| {
                let app = AppId::new(name, 10_i64.pow(id as u32));
                let available = Allocation { is_available: true, metadata: None, ..rows().remove(0) };
                Allocation { id, app, backend_port: 5001 + 2 * id, frontend_port: 8001 + 2 * id, ..available }
            })
            .collect();
        rows[1].metadata = Some(r#"{"reserved_until":"2026-01-05T05:00:00Z"}"#.into());
        rows
    }

    #[test]
    fn no_line_of_a_list_is_wider_than_the_terminal() {
        let mut rows = wide_rows();
        let listeners = listeners();
        let shown = |rows: &[Allocation], width, listeners| {
            let look = Look { is_terminal: true, has_colour: false, width: Some(width) };
            let listed: Vec<_> = rows.iter().map(|row| Listed { row, place: None }).collect();
            let shown = written(|out| table::rows(out, look, now(), &listed, listeners));
            let table = shown.lines().take_while(|line| !line.is_empty());
            let widths: std::collections::BTreeSet<_> = table.map(crate::core::fit::columns).collect();
            assert!(widths.len() == 1 && *widths.last().unwrap() <= width, "{width}: {widths:?}\n{shown}");
            shown
        };
        for width in [60, 80, 200] {
            assert_snapshot!(format!("list_{width}"), shown(&rows, width, None));
            assert_snapshot!(format!("list_probe_{width}"), shown(&rows, width, Some(&listeners)));
        }
        // Values that other programs wrote may have any length.
        let changes: [fn(&mut Allocation); 6] = [
            |_| {},
            |row| row.app.app_num = i64::MIN,
            |row| row.app.model = "模".repeat(200),
            |row| row.backend_port = i64::MIN,
            |row| row.frontend_port = i64::MIN,
            |row| row.is_available = false,
        ];
        for change in changes {
            change(&mut rows[0]);
            for width in 60..=200 {
                shown(&rows, width, None);
                shown(&rows, width, Some(&listeners));
            }
        }
    }

    #[test]
    fn check() {
        let (findings, rows) = (findings(), rows());
        let examined = Examined { allocations: 3, directories: 1, files: 2 };
        let report = Report { findings: &findings, rows: &rows, listeners: None, examined };
        assert_snapshot!("check_human", written(|out| check::report(out, PLAIN, &report, false)));
        let terminal = written(|out| check::report(out, COLOURED, &report, false));
        assert_snapshot!("check_terminal", terminal.escape_debug());
        assert_snapshot!("check_json", written(|out| json::check(out, false, &report)));
        let apps_dir = Path::new("./generated/apps");
        assert_snapshot!("check_github", written(|out| github::annotations(out, apps_dir, &report)));
        assert_snapshot!("check_github_summary", github::summary(apps_dir, &report, github::SUMMARY_MAX));
    }

    #[test]
    fn cleanup() {
        assert_snapshot!("cleanup_human", written(|out| human::cleanup(out, PLAIN, false, &sweep())));
        assert_snapshot!("cleanup_human_dry_run", written(|out| human::cleanup(out, PLAIN, true, &sweep())));
        assert_snapshot!("cleanup_json", written(|out| json::cleanup(out, true, &sweep())));
    }

    #[test]
    fn migrate() {
        let [app, backend, frontend] = UniqueIndex::ALL;
        let work = Migration {
            added: vec![app, frontend],
            replaced: vec![backend],
            copy: Some("data/a\u{1b}.db.before-migrate-20260102T030405Z".into()),
            ..Migration::default()
        };
        let stopped = Migration { obstacles: findings()[..1].to_vec(), ..Migration::default() };
        let human = |look, dry_run, migration: &Migration| {
            written(|out| human::migration(out, look, dry_run, "data/a\u{1b}.db", migration))
        };
        assert_snapshot!("migrate_human", human(PLAIN, false, &work));
        assert_snapshot!("migrate_human_dry_run", human(PLAIN, true, &work));
        assert_snapshot!("migrate_human_conflict", human(PLAIN, true, &stopped));
        assert_snapshot!("migrate_human_nothing", human(PLAIN, true, &Migration::default()));
        assert_snapshot!("migrate_json", written(|out| json::migration(out, false, &work)));
        assert_snapshot!("migrate_json_conflict", written(|out| json::migration(out, true, &stopped)));
        let narrow = Look { is_terminal: true, has_colour: false, width: Some(60) };
        for migration in [&work, &stopped] {
            let shown = human(narrow, false, migration);
            assert!(shown.lines().all(|line| crate::core::fit::columns(line) <= 60), "{shown}");
        }
    }

    #[test]
    fn release() {
        let missing = AppId::new("m", 9);
        assert_snapshot!("release_human", written(|out| human::released(out, PLAIN, false, &rows(), &[&missing])));
        assert_snapshot!("release_json", written(|out| json::released(out, false, &rows(), &[&missing])));
    }

    #[test]
    fn what_head_leaves_unread_is_written_to_nobody() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }
        let mut pipe = Pipe::new(Closed);
        assert!(pipe.write_all(b"a line\n").is_ok() && pipe.flush().is_ok());
    }
}
