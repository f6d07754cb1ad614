//! Starts a whole cell.
