//! Makes changes all the time and writes down what was acknowledged.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cell_lab::random::Random;
use cell_lab::rest::{Answer, Rest};
use serde_json::{Value, json};

use crate::ledger::{Ledger, Peer};

/// Writers at once: most of the time a change waits for a daemon that is just coming back.
pub const WRITERS: u16 = 6;

/// Name prefix of the peers that writers make, so that those of the traffic are left alone.
const PREFIX: &str = "chaos-";

/// What all that change the cell share.
#[derive(Debug, Clone, Default)]
pub struct Shared {
    /// Whether to stop.
    pub stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    /// Held to read while a change is asked for, and to write while the cell is looked at.
    quiet: Arc<RwLock<()>>,
}

impl Shared {
    /// What was asked for and acknowledged so far.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hold it while a change is asked for.
    pub fn going_on(&self) -> RwLockReadGuard<'_, ()> {
        self.quiet.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no change is on its way, and lets none begin while it is held.
    pub fn quiet(&self) -> RwLockWriteGuard<'_, ()> {
        self.quiet.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes until told to stop. Each writer has numbers, and so names, keys and ports, of its own.
pub fn spawn(mut rest: Rest, shared: Shared, seed: u64, writer: u16) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut random = Random::new(seed ^ u64::from(writer + 1));
        let mut number = writer + 1;
        while !shared.stop.load(Ordering::Relaxed) {
            number += WRITERS;
            let going_on = shared.going_on();
            one_change(&mut rest, &shared, &mut random, number);
            drop(going_on);
            std::thread::sleep(Duration::from_millis(random.below(60)));
        }
    })
}

/// Whether a peer is the writer's whose turn `number` is.
fn is_own(name: &str, number: u16) -> bool {
    let of = name.strip_prefix(PREFIX).and_then(|of| of.parse::<u16>().ok());
    of.is_some_and(|of| of % WRITERS == number % WRITERS)
}

fn one_change(rest: &mut Rest, shared: &Shared, random: &mut Random, number: u16) {
    let certain: Vec<String> = shared
        .ledger()
        .certain()
        .filter(|name| is_own(name, number))
        .map(str::to_owned)
        .collect();
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
        Some(true) => shared.ledger().acknowledge(&name, state),
        Some(false) => {} // refused: nothing was to change
        None => shared.ledger().silence(&name, state),
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

/// The writers' peers in a list of the API.
///
/// # Errors
/// When it is none.
pub fn peers(list: &Value) -> Result<BTreeMap<String, Peer>> {
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
