//! Connections of type `cell_relay`: none is made by hand, each is derived from a link whose other cell offers an exit.

use std::collections::{BTreeMap, BTreeSet};

use super::allocation::{Allocation, Exhausted, Pools};
use super::id::ConnectionId;
use super::kind::Kind;

/// What tells links apart; a link keeps it as long as it is there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkId(pub String);

/// A link whose other cell offers an exit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// By which link.
    pub link: LinkId,
    /// What a new connection is identified by; unused where there is one already.
    pub fresh_id: ConnectionId,
}

/// A derived connection as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relay {
    /// By which link it goes.
    pub link: LinkId,
    /// Its identity.
    pub id: ConnectionId,
    /// Mark and table; no interface and no port.
    pub allocation: Allocation,
    /// Whether the other cell takes its offer back while somebody uses it: it leads nowhere, and stays bound.
    pub is_down: bool,
    /// Whether peers or services are bound to it, or fall back to it.
    pub is_used: bool,
}

/// What is to be done with one derived connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is made.
    Create {
        /// By which link.
        link: LinkId,
        /// Its identity.
        id: ConnectionId,
        /// What it was given.
        allocation: Allocation,
    },
    /// Its offer is gone and somebody uses it: it is kept, and is down.
    MarkDown(ConnectionId),
    /// Its offer is back.
    MarkUp(ConnectionId),
    /// Its offer is gone and nobody uses it.
    Remove(ConnectionId),
}

/// What leads from the stored connections to the offers. `pools` is what all connections use, these included; what is made is taken
/// from it. Idempotent: done, there is nothing to do. A connection keeps its identity, mark and table as long as it is there.
///
/// # Errors
/// [`Exhausted`]: there is no room for one of the offers. Nothing is to be done then.
pub fn reconcile_cell_relays(
    offers: &[Offer],
    existing: &[Relay],
    pools: &mut Pools,
) -> Result<Vec<Change>, Exhausted> {
    let offered: BTreeMap<&LinkId, &Offer> = offers.iter().map(|offer| (&offer.link, offer)).collect();
    let known: BTreeSet<&LinkId> = existing.iter().map(|relay| &relay.link).collect();
    let kept = existing.iter().filter_map(|relay| {
        match (offered.contains_key(&relay.link), relay.is_down, relay.is_used) {
            (true, true, _) => Some(Change::MarkUp(relay.id)),
            (true, false, _) | (false, true, true) => None,
            (false, false, true) => Some(Change::MarkDown(relay.id)),
            (false, _, false) => Some(Change::Remove(relay.id)),
        }
    });
    let mut changes: Vec<Change> = kept.collect();
    for (link, offer) in offered.into_iter().filter(|(link, _)| !known.contains(link)) {
        changes.push(Change::Create {
            link: link.clone(),
            id: offer.fresh_id,
            allocation: pools.allocate(&offer.fresh_id, Kind::CellRelay)?,
        });
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;
    use crate::connection::allocation::Device;

    fn offer(number: u8) -> Offer {
        Offer {
            link: LinkId(format!("link{number}")),
            fresh_id: ConnectionId::from_random([number; 16]),
        }
    }

    fn pools(relays: &[Relay]) -> Pools {
        Pools::of(relays.iter().map(|relay| (Kind::CellRelay, &relay.allocation))).unwrap()
    }

    fn done(mut relays: Vec<Relay>, changes: Vec<Change>) -> Vec<Relay> {
        for change in changes {
            match change {
                Change::Create { link, id, allocation } => relays.push(Relay {
                    link,
                    id,
                    allocation,
                    is_down: false,
                    is_used: false,
                }),
                Change::MarkDown(id) => relays
                    .iter_mut()
                    .filter(|one| one.id == id)
                    .for_each(|one| one.is_down = true),
                Change::MarkUp(id) => relays
                    .iter_mut()
                    .filter(|one| one.id == id)
                    .for_each(|one| one.is_down = false),
                Change::Remove(id) => relays.retain(|one| one.id != id),
            }
        }
        relays
    }

    #[test]
    fn an_offer_makes_one_that_has_a_mark_and_a_table_alone() {
        let changes = reconcile_cell_relays(&[offer(1)], &[], &mut Pools::default()).unwrap();
        let relays = done(vec![], changes);
        assert_eq!(relays.len(), 1);
        let Allocation { mark, table, device } = &relays[0].allocation;
        assert_eq!((*mark, *table, device), (0x1000, 1000, &Device::Link));
        assert_eq!(relays[0].id, offer(1).fresh_id);
    }

    #[test]
    fn one_in_use_is_down_while_its_offer_is_gone_and_comes_back_as_it_was() {
        let mut relays = done(
            vec![],
            reconcile_cell_relays(&[offer(1), offer(2)], &[], &mut Pools::default()).unwrap(),
        );
        relays[0].is_used = true;
        let before = relays.clone();
        let gone = reconcile_cell_relays(&[], &relays, &mut pools(&relays)).unwrap();
        assert_eq!(
            gone,
            [Change::MarkDown(before[0].id), Change::Remove(before[1].id)]
        );
        let relays = done(relays, gone);
        assert_eq!(
            reconcile_cell_relays(&[], &relays, &mut pools(&relays)),
            Ok(vec![])
        );
        let mut again = offer(1);
        again.fresh_id = ConnectionId::from_random([9; 16]);
        let back = reconcile_cell_relays(&[again], &relays, &mut pools(&relays)).unwrap();
        assert_eq!(back, [Change::MarkUp(before[0].id)]);
        assert_eq!(
            done(relays, back)[0],
            before[0],
            "its identity, mark and table are what they were"
        );
    }

    #[test]
    fn without_room_nothing_is_done() {
        let offers: Vec<Offer> = (0..=255).map(offer).collect();
        let relays = done(
            vec![],
            reconcile_cell_relays(&offers, &[], &mut Pools::default()).unwrap(),
        );
        let more = Offer {
            link: LinkId("more".into()),
            ..offer(7)
        };
        let offers: Vec<Offer> = offers.into_iter().chain([more]).collect();
        assert_eq!(
            reconcile_cell_relays(&offers, &relays, &mut pools(&relays)),
            Err(Exhausted::Marks)
        );
    }

    proptest! {
        #[test]
        fn done_once_there_is_nothing_left_to_do(
            rounds in prop::collection::vec((prop::collection::vec(0u8..12, 0..8), any::<u16>()), 1..8),
        ) {
            let mut relays: Vec<Relay> = Vec::new();
            for (offered, used) in rounds {
                for (at, relay) in relays.iter_mut().enumerate() {
                    relay.is_used = used >> (at % 16) & 1 == 1;
                }
                let offers: Vec<Offer> = offered.into_iter().map(offer).collect();
                let before = relays.clone();
                let changes = reconcile_cell_relays(&offers, &relays, &mut pools(&relays)).unwrap();
                relays = done(relays, changes);
                prop_assert_eq!(reconcile_cell_relays(&offers, &relays, &mut pools(&relays)), Ok(vec![]));
                for relay in &relays {
                    let is_offered = offers.iter().any(|offer| offer.link == relay.link);
                    prop_assert!(is_offered || relay.is_down && relay.is_used);
                    let was = before.iter().find(|one| one.id == relay.id);
                    prop_assert!(was.is_none_or(|was| was.allocation == relay.allocation));
                }
                prop_assert!(before.iter().all(|one| !one.is_used || relays.iter().any(|now| now.id == one.id)));
            }
        }
    }
}
