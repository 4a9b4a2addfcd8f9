//! [host] `cofferdam doctor`: the report in text or JSON, and whether the default policy can start.

use crate::host::doctor::{Finding, State, can_start, findings};
use crate::host::facts::Facts;
use crate::host::probe::{ProbeError, ProbeRequest, probe};
use crate::host::{deep, doctor};
use std::io::{self, Write};

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Say what this host can enforce, what is missing, and the one command that fixes it",
    after_help = "Examples:\n  cofferdam doctor\n  cofferdam doctor --json | jq '.[] | select(.state != \"ok\")'\n\nExits with 0 if the default policy can start here, else with 125."
)]
pub struct Args {
    /// Print the findings as a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Why there is no report.
#[derive(Debug)]
pub enum Error {
    /// The host cannot be read.
    Probe(ProbeError),
    /// The report cannot be written.
    Write(io::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Probe(error) => error.fmt(out),
            Self::Write(_) => write!(out, "cannot write the report"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Probe(error) => error.source(),
            Self::Write(cause) => Some(cause),
        }
    }
}

/// Writes the report to `out` and gives the exit code: 0 if the default policy can start, else 125.
pub fn run(args: &Args, request: &ProbeRequest, out: &mut impl Write) -> Result<u8, Error> {
    let facts = probe(request).map_err(Error::Probe)?;
    let deep = deep::examine(&facts).map_err(Error::Probe)?;
    let findings = findings(&facts, &deep);
    let written = if args.json {
        json(&findings, out)
    } else {
        text(&facts, &findings, out)
    };
    written.map_err(Error::Write)?;
    Ok(if doctor::can_start(&findings) { 0 } else { 125 })
}

fn json(findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, findings)?;
    writeln!(out)
}

/// One line per finding, the worst first, each with what it costs and how to fix it below.
fn text(facts: &Facts, findings: &[Finding], out: &mut impl Write) -> io::Result<()> {
    let name = facts
        .caller
        .name
        .as_deref()
        .unwrap_or("a user without a passwd entry");
    writeln!(out, "Host as seen by {name} (uid {}):", facts.caller.uid)?;
    for finding in findings {
        let state = match finding.state {
            State::Missing => "missing",
            State::Degraded => "degraded",
            State::Ok => "ok",
        };
        writeln!(out, "{state:8}  {:15}  {}", finding.control, finding.what)?;
        if let Some(costs) = finding.costs {
            writeln!(out, "{:27}costs: {costs}", "")?;
        }
        if let Some(fix) = &finding.fix {
            writeln!(out, "{:27}fix:   {fix}", "")?;
        }
    }
    let verdict = if can_start(findings) { "can" } else { "cannot" };
    writeln!(out, "The default policy {verdict} start here.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_renderings_name_every_control() {
        let request = ProbeRequest::default();
        let mut plain = Vec::new();
        let code = run(&Args { json: false }, &request, &mut plain).unwrap();
        let plain = String::from_utf8(plain).unwrap();
        let mut json = Vec::new();
        assert_eq!(
            run(&Args { json: true }, &request, &mut json).unwrap(),
            code
        );
        let parsed: Vec<serde_json::Value> = serde_json::from_slice(&json).unwrap();
        assert_eq!(parsed.len(), 14);
        for finding in parsed {
            assert!(
                plain.contains(finding["control"].as_str().unwrap()),
                "{plain}"
            );
        }
        let verdict = if code == 0 {
            "can start"
        } else {
            "cannot start"
        };
        assert!(
            plain.ends_with(&format!("The default policy {verdict} here.\n")),
            "{plain}"
        );
    }

    #[test]
    fn costs_and_fixes_stand_below_their_finding() {
        let finding = Finding {
            control: "cgroup",
            state: State::Degraded,
            what: "none".into(),
            costs: Some("limits"),
            fix: Some("do it".into()),
        };
        let facts = probe(&ProbeRequest::default()).unwrap();
        let mut out = Vec::new();
        text(&facts, &[finding], &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        let lines: Vec<_> = out.lines().skip(1).collect();
        let indent = " ".repeat(27);
        let costs = format!("{indent}costs: limits");
        let fix = format!("{indent}fix:   do it");
        let first = "degraded  cgroup           none";
        assert_eq!(
            lines,
            [first, &costs, &fix, "The default policy can start here."]
        );
    }
}
