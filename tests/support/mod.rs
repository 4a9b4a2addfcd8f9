//! What several tests share: an ordinary user, its commands, and what must be
//! the same before and after.

#![allow(
    dead_code,
    reason = "each test that includes this module uses some of it"
)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

pub mod canary;
pub mod census;
pub mod probe;
pub mod user;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A program of this build: a binary, or `examples/probe`.
pub fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    // target/TRIPLE/PROFILE/deps/TEST
    let profile = test.parent().and_then(Path::parent).unwrap();
    let program = profile.join(name);
    assert!(
        program.exists(),
        "{} is not built: cargo build --all-targets",
        program.display()
    );
    program
}

/// Copies a program to where an ordinary user can reach it.
///
/// By install(1): a file that this process wrote itself could still be open in
/// a child that another test forks just then, and executing it would be ETXTBSY.
pub fn install(from: &Path, to: &Path) {
    let mut install = Command::new("install");
    install.args(["--mode", "755"]).arg(from).arg(to);
    assert!(install.status().unwrap().success(), "{install:?}");
}

/// Says that something was not tested, and why. Never for what a test is about.
pub fn skip(what: &str, why: &str) {
    eprintln!("SKIP {what}: {why}");
}
