//! This file finds the processes that hold a lock for which a call waited in vain, as far as Linux tells.
//!
//! `/proc/locks` has a line for each lock, with the process that took it and the file's device and inode
//! (<https://man7.org/linux/man-pages/man5/proc_locks.5.html>). On some file systems, such as btrfs and
//! overlayfs, its device is not the one that stat(2) returns. So a process is named only if it also has the file
//! open or, where this user may not see what it has open, if device and inode are both the file's. A lock of
//! another PID namespace, and one that belongs to an open file description, has no process there.

use std::collections::BTreeSet;
use std::fs::{self, Metadata};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::core::path::beside;
use crate::core::text::Shown;
use crate::store::error::StoreError;

/// The name in messages of what a writer waits for, and a reader while somebody commits.
pub(super) const WRITER: &str = "another writer to finish";

/// The name in messages of what a commit with a rollback journal waits for.
pub(super) const READERS: &str = "readers to finish";

/// The bytes of a database file on which SQLite takes locks: PENDING, RESERVED and SHARED
/// (<https://www.sqlite.org/src/file/src/os.h>).
const DATABASE_LOCKS: RangeInclusive<u64> = 0x4000_0000..=0x4000_0000 + 511;

/// The bytes of a `-shm` file on which SQLite locks out writers: WRITE, and RECOVER, which also locks out readers
/// (<https://www.sqlite.org/walformat.html#the_shm_file_locking_bytes>).
const LOG_LOCKS: [RangeInclusive<u64>; 2] = [120..=120, 122..=122];

/// A lock on a file, as a line of `/proc/locks` describes it.
#[derive(Debug, PartialEq, Eq)]
struct Lock {
    is_exclusive: bool,
    pid: u32,
    /// The major and the minor number of the device.
    device: (u32, u32),
    inode: u64,
    first: u64,
    last: u64,
}

impl Lock {
    /// Reads a line. Returns `None` for a process that waits, and for a lock without a process.
    fn parse(line: &str) -> Option<Self> {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [_, "POSIX" | "FLOCK", _, access, pid, file, first, last] = *fields else { return None };
        let mut file = file.splitn(3, ':');
        let mut device = || u32::from_str_radix(file.next()?, 16).ok();
        Some(Self {
            is_exclusive: access == "WRITE",
            pid: pid.parse().ok().filter(|&pid| pid != 0)?,
            device: (device()?, device()?),
            inode: file.next()?.parse().ok()?,
            first: first.parse().ok()?,
            last: if last == "EOF" { u64::MAX } else { last.parse().ok()? },
        })
    }

    fn is_within(&self, bytes: &RangeInclusive<u64>) -> bool {
        self.first <= *bytes.end() && self.last >= *bytes.start()
    }
}

/// Adds the processes that hold the lock to the error of a wait for a database's writers or readers that timed
/// out.
pub(super) fn naming_holders(err: StoreError, database: &Path) -> StoreError {
    let StoreError::Locked { what, .. } = &err else { return err };
    let waits_for_readers = what == READERS;
    if what != WRITER && !waits_for_readers {
        return err;
    }
    let found = seen_in_several_reads(|locks| {
        let is_wanted = |lock: &Lock| (lock.is_exclusive || waits_for_readers) && lock.is_within(&DATABASE_LOCKS);
        let mut found = holders(locks, database, is_wanted);
        if !waits_for_readers {
            let is_wanted = |lock: &Lock| lock.is_exclusive && locks_log(lock);
            found.extend(holders(locks, &beside(database, "-shm"), is_wanted));
        }
        found
    });
    err.held_by(&found)
}

fn locks_log(lock: &Lock) -> bool {
    LOG_LOCKS.iter().any(|bytes| lock.is_within(bytes))
}

/// Returns a process that holds an exclusive lock on the lock file of a queue.
pub(super) fn turn_holder(queue: &Path) -> Option<String> {
    seen_in_several_reads(|locks| holders(locks, queue, |lock| lock.is_exclusive)).into_iter().next()
}

