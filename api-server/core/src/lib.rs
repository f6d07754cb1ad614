//! The cell's model: what a cell, a peer, a policy, a first run and an audit record are, and what netd is to be told.
//!
//! Nothing here does I/O, reads a clock or draws a random number: times, random bytes and stored state are arguments.

#![forbid(unsafe_code)]

pub mod fault;
pub mod fields;
pub mod flow;
mod json;

pub mod access;
pub mod key;
pub mod name;
pub mod peer;
pub mod public;
pub mod range;

pub mod connection;
pub mod domain;
pub mod migrate;
pub mod published;
pub mod service_network;
pub mod services;

pub mod certificates;
pub mod client_config;
pub mod derive;
pub mod plan;

pub mod lockout;
pub mod password;
pub mod role;
pub mod setup;
pub mod throttle;
pub mod waiting;

pub mod audit;
pub mod host;
