//! [host] Removing what a sandbox may have left on the host: cgroup, placeholders, layers.

use crate::sandbox::launch::LaunchError;
use crate::sandbox::plan::{Op, Plan};
use crate::supervise::failure::SessionError;
use crate::supervise::places::{self, Places};
use crate::supervise::state::{self, Held, Placeholders, State, StateError};
use crate::supervise::{placeholders, sweep};

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
    let relied_on = state::relied_on(places, &state.name)?;
    placeholders::remove(made, &relied_on)
        .map_err(|(path, errno)| SessionError::Placeholder(path, errno))?;
    let without = State {
        placeholders: None,
        ..state.clone()
    };
    Ok(held.write(&without)?)
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
