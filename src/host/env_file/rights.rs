//! This file copies what a file has besides its bytes and names: owner, group, mode, ACL, extended attributes
//! and flags.

use std::fs::{File, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};

use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
use rustix::io::Errno;

/// The POSIX ACL of a file, see `acl(5)`; file systems need not list it among the attributes.
const ACL: &[u8] = b"system.posix_acl_access";

/// Attributes that the kernel computes from the content, see `evmctl(1)`. Those of another file must not be
/// copied.
const COMPUTED: [&[u8]; 2] = [b"security.ima", b"security.evm"];

/// The longest list of names and the longest value, see `xattr(7)`.
const MAX_XATTR: usize = 64 << 10;

/// Owner, group, mode, ACL, extended attributes and flags of a file, as far as this user can see them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rights {
    owner: u32,
    group: u32,
    mode: u32,
    /// Names and values, sorted; those that the kernel computes are left out.
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether there are attributes that the kernel computes from the content.
    has_computed: bool,
    /// The flags that `chattr(1)` sets.
    flags: Option<u32>,
}

impl Rights {
    /// Reads a file's rights.
    ///
    /// # Errors
    ///
    /// Fails when some of them cannot be read.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let metadata = file.metadata()?;
        let (computed, names): (Vec<_>, Vec<_>) =
            names(file)?.into_iter().partition(|name| COMPUTED.contains(&name.as_slice()));
        let mut attributes = Vec::with_capacity(names.len());
        for name in names {
            if let Some(value) = value(file, &name)? {
                attributes.push((name, value));
            }
        }
        Ok(Self {
            owner: metadata.uid(),
            group: metadata.gid(),
            mode: metadata.mode() & 0o7777,
            attributes,
            has_computed: !computed.is_empty(),
            flags: flags(file),
        })
    }

    /// Gives a file these rights, and tells whether it then has them all. Not every user may give a file
    /// away, and not every file system supports every attribute.
    ///
    /// # Errors
    ///
    /// Fails when the rights cannot be set or read.
    pub(super) fn give(&self, file: &File) -> io::Result<bool> {
        if self.has_computed {
            return Ok(false);
        }
        let own = Self::of(file)?;
        if own == *self {
            return Ok(true);
        }
        // The order matters: a change of the owner clears set-user-ID bits, and a change of the mode changes
        // the ACL's mask.
        if (own.owner, own.group) != (self.owner, self.group) {
            fchown(file, Some(self.owner), Some(self.group))?;
        }
        for (name, _) in own.attributes.iter().filter(|(name, _)| self.value(name).is_none()) {
            fremovexattr(file, name.as_slice())?;
        }
        file.set_permissions(Permissions::from_mode(self.mode))?;
        for (name, value) in &self.attributes {
            if own.value(name) != Some(value) || name == ACL {
                fsetxattr(file, name.as_slice(), value, XattrFlags::empty())?;
            }
        }
        Ok(Self::of(file)? == *self)
    }

    fn value(&self, name: &[u8]) -> Option<&Vec<u8>> {
        self.attributes.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }
}

/// Returns the names of a file's attributes, sorted, with the ACL's whether or not there is one.
fn names(file: &File) -> io::Result<Vec<Vec<u8>>> {
    let mut list = vec![0; MAX_XATTR];
    let length = match flistxattr(file, list.as_mut_slice()) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => 0,
        Err(err) => return Err(err.into()),
    };
    let listed = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    let mut names: Vec<_> = listed.chain([ACL]).map(<[u8]>::to_vec).collect();
    names.sort();
    names.dedup();
    Ok(names)
}

/// Returns the value of an attribute, or `None` if there is none.
fn value(file: &File, name: &[u8]) -> io::Result<Option<Vec<u8>>> {
    let mut value = vec![0; MAX_XATTR];
    match fgetxattr(file, name, value.as_mut_slice()) {
        Ok(length) => {
            value.truncate(length);
            Ok(Some(value))
        }
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(err) => Err(err.into()),
    }
}

/// Returns the flags of a file that a user can set, or `None` if the file system has none.
#[cfg(target_os = "linux")]
fn flags(file: &File) -> Option<u32> {
    // How a file system stores a file is its own affair: extents, inline data, an index, huge file.
    const STORAGE: u32 = 0x8_0000 | 0x1000_0000 | 0x1000 | 0x4_0000;
    rustix::fs::ioctl_getflags(file).ok().map(|flags| flags.bits() & !STORAGE)
}

#[cfg(not(target_os = "linux"))]
fn flags(_: &File) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sets an attribute, or says that the file system has none.
    fn set(file: &File, name: &str, value: &[u8]) -> bool {
        let result = fsetxattr(file, name, value, XattrFlags::empty());
        if let Err(err) = &result {
            println!("not run: what stays of {name}: {err}");
        }
        result.is_ok()
    }

    fn new() -> File {
        tempfile::tempfile().unwrap()
    }

    #[test]
    fn a_file_gets_the_mode_and_the_attributes_of_another_and_loses_its_own() {
        let (old, file) = (new(), new());
        if let Err(err) = fchown(&old, Some(12345), Some(12346)) {
            println!("not run: what stays of owner and group: {err}");
        }
        old.set_permissions(Permissions::from_mode(0o2604)).unwrap();
        if set(&old, "user.both", b"1") {
            set(&old, "user.empty", b"");
            set(&old, "user.long", &[7; 3000]);
            set(&file, "user.both", b"other");
            set(&file, "user.mine", b"1");
        }
        let rights = Rights::of(&old).unwrap();
        assert_eq!(rights.mode, 0o2604);
        assert!(rights != Rights::of(&file).unwrap());
        assert!(rights.give(&file).unwrap());
        assert_eq!(Rights::of(&file).unwrap(), rights);
        assert!(rights.give(&file).unwrap(), "it has them already");
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o2604);
        if rights.value(b"user.both").is_some() {
            let found: Vec<_> = rights.attributes.iter().filter(|(name, _)| name.starts_with(b"user.")).collect();
            assert_eq!(found.iter().map(|(_, value)| value.len()).collect::<Vec<_>>(), [1, 0, 3000]);
            assert_eq!(value(&file, b"user.both").unwrap(), Some(b"1".to_vec()));
            assert_eq!(value(&file, b"user.mine").unwrap(), None);
        }
    }

    #[test]
    fn attributes_that_the_kernel_computes_cannot_be_given() {
        let file = new();
        let rights = Rights::of(&file).unwrap();
        assert!(!rights.has_computed && rights.give(&file).unwrap());
        assert!(!Rights { has_computed: true, ..rights }.give(&file).unwrap());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_file_with_other_flags_has_other_rights() {
        use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};

        let (old, file) = (new(), new());
        let result = ioctl_getflags(&old).and_then(|flags| {
            ioctl_setflags(&old, flags | IFlags::NODUMP)?;
            Ok(flags)
        });
        let Ok(flags) = result else {
            println!("not run: a_file_with_other_flags_has_other_rights: this file system has none");
            return;
        };
        let rights = Rights::of(&old).unwrap();
        // All but those for extents, inline data, an index and a huge file.
        assert_eq!(rights.flags, Some((flags | IFlags::NODUMP).bits() & !0x100c_1000));
        assert!(!rights.give(&file).unwrap());
    }
}
