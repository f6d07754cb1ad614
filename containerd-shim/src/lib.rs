//! The only process of the cell that holds Docker's socket. Thin: what may be done is decided in `cell-broker-core`.
//!
//! A request goes down this list of modules, and stops at the first that says no: [`service`] (wire to checked request),
//! [`broker`] (look up, inspect, judge, act), [`engine`] (Docker). Services are made by [`deploy`], and
//! what they keep is read by [`backup`].

#![forbid(unsafe_code)]

mod audit;
pub mod backup;
pub mod binds;
pub mod broker;
pub mod config;
pub mod deploy;
pub mod engine;
pub mod service;
mod status;

pub use config::Config;
