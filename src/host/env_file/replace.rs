//! This file replaces an env file by a new one that has all rights and attributes of the old one, if that is
//! possible.
//!
//! The new file has no name until it is finished (`O_TMPFILE`, see `open(2)`), so nothing of it stays
//! when the process is killed, and nobody can open it. Then it gets a name beside the old one, the two
//! change places in one step (`RENAME_EXCHANGE`, see `rename(2)`), and the old one is removed. A process
//! that is killed between these steps leaves one file of that name with the old file's rights; the
//! next call removes it, see [`remove_leftover`].

use std::ffi::OsString;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::fs::{
    AtFlags, CWD, OFlags, RenameFlags, StatxAttributes, StatxFlags, linkat, renameat, renameat_with, statx,
};
use rustix::io::Errno;

use super::lock::{Lock, ask};
use super::place::{Place, is_same, read_all};
use super::replaced::{Replaced, Sync};
use super::rights::Rights;
use super::watch::Watch;

/// The suffix of the new file's name while the two files change places.
const SUFFIX: &str = ".manage-ports-new";

/// The most times that the new file is made again because the old one changed meanwhile.
const LOOKS: usize = 5;

/// If another program had the old file open during the replacement, nobody may have changed the file for this
/// long.
const QUIET: Duration = Duration::from_millis(20);

/// The longest wait for programs that still write to the old file.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// Replaces a file, which is open and locked and was just read, by one with edited content.
///
/// # Errors
///
/// Fails when the new file cannot be written or `edit` refuses lines that were added meanwhile. The old file
/// is then unchanged. Where the folder cannot be synced, the new file stands in its place nevertheless.
pub(super) fn replace(
    place: &Place,
    old: &File,
    read: &[u8],
    edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>,
    sync: Sync,
) -> Result<Replaced> {
    let metadata = old.metadata()?;
    let Some(beside) = beside(place) else { return Ok(Replaced::Not) };
    if metadata.nlink() != 1 || is_mount_point(old) {
        return Ok(Replaced::Not);
    }
    let watch = Watch::on(old);
    let Ok(rights) = Rights::of(old) else { return Ok(Replaced::Not) };
    let Some(mut new) = nameless(place, 0o600)? else { return Ok(Replaced::Not) };
    if !rights.give(&new).unwrap_or(false) {
        return Ok(Replaced::Not);
    }
    // A process that locks the new file waits until no more lines come from the old one.
    ask(&new);
    let Some((content, written)) = fill_with_latest(&mut new, old, read, edit, sync)? else {
        return Ok(Replaced::Changed);
    };
    if !place.holds(old) {
        return Ok(Replaced::Changed);
    }
    if link(&new, &beside).is_err() {
        return Ok(Replaced::Not);
    }
    match exchange(place, &beside, old, &new, sync) {
        Ok(true) => {}
        Ok(false) => return Ok(Replaced::Changed),
        Err(err) => {
            if !is_at(&beside, &new.metadata()?) {
                return Err(err);
            }
            fs::remove_file(&beside)?;
            return Ok(if place.holds(old) { Replaced::Not } else { Replaced::Changed });
        }
    }
    // Another process may have changed the rights at the last moment.
    if let Ok(now) = Rights::of(old)
        && now != rights
    {
        let _ = now.give(&new);
    }
    let replaced = bring_over(old, &mut new, content, written, &watch)?;
    sync_folder(place)?;
    Ok(replaced)
}

/// Fills the new file with the latest content of the old one, edited, and returns both contents. Returns
/// `None` if the old file has changed in another way.
fn fill_with_latest(
    new: &mut File,
    old: &File,
    read: &[u8],
    edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>,
    sync: Sync,
) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
    let mut content = read.to_vec();
    for look in 1.. {
        let written = edit(&content)?;
        fill(new, &written, sync)?;
        let is_unfinished = is_unfinished(old, &content);
        if is_unfinished {
            thread::sleep(QUIET / 4);
        }
        let now = read_all(old)?;
        if !now.starts_with(&content) {
            break;
        }
        // Lines that come later are copied after the replacement.
        if look >= LOOKS || now == content && !is_unfinished {
            return Ok(Some((content, written)));
        }
        content = now;
    }
    Ok(None)
}

/// Tells whether a file seems to be in the middle of being written: its last line has no end, and it was
/// changed a moment ago.
fn is_unfinished(file: &File, content: &[u8]) -> bool {
    let is_young = || {
        file.metadata().and_then(|found| found.modified()).is_ok_and(|time| time.elapsed().is_ok_and(|age| age < QUIET))
    };
    !content.is_empty() && !content.ends_with(b"\n") && is_young()
}

/// Creates a file that does not exist yet. Returns false if somebody else created it first.
///
/// # Errors
///
/// Fails when the file cannot be made.
pub(super) fn create(place: &Place, content: &[u8]) -> Result<bool> {
    let Some(mut new) = nameless(place, 0o666)? else { return create_empty(place) };
    fill(&mut new, content, Sync::Before)?;
    match link(&new, place.path()) {
        Ok(()) => {
            sync_folder(place)?;
            Ok(true)
        }
        Err(Errno::EXIST) => Ok(false),
        // Without /proc, a file cannot get its first name.
        Err(Errno::NOENT) => create_empty(place),
        Err(err) => Err(err).context("it cannot be made"),
    }
}

/// Creates an empty file, unless it is there. Returns false: the next attempt finds the file and writes to it.
fn create_empty(place: &Place) -> Result<bool> {
    match OpenOptions::new().write(true).create_new(true).open(place.path()) {
        Err(err) if err.kind() != io::ErrorKind::AlreadyExists => Err(err).context("it cannot be made"),
        _ => Ok(false),
    }
}

