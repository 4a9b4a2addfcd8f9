//! Red and green: the plan as it is refuses, the plan without one control lets through.

use crate::catalogue::{Expect, Positive, Removal, Row, rows};
use crate::site::{Preset, Site, Who};
use crate::support::probe::{Answer, answers};
use crate::support::skip;
use cofferdam::sandbox::plan::{Op, Placeholder, Plan};
use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;

/// Rows that one changed plan is for.
struct Case {
    preset: Preset,
    removal: &'static [Removal],
    rows: Vec<Row>,
}

/// The preset that promises to refuse it; `strict` alone for what ordinary programs need.
fn preset(row: &Row) -> Option<Preset> {
    let promised = |expect| !matches!(expect, Expect::Recorded(_) | Expect::Allowed);
    match (promised(row.untrusted), promised(row.strict)) {
        (true, _) => Some(Preset::Untrusted),
        (false, true) => Some(Preset::Strict),
        (false, false) => None,
    }
}

#[derive(Debug, Default)]
struct Count {
    proven: u32,
    behind: u32,
    in_code: u32,
    skipped: u32,
    no_promise: u32,
}

fn cases(count: &mut Count) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for row in rows() {
        let Some(preset) = preset(&row) else {
            count.no_promise += 1;
            continue;
        };
        if let [Removal::Behind(_)] = row.removal {
            count.behind += 1;
            continue;
        }
        if let [Removal::Forget(_)] = row.removal {
            count.in_code += 1;
            continue;
        }
        let unprovable = row.unproven.or(match row.positive {
            Positive::Nowhere(why) => Some(why),
            _ => None,
        });
        if let Some(why) = unprovable {
            skip(row.name, why);
            count.skipped += 1;
            continue;
        }
        // With much taken away, what one probe does another would see.
        let same = |case: &&mut Case| case.preset == preset && case.removal == row.removal;
        let alone = row.removal.len() > 1;
        match cases.iter_mut().find(same).filter(|_| !alone) {
            Some(case) => case.rows.push(row),
            None => cases.push(Case {
                preset,
                removal: row.removal,
                rows: vec![row],
            }),
        }
    }
    cases
}

