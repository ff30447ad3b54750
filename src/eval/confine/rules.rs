//! What holds at both levels: no user 0, Landlock's file rules, seccomp's list of refused system calls.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetStatus,
    path_beneath_rules,
};
use libc::c_long;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Width, SeccompCmpOp as Is, SeccompCondition, SeccompFilter,
    SeccompRule, apply_filter,
};

use super::{Cell, DEVICES, Level, NOBODY, SYSTEM, done};
use crate::error::{Error, Result};

/// Becomes another user for good, in a form that may still write its own user namespace's maps.
pub(super) fn drop_to(user: u32) -> Result<()> {
    // SAFETY: no memory is involved; the list of groups is empty.
    unsafe {
        done(libc::setgroups(0, std::ptr::null()), "leaving the groups")?;
        done(libc::setresgid(user, user, user), "leaving the group")?;
        done(libc::setresuid(user, user, user), "leaving the user")?;
        done(libc::prctl(libc::PR_SET_DUMPABLE, 1, 0, 0, 0), "being ordinary")
    }
}

/// Root becomes nobody, who owns nothing but the scratch folder.
pub(super) fn leave_root(scratch: &Path) -> Result<()> {
    // SAFETY: it only reads.
    if unsafe { libc::geteuid() } != 0 {
        return Ok(());
    }
    let path = CString::new(scratch.as_os_str().as_bytes()).map_err(Error::usage)?;
    // SAFETY: the path outlives the call.
    done(unsafe { libc::chown(path.as_ptr(), NOBODY, NOBODY) }, "the scratch folder")?;
    drop_to(NOBODY)
}

/// Asks to be ended first where memory runs out.
pub(super) fn volunteer_for_the_oom_killer() {
    // SAFETY: constant strings, and a descriptor that is closed again. A system without it has another order.
    unsafe {
        let fd = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if fd >= 0 {
            libc::write(fd, b"1000".as_ptr().cast(), 4);
            libc::close(fd);
        }
    }
}

/// Leaves nothing but the three standard streams to what comes.
pub(super) fn close_inherited() {
    // SAFETY: nothing of this process is used after it but the streams; without the call (before Linux 5.9) what we
    // open ourselves is closed by `exec` all the same.
    unsafe { libc::syscall(libc::SYS_close_range, 3 as c_long, c_long::from(u32::MAX), 0 as c_long) };
}

/// Files: the system and the interpreter to read, the scratch folder to write. At the level `full` the root folder
/// already says so and a kernel without Landlock will do; at `partial` it must hold.
pub(super) fn landlock(cell: &Cell, harness: &Path, scratch: &Path) -> Result<()> {
    let refused = |e: landlock::RulesetError| Error::usage(format!("Landlock: {e}"));
    // Version 3 stops truncating; what later ones add is taken where the kernel has it.
    let (needed, wanted) = (ABI::V3, ABI::V5);
    let (read, all) = (AccessFs::from_read(wanted), AccessFs::from_all(wanted));
    let required = match cell.level {
        Level::Partial => CompatLevel::HardRequirement,
        _ => CompatLevel::BestEffort,
    };
    let readable = SYSTEM.iter().map(Path::new).chain(cell.visible.iter().map(|p| p.as_path())).chain([harness]);
    let devices = AccessFs::ReadFile | AccessFs::WriteFile;
    let status = Ruleset::default()
        .set_compatibility(required)
        .handle_access(AccessFs::from_all(needed))
        .and_then(|rules| rules.set_compatibility(CompatLevel::BestEffort).handle_access(all))
        .and_then(|rules| rules.create())
        .and_then(|rules| rules.add_rules(path_beneath_rules(readable, read)))
        .and_then(|rules| rules.add_rules(path_beneath_rules(DEVICES, devices)))
        .and_then(|rules| rules.add_rules(path_beneath_rules([scratch], all)))
        .and_then(|rules| rules.restrict_self())
        .map_err(refused)?;
    match (cell.level, status.ruleset) {
        (Level::Partial, RulesetStatus::NotEnforced) => Err(Error::usage("this kernel has no Landlock")),
        _ => Ok(()),
    }
}

/// System calls and, for some, the arguments that make them refused.
type Calls = BTreeMap<c_long, Vec<SeccompRule>>;

