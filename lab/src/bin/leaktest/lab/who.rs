//! Who is bound to which type of exit, devices and services alike, and how they come to others.

use anyhow::{Context, Result};

use super::Lab;
use crate::ear::FIRST_SERVICE;
use crate::kind::Kind;
use crate::speaker::Speaker;
use crate::transition::{Transition, Whose};

/// As many devices are bound as there are types, and as many services.
const MANY: usize = Kind::ALL.len();

impl Whose {
    /// The number of the first of them among speakers.
    fn first(self) -> usize {
        match self {
            Whose::Devices => 0,
            Whose::Services => FIRST_SERVICE,
        }
    }
}

/// All of them, from this one on.
fn from(place: usize) -> impl Iterator<Item = usize> {
    (0..MANY).map(move |more| (place + more) % MANY)
}

impl Lab<'_> {
    /// The speakers whose own exit is of this type and can carry them.
    pub(super) fn carried_by(&self, whose: Whose, kind: Kind) -> impl Iterator<Item = usize> {
        let all = whose.first()..whose.first() + MANY;
        all.filter(move |speaker| self.carrier(*speaker) == Some(kind))
    }

    fn carrier(&self, speaker: usize) -> Option<Kind> {
        match speaker.checked_sub(FIRST_SERVICE) {
            Some(service) => Some(self.services[service].exit),
            None => self.peers[speaker].carrier,
        }
    }

    fn exit(&self, whose: Whose, place: usize) -> Option<Kind> {
        match whose {
            Whose::Devices => self.peers[place].exit,
            Whose::Services => Some(self.services[place].exit),
        }
    }

    fn bind_to(&mut self, whose: Whose, place: usize, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        match whose {
            Whose::Devices => self.assign(place, kind, speakers),
            Whose::Services => self.assign_service(place, kind, speakers),
        }
    }

    /// Gives the first from this one on that has another exit one of this type: to whom it has that already nothing would happen.
    /// Answers the type; none: all have it.
    pub(super) fn give(
        &mut self,
        whose: Whose,
        one: usize,
        kind: Kind,
        speakers: &[Speaker],
    ) -> Result<Option<Kind>> {
        let has = |place: usize| {
            let is_first = whose == Whose::Services || !self.peers[place].on_spare;
            is_first && self.exit(whose, place) == Some(kind)
        };
        let Some(place) = from(one).find(|place| !has(*place)) else {
            return Ok(None);
        };
        self.bind_to(whose, place, kind, speakers)?;
        Ok(Some(kind))
    }

    /// Who exchange their exits, and for which: the first from this one on that has one of another type, with that, and the first that
    /// has one of this type. None: nobody has it, or everybody.
    fn pair(&self, whose: Whose, one: usize, kind: Kind) -> Option<(usize, Kind, usize)> {
        let other = from(one).find(|place| self.exit(whose, *place) == Some(kind))?;
        from(one).find_map(|place| {
            let exit = self.exit(whose, place).filter(|exit| *exit != kind)?;
            Some((place, exit, other))
        })
    }

    /// Two whose exits differ exchange them; answers both types.
    pub(super) fn swap(
        &mut self,
        whose: Whose,
        one: usize,
        kind: Kind,
        speakers: &[Speaker],
    ) -> Result<Vec<Kind>> {
        if self.pair(whose, one, kind).is_none() {
            let next = Kind::ALL[(kind.index() + 1) % MANY];
            let is_everybodys = self.exit(whose, one) == Some(kind);
            self.bind_to(whose, one, if is_everybodys { next } else { kind }, speakers)?;
        }
        let pair = self.pair(whose, one, kind);
        let (place, exit, other) = pair.context("two whose exits differ")?;
        self.bind_to(whose, place, kind, speakers)?;
        self.bind_to(whose, other, exit, speakers)?;
        Ok(vec![kind, exit])
    }

    /// Somebody whose exit carries others too, or who has one that carries nothing, is given one of this type. There are as many as
    /// types: where one has nobody, there is such a one.
    pub(super) fn seat(&mut self, whose: Whose, kind: Kind, speakers: &[Speaker]) -> Result<()> {
        let place = self.free(whose).unwrap_or_default();
        self.bind_to(whose, place, kind, speakers)?;
        match whose {
            Whose::Devices => self.set_fallback(place, None),
            Whose::Services => Ok(()),
        }
    }

    fn free(&self, whose: Whose) -> Option<usize> {
        let is_free = |place: &usize| match self.carrier(whose.first() + place) {
            Some(carrier) => self.carried_by(whose, carrier).count() > 1,
            None => true,
        };
        (0..MANY).find(is_free)
    }

    /// Somebody has what was created last, if that is there: its deletion is to move them. Not the only one that the first of its type
    /// carries: where what was created can carry nothing, none would be carried then.
    pub(super) fn seat_on_spare(&mut self, speakers: &[Speaker]) -> Result<()> {
        if let Some((_, kind)) = self.spare
            && !self.peers.iter().any(|peer| peer.on_spare)
        {
            let others = || (0..MANY).find(|place| self.peers[*place].carrier != Some(kind));
            let place = self.free(Whose::Devices).or_else(others).unwrap_or_default();
            self.create_spare(kind, place, speakers)?;
        }
        Ok(())
    }

    /// The types that this is about to meet, where it matters who uses them; what only comes back needs nobody.
    pub fn touched(&self, transition: Transition) -> Vec<Kind> {
        let (whose, is_new) = (transition.whose(), self.spare.is_none());
        let one = match transition {
            Transition::Swap(one, kind) | Transition::SwapServices(one, kind) => {
                let other = self.pair(whose, one, kind).map(|(_, exit, _)| exit);
                return other.into_iter().chain([kind]).collect();
            }
            Transition::Create(kind, _) => is_new.then_some(kind),
            Transition::Delete => self.spare.as_ref().map(|(_, kind)| *kind),
            Transition::FarEnd(kind) => self.far.iter().all(|far| far.is_up()).then_some(kind),
            Transition::FarLink(kind) => self.linked.iter().all(|linked| *linked).then_some(kind),
            Transition::Program(_) => Some(Kind::Openvpn),
            _ => transition.exit_type(),
        };
        Vec::from_iter(one)
    }
}
