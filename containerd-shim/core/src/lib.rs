//! What the broker may do to Docker, decided without Docker: no I/O, no clock, no async.
//!
//! A caller names a *service*. What it asks for becomes a [`Request`] or a list of every fault; [`resolve`] picks the one
//! container that Docker lists for it; [`judge`] decides on what Docker then says of that container, and only its
//! [`Permit`]s can be executed. [`supervise`] decides what is started
//! again, [`backup`] what a backup holds. [`egress`] is the last look at what leaves for Docker, [`logs`] the first at what comes back.

#![forbid(unsafe_code)]

pub mod backup;
pub mod construct;
pub mod deploy;
mod docker;
pub mod egress;
mod judge;
mod lifecycle;
pub mod logs;
pub mod model;
mod request;
pub mod restore;
pub mod supervise;
mod verb;

pub use docker::{ApiVersion, OLDEST_API, Unreachable};
pub use judge::{Permit, Policy, Reason, Reasons, Unresolved, Verdict, judge, resolve};
pub use lifecycle::{can_restart, can_start, can_stop};
pub use request::{Fault, Request};
pub use verb::{Act, Role, Verb, act};
