//! [pure] Tables of the kernel's numbers and names, each from a named source.

pub mod capability;
pub mod ioctl;
pub mod paths;
pub mod process;
pub mod socket;
pub mod syscall;
