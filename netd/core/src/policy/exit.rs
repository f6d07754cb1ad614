//! Exits: which packets are an exit's, and that they leave by it or not at all.
//!
//! Two things have to agree for a packet to leave: the interface that the routing chose, and the exit that the flow was
//! opened through. Either alone could be led astray, by a rule of ip-rule(8) that somebody deleted or by a peer that was
//! bound to another exit meanwhile; then the packet is dropped here, whatever the routing says.

use super::compile::{Compiler, base, drop, goto, interface, plain, when};
use super::element::SetId;
use super::ruleset::{Action, Chain, ChainName, Counter, CtDirection, CtState, HookPoint};
use super::ruleset::{MarkOf, Match, Rule, Side, Test};
use crate::model::{Family, InterfaceName};

/// After the translation of destinations (-100), so that what somebody else's DNAT turns inside is not sent outside; before
/// the routing decision, which follows this hook.
const AFTER_DNAT: i32 = -90;

impl Compiler<'_> {
    /// What the machine sends in flows of exits without a socket of the relay. The kernel sends it by itself, by the table `main`: when
    /// a late answer to the relay finds nobody any more (ICMP, RST), or a peer's is too large. It would tell whoever is on the
    /// machine's own way what came by the exit.
    pub(super) fn of_exits(&self) -> Rule {
        when(
            [Match::Marked(MarkOf::Flow, self.mask())],
            goto(ChainName::OfExit),
        )
    }

    /// Leaves by exits' interfaces, or stays in the cell.
    pub(super) fn of_exit(&self) -> Chain {
        let loopback = interface(Side::Destination, &InterfaceName::loopback(), true);
        let stays = [
            Match::InterfaceIn(Side::Destination, SetId::ExitLinks),
            self.outgoing(true),
            loopback,
        ];
        let accepted = |stays| when([stays], vec![Action::Accept]);
        let bridged = self.bridged(Side::Destination, true);
        let mut rules: Vec<Rule> = stays.into_iter().chain(bridged).map(accepted).collect();
        rules.push(when([], drop(Counter::ExitLeak)));
        plain(ChainName::OfExit, rules)
    }

    fn mask(&self) -> u32 {
        self.ceiling.exits.mask()
    }

    /// Marks what peers send to the internet, as [`Compiler::leaving`] understands it, with the mark of their exit, and
    /// remembers it in the flow when the flow is opened. A grant of one service is no way past an exit: only where it lies among
    /// neighbours or at a special-purpose address it is none of the internet (ADR 0047).
    pub(super) fn mark(&self) -> Chain {
        let mut rules = self.leave_to_others();
        rules.extend(self.public_unmarked());
        for family in Family::BOTH {
            rules.push(when(
                [
                    Match::Address(family, Side::Destination, Test::NotIn(SetId::Special(family))),
                    Match::Address(family, Side::Destination, Test::NotIn(SetId::Local(family))),
                ],
                vec![Action::MarkBySource(family)],
            ));
        }
        // Later packets do not change what the flow's address was translated for.
        rules.push(when(
            [Match::Marked(MarkOf::Packet, self.mask()), Match::FirstOfFlow],
            vec![Action::SaveMark(self.mask())],
        ));
        base(ChainName::Mark, false, HookPoint::Prerouting, AFTER_DNAT, rules)
    }

    /// A packet that may go to the internet: by the peer's exit within a flow of that exit, or the machine's own way if
    /// neither the peer nor the flow nor the packet has to do with an exit.
    pub(super) fn internet(&self) -> Chain {
        let mask = self.mask();
        let mut rules = self.not_relayed();
        for family in Family::BOTH {
            rules.push(when(
                [Match::WayOut(family, MarkOf::Flow, mask)],
                goto(ChainName::Accept),
            ));
        }
        for family in Family::BOTH {
            // The right way, so it is the flow that is another exit's.
            rules.push(when(
                [Match::WayOut(family, MarkOf::Packet, mask)],
                drop(Counter::ExitMoved),
            ));
            let bound = Match::Address(family, Side::Source, Test::In(SetId::Exited(family)));
            rules.push(when([bound], drop(Counter::ExitLeak)));
        }
        rules.push(when(
            [Match::Marked(MarkOf::Flow, mask)],
            drop(Counter::ExitMoved),
        ));
        rules.push(when(
            [Match::Marked(MarkOf::Packet, mask)],
            drop(Counter::ExitLeak),
        ));
        rules.push(when(
            [Match::InterfaceIn(Side::Destination, SetId::ExitLinks)],
            drop(Counter::ExitLeak),
        ));
        rules.push(when([], goto(ChainName::Accept)));
        plain(ChainName::Internet, rules)
    }

    /// An answer from the internet: from the exit that its flow was opened through, and only while that is the peer's.
    pub(super) fn internet_answer(&self) -> Chain {
        let mask = self.mask();
        let mut rules = Vec::new();
        for family in Family::BOTH {
            rules.push(when([Match::WayIn(family, mask)], goto(ChainName::Accept)));
        }
        for family in Family::BOTH {
            let bound = Match::FlowPeer(family, SetId::Exited(family));
            rules.push(when([bound], drop(Counter::ExitAnswer)));
        }
        rules.push(when(
            [Match::Marked(MarkOf::Flow, mask)],
            drop(Counter::ExitAnswer),
        ));
        rules.push(when([self.by_exit()], drop(Counter::ExitAnswer)));
        rules.push(when([], goto(ChainName::Accept)));
        plain(ChainName::InternetAnswer, rules)
    }

    fn by_exit(&self) -> Match {
        Match::InterfaceIn(Side::Source, SetId::ExitLinks)
    }

    /// An exit carries what peers send and what answers them; nothing else passes from it or to it.
    pub(super) fn strangers_in_forward(&self) -> [Rule; 2] {
        let to_exit = Match::InterfaceIn(Side::Destination, SetId::ExitLinks);
        [
            when([self.by_exit()], drop(Counter::ExitStranger)),
            when([to_exit], drop(Counter::ExitStranger)),
        ]
    }

    /// Whoever runs the far end does not speak to the cell itself.
    pub(super) fn strangers_in_input(&self) -> [Rule; 2] {
        let answers = [
            self.by_exit(),
            Match::Direction(CtDirection::Reply),
            Match::State(CtState::EstablishedOrRelated),
        ];
        [
            when(answers, vec![Action::Accept]),
            when([self.by_exit()], drop(Counter::ExitStranger)),
        ]
    }
}
