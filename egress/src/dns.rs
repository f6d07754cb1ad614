//! The DNS relay: answers for the cell, and carries the rest of a peer's questions by the way of that peer alone.

pub mod authority;
pub mod cache;
pub mod canary;
pub mod counters;
pub mod listen;
pub mod marker;
pub mod relay;
pub mod request;
pub mod serve;
pub mod socket;
pub mod upstream;
pub mod way;
pub mod wire;
