//! What netd decides, without doing it: is a wanted network state well formed and below the ceiling, what does its
//! policy look like in nftables, and which steps lead from what the kernel has to what is wanted.
//!
//! Nothing here reads a file, a clock, a socket or a random number. Parse at the edge ([`spec`] -> [`validate`] ->
//! [`Desired`]), compile ([`policy`]), compare ([`plan`]); the acting crate performs the [`plan::Step`]s.

#![forbid(unsafe_code)]

pub mod model;

pub mod ceiling;
pub mod spec;

pub mod confirm;
pub mod desired;
pub mod entry;
pub mod explain;
pub mod mark_request;
pub mod validate;

pub mod bridges;
pub mod policy;
pub mod priorities;
pub mod rebound;
pub mod redirect;
pub mod routing;
pub mod service;
pub mod tunnel;

pub mod observed;
pub mod plan;

pub mod fake;

pub use ceiling::Ceiling;
pub use desired::{Delta, Desired, Peer, Wireguard};
pub use observed::Observed;
pub use plan::{Plan, Step};
