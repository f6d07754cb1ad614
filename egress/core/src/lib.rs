//! What cell-egress decides: which exits may be served, whom a connection is for, what is said to an exit and what its
//! answers mean, who is let in. Pure: no socket, clock or secret store.
//!
//! A [`destination::Destination`] can be told to an exit and cannot be dialled: it gives its address to nobody. So there is no
//! way from an accepted connection to a direct one.

#![forbid(unsafe_code)]

pub mod destination;
pub mod exit;
pub mod pin;
pub mod request;
pub mod secret;
pub mod table;

pub mod credentials;
pub mod handshake;
pub mod http_connect;
pub mod socks5;

pub mod dns;

pub mod admission;
pub mod backoff;
pub mod policy;
