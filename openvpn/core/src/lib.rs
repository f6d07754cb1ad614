//! What cell-openvpn decides: which exits may be driven, the profile that OpenVPN is given, what its words on the management
//! socket mean, and when it is started anew. Pure: no socket, process, clock or secret store.
//!
//! OpenVPN is a program of somebody else's that strangers speak to, and a profile is a command line: so what it is given is put
//! together here from fields that were checked, and nothing is passed on because it was in a file.

#![forbid(unsafe_code)]

pub mod backoff;
pub mod directive;
pub mod exit;
pub mod management;
pub mod profile;
pub mod pushed;
pub mod request;
pub mod session;
mod words;
