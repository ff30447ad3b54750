//! The level `full`: a root folder put together from read-only views, no network, process 1 of its own.
//!
//! An ordinary user gets the rights to do this from a user namespace. Root does it as root and becomes `nobody` before
//! entering one, so that both end alike: user 1000 inside, nobody's or the user's own number outside, no capability.

use std::ffi::{CString, OsStr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::rules::drop_to;
use super::{Cell, DEVICES, NOBODY, SYSTEM, done, system};
use crate::error::{Error, Result};
use crate::{fsio, process};

/// The user id inside the namespace.
const INSIDE: u32 = 1000;
const PASSWD: &str = "user:x:1000:1000::/scratch:/bin/sh\n";
const APART: i32 =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWNET | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Comes back as process 1 of the new namespaces, in the new root.
pub(super) fn enter(cell: &Cell) -> Result<()> {
    // SAFETY: these two only read.
    let (uid, gid) = unsafe { (libc::geteuid(), libc::getegid()) };
    // Held on to: the new root has no /proc.
    let own = open(Path::new("/proc/self"), libc::O_PATH | libc::O_DIRECTORY)?;
    if uid == 0 {
        unshare(APART, "own namespaces")?;
        new_root(cell, NOBODY)?;
        drop_to(NOBODY)?;
        unshare(libc::CLONE_NEWUSER, "an own user namespace")?;
        map(&own, NOBODY, NOBODY)?;
    } else {
        unshare(APART | libc::CLONE_NEWUSER, "own namespaces")?;
        map(&own, uid, gid)?;
        new_root(cell, INSIDE)?;
    }
    drop(own);
    process::go_on_in_child()
}

fn unshare(flags: i32, what: &str) -> Result<()> {
    // SAFETY: no memory is involved.
    done(unsafe { libc::unshare(flags) }, what)
}

fn map(own: &OwnedFd, uid: u32, gid: u32) -> Result<()> {
    for (file, text) in [
        ("setgroups", "deny".to_string()),
        ("uid_map", format!("{INSIDE} {uid} 1")),
        ("gid_map", format!("{INSIDE} {gid} 1")),
    ] {
        let name = c_string(file)?;
        // SAFETY: the name ends with a zero and outlives the call.
        let fd = unsafe { libc::openat(own.as_raw_fd(), name.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC) };
        done(fd, file)?;
        // SAFETY: just opened, and owned by nobody else.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        write(&fd, text.as_bytes(), file)?;
    }
    Ok(())
}

/// Mounts the new root and moves there. `owner` is the scratch folder's, as this user namespace counts.
fn new_root(cell: &Cell, owner: u32) -> Result<()> {
    // Nothing done here is to be seen outside.
    mount(None, Path::new("/"), None, libc::MS_REC | libc::MS_PRIVATE, None)?;
    let root = cell.scratch.as_path();
    let inside = |path: &Path| root.join(path.strip_prefix("/").unwrap_or(path));
    let data = |options: String| Some(options);
    mount(None, root, Some("tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, data("size=1m,mode=0755".into()))?;
    let python = cell.visible.iter().map(|path| path.as_path());
    for path in SYSTEM.iter().map(Path::new).chain(python) {
        // A folder within one that is there already needs no mount of its own.
        if !path.exists() || inside(path).exists() {
            continue;
        }
        match std::fs::read_link(path) {
            Ok(target) if path.parent() == Some(Path::new("/")) => link(&target, &inside(path))?,
            _ => show(path, &inside(path), true)?,
        }
    }
    for device in DEVICES.map(Path::new) {
        show(device, &inside(device), false)?;
    }
    show(&cell.harness, &root.join("harness"), true)?;
    fsio::create_dir(&root.join("etc"))?;
    write(&create(&root.join("etc/passwd"))?, PASSWD.as_bytes(), "passwd")?;
    let scratch = root.join("scratch");
    fsio::create_dir(&scratch)?;
    let options = format!("size=64m,nr_inodes=8192,mode=0700,uid={owner},gid={owner}");
    mount(None, &scratch, Some("tmpfs"), libc::MS_NOSUID | libc::MS_NODEV, data(options))?;
    read_only(root, false)?;
    pivot(root)
}

/// A view of a file or folder, with whatever is mounted below it.
fn show(path: &Path, target: &Path, without_devices: bool) -> Result<()> {
    let folder = if path.is_dir() { Some(target) } else { target.parent() };
    if let Some(folder) = folder {
        fsio::create_dir(folder)?;
    }
    if !path.is_dir() {
        create(target)?;
    }
    mount(Some(path), target, None, libc::MS_BIND | libc::MS_REC, None)?;
    if without_devices { read_only(target, true) } else { Ok(()) }
}

/// `struct mount_attr` of mount_setattr(2), which only adds restrictions and reaches mounts below mounts.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

const RDONLY: u64 = 1;
const NOSUID: u64 = 2;
const NODEV: u64 = 4;

fn read_only(target: &Path, with_all_below: bool) -> Result<()> {
    let attributes = MountAttr { set: RDONLY | NOSUID | NODEV, clear: 0, propagation: 0, user_namespace: 0 };
    let path = c_string(target)?;
    let flags = if with_all_below { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: path and attributes outlive the call, and the size is the structure's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            flags,
            &attributes,
            size_of::<MountAttr>(),
        )
    };
    done(result, &format!("a read-only view of {}", target.display()))
}

fn pivot(root: &Path) -> Result<()> {
    let (path, here) = (c_string(root)?, c_string(".")?);
    // SAFETY: the strings outlive the calls. The old root ends up on top of the new one and is taken off it.
    unsafe {
        done(libc::chdir(path.as_ptr()), "the new root")?;
        done(libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()), "the new root")?;
        done(libc::umount2(here.as_ptr(), libc::MNT_DETACH), "the old root")?;
        done(libc::chdir(c"/".as_ptr()), "the new root")
    }
}

fn mount(source: Option<&Path>, target: &Path, kind: Option<&str>, flags: u64, data: Option<String>) -> Result<()> {
    let source = source.map(c_string).transpose()?;
    let kind = kind.map(c_string).transpose()?;
    let data = data.map(c_string).transpose()?;
    let path = c_string(target)?;
    let pointer = |text: &Option<CString>| text.as_ref().map_or(std::ptr::null(), |t| t.as_ptr());
    // SAFETY: every string outlives the call.
    let result = unsafe { libc::mount(pointer(&source), path.as_ptr(), pointer(&kind), flags, pointer(&data).cast()) };
    done(result, &format!("mounting {}", target.display()))
}

fn link(target: &Path, name: &Path) -> Result<()> {
    let (target, name) = (c_string(target)?, c_string(name)?);
    // SAFETY: both strings outlive the call.
    done(unsafe { libc::symlink(target.as_ptr(), name.as_ptr()) }, "a link of the new root")
}

/// A new file of the new root, which is memory that no other process sees.
fn create(path: &Path) -> Result<OwnedFd> {
    open(path, libc::O_WRONLY | libc::O_CREAT)
}

fn open(path: &Path, flags: i32) -> Result<OwnedFd> {
    let name = c_string(path)?;
    // SAFETY: the name outlives the call.
    let fd = unsafe { libc::open(name.as_ptr(), flags | libc::O_CLOEXEC, 0o644) };
    done(fd, &path.display().to_string())?;
    // SAFETY: just opened, and owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn write(fd: &OwnedFd, bytes: &[u8], what: &str) -> Result<()> {
    // SAFETY: the bytes outlive the call.
    let written = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    if usize::try_from(written) == Ok(bytes.len()) { Ok(()) } else { Err(system(what)) }
}

fn c_string(text: impl AsRef<OsStr>) -> Result<CString> {
    CString::new(text.as_ref().as_bytes()).map_err(|_| Error::usage("a path contains a zero byte"))
}