/// The fewest and the most times that the table of locks is read. The kernel hands it out a page at a time, so a
/// read may miss a lock while others come and go.
const READS: RangeInclusive<u32> = 3..=10;

/// Returns everything that `find` finds in the table of locks, which is read several times.
fn seen_in_several_reads(find: impl Fn(&[Lock]) -> Vec<String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for read in 1..=*READS.end() {
        let Ok(table) = fs::read_to_string("/proc/locks") else { break };
        seen.extend(find(&table.lines().filter_map(Lock::parse).collect::<Vec<_>>()));
        if read >= *READS.start() && !seen.is_empty() {
            break;
        }
    }
    seen.into_iter().collect()
}

/// Returns the other processes that have a lock of this kind on a file, each with its program and number.
fn holders(locks: &[Lock], path: &Path, is_wanted: impl Fn(&Lock) -> bool) -> Vec<String> {
    let Ok(file) = fs::metadata(path) else { return Vec::new() };
    locks
        .iter()
        .filter(|lock| lock.inode == file.ino() && lock.pid != std::process::id() && is_wanted(lock))
        .filter(|lock| has_open(lock, &file).unwrap_or_else(|| is_same_device(lock, &file)))
        .filter_map(name)
        .collect()
}

/// Tells whether the process of a lock has the file open, if this user may see that.
fn has_open(lock: &Lock, file: &Metadata) -> Option<bool> {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", lock.pid)).ok()?;
    let is_file = |open: Metadata| (open.dev(), open.ino()) == (file.dev(), file.ino());
    Some(descriptors.flatten().any(|descriptor| fs::metadata(descriptor.path()).is_ok_and(is_file)))
}

fn is_same_device(lock: &Lock, file: &Metadata) -> bool {
    lock.device == (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()))
}

/// Names the process of a lock, such as `python3 (pid 1234)`, if it is still there.
fn name(lock: &Lock) -> Option<String> {
    let program = fs::read(format!("/proc/{}/comm", lock.pid)).ok()?;
    let program = String::from_utf8_lossy(program.strip_suffix(b"\n").unwrap_or(&program)).into_owned();
    Some(format!("{} (pid {})", Shown(&program), lock.pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read() {
        let line = "1: POSIX  ADVISORY  WRITE 1234 08:1f:5678 1073741824 1073742335";
        let lock = Lock {
            is_exclusive: true,
            pid: 1234,
            device: (8, 31),
            inode: 5678,
            first: 1_073_741_824,
            last: 1_073_742_335,
        };
        assert_eq!(Lock::parse(line), Some(lock));
        let flock = Lock::parse("22: FLOCK  ADVISORY  READ  7 103:02:9 0 EOF").unwrap();
        assert_eq!((flock.is_exclusive, flock.device, flock.last), (false, (0x103, 2), u64::MAX));
        for other in [
            "1: -> POSIX  ADVISORY  WRITE 1234 08:1f:5678 0 EOF",
            "2: OFDLCK ADVISORY  WRITE -1 08:1f:5678 0 EOF",
            "3: POSIX  ADVISORY  WRITE 0 08:1f:5678 0 EOF",
            "4: LEASE  ACTIVE    READ  12 08:1f:5678 0 EOF",
            "",
        ] {
            assert_eq!(Lock::parse(other), None, "{other}");
        }
    }

    #[test]
    fn only_the_bytes_that_are_waited_for_count() {
        let lock = |first, last| Lock { is_exclusive: true, pid: 1, device: (0, 0), inode: 1, first, last };
        assert!(locks_log(&lock(120, 120)) && locks_log(&lock(121, 127)));
        for (first, last) in [(121, 121), (123, 127), (128, 128)] {
            assert!(!locks_log(&lock(first, last)), "{first}-{last}");
        }
        assert!(lock(0x4000_0001, 0x4000_0001).is_within(&DATABASE_LOCKS));
        assert!(lock(0, u64::MAX).is_within(&DATABASE_LOCKS));
        assert!(!lock(0x4000_0000 + 512, u64::MAX).is_within(&DATABASE_LOCKS));
    }
}
