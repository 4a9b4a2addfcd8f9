//! [host] `cofferdam verify`: checks the hash chain over plan and events.

use super::output::{exit_code, note, print};
use super::records::{Paths, Records};
use crate::event::chain::{Broken, Digest, Verified, verify};
use crate::source::diagnostic::Diagnostic;
use serde_json::json;
use std::path::Path;

/// The chain does not hold.
const BROKEN: u8 = 1;

/// As typed.
#[derive(Clone, Debug, clap::Args)]
#[command(
    about = "Check the hash chain over the plan and the events of a sandbox",
    after_help = "Examples:\n  cofferdam verify build-7 --head 3f0c…\n  cofferdam verify ./evidence/events.jsonl --head 3f0c…\n\nThe head is what `run` and `inspect` print. With it, any later change of the plan or the\nevents is found: edits, lines removed or added, a file cut short. Without it, only what\nwas not done with care: who writes all lines anew can compute all hashes anew.\n\nExit code: 0 it holds, 1 it does not, 125 it cannot be read."
)]
pub struct Args {
    /// Sandbox; or an event log with the plan beside it, as a path with a slash
    #[arg(value_name = "NAME|FILE")]
    pub what: String,
    /// Hash that was kept when the sandbox ended
    #[arg(long, value_name = "HASH")]
    pub head: Option<Digest>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Checks, prints, and gives the exit code.
pub fn run(args: &Args, paths: &Paths) -> u8 {
    exit_code(check(args, paths))
}

fn check(args: &Args, paths: &Paths) -> Result<u8, Diagnostic> {
    let records = if args.what.contains('/') {
        Records::at(Path::new(&args.what))?
    } else {
        paths.find(Some(&args.what))?
    };
    let result = verify(&records.plan_bytes()?, &records.event_bytes()?, args.head);
    print(&if args.json {
        as_json(&result)
    } else {
        text(&result)
    })?;
    if result.is_ok() && args.head.is_none() && !args.json {
        note("no --head was given: only changes made without computing the hashes anew are found");
    }
    Ok(if result.is_ok() { 0 } else { BROKEN })
}

fn text(result: &Result<Verified, Broken>) -> String {
    match result {
        Ok(Verified { chain, .. }) => {
            let end = if chain.complete() {
                "ended"
            } else {
                "not ended"
            };
            format!(
                "holds: {} events, {end}\nhead {}\n",
                chain.count(),
                chain.head()
            )
        }
        Err(broken) => format!("broken: {broken}\n"),
    }
}

fn as_json(result: &Result<Verified, Broken>) -> String {
    let value = match result {
        Ok(Verified { chain, .. }) => json!({
            "holds": true,
            "events": chain.count(),
            "complete": chain.complete(),
            "head": chain.head(),
        }),
        Err(Broken { line, why }) => {
            json!({ "holds": false, "line": line, "why": why.to_string() })
        }
    };
    format!("{value}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_holds_and_where_it_breaks() {
        let empty = verify(b"{}", b"", None);
        let head = Digest::of(
            &[
                b"cofferdam events 1\0".as_slice(),
                &<sha2::Sha256 as sha2::Digest>::digest(b"{}"),
            ]
            .concat(),
        );
        assert_eq!(
            text(&empty),
            format!("holds: 0 events, not ended\nhead {head}\n")
        );
        assert_eq!(
            as_json(&empty),
            format!("{{\"complete\":false,\"events\":0,\"head\":\"{head}\",\"holds\":true}}\n")
        );
        let broken = verify(b"{}", b"x\n", None);
        assert_eq!(text(&broken), "broken: line 1: it does not end in a hash\n");
        assert_eq!(
            as_json(&broken),
            "{\"holds\":false,\"line\":1,\"why\":\"it does not end in a hash\"}\n"
        );
    }
}
