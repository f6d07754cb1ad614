//! gRPC over Unix sockets: one listener per caller class, the caller known before a message is decoded.

pub mod caller;
pub mod connect;
mod malformed;
pub mod policy;
pub mod serve;

pub use caller::{Caller, CallerPolicy, Refusal};
pub use connect::connect;
pub use serve::{Listeners, serve};
