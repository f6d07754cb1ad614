//! What every Cell process does to itself before it reads its first byte from outside.
//!
//! A daemon's `main` is, in this order, with only one thread running:
//!
//! 1. [`inherited_descriptors`] takes the listeners and closes what nobody meant to pass on;
//! 2. read the policy file, look users up, open what lies outside the paths of the profile;
//! 3. [`Readiness::connect`], where the profile has no Unix sockets (it is harmless elsewhere);
//! 4. [`Sandbox::enter`] on the daemon's [`profiles`] entry, and log the [`Report`];
//! 5. build the tokio runtime and serve.
//!
//! From step 4 on there is no way to start a program, to gain a right, or to open anything that the profile does not
//! name. Fail closed: a step that the kernel offers and that fails ends the daemon; a step that an old kernel lacks is
//! named in [`Report::missing`].
//!
//! The project's unsafe code lives here as far as possible.

mod calls;
mod capabilities;
mod descriptors;
mod enter;
mod filter;
pub mod identity;
mod listener;
pub mod memory;
mod paths;
mod peer;
mod process;
pub mod profiles;
mod readiness;
mod status;

pub use calls::Family;
pub use caps::Capability;
pub use descriptors::inherited_descriptors;
pub use enter::{Error, Report, Sandbox};
pub use listener::never_connects;
pub use peer::{UnitCgroup, peer_cgroup, unit_cgroup};
pub use readiness::Readiness;
