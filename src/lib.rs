//! [main] The library behind the `cofferdam` programs; the map of the rooms.
#![doc = include_str!("ARCHITECTURE.md")]

pub mod broker;
pub mod cgroup;
pub mod cli;
pub mod confine;
pub mod event;
pub mod host;
pub mod linux;
pub mod net;
pub mod policy;
pub mod posture;
pub mod sandbox;
pub mod source;
pub mod supervise;
pub mod sys;
