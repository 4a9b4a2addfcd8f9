//! [pure] Tables of the kernel's numbers and names, each from a named source.

pub mod capability;
