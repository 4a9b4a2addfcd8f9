//! [host] The command line: one file per command, and what several of them read.

pub mod args;
pub mod context;
pub mod doctor;
pub mod events;
pub mod exec;
pub mod life;
pub mod list;
pub mod output;
pub mod plan;
pub mod policy;
pub mod policy_file;
pub mod problem;
pub mod records;
pub mod request;
pub mod run;
pub mod verify;
