//! Changes the metrics file, which other processes change and read at the same time.
//!
//! Who changes it holds an exclusive lock on a file beside it, so that no count is lost, and replaces it with
//! `rename(2)`, so that no reader sees a part of it. Nothing is synced to the disk: that would cost a command
//! more than its own work. After a power failure the counters may be older or begin at 0 again, which
//! Prometheus takes for the restart of a counter
//! (<https://prometheus.io/docs/prometheus/latest/querying/functions/#rate>).

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use crate::core::path::folder_of;

/// The longest wait for other commands that change the file. Each of them holds the lock for less than a
/// millisecond, if none was stopped.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(2);

/// The greatest file that is read, in bytes. The counters need three thousand.
const SIZE_MAX: u64 = 1 << 20;

/// The mode of a new file, of which the umask removes some bits.
const MODE: u32 = 0o666;

/// The most symbolic links that are followed, as on Linux: see `path_resolution(7)`.
const LINKS_MAX: usize = 40;

/// Replaces the file's content by what `change` makes of it. A file that is missing counts as empty.
///
/// A new file gets the mode that the umask allows; one that is replaced keeps its mode, and its owner if this
/// user may give it away. A symbolic link is followed.
///
/// # Errors
///
/// Fails when `change` does, or when the file cannot be locked, read or replaced. It then is as it was.
pub(crate) fn update(path: &Path, change: impl FnOnce(Vec<u8>) -> Result<Vec<u8>>) -> Result<()> {
    let place = resolve(path)?;
    let name = place.file_name().filter(|_| !place.as_os_str().as_bytes().ends_with(b"/"));
    let name = name.context("it names a folder")?;
    ensure_regular(&place)?;
    // The collector of node_exporter reads files whose names end in `.prom`; neither of these does.
    let hidden = |suffix: &str| {
        let name: OsString = [".".as_ref(), name, suffix.as_ref()].into_iter().collect();
        folder_of(&place).join(name)
    };
    let _lock = lock(&hidden(".lock"))?;
    let old = ensure_regular(&place)?;
    let content = if old.is_some() { read(&place).context("it cannot be read")? } else { Vec::new() };
    let content = change(content)?;
    let temporary = hidden(".tmp");
    write(&temporary, &content, old.as_ref())
        .and_then(|()| fs::rename(&temporary, &place))
        .inspect_err(|_| drop(fs::remove_file(&temporary)))
        .context("it cannot be replaced")
}

/// Returns the path after all symbolic links of its last part.
fn resolve(path: &Path) -> Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match fs::read_link(&path) {
            Ok(target) => path = folder_of(&path).join(target),
            Err(_) => return Ok(path),
        }
    }
    bail!("it is a link in a circle of links")
}

/// Returns what is at the path, if anything is, and fails if it is not a regular file. Devices, pipes and
/// folders must neither be opened nor replaced.
fn ensure_regular(path: &Path) -> Result<Option<Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(found) => {
            ensure!(found.is_file(), "it is not a regular file");
            Ok(Some(found))
        }
        Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Takes the lock, which ends when the file is closed.
fn lock(path: &Path) -> Result<File> {
    let deadline = Instant::now() + LOCK_WAIT_MAX;
    loop {
        let file = open_lock(path).with_context(|| format!("the lock file {} cannot be opened", path.display()))?;
        ensure!(file.metadata()?.is_file(), "the lock file {} is not a regular file", path.display());
        let Some(file) = lock_until(deadline, file)? else {
            bail!("another process keeps {} locked: waited {} s", path.display(), LOCK_WAIT_MAX.as_secs())
        };
        // If somebody has removed the lock file, others lock another one of this name.
        let locked = file.metadata()?;
        if fs::symlink_metadata(path).is_ok_and(|found| (found.dev(), found.ino()) == (locked.dev(), locked.ino())) {
            return Ok(file);
        }
    }
}

/// Opens the lock file, and creates it if it is missing. A user who may only read it can lock it, too, except
/// on NFS.
fn open_lock(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let open = |options: &mut OpenOptions| options.read(true).mode(MODE).custom_flags(flags).open(path);
    match open(OpenOptions::new().write(true)) {
        Err(err) if err.kind() == io::ErrorKind::NotFound => open(OpenOptions::new().write(true).create(true)),
        Err(err) if err.kind() == io::ErrorKind::PermissionDenied => open(&mut OpenOptions::new()),
        opened => opened,
    }
}

/// Locks the file, and returns `None` when the deadline has passed.
fn lock_until(deadline: Instant, file: File) -> Result<Option<File>> {
    match file.try_lock() {
        Ok(()) => return Ok(Some(file)),
        Err(TryLockError::WouldBlock) => {}
        Err(TryLockError::Error(err)) => return Err(err).context("it cannot be locked"),
    }
    // The kernel gives the lock in order of arrival, but its wait has no timeout, so a thread waits. If the
    // time is over first, the thread ends with the process.
    let (done, locked) = mpsc::channel();
    let wait = move || done.send(file.lock().map(|()| file));
    thread::Builder::new().spawn(wait).context("no thread can wait for its lock")?;
    match locked.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        Ok(file) => Ok(Some(file.context("it cannot be locked")?)),
        Err(_) => Ok(None),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let flags = (OFlags::NONBLOCK | OFlags::NOFOLLOW).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let mut content = Vec::with_capacity(8 << 10);
    file.take(SIZE_MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Writes a new file, with the rights of the old one, to which a name is given only when it is complete. A
/// file that a killed process has left there is replaced.
fn write(path: &Path, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(err),
        _ => {}
    }
    if let Some(file) = nameless(folder_of(path)) {
        fill(&file, content, old)?;
        let open = format!("/proc/self/fd/{}", file.as_raw_fd());
        if linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW).is_ok() {
            return Ok(());
        }
    }
    fill(&OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?, content, old)
}

/// Opens a new file without a name, which vanishes with the process; `None` where that is not possible.
fn nameless(folder: &Path) -> Option<File> {
    let flags = OFlags::TMPFILE.bits().cast_signed();
    OpenOptions::new().write(true).mode(MODE).custom_flags(flags).open(folder).ok()
}

fn fill(mut file: &File, content: &[u8], old: Option<&Metadata>) -> io::Result<()> {
    if let Some(old) = old {
        let new = file.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            // Only some users may do so. To read the file, its mode is what matters to others.
            let _ = fchown(file, Some(old.uid()), Some(old.gid()));
        }
        file.set_permissions(Permissions::from_mode(old.mode() & 0o777))?;
    }
    file.write_all(content)
}
