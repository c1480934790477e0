//! What a file has beside its bytes stays when `allocate --env-file` sets ports in it, and nobody can read
//! more than before.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use rustix::fs::{XattrFlags, getxattr, setxattr};
use rustix::io::Errno;

use super::fixture::{Ran, SCHEMA, World, not_run};

const NEW: &str = "SECRET=x\nBACKEND_PORT=5001\nFRONTEND_PORT=8001\n";

/// A user and a group that own nothing here.
const MEMBER: u32 = 65534;
const TEAM: u32 = 4242;

/// A world with `app/.env`, in which m/app1 gets 5001 and 8001.
fn world() -> World {
    let world = World::new();
    world.write("manage-ports.toml", "[ports]\nprobe = false\n");
    world.database(SCHEMA, &[]);
    world.write("app/.env", "SECRET=x\nBACKEND_PORT=1\n");
    world
}

fn set(world: &World) {
    world.line("allocate m 1 --env-file app/.env -q").ok();
    assert_eq!(fs::read_to_string(world.path("app/.env")).unwrap(), NEW);
    only_the_file(world);
}

fn only_the_file(world: &World) {
    let names: Vec<_> = fs::read_dir(world.path("app")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, [".env"]);
}

/// Runs as a member of the team; `None`, and a line that says so, where we may not become one.
fn as_member(world: &World, line: &str) -> Option<Ran> {
    for (path, mode) in [("", 0o777), ("data", 0o777), ("data/ports.db", 0o666)] {
        fs::set_permissions(world.path(path), Permissions::from_mode(mode)).unwrap();
    }
    match world.command().args(line.split_whitespace()).uid(MEMBER).gid(TEAM).output() {
        Ok(output) => Some(output.into()),
        Err(err) => {
            not_run(&format!("{line} as a member of a team: {err}"));
            None
        }
    }
}

