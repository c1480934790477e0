//! This file watches whether other programs open or change a file while it is being replaced.
//!
//! A program that opened a file before the replacement may write to it afterwards, when the file has no name
//! any more. If nobody opened the file during the replacement, there is nothing to wait for.

use std::fs::File;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

/// A watch on one file, see `inotify(7)`. It holds `None` if the system has no more watches.
pub(super) struct Watch(Option<OwnedFd>);

impl Watch {
    /// Watches a file from now on.
    pub(super) fn on(file: &File) -> Self {
        let watch = || {
            let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok()?;
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            add_watch(&queue, path, WatchFlags::OPEN | WatchFlags::MODIFY).ok()?;
            Some(queue)
        };
        Self(watch())
    }

    /// Tells whether the watch could not be set up, so that it sees nothing.
    pub(super) fn is_blind(&self) -> bool {
        self.0.is_none()
    }

    /// Tells whether another program has opened or changed the file since the last call.
    pub(super) fn saw_others(&self) -> bool {
        let Some(queue) = &self.0 else { return false };
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(queue, &mut buffer);
        let mut has_seen = false;
        while reader.next().is_ok() {
            has_seen = true;
        }
        has_seen
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn others_are_seen_when_they_open_or_change_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut writer = file.reopen().unwrap();
        let watch = Watch::on(file.as_file());
        assert!(!watch.is_blind());
        assert!(!watch.saw_others());
        drop(file.reopen().unwrap());
        assert!(watch.saw_others());
        assert!(!watch.saw_others());
        writer.write_all(b"A=1").unwrap();
        assert!(watch.saw_others());
    }

    #[test]
    fn without_a_watch_nothing_is_seen() {
        assert!(Watch(None).is_blind() && !Watch(None).saw_others());
    }
}
