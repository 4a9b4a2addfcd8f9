//! Every probe inside, in each preset and by `exec`; then with its control taken away.
//!
//! `modes` shows that what must be refused is refused, `removals` that it is
//! refused by the control the catalogue names: without it the probe succeeds.
//! `code` does the same for controls that no plan can leave out.
//! That a probe can succeed at all is `positive_controls`' part.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    reason = "a test"
)]

#[path = "../probes/catalogue.rs"]
mod catalogue;
mod code;
mod modes;
mod plan;
mod removals;
mod site;
#[path = "../support/mod.rs"]
mod support;