/// Owner, group and mode.
pub fn rights(path: &Path) -> (u32, u32, u32) {
    let found = fs::metadata(path).unwrap();
    (found.uid(), found.gid(), found.mode() & 0o7777)
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

/// Sets an attribute, or says which test was not run for want of it.
pub fn set_attribute(path: &Path, name: &str, value: &[u8]) -> bool {
    match setxattr(path, name, value, XattrFlags::empty()) {
        Ok(()) => true,
        Err(err) => {
            not_run(&format!("what stays of {name}: {err}"));
            false
        }
    }
}

pub fn attribute(path: &Path, name: &str) -> Result<Vec<u8>, Errno> {
    let mut value = [0; 1024];
    getxattr(path, name, &mut value[..]).map(|length| value[..length].to_vec())
}

pub const ACL: &str = "system.posix_acl_access";

/// An ACL as `setxattr(2)` takes it: the entries' tag, rights and id, see `linux/posix_acl_xattr.h`.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, rights, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(rights.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// Of a user who may read, a group that may not, and a mask that would let it.
pub fn secret_acl() -> Vec<u8> {
    const NONE: u32 = u32::MAX;
    acl(&[(1, 6, NONE), (2, 4, MEMBER), (4, 0, NONE), (0x10, 6, NONE), (0x20, 0, NONE)])
}

#[test]
fn a_team_keeps_its_file_when_a_member_writes_to_it() {
    let world = world();
    let path = world.path("app/.env");
    if let Err(err) = chown(&path, Some(0), Some(TEAM)) {
        not_run(&format!("a_team_keeps_its_file_when_a_member_writes_to_it: {err}"));
        return;
    }
    fs::set_permissions(&path, Permissions::from_mode(0o660)).unwrap();
    for folder_mode in [0o755, 0o777, 0o1777] {
        fs::write(&path, "SECRET=x\nBACKEND_PORT=1\n").unwrap();
        fs::set_permissions(world.path("app"), Permissions::from_mode(folder_mode)).unwrap();
        let before = (rights(&path), inode(&path));
        let Some(ran) = as_member(&world, "allocate m 1 --env-file app/.env -q") else { return };
        ran.ok();
        assert_eq!(fs::read_to_string(&path).unwrap(), NEW);
        assert_eq!((rights(&path), inode(&path)), before, "it is another user's, so it is changed in place");
        only_the_file(&world);
    }
}

#[test]
fn owner_group_and_mode_stay() {
    let world = world();
    let path = world.path("app/.env");
    for (owner, group, mode) in [(0, 0, 0o640), (MEMBER, TEAM, 0o660), (MEMBER, TEAM, 0o604), (0, TEAM, 0o2070)] {
        fs::write(&path, "SECRET=x\nBACKEND_PORT=1\n").unwrap();
        if let Err(err) = chown(&path, Some(owner), Some(group)) {
            not_run(&format!("owner_group_and_mode_stay: {err}"));
            return;
        }
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        let before = inode(&path);
        set(&world);
        assert_eq!(rights(&path), (owner, group, mode));
        assert_ne!(inode(&path), before, "it is replaced as a whole");
    }
}

#[test]
fn an_acl_stays() {
    let world = world();
    let path = world.path("app/.env");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if !set_attribute(&path, ACL, &secret_acl()) {
        return;
    }
    let before = (rights(&path), inode(&path));
    set(&world);
    assert_eq!(attribute(&path, ACL), Ok(secret_acl()));
    assert_eq!(rights(&path), before.0);
    assert_ne!(inode(&path), before.1, "it is replaced as a whole");
}

#[test]
fn the_folders_default_acl_does_not_open_a_file_that_has_none() {
    let world = world();
    let path = world.path("app/.env");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    if !set_attribute(&world.path("app"), "system.posix_acl_default", &secret_acl()) {
        return;
    }
    set(&world);
    assert_eq!(attribute(&path, ACL), Err(Errno::NODATA));
    assert_eq!(rights(&path).2, 0o600);
    // A new file is as any new file there.
    world.write("app/other", "");
    world.line("allocate m 1 --env-file app/new.env -q").ok();
    let of = |name: &str| (rights(&world.path(name)), attribute(&world.path(name), ACL));
    assert_eq!(of("app/new.env"), of("app/other"));
    assert!(of("app/new.env").1.is_ok());
}

#[test]
fn extended_attributes_stay() {
    let world = world();
    let path = world.path("app/.env");
    let names = ["user.mine", "user.empty", "trusted.mine", "security.mine"];
    let value = |name: &str| if name == "user.empty" { Vec::new() } else { name.as_bytes().repeat(20) };
    let have: Vec<_> = names.into_iter().filter(|name| set_attribute(&path, name, &value(name))).collect();
    let before = inode(&path);
    set(&world);
    for name in have {
        assert_eq!(attribute(&path, name), Ok(value(name)), "{name}");
    }
    assert_ne!(inode(&path), before, "it is replaced as a whole");
}

#[test]
fn flags_stay() {
    let world = world();
    let path = world.path("app/.env");
    let flags = |path: &Path| {
        let file = fs::File::open(path).unwrap();
        rustix::fs::ioctl_getflags(&file)
    };
    let Ok(before) = flags(&path) else {
        not_run("flags_stay: this file system has none");
        return;
    };
    let with_nodump = before | rustix::fs::IFlags::NODUMP;
    rustix::fs::ioctl_setflags(fs::File::open(&path).unwrap(), with_nodump).unwrap();
    set(&world);
    assert_eq!(flags(&path), Ok(with_nodump));
}

#[test]
fn every_name_of_a_file_shows_the_ports() {
    let world = world();
    let path = world.path("app/.env");
    for (old, new) in [
        ("SECRET=x\nBACKEND_PORT=1\n", NEW),
        ("SECRET=x\nBACKEND_PORT=6001\nFRONTEND_PORT=8001\n", NEW),
        ("SECRET=x\n", NEW),
        ("BACKEND_PORT='a long value'\nFRONTEND_PORT=2\nA=1", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\nA=1"),
        ("", "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n"),
    ] {
        fs::write(&path, old).unwrap();
        fs::hard_link(&path, world.path("other")).unwrap();
        world.line("allocate m 1 --env-file app/.env -q").ok();
        for name in ["app/.env", "other"] {
            assert_eq!(fs::read_to_string(world.path(name)).unwrap(), new);
        }
        assert_eq!(fs::metadata(&path).unwrap().nlink(), 2);
        only_the_file(&world);
        fs::remove_file(world.path("other")).unwrap();
    }
}

#[test]
fn a_link_that_leads_to_a_link_stays_and_its_target_is_written() {
    let world = world();
    fs::create_dir(world.path("links")).unwrap();
    symlink("../links/second", world.path("app/first")).unwrap();
    symlink(world.path("app/.env"), world.path("links/second")).unwrap();
    world.line("allocate m 1 --env-file app/first -q").ok();
    assert_eq!(fs::read_to_string(world.path("app/.env")).unwrap(), NEW);
    assert_eq!(fs::read_link(world.path("app/first")).unwrap(), Path::new("../links/second"));
    assert_eq!(fs::read_link(world.path("links/second")).unwrap(), world.path("app/.env"));
}

/// Runs a script with mounts of its own; `None`, and a line that says so, where that is not permitted.
pub fn with_mounts(world: &World, test: &str, script: &str) -> Option<Ran> {
    let in_namespace = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "private", "sh", "-euc", script]).current_dir(world.path(""));
        command.env("MP", env!("CARGO_BIN_EXE_manage-ports")).output()
    };
    let probe = in_namespace("mount -t tmpfs none app");
    if !probe.as_ref().is_ok_and(|output| output.status.success()) {
        not_run(&format!("{test}: no mounts ({probe:?})"));
        return None;
    }
    Some(in_namespace(script).unwrap().into())
}

