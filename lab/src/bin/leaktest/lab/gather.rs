//! Which types of exits carry somebody just now, and how all of them come to: what happens to the machine is to meet each of them at
//! work. And since when what the API said is in force.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;
use cell_lab::rest::Rest;

use super::Lab;
use crate::kind::Kind;
use crate::met::Patience;
use crate::said::now;
use crate::speaker::Speaker;
use crate::transition::{Transition, Whose};
use crate::ways::{Place, Ways};

/// A peer of which something came out within this time is being carried: it speaks each 25 ms.
const LATELY: Duration = Duration::from_secs(1);
/// And it said that within this time: on a machine that is busy with other things queues are long, but what comes out later still is not
/// a sign that anything is carried now.
const SAID_LATELY: Duration = Duration::from_secs(10);
/// Between two looks at what is in force.
const LOOK: Duration = Duration::from_millis(50);

impl Lab<'_> {
    /// The types that carry one of these, by any protocol. All that are bound are fail-closed.
    pub fn carrying(&self, whose: Whose) -> Vec<Kind> {
        let carries = |kind: &Kind| Place::of(*kind).any(|place| self.is_heard(whose, place));
        Kind::ALL.into_iter().filter(carries).collect()
    }

    /// The types that carry devices by all protocols that they can, IPv4 and IPv6: one of them could be dead all the while, which
    /// another would hide.
    pub fn carrying_all(&self) -> Vec<Kind> {
        let carries = |kind: &Kind| Place::of(*kind).all(|place| self.is_heard(Whose::Devices, place));
        Kind::ALL.into_iter().filter(carries).collect()
    }

    /// Whether that far end is there and heard one of these lately, who is bound to it, by this protocol and family, of what was said
    /// after the last that happened: what was killed just now carries nothing.
    fn is_heard(&self, whose: Whose, place: Place) -> bool {
        let [heard, said] = [LATELY, SAID_LATELY].map(|time| now().saturating_sub(time));
        let said = said.max(self.over);
        let Place { exit, protocol, v6 } = place;
        let ear = &self.far[exit.index()].ear;
        let mut speakers = self.carried_by(whose, exit);
        self.is_there(exit) && speakers.any(|speaker| ear.hears(speaker, (protocol, v6), heard, said))
    }

    /// Whether its far end runs and has its link.
    pub(super) fn is_there(&self, kind: Kind) -> bool {
        self.far[kind.index()].is_up() && self.linked[kind.index()]
    }

    /// Sees to it that each type carries a device, and waits for that so long, and then for all protocols that it can carry. As little as
    /// possible is changed for it.
    ///
    /// # Errors
    /// When the cell does not do as it must.
    pub fn gather(&mut self, speakers: &[Speaker], patience: Patience) -> Result<()> {
        let carrying = self.carrying(Whose::Devices);
        self.raise()?;
        for kind in Kind::ALL.into_iter().filter(|kind| !carrying.contains(kind)) {
            self.bring_to(Whose::Devices, kind, speakers)?;
        }
        // Those that are late are not counted.
        let _late = until(patience.carrying, "each type to carry", || {
            (self.carrying(Whose::Devices).len() == Kind::ALL.len()).then_some(())
        });
        let _late = until(patience.whole, "each type to carry all that it can", || {
            (self.carrying_all().len() == Kind::ALL.len()).then_some(())
        });
        Ok(())
    }

    /// Sees to it that the types that this is about to meet carry somebody, and waits for that so long. Other types stay as they are.
    ///
    /// # Errors
    /// When the cell does not do as it must.
    pub fn bring(&mut self, transition: Transition, speakers: &[Speaker], patience: Duration) -> Result<()> {
        let whose = transition.whose();
        let carrying = self.carrying(whose);
        let mut late = self.touched(transition);
        late.retain(|kind| !carrying.contains(kind));
        for kind in &late {
            self.raise_one(*kind)?;
            self.bring_to(whose, *kind, speakers)?;
        }
        if transition == Transition::Delete {
            self.seat_on_spare(speakers)?;
        }
        // As above.
        let _late = until(patience, "a type to carry", || {
            let carrying = self.carrying(whose);
            late.iter().all(|kind| carrying.contains(kind)).then_some(())
        });
        Ok(())
    }

    fn bring_to(&mut self, whose: Whose, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let carried = self.carried_by(whose, kind).next();
        match carried {
            // What stands in for it may carry it still.
            Some(peer) if whose == Whose::Devices && self.peers[peer].fallback.is_some() => {
                self.set_fallback(peer, None)
            }
            Some(_) => Ok(()),
            None => self.seat(whose, kind, speakers),
        }
    }

    /// All far ends and their links are there again.
    pub(super) fn raise(&mut self) -> Result<()> {
        Kind::ALL.into_iter().try_for_each(|kind| self.raise_one(kind))
    }

    fn raise_one(&mut self, kind: Kind) -> Result<()> {
        if !self.far[kind.index()].is_up() {
            self.bring_up(kind.index())?;
        }
        if !self.linked[kind.index()] {
            let _up = self.far_link(kind)?;
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
