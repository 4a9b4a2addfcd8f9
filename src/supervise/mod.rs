//! [host] Keeps one sandbox from its start to its end, and finds, stops and cleans up those there are.
//!
//! The supervisor is one single-threaded process per sandbox that waits in one
//! poll(2). It talks to its own children and to commands of the same user.

pub mod client;
pub mod control;
pub mod disk;
pub mod failure;
pub mod logs;
pub mod network;
pub mod outcome;
pub mod placeholders;
pub mod places;
pub mod pump;
pub mod records;
pub mod recover;
pub mod serve;
pub mod slices;
pub mod state;
pub mod streams;
pub mod sweep;
pub mod terminal;
pub mod undo;
pub mod watch;
