//! What the fuzz targets share: a folder, and a limit on the time of one input.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tempfile::TempDir;

/// The separator of the parts of an input: a byte that UTF-8 does not have.
pub const SEPARATOR: u8 = 0xff;

/// A text that stands for a password. No message may contain it.
pub const SECRET: &str = "hunter2hunter2";

/// A folder of its own. The fuzzer ends the process without dropping it, so `fuzz/run` removes it.
pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder can be made")
}

/// Returns the parts of an input, as many as there are names, and the path of each in the folder. A missing part
/// has no file.
pub fn write_parts<const N: usize>(folder: &Path, names: [&str; N], input: &[u8]) -> [PathBuf; N] {
    let mut parts = input.splitn(N, |&byte| byte == SEPARATOR);
    names.map(|name| {
        let path = folder.join(name);
        match parts.next() {
            Some(part) => fs::write(&path, part).expect("a file can be written"),
            None => drop(fs::remove_file(&path)),
        }
        path
    })
}

/// Runs `work`, and panics if it took more time of the processor than `limit`.
pub fn within<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
    };
    let start = now();
    let done = work();
    let taken = now() - start;
    assert!(taken <= limit, "took {taken:?}, more than {limit:?}");
    done
}
