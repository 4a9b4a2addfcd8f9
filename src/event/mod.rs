//! [pure] To be replaced within this commit series.
