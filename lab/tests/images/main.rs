//! The containers of the catalog, each as the broker makes it: its manifest's own mounts, user and limits, a root that cannot be
//! written to, no capability, the broker's seccomp profile, on an internal network. Published clients are the witnesses.
//!
//! Images are built by `compose/images/build.sh`, once: `target/lab-cache/images` keeps them by what they are made from.

#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests, each a story with one container"
)]

mod calendar;
mod core;
#[path = "../../../containerd-shim/tests/support/dockerd.rs"]
#[allow(dead_code, reason = "shared with the broker's tests, which use the rest")]
mod dockerd;
mod files;
mod mail;
mod service;
