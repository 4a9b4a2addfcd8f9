//! [pure] Sizes, durations and names as people write them.
