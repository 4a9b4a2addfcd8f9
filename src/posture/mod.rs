//! [host] To be replaced within this commit series.
