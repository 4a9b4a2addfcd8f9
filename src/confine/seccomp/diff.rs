//! [pure] What one filter allows that another does not.

use super::{Filter, Rule, classes};
use crate::linux::syscall::Syscall;
use std::fmt;

/// A call that one filter allows, at least for some arguments, where the other refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The call.
    pub call: Syscall,
    /// The other filter allows it for some arguments, or the first for some only.
    pub in_part: bool,
    /// Arguments that tell the filters apart: allowed by the first, refused by the other.
    pub example: [u64; 6],
    /// The reason the first filter gives.
    pub why: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            call,
            in_part,
            example,
            why,
        } = self;
        write!(out, "{call}: {why}")?;
        if *in_part {
            let words = example.map(|word| format!("{word:#x}"));
            write!(out, " (for some arguments, such as {})", words.join(" "))?;
        }
        Ok(())
    }
}

/// Every call for which `there` allows something that `here` refuses, in the
/// order of their names. Exact: conditions are compared by what they decide,
/// not by their form. Both filters are of one architecture.
pub fn freer(there: &Filter, here: &Filter) -> Vec<Difference> {
    Syscall::ALL
        .iter()
        .filter_map(|&call| compare(there, here, call))
        .collect()
}

fn compare(there: &Filter, here: &Filter, call: Syscall) -> Option<Difference> {
    call.number(there.arch)?;
    let there_rule = there.rule(call).unwrap_or(Rule::Always(there.unlisted));
    let here_rule = here.rule(call).unwrap_or(Rule::Always(here.unlisted));
    let mut atoms = classes::atoms(there_rule);
    atoms.extend(classes::atoms(here_rule));
    let Some(inputs) = classes::inputs(atoms) else {
        let why = "conditions too many to compare".to_owned();
        return Some(Difference {
            call,
            in_part: true,
            example: [0; 6],
            why,
        });
    };
    let (mut example, mut in_part) = (None, false);
    for words in inputs {
        let args = classes::args(&words);
        if there_rule.verdict(&args).allows() && !here_rule.verdict(&args).allows() {
            example = example.or(Some(args));
        } else {
            in_part = true;
        }
    }
    let example = example?;
    Some(Difference {
        call,
        in_part,
        example,
        why: there.reason(call, &example).to_owned(),
    })
}
