//! [pure] From policy to the kernel's own terms: filters, Landlock rules, id maps, and the proof of a filter.

pub mod idmap;
pub mod landlock;
pub mod seccomp;