#[test]
fn a_mounted_file_is_written_in_place() {
    let world = world();
    let script =
        "mount --bind app/.env app/.env; $MP allocate m 1 --env-file app/.env -q; mountpoint -q app/.env; ls -A app";
    let Some(ran) = with_mounts(&world, "a_mounted_file_is_written_in_place", script) else { return };
    ran.is(0, "m/app1: backend 5001, frontend 8001\n.env\n", "");
    assert_eq!(fs::read_to_string(world.path("app/.env")).unwrap(), NEW);
}

#[test]
fn a_read_only_mount_costs_no_ports() {
    let world = world();
    let script = "mount --bind app app; mount -o remount,ro,bind app; $MP allocate m 1 --env-file app/.env; echo no";
    let Some(ran) = with_mounts(&world, "a_read_only_mount_costs_no_ports", script) else { return };
    ran.fails(1, &["app/.env", "cannot be written to", "Read-only", "no ports were given"]);
    let script = "mount --bind app app; mount -o remount,ro,bind app; $MP allocate m 1 --env-file app/new; echo no";
    with_mounts(&world, "a_read_only_mount_costs_no_ports", script).unwrap().fails(1, &["the folder app cannot be"]);
    assert_eq!(world.rows(), []);
}

#[test]
fn on_a_full_disk_the_file_stays_as_it_was() {
    let world = world();
    // What fills the disk leaves no page for a new file, nor for a longer one.
    for link in ["", "ln app/.env app/other;"] {
        let script = format!(
            "mount -t tmpfs -o size=64k none app; head -c 4090 /dev/zero | tr '\\0' A >app/.env; {link}
             cp app/.env before; cat /dev/zero >app/full 2>/dev/null || true; ls -A app >names
             $MP allocate m 1 --env-file app/.env && echo written; code=$?
             cmp before app/.env; ls -A app | cmp - names; exit $code"
        );
        let Some(ran) = with_mounts(&world, "on_a_full_disk_the_file_stays_as_it_was", &script) else { return };
        ran.fails(1, &["env file app/.env", "No space left", "m/app1 has its ports; once this is mended"]);
    }
}

