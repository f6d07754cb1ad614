//! Which types of exits carry somebody just now, and how all of them come to: what happens to the machine is to meet each of them at
//! work. And since when what the API said is in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;
use cell_lab::rest::Rest;

use super::Lab;
use crate::kind::Kind;
use crate::said::now;
use crate::speaker::Speaker;
use crate::ways::Ways;

/// A peer of which something came out within this time is being carried: it speaks each 25 ms.
const LATELY: Duration = Duration::from_secs(1);
/// And it said that within this time: on a machine that is busy with other things queues are long, but what comes out later still is not
/// a sign that anything is carried now.
const SAID_LATELY: Duration = Duration::from_secs(10);
/// Between two looks at what is in force.
const LOOK: Duration = Duration::from_millis(50);

impl Lab<'_> {
    /// The types whose far end is there and heard a peer lately that is bound to them, of what it said after the last that happened:
    /// what was killed just now carries nothing. All bound peers are fail-closed.
    pub fn carrying(&self) -> Vec<Kind> {
        let [heard, said] = [LATELY, SAID_LATELY].map(|time| now().saturating_sub(time));
        let said = said.max(self.over);
        let is_heard = |kind: Kind| {
            let ear = &self.far[kind.index()].ear;
            let mut peers = self.peers.iter().enumerate();
            peers.any(|(place, peer)| {
                peer.carrier == Some(kind)
                    && ear.heard_after(place, heard).is_some()
                    && ear.said_after(place, said).is_some()
            })
        };
        let all = Kind::ALL.into_iter();
        all.filter(|kind| self.is_there(*kind) && is_heard(*kind))
            .collect()
    }

    /// Whether its far end runs and has its link.
    pub(super) fn is_there(&self, kind: Kind) -> bool {
        self.far[kind.index()].is_up() && self.linked[kind.index()]
    }

    /// Sees to it that each type carries somebody, and waits for that so long. As little as possible is changed for it.
    ///
    /// # Errors
    /// When the cell does not do as it must.
    pub fn gather(&mut self, speakers: &[Speaker], patience: Duration) -> Result<()> {
        let carrying = self.carrying();
        self.raise()?;
        for kind in Kind::ALL.into_iter().filter(|kind| !carrying.contains(kind)) {
            let carried = self.carried_by(kind).next();
            match carried {
                // What stands in for it may carry it still.
                Some(peer) if self.peers[peer].fallback.is_some() => self.set_fallback(peer, None)?,
                Some(_) => {}
                None => self.assign_free(kind, speakers)?,
            }
        }
        // Those that are late are not counted.
        let _late = until(patience, "each type to carry", || {
            (self.carrying().len() == Kind::ALL.len()).then_some(())
        });
        Ok(())
    }

    /// A peer that is not the only one of its type. There are as many as types: where one has none, another has two, or one has
    /// what carries nothing.
    fn assign_free(&mut self, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let mut bound = 0..Kind::ALL.len();
        let free = bound.find(|peer| match self.peers[*peer].carrier {
            Some(carrier) => self.carried_by(carrier).count() > 1,
            None => true,
        });
        let peer = free.unwrap_or_default();
        self.assign(peer, kind, speakers)?;
        self.set_fallback(peer, None)
    }

    fn carried_by(&self, kind: Kind) -> impl Iterator<Item = usize> {
        let peers = self.peers.iter().enumerate();
        peers.filter_map(move |(place, peer)| (peer.carrier == Some(kind)).then_some(place))
    }

    /// All far ends and their links are there again.
    pub(super) fn raise(&mut self) -> Result<()> {
        for kind in Kind::ALL {
            if !self.far[kind.index()].is_up() {
                self.bring_up(kind.index())?;
            }
        }
        if let Some(place) = self.linked.iter().position(|linked| !linked) {
            let _up = self.far_link(Kind::ALL[place])?;
        }
        Ok(())
    }

    /// Somebody who asks beside what happens.
    pub fn onlooker(&self) -> Rest {
        self.rest.clone()
    }
}

/// Keeps looking since when what the API said is in force, while something is not: what it wants has been observed.
pub fn watch(mut rest: Rest, ways: &Ways, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK);
        if !ways.are_moving() {
            continue;
        }
        let asked = now();
        // It may be dead: then nothing is known.
        let status = rest.get("/api/status").ok().filter(|answer| answer.status == 200);
        let Some(status) = status.map(|answer| answer.json()) else {
            continue;
        };
        let is_known = status["generation"].is_u64();
        if is_known && status["generation"] == status["observed_generation"] {
            ways.are_in_force(asked);
        }
    }
}
