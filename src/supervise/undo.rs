//! [host] What a sandbox may have left on the host, and removing it: cgroup, placeholders, layers.
//!
//! The state says what there is. Where it cannot be read, the plan among the
//! records says it as well: it was written before anything was made.

use crate::host::facts::Cgroup;
use crate::sandbox::launch::LaunchError;
use crate::sandbox::plan::{CgroupLimits, Op, Plan};
use crate::supervise::failure::SessionError;
use crate::supervise::places::{self, Places};
use crate::supervise::records::read_plan;
use crate::supervise::state::{self, Held, Home, Placeholders, ReliedOn, State, StateError};
use crate::supervise::{placeholders as workspace, sweep};
use rustix::io::Errno;

/// The state of a sandbox that is about to be made: all that its plan can leave.
pub fn planned(plan: &Plan, cgroup: &Cgroup, detached: bool) -> State {
    State {
        schema: 1,
        name: plan.name.clone(),
        policy: plan.policy.clone(),
        command: plan.exec.argv.clone(),
        created: state::now(),
        detached,
        ended: None,
        cgroup: limits(plan).and_then(|_| crate::cgroup::of(cgroup, &plan.name)),
        placeholders: placeholders(plan),
        published: plan.published.iter().map(|one| one.publish).collect(),
        layers: plan.layer_names().next().is_some(),
    }
}

/// What a sandbox may have left: from its state or, where that cannot be read,
/// from its plan.
///
/// # Errors
/// [`StateError::Malformed`] when neither can be read; failures of the file system.
pub fn remains(places: &Places, home: &Home, cgroup: &Cgroup) -> Result<State, StateError> {
    let damaged = match home.read() {
        Err(error @ StateError::Malformed(..)) => error,
        read => return read,
    };
    match read_plan(places, &home.name) {
        Some((plan, _)) if plan.name == home.name => Ok(planned(&plan, cgroup, true)),
        _ => Err(damaged),
    }
}

/// The limits of a plan that wants a cgroup.
pub fn limits(plan: &Plan) -> Option<CgroupLimits> {
    plan.steps.iter().find_map(|step| match &step.op {
        Op::Cgroup { limits } => Some(*limits),
        _ => None,
    })
}

/// Removes what a sandbox may have left on the host: cgroup, placeholders, layers.
/// All are tried; the first failure is told.
///
/// # Errors
/// What could not be removed.
pub fn undo(
    places: &Places,
    held: &Held,
    state: &State,
    plan: Option<&Plan>,
    helpers: Option<(&str, &str)>,
    keep: bool,
) -> Result<(), SessionError> {
    let mut result = Ok(());
    if let Some(group) = &state.cgroup {
        let removed = group.kill().and_then(|()| group.remove());
        result =
            removed.map_err(|error| SessionError::Launch(LaunchError::Cgroup(error.to_string())));
    }
    if let Some(made) = &state.placeholders {
        result = result.and(remove_placeholders(places, held, state, made));
    }
    if let (true, false, Some(plan)) = (state.layers, keep, plan) {
        let removed = places::open(&places.layers)
            .map_err(|error| SessionError::State(StateError::Places(error)))
            .and_then(|layers| {
                sweep::remove_layers(plan, helpers, &layers, &state.name)
                    .map_err(SessionError::Launch)
            });
        result = result.and(removed);
    }
    result
}

/// Removes those that nobody else relies on, and then relies on none itself: of
/// two sandboxes that end at once the second one removes them.
fn remove_placeholders(
    places: &Places,
    held: &Held,
    state: &State,
    made: &Placeholders,
) -> Result<(), SessionError> {
    let _locked = state::lock_placeholders(places)?;
    if let Some(relied_on) = relied_on(places, &state.name)? {
        workspace::remove(made, &relied_on)
            .map_err(|(path, errno)| SessionError::Placeholder(path, errno))?;
    }
    let without = State {
        placeholders: None,
        ..state.clone()
    };
    Ok(held.write(&without)?)
}

/// Placeholders that sandboxes other than `name` rely on. None where one of them
/// may rely on any: removed, the protection of a running sandbox would go.
fn relied_on(places: &Places, name: &str) -> Result<Option<ReliedOn>, StateError> {
    let mut all = ReliedOn::new();
    for other in state::names(places)?
        .into_iter()
        .filter(|other| other != name)
    {
        let made = match Home::open(places, &other).and_then(|home| home.read()) {
            Ok(state) => state.placeholders,
            Err(StateError::Malformed(..)) => match read_plan(places, &other) {
                Some((plan, _)) => placeholders(&plan),
                // Nothing runs in it any more.
                None if !lives(places, &other)? => None,
                None => return Ok(None),
            },
            // Gone meanwhile.
            Err(StateError::Missing(_) | StateError::File(_, "open", Errno::NOENT)) => None,
            Err(error) => return Err(error),
        };
        if let Some(made) = made {
            all.extend(made.paths.into_iter().map(|(path, _)| (made.inode, path)));
        }
    }
    Ok(Some(all))
}

/// Whether its supervisor holds its lock.
fn lives(places: &Places, name: &str) -> Result<bool, StateError> {
    match Held::take_over(places, name) {
        Ok(held) => Ok(held.is_none()),
        Err(StateError::Missing(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The placeholder steps of a plan, as state has them.
pub fn placeholders(plan: &Plan) -> Option<Placeholders> {
    let mut all: Option<Placeholders> = None;
    for step in &plan.steps {
        let Op::Placeholder { source, path, kind } = &step.op else {
            continue;
        };
        let workspace = plan.sources.get(*source)?;
        all.get_or_insert_with(|| Placeholders {
            workspace: workspace.path.clone(),
            inode: workspace.inode.unwrap_or_default(),
            paths: Vec::new(),
        })
        .paths
        .push((path.clone(), kind.clone()));
    }
    all
}
