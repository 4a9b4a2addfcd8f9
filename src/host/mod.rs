//! [host] What this host can do: the probe that reads it and `doctor` that explains it.

mod accounts;
mod cgroups;
pub mod deep;
pub mod doctor;
pub mod facts;
mod ids;
pub mod mounts;
mod namespaces;
mod network;
pub mod probe;
mod read;
mod visible;
