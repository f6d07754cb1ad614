//! `cell-launch`: starts a whole cell in the foreground, each daemon as its own user with exactly the rights that
//! `docs/runtime.md` gives it. It does by hand what systemd does for the units in `systemd/`.
//!
//! What is to be done is decided first, as plain data ([`house`], [`settings`], [`policy`], [`plan`]); the other modules
//! do it. [`run`] is the story from the first check to the last signal.

#![forbid(unsafe_code)]

pub mod error;
pub mod house;
pub mod options;
pub mod plan;
pub mod policy;
pub mod settings;

pub mod accounts;
pub mod backoff;
pub mod child;
pub mod clean_host;
pub mod container;
pub mod exec_daemon;
pub mod files;
pub mod handover;
pub mod host;
pub mod leftovers;
pub mod network;
pub mod ports;
pub mod preflight;
pub mod run;
pub mod sockets;
pub mod supervisor;
pub mod view;
