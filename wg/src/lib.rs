//! Userspace WireGuard for kernels that have none: a process without capability, network or path of its own, which
//! works on the TUN and UDP sockets that netd made and on nothing else.

#![forbid(unsafe_code)]

pub mod config;
pub mod handover;
pub mod tun;

pub mod datagram;
pub mod udp;

pub mod device;
pub mod door;
pub mod request;
pub mod running;
pub mod service;

pub mod listener;

pub use cell_wg_core::{dormant, peers, sources};
