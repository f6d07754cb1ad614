//! The relay behind redirect exits: a process without capability or path, to which netd redirects the TCP connections of
//! peers, and which carries each through its exit or resets it.
//!
//! Nothing here dials where a connection was meant to go: what is dialled is a [`cell_egress_core::exit::Server`], and a
//! [`cell_egress_core::destination::Destination`] has no address to give. For cell-api alone [`connect`] dials containers of services, in networks that
//! the ceiling lists, and [`catalog`] servers of catalogs, at ports that it lists.

#![forbid(unsafe_code)]

pub mod config;
pub mod counters;
pub mod failure;
pub mod secrets;

pub mod dns;

pub mod carry;
pub mod catalog;
pub mod client;
pub mod connect;
pub mod dial;
pub mod relay;
pub mod ssh;

pub mod engine;
pub mod listener;
pub mod probe;
mod serve;

pub mod request;
pub mod service;
mod tunnel;
pub mod vault;
