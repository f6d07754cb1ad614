//! The one port of the machine that is open to the internet, if the ceiling has it: TCP 80, led to a container that answers an authority's
//! question about a name there (RFC 8555, section 8.3).
//!
//! What comes in by an interface of the cell's own (a tunnel, a bridge of services, an exit) is not the internet's. Answers go
//! where the question came from, whatever exit the container's network has: they are no flow of its own. Every packet of both
//! directions is asked for the container that is named now, so that established flows end with it.

use std::net::SocketAddrV4;

use super::compile::{Compiler, drop, goto, when};
use super::element::SetId;
use super::ruleset::{Action, ChainName, Counter, CtDirection, Match, Rule, Side, Test};
use super::service::host;
use crate::model::{Family, Protocol};

/// The port of HTTP (RFC 9110, section 4.2.1).
const HTTP: u16 = 80;

impl Compiler<'_> {
    /// Whether it can be open at all.
    fn may_be_public(&self) -> bool {
        let services = self.ceiling.services.as_ref();
        services.is_some_and(|services| services.public_http().is_some())
    }

    /// Translates what opens a flow to it. What the machine carries for others, to elsewhere, is not touched.
    pub(super) fn to_public(&self) -> Option<Rule> {
        let to = self.desired.public_http()?;
        let opens = [
            self.incoming(false),
            self.bridged(Side::Source, false)?,
            Match::ToMachine,
            Match::L4(Protocol::Tcp.number()),
            Match::DestinationPort(HTTP),
        ];
        Some(when(opens, vec![Action::Dnat((*to.ip()).into(), to.port())]))
    }

    /// Lets it to the container, by its bridge. What comes by an exit is not let: whoever runs the far end is not asked.
    pub(super) fn public_asks(&self) -> Vec<Rule> {
        let Some(to) = self.desired.public_http() else {
            return vec![];
        };
        let asks = [
            Match::L4(Protocol::Tcp.number()),
            Match::Translated,
            Match::Direction(CtDirection::Original),
            container(Side::Destination, to),
            host(Family::V4, Side::Destination, Side::Destination, true),
            Match::DestinationPort(to.port()),
        ];
        let by_exit = Match::InterfaceIn(Side::Source, SetId::ExitLinks);
        vec![
            when(asks.iter().cloned().chain([by_exit]), drop(Counter::ExitStranger)),
            when(asks, goto(ChainName::Accept)),
        ]
    }

    /// Its answers, within the flows that were translated to it.
    pub(super) fn public_answers(&self) -> Vec<Rule> {
        let Some(to) = self.desired.public_http() else {
            return vec![];
        };
        let answers = || answers(to).into_iter().chain([self.outgoing(false)]);
        let by_exit = Match::InterfaceIn(Side::Destination, SetId::ExitLinks);
        vec![
            when(answers().chain([by_exit]), drop(Counter::ExitLeak)),
            when(answers(), goto(ChainName::Accept)),
        ]
    }

    /// Of a flow that is not open any more: what its container still sends is no flow of its own, which it may have to the internet.
    pub(super) fn public_closed(&self) -> Option<Rule> {
        let closed = [Match::Direction(CtDirection::Reply), Match::Translated];
        self.may_be_public()
            .then(|| when(closed, drop(Counter::FromServiceDefault)))
    }

    /// Answers are not led through the exit of the container's network.
    pub(super) fn public_unmarked(&self) -> Option<Rule> {
        let to = self.desired.public_http()?;
        let reply = Match::Direction(CtDirection::Reply);
        Some(when([reply].into_iter().chain(answers(to)), vec![Action::Accept]))
    }
}

fn answers(to: SocketAddrV4) -> [Match; 4] {
    [
        Match::L4(Protocol::Tcp.number()),
        Match::Translated,
        container(Side::Source, to),
        Match::SourcePort(to.port()),
    ]
}

fn container(side: Side, to: SocketAddrV4) -> Match {
    Match::Address(Family::V4, side, Test::Is((*to.ip()).into()))
}
