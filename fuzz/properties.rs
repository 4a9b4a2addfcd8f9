//! What each fuzz target holds of any bytes; the tests run the same over the seeds.
#![allow(dead_code, reason = "every target uses one of these functions")]

use cofferdam::event::chain;
use cofferdam::policy::Policy;
use cofferdam::policy::expand::Expansion;
use cofferdam::policy::flags::FlagLayer;
use cofferdam::policy::validate::Surroundings;
use cofferdam::sandbox::message::{Order, Report};
use cofferdam::sandbox::plan::Plan;
use cofferdam::source::render::{Colour, render};
use cofferdam::source::text::Source;
use cofferdam::supervise::control::{Answer, Ask};
use cofferdam::supervise::state;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;

/// What was read is written and read again as the same value.
fn same_again<T: DeserializeOwned + Serialize + PartialEq + Debug>(bytes: &[u8]) -> Option<T> {
    let value: T = serde_json::from_slice(bytes).ok()?;
    let text = serde_json::to_vec(&value).expect("what was read can be written");
    let again: T = serde_json::from_slice(&text).expect("what was written can be read");
    assert_eq!(value, again);
    Some(value)
}

/// A policy is read, or refused with diagnostics that can be shown.
pub fn policy(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    let surroundings = Surroundings {
        expansion: &Expansion::default(),
        forbidden: &[],
        known_calls: &["ptrace", "read"],
    };
    match Policy::read(
        Source::file("p.toml", text),
        &FlagLayer::default(),
        &surroundings,
    ) {
        Ok(policy) => {
            let text = cofferdam::policy::effective::origins(&policy);
            assert!(!text.is_empty());
        }
        Err(diagnostics) => assert!(!render(&diagnostics, Colour::Never).is_empty()),
    }
}

/// A plan survives its JSON and can be shown.
pub fn plan(bytes: &[u8]) {
    if let Some(plan) = same_again::<Plan>(bytes) {
        assert!(plan.text().lines().count() > plan.steps.len());
        assert!(plan.layer_names().count() <= plan.steps.len());
    }
}

/// Whatever a hostile init, or a command of the same user, sends.
pub fn messages(bytes: &[u8]) {
    same_again::<Order>(bytes);
    same_again::<Report>(bytes);
    same_again::<Ask>(bytes);
    same_again::<Answer>(bytes);
}

/// A state file, perhaps half written.
pub fn state(bytes: &[u8]) {
    if let Ok(state) = state::parse(bytes) {
        let text = serde_json::to_vec(&state).expect("what was read can be written");
        assert_eq!(state::parse(&text), Ok(state));
    }
}

/// An event log next to the plan it began with: the first line is the plan.
pub fn events(bytes: &[u8]) {
    let at = bytes
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |at| at + 1);
    let (plan, lines) = bytes.split_at(at);
    if let Ok(verified) = chain::verify(plan, lines, None) {
        let head = verified.chain.head();
        assert!(chain::verify(plan, lines, Some(head)).is_ok());
        if !lines.is_empty() {
            // Without its end no prefix has the same head.
            assert!(chain::verify(plan, &lines[..lines.len() - 1], Some(head)).is_err());
        }
    }
}
