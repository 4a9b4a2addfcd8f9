//! [pure] x
