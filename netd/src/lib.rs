//! netd as a library: the acting half of what `cell-netd-core` decides.
#![deny(unsafe_code)]

pub mod kernel;
