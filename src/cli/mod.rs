//! [host] The command line: one file per command, and what several of them read.

pub mod policy;
pub mod policy_file;
