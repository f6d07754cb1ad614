//! vaultd, the only holder of the cell's keys. It signs, it stores, and it answers each caller on a listener of its own
//! with the few things that this caller may ask. What is decided, `cell-vaultd-core` decides; here is the doing.

#![forbid(unsafe_code)]

pub mod anchors;
pub mod authority;
pub mod clock;
pub mod config;
pub mod csr;
pub mod error;
pub mod files;
pub mod kek;
pub mod keyring;
pub mod log;
pub mod run;
pub mod service;
pub mod store;
pub mod vault;
pub mod wireguard;

pub use error::VaultError;
