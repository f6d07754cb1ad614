//! The laboratory: network namespaces, stock WireGuard clients, packet counters and probes, from which the end-to-end
//! tests, the demonstration, the red team and the benchmarks are built.
//!
//! Everything happens inside network namespaces and on loopback, and everything is torn down on drop, panics included.
//! Needs root, iproute2, nftables, wireguard-tools and, where the kernel has no WireGuard, wireguard-go.

#![forbid(unsafe_code)]

pub mod activation;
pub mod docker;
pub mod netns;
pub mod process;
pub mod topology;

pub mod counter;
pub mod openvpn_server;
pub mod probe;
pub mod prober;
pub mod publisher;
pub mod quick;
pub mod random;
pub mod resolver;
pub mod stock;
pub mod tools;
pub mod tor_network;
pub mod tun;

pub mod catalog;
pub mod cell;
pub mod household;
pub mod https;
pub mod legacy;
pub mod rest;
pub mod store;

pub mod measure;
pub mod report;
pub mod scenario;
