//! netd as a library: the acting half of what `cell-netd-core` decides.
#![deny(unsafe_code)]

pub mod clock;
pub mod config;
pub mod explain;
pub mod kept;
pub mod kernel;
pub mod keys;
pub mod marks;

pub mod reconciler;
pub mod status;

pub mod proto;
pub mod service;

pub mod bench;
pub mod run;
