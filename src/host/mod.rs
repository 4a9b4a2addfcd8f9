//! [host] What this host can do: the probe that reads it and `doctor` that explains it.

pub mod facts;
