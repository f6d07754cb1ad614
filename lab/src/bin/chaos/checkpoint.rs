//! A moment in which nothing is asked for: what was acknowledged is compared with what the API lists, and that with what the
//! kernel has, seen from outside.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use cell_lab::process::until;
use cell_lab::rest::Rest;
use serde_json::Value;

use crate::RECOVERY;
use crate::kernel::{Policy, wireguard_keys};
use crate::writer::{self, Shared};

/// What was found wrong so far.
#[derive(Debug, Default)]
pub struct Findings {
    /// How often it was looked.
    pub looks: usize,
    /// Acknowledged changes lost, or changes half there.
    pub lost: Vec<String>,
    /// What the kernel had otherwise than the list of peers says, after [`RECOVERY`].
    pub kernel: Vec<String>,
}

impl Findings {
    /// Waits until no change is on its way, and looks.
    ///
    /// # Errors
    /// When the cell does not answer in time.
    pub fn look(&mut self, rest: &mut Rest, shared: &Shared, namespace: &str) -> Result<()> {
        let _quiet = shared.quiet();
        self.looks += 1;
        let list = until(RECOVERY, "the cell to answer again", || {
            rest.get("/api/peers").ok()?.expect(200).ok()
        })?;
        self.lost
            .extend(shared.ledger().reconcile(&writer::peers(&list)?));
        let expected = Policy::of_peers(&list)?;
        let policy = || Policy::read(namespace).unwrap_or_default();
        let same = until(RECOVERY, "the kernel's policy", || {
            (policy() == expected).then_some(())
        });
        if same.is_err() {
            self.kernel.extend(policy().differences(&expected));
        }
        let same = until(RECOVERY, "WireGuard's peers", || {
            (wireguard(rest, namespace).ok()? == peers(&list)).then_some(())
        });
        if same.is_err() {
            let found = wireguard(rest, namespace).map(|found| format!("{found:?}"));
            let found = found.unwrap_or_else(|error| format!("{error:#}"));
            self.kernel.push(format!(
                "WireGuard has {found} and should have {:?}",
                peers(&list)
            ));
        }
        Ok(())
    }
}

/// Name and key of each peer of the API's list.
fn peers(list: &Value) -> BTreeSet<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let each = list["peers"].as_array().into_iter().flatten();
    each.map(|peer| (text(&peer["name"]), text(&peer["public_key"])))
        .collect()
}

/// The peers of the WireGuard device. Where WireGuard is the kernel's, wg(8) tells their keys; else netd tells what cell-wg
/// has, by name, and the empty name for a peer that is nobody's.
fn wireguard(rest: &mut Rest, namespace: &str) -> Result<BTreeSet<(String, String)>> {
    let list = rest.get("/api/peers")?.expect(200)?;
    let known = peers(&list);
    if let Some(keys) = wireguard_keys(namespace) {
        let found = |key: &String| {
            let of = known.iter().find(|(_, of)| of == key);
            of.cloned().unwrap_or_else(|| (String::new(), key.clone()))
        };
        return Ok(keys.iter().map(found).collect());
    }
    let status = rest.get("/api/wireguard/status")?.expect(200)?;
    let told = status["peers"].as_array().context("netd is not reachable")?;
    let names = told.iter().map(|peer| peer["name"].as_str().unwrap_or_default());
    let found = |name: &str| {
        let of = known.iter().find(|(of, _)| of == name);
        of.cloned().unwrap_or_else(|| (name.to_owned(), String::new()))
    };
    Ok(names.map(found).collect())
}
