//! What cell-wg decides: which requests are valid, what must change in the device, from which address a correspondent is
//! answered. Pure: no packet, key operation, descriptor or clock.

#![forbid(unsafe_code)]

pub mod dormant;
pub mod peers;
pub mod request;
pub mod sources;