/// Refuses, for this process and all that come from it, what no check needs and an escape might.
pub(super) fn seccomp() -> Result<()> {
    let mut calls: Calls = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    for flag in NEW_NAMESPACES {
        calls.entry(libc::SYS_clone).or_default().push(when(0, Is::MaskedEq(flag as u64), flag as u64)?);
    }
    // Limits, priorities and processors of other processes.
    for call in [
        libc::SYS_prlimit64,
        libc::SYS_sched_setaffinity,
        libc::SYS_sched_setscheduler,
        libc::SYS_sched_setparam,
        libc::SYS_sched_setattr,
    ] {
        calls.insert(call, vec![when(0, Is::Ne, 0)?]);
    }
    calls.insert(libc::SYS_setpriority, vec![when(0, Is::Ne, 0)?, when(1, Is::Ne, 0)?]);
    // Its flags lie in memory, out of a filter's reach; the C library goes back to `clone` when it is missing.
    let missing: Calls = [(libc::SYS_clone3, Vec::new())].into();
    for program in [program(calls, libc::EPERM)?, program(missing, libc::ENOSYS)?] {
        apply_filter(&program).map_err(|e| Error::usage(format!("seccomp: {e}")))?;
    }
    Ok(())
}

/// A seccomp program in plain numbers: each instruction as `(code, jt, jf, k)`.
pub(super) type Filter = Vec<(u16, u8, u8, u32)>;

/// What the children of the server install on themselves where no namespace keeps them apart from other processes: no
/// new process, no signal to any, and no change to a file but its content.
pub(super) fn alone() -> Result<Vec<Filter>> {
    let mut calls: Calls = SIGNALS.iter().map(|call| (*call, Vec::new())).collect();
    let thread = libc::CLONE_THREAD as u64;
    calls.insert(libc::SYS_clone, vec![when(0, Is::MaskedEq(thread), 0)?]);
    // A file's owner is sent signals.
    let (own, own_ex) = (libc::F_SETOWN as u64, 15);
    calls.insert(libc::SYS_fcntl, vec![when(1, Is::Eq, own)?, when(1, Is::Eq, own_ex)?]);
    #[cfg(target_arch = "x86_64")]
    calls.extend([libc::SYS_fork, libc::SYS_vfork].map(|call| (call, Vec::new())));
    let quiet: Calls = ATTRIBUTES.iter().map(|call| (*call, Vec::new())).collect();
    // Error 0: it says that it was done. Programs that tidy up after themselves go on, and nothing has changed.
    let programs = [program(calls, libc::EPERM)?, program(quiet, 0)?];
    let plain = |p: BpfProgram| p.into_iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect();
    Ok(programs.into_iter().map(plain).collect())
}

fn when(argument: u8, is: Is, value: u64) -> Result<SeccompRule> {
    SeccompCondition::new(argument, Width::Dword, is, value).and_then(|c| SeccompRule::new(vec![c])).map_err(unusable)
}

fn program(calls: Calls, error: i32) -> Result<BpfProgram> {
    let arch = std::env::consts::ARCH.try_into().map_err(unusable)?;
    let filter = SeccompFilter::new(calls, SeccompAction::Allow, SeccompAction::Errno(error as u32), arch);
    let program: BpfProgram = filter.and_then(TryInto::try_into).map_err(unusable)?;
    Ok(without_x32(program))
}

/// On x86-64 every call has a second number, which a list of the first ones does not know: those end the process.
fn without_x32(program: BpfProgram) -> BpfProgram {
    if !cfg!(target_arch = "x86_64") {
        return program;
    }
    let step = |code: u32, jt: u8, jf: u8, k: u32| seccompiler::sock_filter { code: code as u16, jt, jf, k };
    let mut guarded = vec![
        // The call's number is the first word of what a filter sees.
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, 0x4000_0000),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ];
    guarded.extend(program);
    guarded
}

fn unusable(e: seccompiler::BackendError) -> Error {
    Error::usage(format!("seccomp: {e}"))
}

const NEW_NAMESPACES: [i32; 8] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
    libc::CLONE_PTRACE,
];

/// Sockets of every family (pairs stay: event loops are built on them), other processes' memory, namespaces and mounts,
/// files by handle, shared memory and keys that outlive a process, and the kernel's own workings.
const REFUSED: &[c_long] = &[
    libc::SYS_socket,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_name_to_handle_at,
    libc::SYS_open_by_handle_at,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_msgget,
    libc::SYS_semget,
    libc::SYS_mq_open,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_ioprio_set,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_acct,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
];

const SIGNALS: &[c_long] = &[
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
];

/// System calls that change a file's attributes, which Landlock does not stop.
const ATTRIBUTES: &[c_long] = &[
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    // fchmodat2
    452,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
];
