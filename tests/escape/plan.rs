//! The plan of a preset as a value, and running a changed one.

use crate::site::{Preset, Site, Who};
use crate::support::probe::Answer;
use cofferdam::sandbox::plan::Plan;
use std::collections::BTreeMap;

impl Site {
    /// What `cofferdam plan` prints for the probes of this site, as the ordinary user.
    pub fn plan(&self, preset: Preset) -> Plan {
        let mut command = self.sandbox(Who::User, preset, "plan");
        let output = self.output(command.arg("--").args(self.probe()).arg("all"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}
