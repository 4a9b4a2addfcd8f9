//! All probes inside: `strict` and `untrusted`, by `run` and by `exec`, as an ordinary user and as root.

use crate::catalogue::{Expect, rows};
use crate::site::{Preset, Site, Who};
use crate::support::canary::Canaries;
use crate::support::probe::Answer;
use crate::support::skip;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// How the probe program is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Run,
    Exec,
}

fn users() -> Vec<Who> {
    if rustix::process::getuid().is_root() {
        return vec![Who::User, Who::Root];
    }
    skip("sandboxes of root", "the tests were not started by root");
    vec![Who::User]
}

/// One mode, one probe process.
fn probed(site: &Site, who: Who, preset: Preset, way: Way) -> BTreeMap<String, Answer> {
    if way == Way::Run {
        let mut command = site.sandbox(who, preset, "run");
        return site.answers(command.arg("--").args(site.probe()).arg("all"));
    }
    let name = format!("attacked-{}", std::process::id());
    let mut start = site.sandbox(who, preset, "run");
    start.args(["--detach", "--name", &name, "--", "sleep", "300"]);
    let started = start.stdout(Stdio::null()).status().unwrap();
    assert!(started.success(), "{start:?}");
    let mut command = site.command(who, &site.bin("cofferdam"));
    command.args(["exec", &name, "--"]).args(site.probe());
    let found = site.answers(command.arg("all"));
    let mut end = site.command(who, &site.bin("cofferdam"));
    let ended = end.args(["kill", &name]).stdout(Stdio::null()).status();
    assert!(ended.unwrap().success(), "{end:?}");
    remove(site, who, &name);
    found
}

/// A sandbox that was killed may still be taking itself away.
fn remove(site: &Site, who: Who, name: &str) {
    for _ in 0..250 {
        let mut command = site.command(who, &site.bin("cofferdam"));
        let output = command.args(["rm", name]).output().unwrap();
        if output.status.success() {
            return;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{name} was killed and is still there");
}

/// What each row must see, next to what it saw.
fn failures(preset: Preset, found: &BTreeMap<String, Answer>) -> Vec<String> {
    let mut failures = Vec::new();
    for row in rows() {
        let expect: Expect = match preset {
            Preset::Strict => row.strict,
            Preset::Untrusted => row.untrusted,
        };
        let Some(answer) = found.get(row.name) else {
            failures.push(format!("{}: no answer", row.name));
            continue;
        };
        let (outcome, errno) = (answer.outcome.as_str(), answer.errno.as_deref());
        match (outcome, row.unproven) {
            ("not-run", Some(why)) => skip(row.name, why),
            _ if expect.holds(outcome, errno) => {}
            _ => failures.push(format!("{answer:?}, expected {expect:?}")),
        }
    }
    failures
}

/// How many probes of each group saw what, for whoever reads the log.
fn tell(mode: &str, found: &BTreeMap<String, Answer>) {
    let mut groups: BTreeMap<&str, BTreeMap<&str, u32>> = BTreeMap::new();
    for answer in found.values() {
        let group = answer.probe.split('-').next().unwrap_or_default();
        *groups
            .entry(group)
            .or_default()
            .entry(&answer.outcome)
            .or_default() += 1;
    }
    eprintln!("{mode}: {} probes, {groups:?}", found.len());
}

#[test]
fn every_probe_is_refused_inside() {
    let site = Site::new("modes");
    let trees: &[&Path] = &[&site.planted.outside, &site.planted.workspace];
    let around = || {
        let project = site.planted.workspace.parent().unwrap();
        std::fs::read_dir(project).unwrap().count()
    };
    let (canaries, beside) = (Canaries::take(trees), around());
    let mut all = Vec::new();
    for who in users() {
        for preset in [Preset::Strict, Preset::Untrusted] {
            for way in [Way::Run, Way::Exec] {
                let mode = format!("{preset:?} by {way:?} as {who:?}");
                let found = probed(&site, who, preset, way);
                tell(&mode, &found);
                let failures = failures(preset, &found);
                all.extend(failures.into_iter().map(|line| format!("{mode}: {line}")));
            }
        }
    }
    assert!(all.is_empty(), "{} differ:\n{}", all.len(), all.join("\n"));
    assert_eq!(
        canaries.changes(&Canaries::take(trees)),
        Vec::<String>::new()
    );
    assert_eq!(around(), beside, "something was made beside the workspace");
}
