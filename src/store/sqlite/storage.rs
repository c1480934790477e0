//! This file examines where a database file is stored: the type of its file system, and how many names it
//! has.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::core::path::folder_of;
use crate::store::error::StoreError;

/// The mode of a new file before the umask is applied. The group may write to the file if the umask allows
/// it.
pub(super) const FILE_MODE: u32 = 0o664;

/// The reason why a file has more than one name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SecondName {
    /// It has a second hard link.
    HardLink,
    /// It is itself a mount point, and has another name outside of the mount.
    MountPoint,
}

impl SecondName {
    /// Finds a second name of the file at `path`. Returns `None` if there is no file.
    ///
    /// SQLite keeps its journal beside the name by which it opened the file. A process that opened the file
    /// by another name does not see that journal, and reads and writes an inconsistent database
    /// (<https://www.sqlite.org/howtocorrupt.html#_multiple_links_to_the_same_file>).
    pub(super) fn of(path: &Path) -> io::Result<Option<Self>> {
        match fs::metadata(path) {
            Ok(file) if file.nlink() > 1 => Ok(Some(Self::HardLink)),
            Ok(file) => Ok(is_mount_point(path, &file)?.then_some(Self::MountPoint)),
            Err(err) if err.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(err) => Err(err),
        }
    }

    /// Describes the problem, in words that follow the database's name.
    pub(super) fn describe(self) -> &'static str {
        match self {
            Self::HardLink => "has a second hard link, and SQLite's journal stands beside one name only",
            Self::MountPoint => "is itself a mount point, and SQLite's journal would stand outside of the mount",
        }
    }

    /// Returns advice for the user.
    pub(super) fn hint(self) -> &'static str {
        match self {
            Self::HardLink => "remove one of the links (`find -samefile FILE` names them), or make it a symbolic link",
            Self::MountPoint => "mount the folder that holds the file in place of the file",
        }
    }
}

impl From<SecondName> for StoreError {
    /// Returns the error for a database that must not be written by this name.
    fn from(name: SecondName) -> Self {
        Self::Unusable { why: format!("cannot be written: it {}", name.describe()), hint: Some(name.hint()) }
    }
}

/// Tells whether a file is the root of a mount.
fn is_mount_point(path: &Path, file: &fs::Metadata) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx};
        // Linux reports this since 5.8: https://man7.org/linux/man-pages/man2/statx.2.html
        if let Ok(stat) = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())
            && stat.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        {
            return Ok(stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT));
        }
    }
    Ok(file.dev() != fs::metadata(folder_of(path))?.dev())
}

/// Returns the type of a folder's file system, if other machines or a virtual machine's host may share it.
///
/// SQLite's locks and the shared memory of its log do not work across machines
/// (<https://www.sqlite.org/useovernet.html>).
#[cfg(target_os = "linux")]
pub(super) fn shared_file_system(folder: &Path) -> Option<&'static str> {
    // The numbers are those of statfs(2) and of the file systems' sources in the kernel.
    const TYPES: [(u64, &str); 18] = [
        (0x6969, "NFS"),
        (0x517b, "SMB"),
        (0xff53_4d42, "SMB"),
        (0xfe53_4d42, "SMB"),
        (0x0102_1997, "9p"),
        (0x6573_5546, "FUSE or virtiofs"),
        (0x00c3_6400, "Ceph"),
        (0x5346_414f, "AFS"),
        (0x6b41_4653, "AFS"),
        (0x7375_7245, "Coda"),
        (0x0bd0_0bd0, "Lustre"),
        (0x4750_4653, "GPFS"),
        (0x1983_0326, "BeeGFS"),
        (0x0116_1970, "GFS2"),
        (0x7461_636f, "OCFS2"),
        (0x786f_4256, "VirtualBox shared folder"),
        (0xbacb_acbc, "VMware shared folder"),
        (0x7c7c_6673, "Parallels shared folder"),
    ];
    let system = rustix::fs::statfs(folder).ok()?;
    // The type is a signed word on some machines.
    let number = system.f_type as u64 & 0xffff_ffff;
    TYPES.iter().find(|(known, _)| *known == number).map(|(_, name)| *name)
}

/// Returns `None`, because the type of the file system is not known on this system.
#[cfg(not(target_os = "linux"))]
pub(super) fn shared_file_system(_folder: &Path) -> Option<&'static str> {
    None
}
