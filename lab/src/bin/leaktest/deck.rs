//! In which order things happen: each of its kind, exit type and signal once before any is left to chance.

use std::collections::{BTreeSet, VecDeque};

use cell_lab::random::Random;
use nix::sys::signal::Signal;

use crate::kind::Kind;
use crate::transition::Transition;

/// Every so many transitions it is the turn of what takes seconds: Docker, cell-wg, the cell's own tunnel.
const RARELY: usize = 50;
const SIGNALS: [Signal; 2] = [Signal::SIGKILL, Signal::SIGTERM];
const DAEMONS: [&str; 6] = ["netd", "egress", "api", "vaultd", "tor", "openvpn"];

/// Once each kind was there, every so many transitions it is the turn of what is lacking.
const LACKING: usize = 4;

/// What happens, one after the other; of one seed always the same, but for what is lacking.
#[derive(Debug)]
pub struct Deck {
    random: Random,
    peers: usize,
    has_wg: bool,
    dealt: usize,
    cards: VecDeque<Transition>,
    kinds: BTreeSet<String>,
    machine: Vec<Transition>,
}

impl Deck {
    /// Of so many peers, and as many services. `has_wg`: there is a cell-wg.
    pub fn new(seed: u64, peers: usize, has_wg: bool) -> Self {
        let mut random = Random::new(seed);
        let mut all = all(&mut random, peers, has_wg);
        shuffle(&mut all, &mut random);
        // One of each kind first, so that a run of few transitions has all kinds.
        let mut kinds = BTreeSet::new();
        let (first, more): (Vec<_>, Vec<_>) = all.into_iter().partition(|card| kinds.insert(card.kind()));
        let machine = first.iter().copied().filter(|card| card.is_of_the_machine());
        let machine = machine.collect();
        let mut cards: Vec<_> = first.into_iter().chain(more).collect();
        create_before_delete(&mut cards);
        Deck {
            random,
            peers,
            has_wg,
            dealt: 0,
            cards: cards.into(),
            kinds,
            machine,
        }
    }

    /// The next. `lacking`: what has not met all that it must.
    pub fn deal(&mut self, lacking: Option<Transition>) -> Transition {
        self.dealt += 1;
        if let Some(card) = lacking.filter(|_| self.dealt > self.kinds.len())
            && self.dealt.is_multiple_of(LACKING)
        {
            return card;
        }
        let rarely = self.dealt % RARELY == RARELY / 2;
        let (random, peers) = (&mut self.random, self.peers);
        let card = self.cards.pop_front();
        card.unwrap_or_else(|| Transition::draw(random, peers, rarely, self.has_wg))
    }

    /// The names of all kinds that are dealt.
    pub fn kinds(&self) -> &BTreeSet<String> {
        &self.kinds
    }

    /// One of each kind of what happens to the whole machine.
    pub fn of_the_machine(&self) -> &[Transition] {
        &self.machine
    }
}

/// Each kind, with each exit type or signal that it may have; who meets it is drawn.
fn all(random: &mut Random, peers: usize, has_wg: bool) -> Vec<Transition> {
    let mut cards = vec![
        Transition::Bridge(random.place(peers)),
        Transition::Fallback(random.place(peers), None),
        Transition::Uplink,
        Transition::Flush,
        Transition::NoRules,
        Transition::NoRoutes,
        Transition::ForeignRule,
        Transition::Conntrack,
        Transition::NoTunnel,
        Transition::Headless,
        Transition::FlushHeadless,
    ];
    for kind in Kind::ALL {
        cards.extend([
            Transition::Create(kind, random.place(peers)),
            Transition::Delete,
            Transition::DeleteUsed(kind),
            Transition::Assign(random.place(peers), kind),
            Transition::Swap(random.place(peers), kind),
            Transition::Service(random.place(peers), kind),
            Transition::SwapServices(random.place(peers), kind),
            Transition::Fallback(random.place(peers), Some(kind)),
            Transition::FarEnd(kind),
            Transition::FarLink(kind),
        ]);
    }
    for tunnel in Kind::TUNNELS {
        cards.extend([Transition::Interface(tunnel), Transition::NoInterface(tunnel)]);
    }
    for signal in SIGNALS {
        let daemons = DAEMONS.into_iter().chain(has_wg.then_some("wg"));
        cards.extend(daemons.map(|name| Transition::Daemon(name, signal)));
        cards.extend([Transition::Docker(signal), Transition::Program(signal)]);
    }
    cards
}

