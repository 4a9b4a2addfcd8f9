//! Medians, and the rows of the table.

use std::fmt;
use std::time::Duration;

/// The first two lines of the table.
pub const HEAD: &str =
    "| what | measured | must | aim | medians |\n| --- | --- | --- | --- | --- |";

/// One line.
#[derive(Debug)]
pub struct Row {
    pub what: String,
    /// The ratio or the amount; why there is none.
    pub measured: String,
    pub must: &'static str,
    pub aim: &'static str,
    /// What it was made from.
    pub from: String,
}

impl fmt::Display for Row {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            what,
            measured,
            must,
            aim,
            from,
        } = self;
        write!(out, "| {what} | {measured} | {must} | {aim} | {from} |")
    }
}

impl Row {
    /// A comparison that could not be made.
    pub fn not_measured(what: &str, must: &'static str, aim: &'static str, why: &str) -> Self {
        Self {
            what: what.into(),
            measured: "not measured".into(),
            must,
            aim,
            from: why.trim().replace(['\n', '|'], " "),
        }
    }
}

/// The middle value.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        f64::midpoint(sorted[middle - 1], sorted[middle])
    }
}

/// The median of a[i] / b[i].
pub fn paired(a: &[f64], b: &[f64]) -> f64 {
    median(&a.iter().zip(b).map(|(a, b)| a / b).collect::<Vec<_>>())
}

pub fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
