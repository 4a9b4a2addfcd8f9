//! [pure] Policy to our own rule values — seccomp, Landlock — and the checker that proves a compiled filter.
