//! Running `examples/probe` outside, and reading what it says.

use super::built;
use super::user::Account;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// One line of the probe program.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    pub probe: String,
    pub outcome: String,
    pub errno: Option<String>,
    pub detail: String,
}

/// Every answer in a program's output, by probe.
pub fn answers(stdout: &[u8]) -> BTreeMap<String, Answer> {
    let text = std::str::from_utf8(stdout).expect("the probe program prints UTF-8");
    let parse = |line: &str| {
        serde_json::from_str::<Answer>(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    text.lines()
        .map(parse)
        .map(|answer| (answer.probe.clone(), answer))
        .collect()
}

/// A copy of the probe program where an ordinary user can reach it.
pub fn install(directory: &Path) -> PathBuf {
    let program = directory.join("probe");
    super::install(&built("examples/probe"), &program);
    program
}

/// What lies outside for the probes to find; gone when dropped.
#[derive(Debug)]
pub struct Planted {
    /// Options for the probe program.
    pub options: Vec<String>,
    /// The directory that nothing grants.
    pub outside: PathBuf,
    /// The workspace.
    pub workspace: PathBuf,
    process: Child,
}

impl Planted {
    /// Lays it out below `directory`, owned by whom `command` runs as.
    pub fn new(mut command: Command, directory: &Path) -> Self {
        let (outside, workspace) = (directory.join("outside"), directory.join("workspace"));
        command.arg("plant").arg(&outside).arg(&workspace);
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let options = serde_json::from_str(&line)
            .unwrap_or_else(|error| panic!("probe plant: {line:?}: {error}"));
        Self {
            options,
            outside,
            workspace,
            process,
        }
    }

    /// As the account.
    pub fn as_account(account: &Account, program: &Path, directory: &Path) -> Self {
        Self::new(account.command(program), directory)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let status = self.process.wait().unwrap();
        assert!(
            std::thread::panicking() || status.success(),
            "probe plant: {status}"
        );
    }
}
