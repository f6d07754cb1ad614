//! From the administrator's click to the device's page, for a service whose images are on the machine.

use std::time::Instant;

use anyhow::{Context, Result};
use cell_lab::household::DOMAIN;
use cell_lab::measure::{Goal, median};
use cell_lab::process::until;
use cell_lab::store::CONVERGED;
use serde_json::json;

use crate::Lab;

/// Two containers, behind the proxy.
pub const ID: &str = "calendar";
/// Somebody waits for it.
const GOAL_MS: f64 = 15_000.0;

/// Adds the rows, and leaves the service there, at the address that is answered: an address that was freed rests, so that each installation
/// has another.
pub fn run(lab: &mut Lab<'_>) -> Result<String> {
    let (mut found, mut removed) = (Vec::new(), Vec::new());
    let url = format!("https://{ID}.{DOMAIN}/");
    for round in 0..=lab.size.rounds.min(5) {
        if round > 0 {
            let start = Instant::now();
            lab.wishes.remove(ID)?;
            lab.wishes.gone(ID)?;
            removed.push(start.elapsed());
        }
        let start = Instant::now();
        lab.wishes.install(ID, &json!({"allowed_peers": ["phone"]}))?;
        until(CONVERGED, &url, || {
            (lab.phone.status(&url, &[]).ok()? == "302").then_some(())
        })
        .with_context(|| lab.cell.output())?;
        found.push(start.elapsed());
    }
    let found = median(found).context("no round")?;
    lab.bench.judge(
        "from the click to the page on a device",
        found.as_secs_f64() * 1e3,
        "ms",
        Goal::AtMost(GOAL_MS),
    );
    let removed = median(removed).context("no round")?;
    lab.bench
        .time("from the click until it is gone with its data", removed);
    let told = lab.wishes.installed(ID)?;
    Ok(told["address"].as_str().context("no address")?.to_owned())
}