/// Removes the file that a call left beside this one when it was killed.
pub(super) fn remove_leftover(place: &Place, file: &File) {
    let Some(path) = beside(place) else { return };
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let Ok(left) = OpenOptions::new().read(true).custom_flags(flags).open(&path) else { return };
    let (Ok(opened), Ok(found), Ok(original)) = (left.metadata(), fs::symlink_metadata(&path), file.metadata()) else {
        return;
    };
    // A file of another user is not ours, and a call that is still running has its files locked.
    let is_ours = opened.is_file() && opened.uid() == original.uid() && is_same(&opened, &found);
    if is_ours && ask(&left) == Lock::Had {
        let _ = fs::remove_file(&path);
    }
}

/// Returns the path that the new file has before it takes the old one's place; `None` if that is too long.
fn beside(place: &Place) -> Option<PathBuf> {
    const NAME_MAX: usize = 255;
    let name: OsString = [place.path().file_name()?, SUFFIX.as_ref()].into_iter().collect();
    (name.len() <= NAME_MAX).then(|| place.folder().join(name))
}

/// Tells whether a file is the root of a mount, whose place no other file can take.
fn is_mount_point(file: &File) -> bool {
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::empty());
    found.is_ok_and(|found| found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Opens a new file without a name in the folder; `None` where that is not possible.
fn nameless(place: &Place, mode: u32) -> Result<Option<File>> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(mode).custom_flags((OFlags::TMPFILE | OFlags::APPEND).bits().cast_signed());
    match options.open(place.folder()) {
        Ok(file) => Ok(Some(file)),
        Err(err) if is_exhausted(&err) => Err(err).context("no room for a new file"),
        Err(_) => Ok(None),
    }
}

/// Tells whether a disk is full, a quota used up, or too many files are open.
fn is_exhausted(err: &io::Error) -> bool {
    let code = err.raw_os_error().map(Errno::from_raw_os_error);
    matches!(code, Some(Errno::NOSPC | Errno::DQUOT | Errno::IO | Errno::MFILE | Errno::NFILE))
}

/// Gives a file this content.
fn fill(file: &mut File, content: &[u8], sync: Sync) -> Result<()> {
    let mut write = || {
        file.set_len(0)?;
        file.write_all(content)?;
        if sync == Sync::Before { file.sync_all() } else { Ok(()) }
    };
    write().context("the new content could not be written")
}

/// Gives a file without a name its first name.
fn link(file: &File, path: &Path) -> Result<(), Errno> {
    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)
}

/// Lets the new file take the old one's place, and removes the old one; returns whether the old one was
/// still there. Another one that was put there meanwhile is put back.
fn exchange(place: &Place, beside: &Path, old: &File, new: &File, sync: Sync) -> Result<bool> {
    let swap = || renameat_with(CWD, beside, CWD, place.path(), RenameFlags::EXCHANGE);
    match swap() {
        Ok(()) => {}
        // The file system cannot let two files change places.
        Err(Errno::INVAL | Errno::NOSYS) => {
            ensure!(place.holds(old), "it was replaced");
            new.sync_all()?;
            renameat(CWD, beside, CWD, place.path())?;
            return Ok(true);
        }
        Err(err) => return Err(err.into()),
    }
    let was_there = is_at(beside, &old.metadata()?);
    if was_there {
        if sync == Sync::After {
            new.sync_all()?;
        }
    } else {
        // Another program put a file there at the last moment, and it is put back. Each swap may meet yet
        // another one. If a swap brings back what the swap before it put there, then nobody has, and the file
        // that stands there now is the latest.
        let mut put = new.metadata()?;
        loop {
            let theirs = fs::symlink_metadata(beside)?;
            swap()?;
            if is_at(beside, &put) {
                break;
            }
            put = theirs;
        }
    }
    fs::remove_file(beside)?;
    Ok(was_there)
}

/// Tells whether this file stands at a path.
fn is_at(path: &Path, file: &Metadata) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| is_same(&found, file))
}

/// Makes the names in the folder durable, as far as this user may and the file system can.
fn sync_folder(place: &Place) -> Result<()> {
    match File::open(place.folder()).and_then(|folder| folder.sync_all()) {
        Err(err) if matches!(err.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput) => Ok(()),
        done => done.context("its folder could not be synced"),
    }
}

/// Adds to the new file what others add to the old one, which they may have opened before the replacement.
fn bring_over(
    old: &File,
    new: &mut File,
    mut content: Vec<u8>,
    mut written: Vec<u8>,
    watch: &Watch,
) -> Result<Replaced> {
    let start = Instant::now();
    let mut last_touch = start;
    let mut has_seen = watch.is_blind();
    loop {
        if watch.saw_others() {
            has_seen = true;
            last_touch = Instant::now();
        }
        let now = read_all(old)?;
        if let Some(more) = now.strip_prefix(content.as_slice()).filter(|more| !more.is_empty()) {
            new.write_all(more)?;
            new.sync_all()?;
            written.extend_from_slice(more);
            content.clone_from(&now);
            (has_seen, last_touch) = (true, Instant::now());
        }
        let is_quiet = !has_seen || last_touch.elapsed() >= QUIET;
        if is_quiet || start.elapsed() >= LONGEST_WAIT {
            return Ok(if now == content { Replaced::Yes } else { Replaced::Overtaken { written, theirs: now } });
        }
        thread::sleep(Duration::from_millis(1));
    }
}