/// By Fisher and Yates.
fn shuffle(cards: &mut [Transition], random: &mut Random) {
    for last in (1..cards.len()).rev() {
        cards.swap(last, random.place(last + 1));
    }
}

/// One connection is created at a time: where creations and deletions lie, they take turns, or some of them would meet nothing.
fn create_before_delete(cards: &mut [Transition]) {
    let mut creations: VecDeque<_> = cards
        .iter()
        .copied()
        .filter(|card| matches!(card, Transition::Create(..)))
        .collect();
    let mut is_there = false;
    for card in cards {
        if matches!(card, Transition::Create(..) | Transition::Delete) {
            let creation = if is_there { None } else { creations.pop_front() };
            *card = creation.unwrap_or(Transition::Delete);
            is_there = !is_there;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEERS: usize = Kind::ALL.len();

    fn dealt(seed: u64, has_wg: bool, many: usize) -> Vec<Transition> {
        let mut deck = Deck::new(seed, PEERS, has_wg);
        (0..many).map(|_| deck.deal(None)).collect()
    }

    #[test]
    fn one_seed_deals_the_same_and_another_does_not() {
        assert_eq!(dealt(7, true, 300), dealt(7, true, 300));
        assert_ne!(dealt(7, true, 300), dealt(8, true, 300));
    }

    #[test]
    fn each_kind_is_dealt_first_and_then_each_of_its_exit_types() {
        for seed in 0..200 {
            let deck = Deck::new(seed, PEERS, true);
            let (kinds, whole) = (deck.kinds().clone(), deck.cards.len());
            let named = Transition::KINDS.len() + SIGNALS.len() * (DAEMONS.len() + 3);
            assert_eq!(kinds.len(), named, "a kind without a card");
            let first = dealt(seed, true, named);
            let first: BTreeSet<_> = first.into_iter().map(Transition::kind).collect();
            assert_eq!(first, kinds);
            let cards = dealt(seed, true, whole);
            for kind in Kind::ALL {
                let of_type = cards.iter().filter(|card| card.exit_type() == Some(kind));
                let kinds: BTreeSet<_> = of_type.map(|card| card.kind()).collect();
                let many = if Kind::TUNNELS.contains(&kind) { 11 } else { 9 };
                assert_eq!(kinds.len(), many, "{kind}: {kinds:?}");
            }
        }
    }

    #[test]
    fn what_is_deleted_was_created_before() {
        for seed in 0..200 {
            let turns = dealt(seed, true, Deck::new(seed, PEERS, true).cards.len());
            let turns = turns
                .iter()
                .filter(|card| matches!(card, Transition::Create(..) | Transition::Delete));
            for (place, card) in turns.enumerate() {
                assert_eq!(
                    matches!(card, Transition::Create(..)),
                    place % 2 == 0,
                    "seed {seed}"
                );
            }
        }
    }

    #[test]
    fn what_is_lacking_has_its_turns_after_each_kind() {
        let mut deck = Deck::new(3, PEERS, true);
        let kinds = deck.kinds().len();
        let lacking = Some(Transition::Flush);
        let first: BTreeSet<_> = (0..kinds).map(|_| deck.deal(lacking).kind()).collect();
        assert_eq!(&first, deck.kinds());
        let next: Vec<_> = (0..LACKING).map(|_| deck.deal(lacking)).collect();
        assert!(next.contains(&Transition::Flush));
        // Two signals of each of the daemons and of Docker, and what has none.
        assert_eq!(
            deck.of_the_machine().len(),
            9 + SIGNALS.len() * (DAEMONS.len() + 2)
        );
    }

    #[test]
    fn without_a_cell_wg_none_is_killed() {
        let is_wg = |card: &Transition| matches!(card, Transition::Daemon("wg", _));
        assert!(!dealt(1, false, 1000).iter().any(is_wg));
        assert!(dealt(1, true, 1000).iter().any(is_wg));
    }
}
