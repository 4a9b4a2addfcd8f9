//! [pure] The descriptors a stage starts with: these numbers and no others.

/// Socket of the gateway to its supervisor (SOCK_SEQPACKET).
pub const GATEWAY: i32 = 3;
/// Socket of stage and init to their supervisor (SOCK_SEQPACKET).
pub const INIT: i32 = 4;
/// Sealed memfd with the Plan as JSON.
pub const PLAN: i32 = 5;
/// First of the mount sources that a privileged launcher opened, in the order
/// of `Plan::sources`; absent when the stage opens them itself.
pub const SOURCES: i32 = 6;
