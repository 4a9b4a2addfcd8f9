//! Launch tests: the built `cofferdam` on the running kernel, as an ordinary user.
//!
//! Every test owns a [`site::Site`]: directories of its own for state, records
//! and work. Dropping it proves that no sandbox left anything behind.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "tests"
)]

#[path = "../support/mod.rs"]
mod support;

mod clients;
mod commands;
mod crash;
mod cycles;
mod egress;
mod ending;
mod firewall;
mod ids;
mod inside;
mod limits;
mod mirror;
mod mounts;
mod network;
mod protected;
mod publish;
mod refusals;
mod root;
mod rootfs;
mod site;
mod streams;
mod terminals;
mod workspace;
mod world;
