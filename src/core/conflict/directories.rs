//! Rows without a directory, and directories without a row.

use std::collections::BTreeSet;

use super::finding::{Finding, Kind, about};
use super::snapshot::Snapshot;
use crate::core::allocation::State;
use crate::core::app::Presence;
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::AppsDirView;
use crate::core::text::Shown;

/// Rows without a directory, directories without a row, and what could not be read.
pub(super) fn directories(snapshot: &Snapshot<'_>, view: &AppsDirView, findings: &mut Vec<Finding>) {
    for (row, presence) in snapshot.rows.iter().zip(&view.presence) {
        if let Presence::Unreadable(why) = presence {
            let message = format!("The directory of {} could not be read: {}", row.app, Shown(why));
            findings.push(about(Kind::Unreadable, message, row));
        } else if row.state(snapshot.now, presence) == State::Orphaned {
            let message = format!("{} has no directory {}", row.app, Shown(&AppFolder::of(&row.app).path()));
            findings.push(about(Kind::Orphaned, message, row));
            for (port, listener) in snapshot.listeners.iter().flat_map(|listeners| listeners.of(row)) {
                findings.push(Finding {
                    kind: Kind::OrphanListening,
                    message: format!(
                        "Port {port} of {}, whose directory is gone, is listened on by {listener}",
                        row.app
                    ),
                    ports: vec![port.into()],
                    apps: vec![row.app.clone()],
                    file: None,
                });
            }
        }
    }
    let allocated: BTreeSet<_> = snapshot.rows.iter().map(|row| AppFolder::of(&row.app)).collect();
    for folder in view.found.iter().filter(|found| !allocated.contains(*found)) {
        let app = folder.app();
        let (kind, message, apps) = match folder.check() {
            Ok(()) => (Kind::UnallocatedApp, format!("Directory {app} has no allocation"), vec![app]),
            Err(why) => (Kind::MisnamedDirectory, format!("Directory {app} is no app's: {}", Shown(&why)), Vec::new()),
        };
        findings.push(Finding { kind, message, ports: Vec::new(), apps, file: None });
    }
    for (path, why) in &view.unreadable {
        let message = format!("{} could not be read: {}", Shown(path), Shown(why));
        findings.push(Finding { kind: Kind::Unreadable, message, ports: Vec::new(), apps: Vec::new(), file: None });
    }
}