impl Site {
    /// Runs a plan; what protects what is not there yet is the supervisor's work.
    fn run_plan(
        &self,
        mut command: Command,
        plan: &Plan,
    ) -> Result<BTreeMap<String, Answer>, String> {
        let made = self.hold_places(plan);
        let file = self.directory.0.join("plan.json");
        std::fs::write(&file, serde_json::to_vec(plan).unwrap()).unwrap();
        let output = self.output(command.arg(&file));
        for path in made {
            if path.is_dir() {
                std::fs::remove_dir_all(&path).unwrap();
            } else {
                std::fs::remove_file(&path).unwrap();
            }
        }
        if output.status.success() {
            return Ok(answers(&output.stdout));
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(format!("{}: {}", output.status, said.trim()))
    }

    fn hold_places(&self, plan: &Plan) -> Vec<PathBuf> {
        let mut made = Vec::new();
        for step in &plan.steps {
            let Op::Placeholder { source, path, kind } = &step.op else {
                continue;
            };
            let relative = path.trim_start_matches('/');
            let path = PathBuf::from(&plan.sources[*source].path).join(relative);
            match kind {
                Placeholder::Socket => drop(UnixListener::bind(&path).unwrap()),
                Placeholder::File(text) => std::fs::write(&path, text).unwrap(),
            }
            // As the supervisor makes it, so that its owner cannot write it either.
            std::fs::set_permissions(&path, Permissions::from_mode(0o444)).unwrap();
            made.push(path);
        }
        made
    }

    fn command_for(&self, rows: &[Row]) -> Vec<String> {
        let names = rows.iter().map(|row| row.name.to_owned());
        let run = ["run".to_owned()];
        self.probe().into_iter().chain(run).chain(names).collect()
    }
}

/// Why a changed plan gave no answers.
enum Lost {
    /// It cannot be changed, or run, so here.
    Skipped(&'static str),
    Failed(String),
}

/// What the rows of a case see without these controls.
fn without(
    site: &Site,
    case: &Case,
    removals: &[Removal],
) -> Result<BTreeMap<String, Answer>, Lost> {
    let mut plan = site.plan(case.preset, &site.command_for(&case.rows));
    for removal in removals {
        site.remove(&mut plan, *removal).map_err(Lost::Skipped)?;
    }
    let program = site.bin("examples/run_plan");
    let command = if case.removal.contains(&Removal::SkipSetgroups) {
        let command = site.with_group(&program);
        command.ok_or(Lost::Skipped("arranging it needs root"))?
    } else {
        site.command(Who::User, &program)
    };
    site.run_plan(command, &plan).map_err(Lost::Failed)
}

/// Rows that the changed plan still stops, and why it may be so.
fn red(site: &Site, case: &Case, count: &mut Count) -> Vec<String> {
    let found = match without(site, case, case.removal) {
        Ok(found) => found,
        Err(Lost::Skipped(why)) => {
            count.skipped += case.rows.len() as u32;
            case.rows.iter().for_each(|row| skip(row.name, why));
            return Vec::new();
        }
        Err(Lost::Failed(said)) => {
            let names: Vec<&str> = case.rows.iter().map(|row| row.name).collect();
            return vec![format!("{:?} for {names:?}: {said}", case.removal)];
        }
    };
    let mut failures = Vec::new();
    for row in &case.rows {
        match found.get(row.name) {
            Some(answer) if answer.outcome == "allowed" => count.proven += 1,
            answer => failures.push(format!(
                "{} without {:?}: {answer:?}",
                row.name, case.removal
            )),
        }
    }
    failures
}

/// The same rows under the same launcher with nothing taken out; but for those
/// whose control is the supervisor's, who is not here.
fn green(site: &Site, preset: Preset, cases: &[Case]) -> Vec<String> {
    let of_supervisor = |case: &&Case| !case.removal.contains(&Removal::SkipStdioPipes);
    let cases = cases.iter().filter(|case| case.preset == preset);
    let rows: Vec<Row> = cases
        .filter(of_supervisor)
        .flat_map(|case| case.rows.iter().copied())
        .collect();
    let plan = site.plan(preset, &site.command_for(&rows));
    let command = site.command(Who::User, &site.bin("examples/run_plan"));
    let found = site.run_plan(command, &plan).unwrap();
    let refused = |row: &&Row| {
        let expect = match preset {
            Preset::Strict => row.strict,
            Preset::Untrusted => row.untrusted,
        };
        found
            .get(row.name)
            .is_some_and(|answer| expect.holds(&answer.outcome, answer.errno.as_deref()))
    };
    rows.iter()
        .filter(|row| !refused(row))
        .map(|row| format!("{} with every control: {:?}", row.name, found.get(row.name)))
        .collect()
}

#[test]
fn every_probe_succeeds_without_its_control() {
    let site = Site::new("removals");
    let mut count = Count::default();
    let cases = cases(&mut count);
    let mut failures = green(&site, Preset::Strict, &cases);
    failures.extend(green(&site, Preset::Untrusted, &cases));
    for case in &cases {
        failures.extend(red(&site, case, &mut count));
    }
    eprintln!(
        "red/green: {} rows, {} plans, {count:?}",
        rows().len(),
        cases.len()
    );
    assert!(
        failures.is_empty(),
        "{} are stopped by something else:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Rows that succeed although one of the removals was left out: it is not what
/// stops them. A plan that cannot run so lets nothing through.
fn needless(site: &Site, case: &Case) -> Vec<String> {
    let mut found = Vec::new();
    for kept in case.removal {
        let others: Vec<Removal> = case
            .removal
            .iter()
            .copied()
            .filter(|one| one != kept)
            .collect();
        let Ok(answers) = without(site, case, &others) else {
            continue;
        };
        let through = |row: &&Row| {
            answers
                .get(row.name)
                .is_some_and(|answer| answer.outcome == "allowed")
        };
        let through = case.rows.iter().filter(through);
        found.extend(through.map(|row| format!("{}: {kept:?}", row.name)));
    }
    found
}

/// Each removal of a row stops it alone: with any one of them left in place it
/// is refused.
#[test]
fn no_removal_is_needless() {
    let site = Site::new("minimal");
    let cases = cases(&mut Count::default());
    let several = cases.iter().filter(|case| case.removal.len() > 1);
    let mut found: Vec<String> = several.flat_map(|case| needless(&site, case)).collect();
    // Of an ordinary user's own program init runs a copy in memory, of which Landlock
    // has nothing to say.
    if !rustix::process::getuid().is_root() {
        found.retain(|found| found != "V-02-pid1-program: DropStep(\"landlock\", \"\")");
    }
    assert!(found.is_empty(), "needless:\n{}", found.join("\n"));
}

/// What a row calls its control is among what is taken away for it.
#[test]
fn each_control_is_among_its_removals() {
    let named = |row: &&Row| row.removal.iter().any(|removal| removal.is_of(row.control));
    let rows = rows();
    let others: Vec<String> = rows
        .iter()
        .filter(|row| !named(row))
        .map(|row| format!("{}: {:?} by {:?}", row.name, row.control, row.removal))
        .collect();
    assert!(others.is_empty(), "{}", others.join("\n"));
}
