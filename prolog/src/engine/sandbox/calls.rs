//! The system calls that the fence is about.

/// Starting programs and processes. The machine's thread starts no threads either.
pub(super) const PROGRAMS: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_clone,
    libc::SYS_clone3,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_fork,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_vfork,
];

/// Other ways out: into other processes, the kernel, or around this filter.
pub(super) const SYSTEM: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_io_uring_setup,
    libc::SYS_openat2,
    libc::SYS_kexec_load,
    libc::SYS_reboot,
];

/// Sockets.
pub(super) const SOCKETS: &[i64] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// Opening a file.
pub(super) const OPEN: &[i64] = &[
    libc::SYS_openat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
];

/// Changes of the file system other than by an open file, each with the arguments that are paths.
pub(super) const FILES: &[(i64, &[usize])] = &[
    (libc::SYS_truncate, &[0]),
    (libc::SYS_unlinkat, &[1]),
    (libc::SYS_renameat, &[1, 3]),
    (libc::SYS_renameat2, &[1, 3]),
    (libc::SYS_mkdirat, &[1]),
    (libc::SYS_mknodat, &[1]),
    (libc::SYS_linkat, &[1, 3]),
    (libc::SYS_symlinkat, &[2]),
    (libc::SYS_fchmodat, &[1]),
    (libc::SYS_fchownat, &[1]),
    (libc::SYS_utimensat, &[1]),
    (libc::SYS_setxattr, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, &[0, 1]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, &[0, 1]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, &[1]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chown, &[0]),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, &[0]),
];

/// Calls whose paths are relative to a folder: it is the argument before each path.
pub(super) const AT: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_execveat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
];
