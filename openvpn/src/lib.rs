//! `cell-openvpn`: drives Debian's OpenVPN, one unprivileged process for each exit, on TUNs that netd made for its user.
//!
//! [`run`] has what an exit's task does: secrets from vaultd, a profile over a pipe, the management socket, and a pause when the
//! program ended. What any of that means is decided in `cell-openvpn-core`.

#![forbid(unsafe_code)]

pub mod config;
pub mod lines;
pub mod management;
pub mod request;
pub mod run;
pub mod service;
pub mod supervisor;
pub mod vault;