#[test]
fn nobody_can_read_a_file_while_it_is_being_written() {
    let world = world();
    if Command::new("strace").arg("-V").output().is_err() {
        not_run("nobody_can_read_a_file_while_it_is_being_written: no strace");
        return;
    }
    let path = world.path("app/.env");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    let mut traced = Command::new("strace");
    traced.current_dir(world.path("")).env_clear().args(["-f", "-o", "log", "-e", "trace=openat,linkat,fchmod,creat"]);
    traced.arg(env!("CARGO_BIN_EXE_manage-ports")).args(["allocate", "m", "1", "--env-file", "app/.env"]);
    assert!(traced.output().unwrap().status.success());
    let log = fs::read_to_string(world.path("log")).unwrap();
    let mut made =
        log.lines().filter(|line| line.contains("app") && (line.contains("O_CREAT") || line.contains("O_TMPFILE")));
    let nameless = made.next().unwrap();
    assert!(nameless.contains("O_TMPFILE") && nameless.contains("0600"), "{nameless}");
    assert_eq!(made.next(), None);
    let at = |what: &str| log.lines().position(|line| line.contains(what)).unwrap();
    assert!(at("linkat(") > at("O_TMPFILE"));
    assert_eq!(rights(&path).2, 0o600);
}

#[test]
fn a_file_that_this_user_may_not_write_to_costs_no_ports() {
    let world = world();
    let path = world.path("app/.env");
    for (mode, why) in [(0o644, "it cannot be written to"), (0o600, "it cannot be read")] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        // In a folder that everybody may write to, either.
        for folder_mode in [0o755, 0o777] {
            fs::set_permissions(world.path("app"), Permissions::from_mode(folder_mode)).unwrap();
            let Some(ran) = as_member(&world, "allocate m 1 --env-file app/.env") else { return };
            ran.fails(1, &["env file app/.env", why, "Permission denied", "no ports were given"]);
        }
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), "SECRET=x\nBACKEND_PORT=1\n");
    // One that has ports may have the right ones, which is known when they are chosen.
    fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
    fs::write(&path, "BACKEND_PORT=5003\nFRONTEND_PORT=8003\n").unwrap();
    let ran = as_member(&world, "allocate m 1 --env-file app/.env").unwrap();
    ran.fails(1, &["does not hold BACKEND_PORT=5001 and FRONTEND_PORT=8001", "no ports were given"]);
    assert_eq!(world.rows(), []);
    fs::write(&path, "BACKEND_PORT=5001\nFRONTEND_PORT=8001\n").unwrap();
    as_member(&world, "allocate m 1 --env-file app/.env -q").unwrap().ok();
}

#[test]
fn a_folder_without_room_for_names_is_no_obstacle_to_a_file_that_is_there() {
    let world = world();
    let path = world.path("app/.env");
    if let Err(err) = chown(&path, Some(MEMBER), Some(TEAM)) {
        not_run(&format!("a_folder_without_room_for_names: {err}"));
        return;
    }
    // Its owner may write to it, and not to the folder.
    let Some(ran) = as_member(&world, "allocate m 1 --env-file app/.env -q") else { return };
    ran.ok();
    assert_eq!(fs::read_to_string(&path).unwrap(), NEW);
    // A name so long that none fits beside it.
    let long = "x".repeat(250);
    world.write(&format!("app/{long}"), "BACKEND_PORT=1\n");
    world.line(&format!("allocate m 1 --env-file app/{long} -q")).ok();
    assert_eq!(fs::read_to_string(world.path(format!("app/{long}"))).unwrap(), &NEW[9..]);
    assert_eq!(fs::read_dir(world.path("app")).unwrap().collect::<io::Result<Vec<_>>>().unwrap().len(), 2);
}

#[test]
fn what_others_put_beside_the_file_under_the_new_files_name_stays() {
    let world = world();
    let beside = world.path("app/.env.manage-ports-new");
    let set = || {
        fs::write(world.path("app/.env"), "SECRET=x\nBACKEND_PORT=1\n").unwrap();
        world.line("allocate m 1 --env-file app/.env -q").ok();
        assert_eq!(fs::read_to_string(world.path("app/.env")).unwrap(), NEW);
    };
    symlink("../manage-ports.toml", &beside).unwrap();
    set();
    assert!(beside.is_symlink());
    fs::remove_file(&beside).unwrap();
    fs::create_dir(&beside).unwrap();
    set();
    fs::remove_dir(&beside).unwrap();
    fs::write(&beside, "another user's").unwrap();
    if let Err(err) = chown(&beside, Some(MEMBER), None) {
        not_run(&format!("what another user put beside the file: {err}"));
        return;
    }
    set();
    assert_eq!(fs::read_to_string(beside).unwrap(), "another user's");
}
