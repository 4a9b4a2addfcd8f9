//! [host] The command line: one file per command, and what several of them read.

pub mod events;
pub mod output;
pub mod records;
pub mod verify;
