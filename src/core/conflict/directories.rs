//! This file finds rows without a directory, and directories without a row.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, Kind, about};
use super::snapshot::Snapshot;
use crate::core::allocation::State;
use crate::core::app::Presence;
use crate::core::app_folder::AppFolder;
use crate::core::apps_dir::{AppsDirView, FoundFolder};
use crate::core::text::{Shown, listed};

/// Adds findings for rows without a directory, directories without a row, and paths that could not be read.
pub(super) fn directories(snapshot: &Snapshot<'_>, view: &AppsDirView, findings: &mut Vec<Finding>) {
    for (row, presence) in snapshot.rows.iter().zip(&view.presence) {
        if let Presence::Unreadable(why) = presence {
            let message = format!("The directory of {} could not be read: {}", row.app, Shown(why));
            findings.push(about(Kind::Unreadable, message, row));
        } else if row.state(snapshot.now, presence) == State::Orphaned {
            let message = format!("{} has no directory {}", row.app, Shown(&AppFolder::of(&row.app).path()));
            findings.push(about(Kind::Orphaned, message, row));
            // Several processes may share a port, such as a server and its workers.
            let mut users = BTreeMap::<_, Vec<_>>::new();
            for (port, listener) in snapshot.listeners.iter().flat_map(|listeners| listeners.of(row)) {
                users.entry(port).or_default().push(listener.use_of_port());
            }
            for (port, users) in users {
                let users = listed(&users, users.len());
                let message = format!("Port {port} of {}, whose directory is gone, is {users}", row.app);
                let ports = vec![port.into()];
                findings.push(Finding { ports, ..about(Kind::OrphanListening, message, row) });
            }
        }
    }
    let allocated: BTreeSet<_> = snapshot.rows.iter().map(|row| AppFolder::of(&row.app)).collect();
    for FoundFolder { folder, path } in view.found.iter().filter(|found| !allocated.contains(&found.folder)) {
        let path = Shown(path);
        let (kind, message, apps) = match folder.check() {
            Ok(()) => (Kind::UnallocatedApp, format!("Directory {path} has no allocation"), vec![folder.app()]),
            Err(why) => (Kind::MisnamedDirectory, format!("Directory {path} is no app's: {}", Shown(&why)), Vec::new()),
        };
        findings.push(Finding { apps, ..Finding::new(kind, message) });
    }
    for (path, why) in &view.unreadable {
        let message = format!("{} could not be read: {}", Shown(path), Shown(why));
        findings.push(Finding::new(Kind::Unreadable, message));
    }
}
