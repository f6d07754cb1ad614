//! Who on the machine itself speaks to containers: users that the ceiling lists, the relay within its own list, and nobody else. So a
//! service knows whoever comes from its bridge's address, and needs no secret to know the cell by. Those users open what the
//! specification names, a container's TCP port each, and nothing beside it: the relay, taken over, has no more of services than
//! `cell-api` asks it for.
//!
//! What opens a flow has a socket, and a user. Later packets need not: the kernel ends connections whose socket is closed. So
//! TCP goes on in a flow that was opened, while its port may still be called.

use super::compile::{Compiler, ICMP, goto, plain, when};
use super::ruleset::{Action, Chain, ChainName, Counter, CtDirection, CtState, Match, Rule, Side};
use crate::model::Protocol;

impl Compiler<'_> {
    /// What the machine itself sends by a bridge of services.
    pub(super) fn calls(&self) -> Option<Rule> {
        let by_bridge = self.bridged(Side::Destination, true)?;
        Some(when([by_bridge], goto(ChainName::Caller)))
    }

    /// The chain that judges it. Errors are told, and IPv6's own words are heard: nobody answers in it there.
    pub(super) fn callers(&self) -> Option<Chain> {
        let services = self.ceiling.services.as_ref()?;
        let answers = [
            Match::Direction(CtDirection::Reply),
            Match::State(CtState::EstablishedOrRelated),
        ];
        let tcp = || Match::L4(Protocol::Tcp.number());
        let goes_on = [tcp(), Match::State(CtState::EstablishedOrRelated), Match::Called];
        let [(_, icmp), (_, icmp6)] = ICMP;
        let error = [Match::L4(icmp), Match::State(CtState::Related)];
        let mut rules = vec![
            when(answers, vec![Action::Accept]),
            when(goes_on, vec![Action::Accept]),
            when(error, vec![Action::Accept]),
            when([Match::L4(icmp6)], vec![Action::Accept]),
        ];
        let users = services.callers().iter();
        let calls = |user: &u32| {
            let opens = [Match::SocketUser(*user), tcp(), Match::Called];
            when(opens, vec![Action::Accept])
        };
        rules.extend(users.map(calls));
        rules.push(when([], refuse(Counter::CallerDenied)));
        Some(plain(ChainName::Caller, rules))
    }

    /// By the relay cell-api speaks to containers over TCP, where the ceiling lists the relay's user among the callers; what is part of an
    /// exit's flow was judged before.
    pub(super) fn calls_of_relay(&self) -> Option<Rule> {
        let services = self.ceiling.services.as_ref()?;
        let relay = self.ceiling.exits.relay()?;
        let by_bridge = self.bridged(Side::Destination, true)?;
        let tcp = Match::L4(Protocol::Tcp.number());
        services
            .callers()
            .contains(&relay.user())
            .then(|| when([by_bridge, tcp], goto(ChainName::Caller)))
    }

    /// What the machine itself sends to where a container would be, and not by its bridge: routes lead it to the uplink while the
    /// bridge is not there, and questions with it that say which device asks.
    pub(super) fn calls_away(&self) -> Option<Rule> {
        let Rule { matches, actions: _ } = self.away()?;
        Some(when(matches, refuse(Counter::ServiceAway)))
    }
}

/// Refused with an answer: whoever asks on the machine need not wait.
fn refuse(counter: Counter) -> Vec<Action> {
    vec![Action::Count(counter), Action::Refuse]
}
