//! A cell that somebody has claimed, and the first device in it.

#[allow(unused_imports, reason = "shared by tests, each of which uses some of it")]
pub use cell_lab::household::{PASSWORD, USER, claimed, join};
