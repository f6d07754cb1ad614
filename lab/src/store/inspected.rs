//! What runs of the cell, judged by `lab/inspected.py` from what `docker inspect` says: by rules of its own, none of the broker's.

use std::process::Command;

use anyhow::{Result, ensure};

use super::{Storehouse, repository};
use crate::cell::Cell;
use crate::docker::Docker;
use crate::process::run_with_input;

/// How many containers were judged and found right: all that bear the cell's label.
///
/// # Errors
/// With every fault of each.
pub fn inspected(docker: &Docker<'_>, house: &Storehouse, cell: &Cell) -> Result<usize> {
    let told = docker.say(&[
        "ps",
        "--quiet",
        "--no-trunc",
        "--filter",
        "label=cell.owner=default",
    ])?;
    let ids: Vec<&str> = told.split_whitespace().collect();
    ensure!(!ids.is_empty(), "no container of the cell runs");
    let told = docker.say(&[&["inspect"], ids.as_slice()].concat())?;
    let mut checker = Command::new("python3");
    checker.arg(repository().join("lab/inspected.py"));
    // What containers of a cell may be given of the machine.
    for root in [
        house.dns(),
        house.path("caddy"),
        cell.home().join("run/broker-secrets"),
    ] {
        checker.arg("--root").arg(root);
    }
    run_with_input(&mut checker, &told)?;
    Ok(ids.len())
}
