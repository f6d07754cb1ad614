//! cell-iptables: runs iptables-restore and ipset for a cell-netd that renders for legacy iptables, which itself starts no program.
//! What may be given to them is decided in `cell-iptables-core`.

#![forbid(unsafe_code)]

pub mod config;
pub mod program;
pub mod service;
