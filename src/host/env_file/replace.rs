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
/// Fails when the file cannot be made, or stands there and its folder cannot be synced.
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

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::time::SystemTime;

    use rustix::fs::{FileType, Mode, mknodat};

    use super::*;

    /// A folder with one file.
    struct World {
        root: tempfile::TempDir,
        place: Place,
        file: File,
    }

    impl World {
        fn new(content: &str) -> Self {
            let root = tempfile::tempdir().unwrap();
            let place = Place::of(&root.path().join(".env")).unwrap();
            fs::write(place.path(), content).unwrap();
            let file = place.open().unwrap().unwrap();
            Self { root, place, file }
        }

        fn append(&self, line: &str) {
            let mut file = OpenOptions::new().append(true).open(self.place.path()).unwrap();
            file.write_all(line.as_bytes()).unwrap();
        }

        fn text(&self) -> String {
            fs::read_to_string(self.place.path()).unwrap()
        }

        fn names(&self) -> usize {
            fs::read_dir(self.root.path()).unwrap().count()
        }

        fn replace(&self, edit: &dyn Fn(&[u8]) -> Result<Vec<u8>>) -> Replaced {
            replace(&self.place, &self.file, &read_all(&self.file).unwrap(), edit, Sync::Before).unwrap()
        }

        /// Returns the file's content and the new one, as they are before the replacement.
        fn latest(&self, edit: &dyn Fn(&[u8])) -> Option<(String, String)> {
            let read = read_all(&self.file).unwrap();
            let mut new = nameless(&self.place, 0o600).unwrap().unwrap();
            let edited = |content: &[u8]| {
                edit(content);
                Ok(edited(content))
            };
            let found = fill_with_latest(&mut new, &self.file, &read, &edited, Sync::After).unwrap()?;
            assert_eq!(read_all(&new).unwrap(), found.1);
            Some((String::from_utf8(found.0).unwrap(), String::from_utf8(found.1).unwrap()))
        }
    }

    fn edited(content: &[u8]) -> Vec<u8> {
        content.to_ascii_lowercase()
    }

    #[test]
    fn lines_that_come_while_a_file_is_edited_are_edited_too() {
        let calls = Cell::new(0);
        let world = World::new("A=1\n");
        let found = world.latest(&|_| calls.set(calls.get() + 1));
        assert_eq!((found, calls.get()), (Some(("A=1\n".into(), "a=1\n".into())), 1));
        let found = world.latest(&|content| {
            if content == b"A=1\n" {
                world.append("B=2\n");
            }
        });
        assert_eq!(found, Some(("A=1\nB=2\n".into(), "a=1\nb=2\n".into())));
        // Another program that never stops does not keep the file from being replaced.
        let (content, written) = world.latest(&|_| world.append("C=3\n")).unwrap();
        assert!(written == content.to_ascii_lowercase() && read_all(&world.file).unwrap().len() > content.len());
        assert!(world.latest(&|_| fs::write(world.place.path(), "D=4\n").unwrap()).is_none());
    }

    #[test]
    fn a_line_without_an_end_is_unfinished_for_a_moment() {
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        for (content, expected) in [("A=1", true), ("A=1\n", false), ("", false)] {
            let world = World::new(content);
            // On a busy machine the moment may be over before it is looked at.
            loop {
                let start = Instant::now();
                world.file.set_modified(SystemTime::now()).unwrap();
                let found = is_unfinished(&world.file, content.as_bytes());
                if start.elapsed() < QUIET {
                    assert_eq!(found, expected, "{content:?}");
                    break;
                }
            }
            world.file.set_modified(long_ago).unwrap();
            assert!(!is_unfinished(&world.file, content.as_bytes()));
        }
    }

    #[test]
    fn what_others_do_during_a_replacement_is_not_lost() {
        // The rights that the file gets meanwhile are those of the new file.
        let world = World::new("A=1\n");
        let chmod = |content: &[u8]| {
            world.file.set_permissions(Permissions::from_mode(0o604)).unwrap();
            Ok(edited(content))
        };
        assert!(matches!(world.replace(&chmod), Replaced::Yes));
        assert_eq!((world.text().as_str(), world.names()), ("a=1\n", 1));
        assert_eq!(fs::metadata(world.place.path()).unwrap().mode() & 0o7777, 0o604);
        assert!(!world.place.holds(&world.file));

        let world = World::new("A=1\n");
        let removed = |content: &[u8]| {
            fs::remove_file(world.place.path()).unwrap();
            Ok(edited(content))
        };
        assert!(matches!(world.replace(&removed), Replaced::Changed));
        assert_eq!(world.names(), 0);

        // A file that another program put there stays.
        let world = World::new("A=1\n");
        let beside = beside(&world.place).unwrap();
        fs::write(&beside, "new").unwrap();
        let new = File::open(&beside).unwrap();
        fs::write(world.root.path().join("theirs"), "theirs").unwrap();
        fs::rename(world.root.path().join("theirs"), world.place.path()).unwrap();
        assert!(!exchange(&world.place, &beside, &world.file, &new, Sync::After).unwrap());
        assert_eq!((world.text().as_str(), world.names()), ("theirs", 1));
    }

    #[test]
    fn lines_that_come_after_the_replacement_are_brought_over() {
        let after = |added: &dyn Fn(&World)| {
            let world = World::new("A=1\n");
            let mut new = nameless(&world.place, 0o600).unwrap().unwrap();
            let watch = Watch::on(&world.file);
            new.write_all(b"a=1\n").unwrap();
            added(&world);
            let start = Instant::now();
            let end = bring_over(&world.file, &mut new, b"A=1\n".to_vec(), b"a=1\n".to_vec(), &watch).unwrap();
            let took = start.elapsed();
            (end, String::from_utf8(read_all(&new).unwrap()).unwrap(), took)
        };
        assert!(matches!(after(&|_| {}), (Replaced::Yes, new, _) if new == "a=1\n"));
        assert!(matches!(after(&|world| world.append("B=2\n")), (Replaced::Yes, new, _) if new == "a=1\nB=2\n"));
        // Whoever has opened the file meanwhile may write to it a moment later.
        let (end, _, took) = after(&|world| drop(File::open(world.place.path()).unwrap()));
        assert!(matches!(end, Replaced::Yes) && took >= QUIET);
        let (end, new, _) = after(&|world| fs::write(world.place.path(), "C=3\n").unwrap());
        let Replaced::Overtaken { written, theirs } = end else { panic!("{new}") };
        assert_eq!((written.as_slice(), theirs.as_slice(), new.as_str()), (&b"a=1\n"[..], &b"C=3\n"[..], "a=1\n"));
    }

    #[test]
    fn what_a_killed_call_left_is_removed_and_nothing_else() {
        let world = World::new("A=1\n");
        let path = beside(&world.place).unwrap();
        let remove = || {
            remove_leftover(&world.place, &world.file);
            fs::symlink_metadata(&path).is_err()
        };
        fs::write(&path, "").unwrap();
        assert!(remove());
        fs::write(&path, "").unwrap();
        let running = File::open(&path).unwrap();
        assert_eq!(ask(&running), Lock::Had);
        assert!(!remove(), "a call that has it locked still needs it");
        drop(running);
        assert!(remove());
        symlink(".env", &path).unwrap();
        assert!(!remove());
        fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).unwrap();
        assert!(!remove());
        assert_eq!(world.text(), "A=1\n");
    }

    #[test]
    fn a_name_that_gets_too_long_is_none() {
        let root = tempfile::tempdir().unwrap();
        let longest = 255 - SUFFIX.len();
        for (length, expected) in [(longest, true), (longest + 1, false)] {
            let place = Place::of(&root.path().join("x".repeat(length))).unwrap();
            assert_eq!(beside(&place).is_some(), expected);
        }
    }

    #[test]
    fn where_a_file_without_a_name_is_impossible_an_empty_one_is_made() {
        let world = World::new("A=1\n");
        assert!(!create_empty(&world.place).unwrap());
        assert_eq!(world.text(), "A=1\n");
        fs::remove_file(world.place.path()).unwrap();
        assert!(!create_empty(&world.place).unwrap());
        assert_eq!(world.text(), "");
        let World { root, place, .. } = world;
        drop(root);
        assert!(nameless(&place, 0o600).unwrap().is_none());
        assert!(create_empty(&place).is_err());
        for (code, expected) in [(Errno::NOSPC, true), (Errno::MFILE, true), (Errno::NOTSUP, false)] {
            assert_eq!(is_exhausted(&code.into()), expected, "{code}");
        }
    }
}
