//! Makes changes all the time and writes down what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cell_lab::rest::{Answer, Rest};
use serde_json::{Value, json};

use crate::ledger::{Ledger, Peer};

/// Writers at once: most of the time a change waits for a daemon that is just coming back.
pub const WRITERS: u16 = 6;

/// Name prefix of the peers that writers make, so that those of the traffic are left alone.
const PREFIX: &str = "chaos-";

/// A small generator (SplitMix64): the run can be repeated from its seed.
pub struct Random(u64);

impl Random {
    /// From a seed.
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// Writes until told to stop, and answers what it wrote. Each writer has numbers, and so names, keys and ports, of its own.
pub fn spawn(mut rest: Rest, stop: Arc<AtomicBool>, seed: u64, writer: u16) -> JoinHandle<Ledger> {
    std::thread::spawn(move || {
        let mut random = Random::new(seed ^ u64::from(writer + 1));
        let (mut ledger, mut number) = (Ledger::default(), writer + 1);
        while !stop.load(Ordering::Relaxed) {
            number += WRITERS;
            one_change(&mut rest, &mut ledger, &mut random, number);
            std::thread::sleep(Duration::from_millis(random.below(60)));
        }
        ledger
    })
}

fn one_change(rest: &mut Rest, ledger: &mut Ledger, random: &mut Random, number: u16) {
    let certain: Vec<String> = ledger.certain().map(str::to_owned).collect();
    let chosen = certain
        .get(usize::try_from(random.below(certain.len().max(1) as u64)).unwrap_or(0))
        .cloned();
    let (name, state, answer) = match (random.below(3), chosen) {
        (0, _) | (_, None) => {
            let (name, peer) = (format!("{PREFIX}{number}"), peer(number));
            let mut body = wanted(&peer);
            body["name"] = json!(name);
            (name, Some(peer), rest.post("/api/peers", &body))
        }
        (1, Some(name)) => {
            let peer = peer(number);
            let answer = rest.put(&format!("/api/peers/{name}"), &wanted(&peer));
            (name, Some(peer), answer)
        }
        (_, Some(name)) => {
            let answer = rest.delete(&format!("/api/peers/{name}"));
            (name, None, answer)
        }
    };
    match acknowledged(answer) {
        Some(true) => ledger.acknowledge(&name, state),
        Some(false) => {} // refused: nothing was to change
        None => ledger.silence(&name, state),
    }
}

/// Whether the cell said yes, no, or nothing that can be relied on.
fn acknowledged(answer: Result<Answer>) -> Option<bool> {
    match answer.ok()?.status {
        200..=299 => Some(true),
        400..=499 => Some(false),
        _ => None,
    }
}

fn peer(number: u16) -> Peer {
    let mut key = [0x42; 32];
    key[..2].copy_from_slice(&number.to_be_bytes());
    Peer {
        public_key: STANDARD.encode(key),
        service_port: number,
    }
}

/// A request that sets both halves of a peer.
fn wanted(peer: &Peer) -> Value {
    let service = json!({"address": "192.168.77.50", "protocol": "tcp", "port": peer.service_port});
    json!({"public_key": peer.public_key, "access": {"services": [service]}})
}

/// The writers' peers as the cell has them.
///
/// # Errors
/// When the cell does not answer, or answers something else.
pub fn peers(rest: &mut Rest) -> Result<BTreeMap<String, Peer>> {
    let list = rest.get("/api/peers")?.expect(200)?;
    let mut found = BTreeMap::new();
    for peer in list["peers"].as_array().context("no list of peers")? {
        let name = peer["name"].as_str().context("a peer has a name")?;
        if !name.starts_with(PREFIX) {
            continue;
        }
        let port = peer["access"]["services"][0]["port"]
            .as_u64()
            .context("a peer has a service")?;
        let key = peer["public_key"].as_str().context("a peer has a key")?;
        found.insert(
            name.to_owned(),
            Peer {
                public_key: key.to_owned(),
                service_port: u16::try_from(port)?,
            },
        );
    }
    Ok(found)
}

/// Whether netd confirmed the last change.
///
/// # Errors
/// When the cell does not answer.
pub fn converged(rest: &mut Rest) -> Result<bool> {
    let status = rest.get("/api/status")?.expect(200)?;
    Ok(status["generation"] == status["observed_generation"])
}
