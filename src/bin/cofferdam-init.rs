//! [main] Dispatch only.

fn main() {}
