//! [host] What a command knows of its caller: places, facts, helpers, the way to read policies.

use crate::cli::policy_file::Reading;
use crate::cli::problem::Problem;
use crate::host::facts::Facts;
use crate::host::probe::{ProbeRequest, probe};
use crate::linux::{paths, syscall::Syscall};
use crate::supervise::places::Places;

/// The caller's account and directories.
#[derive(Debug)]
pub struct Context {
    /// This host.
    pub facts: Facts,
    /// Directories of ours.
    pub places: Places,
}

/// Patterns of everything that is masked or made read-only.
pub fn maskable() -> Vec<&'static str> {
    paths::MASKED
        .iter()
        .chain(paths::READ_ONLY)
        .map(|path| path.pattern)
        .collect()
}

/// What the probe is told. Root's own range is ours wherever our state is.
pub fn probe_request<'a>(
    maskable: &'a [&'a str],
    runtime_dir: Option<&'a str>,
    cgroup_dir: Option<&'a str>,
) -> ProbeRequest<'a> {
    let default_range_is_ours = std::path::Path::new("/run/cofferdam").is_dir();
    ProbeRequest {
        maskable,
        runtime_dir,
        cgroup_dir,
        default_range_is_ours,
    }
}

impl Context {
    /// Looks at the host and makes our directories.
    ///
    /// # Errors
    /// The host cannot be read, or a directory of ours cannot be used.
    pub fn new() -> Result<Self, Problem> {
        let runtime = std::env::var("XDG_RUNTIME_DIR").ok();
        let cgroup = std::env::var("COFFERDAM_CGROUP").ok();
        let patterns = maskable();
        let facts = probe(&probe_request(
            &patterns,
            runtime.as_deref(),
            cgroup.as_deref(),
        ))?;
        let places = Places::of_caller(facts.caller.uid, facts.caller.home.as_deref())?;
        Ok(Self { facts, places })
    }

    /// newuidmap and newgidmap, if both are there.
    pub fn helpers(&self) -> Option<(&str, &str)> {
        let ids = &self.facts.subordinate;
        ids.newuidmap.as_deref().zip(ids.newgidmap.as_deref())
    }

    /// How policies are read here.
    pub fn reading<'a>(&self, known_calls: &'a [&'a str]) -> Reading<'a> {
        let programs = std::env::current_exe().ok().and_then(|path| {
            path.parent()
                .and_then(|parent| parent.to_str())
                .map(str::to_owned)
        });
        Reading::of_caller(
            self.places.all(),
            programs.into_iter().collect(),
            known_calls,
        )
    }
}

/// Names of all system calls we know.
pub fn known_calls() -> Vec<&'static str> {
    Syscall::ALL.iter().map(|call| call.name()).collect()
}
