//! [host] To be replaced within this commit series.

pub mod posture;
