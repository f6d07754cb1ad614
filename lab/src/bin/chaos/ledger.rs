//! What was asked of the cell, what it acknowledged, and whether what it holds afterwards can be right.
//!
//! A change that was acknowledged must be there. A change that got no answer may be there or not, but wholly. So each
//! peer has a set of states that are possible: after an acknowledgement exactly one, after silence the old and the new.

use std::collections::{BTreeMap, BTreeSet};

/// The state of one peer as far as the test varies it; `None`: there is no such peer.
pub type State = Option<Peer>;

/// What the test varies of a peer. Both halves are always changed together: one alone is a half-done change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// Its key, base64.
    pub public_key: String,
    /// The port of its only service: tells one change from the next.
    pub service_port: u16,
}

/// The possible states of each peer.
#[derive(Debug, Default)]
pub struct Ledger {
    possible: BTreeMap<String, BTreeSet<State>>,
    /// Changes that were acknowledged.
    pub acknowledged: usize,
    /// Changes that got no answer.
    pub silent: usize,
}

impl Ledger {
    /// The cell said that the peer now is so.
    pub fn acknowledge(&mut self, name: &str, state: State) {
        self.acknowledged += 1;
        self.possible.insert(name.to_owned(), BTreeSet::from([state]));
    }

    /// The cell was asked for this and did not answer.
    pub fn silence(&mut self, name: &str, state: State) {
        self.silent += 1;
        self.possible
            .entry(name.to_owned())
            .or_insert_with(|| BTreeSet::from([None]))
            .insert(state);
    }

    /// A peer that is certainly there, to be changed or removed next.
    pub fn certain(&self) -> impl Iterator<Item = &str> {
        self.possible
            .iter()
            .filter(|(_, states)| states.len() == 1 && !states.contains(&None))
            .map(|(name, _)| name.as_str())
    }

    /// What in `found` cannot be, one sentence each. What was uncertain is certain afterwards.
    pub fn reconcile(&mut self, found: &BTreeMap<String, Peer>) -> Vec<String> {
        let mut wrong: Vec<String> = found
            .keys()
            .filter(|name| !self.possible.contains_key(*name))
            .map(|name| format!("peer {name} was never asked for"))
            .collect();
        for (name, states) in &mut self.possible {
            let state = found.get(name).cloned();
            if !states.contains(&state) {
                wrong.push(format!("peer {name} is {state:?}, possible were {states:?}"));
            }
            *states = BTreeSet::from([state]);
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn peer(service_port: u16) -> Peer {
        Peer {
            public_key: format!("key{service_port}"),
            service_port,
        }
    }

    fn found(peers: &[(&str, u16)]) -> BTreeMap<String, Peer> {
        peers
            .iter()
            .map(|(name, port)| ((*name).to_owned(), peer(*port)))
            .collect()
    }

    #[test]
    fn what_was_acknowledged_must_be_there() {
        let mut ledger = Ledger::default();
        ledger.acknowledge("a", Some(peer(1)));
        assert_eq!(ledger.reconcile(&found(&[("a", 1)])), Vec::<String>::new());
        assert_eq!(ledger.reconcile(&found(&[])).len(), 1);
    }

    #[test]
    fn what_got_no_answer_may_be_old_or_new_but_not_half() {
        for (port, key, faults) in [(1, "key1", 0), (2, "key2", 0), (2, "key1", 1)] {
            let mut ledger = Ledger::default();
            ledger.acknowledge("a", Some(peer(1)));
            ledger.silence("a", Some(peer(2)));
            let half = BTreeMap::from([(
                "a".to_owned(),
                Peer {
                    public_key: key.into(),
                    service_port: port,
                },
            )]);
            assert_eq!(ledger.reconcile(&half).len(), faults);
        }
    }

    #[test]
    fn what_was_never_asked_for_is_wrong() {
        let mut ledger = Ledger::default();
        ledger.silence("a", Some(peer(1)));
        assert_eq!(ledger.reconcile(&found(&[("b", 1)])).len(), 1);
    }

    #[test]
    fn after_looking_it_is_certain() {
        let mut ledger = Ledger::default();
        ledger.silence("a", Some(peer(1)));
        assert_eq!(ledger.certain().count(), 0);
        ledger.reconcile(&found(&[("a", 1)]));
        assert_eq!(ledger.certain().collect::<Vec<_>>(), ["a"]);
        assert_eq!(ledger.reconcile(&found(&[])).len(), 1);
    }
}
