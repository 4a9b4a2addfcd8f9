//! [sys] mount_setattr(2), which rustix lacks.

use super::process::check;
use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;

/// `struct mount_attr` of include/uapi/linux/mount.h.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user_namespace: u64,
}

/// Read-only.
pub const RDONLY: u64 = 0x1;
/// Set-id bits and file capabilities do not count.
pub const NOSUID: u64 = 0x2;
/// Device nodes do not open.
pub const NODEV: u64 = 0x4;
/// Nothing can be executed.
pub const NOEXEC: u64 = 0x8;
/// Ids are mapped through a user namespace.
const IDMAP: u64 = 0x0010_0000;
/// MS_PRIVATE as a propagation value.
const PRIVATE: u64 = 1 << 18;

fn setattr(mount: BorrowedFd<'_>, recursive: bool, attr: &MountAttr) -> Result<(), Errno> {
    let recursive = if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty, the descriptor is borrowed, and the size is
    // that of the structure the kernel reads.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            std::ptr::from_ref(attr),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}

/// Adds attributes to a mount and, when `recursive`, to everything below it.
///
/// # Errors
/// The errno of mount_setattr(2).
pub fn add_attributes(mount: BorrowedFd<'_>, set: u64, recursive: bool) -> Result<(), Errno> {
    setattr(
        mount,
        recursive,
        &MountAttr {
            set,
            clear: 0,
            propagation: 0,
            user_namespace: 0,
        },
    )
}

/// Makes a mount and everything below it private: no event flows in or out.
///
/// # Errors
/// The errno of mount_setattr(2).
pub fn make_private(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    setattr(
        mount,
        true,
        &MountAttr {
            set: 0,
            clear: 0,
            propagation: PRIVATE,
            user_namespace: 0,
        },
    )
}

/// Maps the ids of a detached mount through a user namespace (5.12; needs
/// CAP_SYS_ADMIN over the file system's own user namespace).
///
/// # Errors
/// The errno of mount_setattr(2).
pub fn map_ids(mount: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<(), Errno> {
    let attr = MountAttr {
        set: IDMAP,
        clear: 0,
        propagation: 0,
        user_namespace: user_namespace.as_raw_fd() as u64,
    };
    setattr(mount, true, &attr)
}
