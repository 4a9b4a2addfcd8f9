//! [pure] Where a value came from, and how a mistake in it is shown; shared by policy and audit.

pub mod diagnostic;
pub mod mistakes;
pub mod nearest;
pub mod origin;
pub mod render;
pub mod text;
