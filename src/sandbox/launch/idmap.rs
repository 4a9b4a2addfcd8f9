//! [host] Writing U0's maps: newuidmap and newgidmap at the same time, or our own id alone.

use super::LaunchError;
use crate::confine::idmap::Extent;
use crate::sandbox::plan::{MapWriter, Op, Plan};
use std::process::{Child, Command, Stdio};

/// Helpers that are still at work.
#[must_use]
#[derive(Debug)]
pub(super) struct Writing {
    helpers: Vec<(String, Child)>,
}

/// Starts mapping the ids of the first process `pid`.
pub(super) fn start(
    plan: &Plan,
    pid: i32,
    helpers: Option<(&str, &str)>,
) -> Result<Writing, LaunchError> {
    for step in &plan.steps {
        let Op::OuterUser { uids, gids, writer } = &step.op else {
            continue;
        };
        return match writer {
            MapWriter::Helpers => match helpers {
                Some((uid_helper, gid_helper)) => Ok(Writing {
                    helpers: vec![spawn(uid_helper, pid, uids)?, spawn(gid_helper, pid, gids)?],
                }),
                None => Err(LaunchError::Helper {
                    program: "newuidmap".to_owned(),
                    said: "not installed".to_owned(),
                }),
            },
            MapWriter::Caller => {
                write(pid, "setgroups", "deny")?;
                write(pid, "uid_map", &crate::confine::idmap::text(uids))?;
                write(pid, "gid_map", &crate::confine::idmap::text(gids))?;
                Ok(Writing {
                    helpers: Vec::new(),
                })
            }
            // Only the launcher itself comes here: everybody else asks it.
            MapWriter::Launcher => {
                write(pid, "uid_map", &crate::confine::idmap::text(uids))?;
                write(pid, "gid_map", &crate::confine::idmap::text(gids))?;
                Ok(Writing {
                    helpers: Vec::new(),
                })
            }
        };
    }
    Err(LaunchError::Protocol("no user namespace step".to_owned()))
}

fn spawn(helper: &str, pid: i32, extents: &[Extent]) -> Result<(String, Child), LaunchError> {
    let mut command = Command::new(helper);
    command.arg(pid.to_string());
    for extent in extents {
        command.args([extent.inside, extent.outside, extent.count].map(|n| n.to_string()));
    }
    command
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map(|child| (helper.to_owned(), child))
        .map_err(|error| LaunchError::Helper {
            program: helper.to_owned(),
            said: error.to_string(),
        })
}

fn write(pid: i32, name: &str, text: &str) -> Result<(), LaunchError> {
    std::fs::write(format!("/proc/{pid}/{name}"), text).map_err(|error| LaunchError::Helper {
        program: name.to_owned(),
        said: error.to_string(),
    })
}

impl Writing {
    /// Somebody else has done it.
    pub(super) fn done() -> Self {
        Self {
            helpers: Vec::new(),
        }
    }

    /// Waits for both helpers.
    pub(super) fn finish(self) -> Result<(), LaunchError> {
        let mut result = Ok(());
        for (program, child) in self.helpers {
            let output = child.wait_with_output();
            if result.is_ok() {
                result = match output {
                    Ok(output) if output.status.success() => Ok(()),
                    Ok(output) => {
                        let said = String::from_utf8_lossy(&output.stderr);
                        let said = said.lines().next().unwrap_or("no reason given").to_owned();
                        Err(LaunchError::Helper { program, said })
                    }
                    Err(error) => Err(LaunchError::Helper {
                        program,
                        said: error.to_string(),
                    }),
                };
            }
        }
        result
    }
}
