//! What a rule does, in iptables' words.

use super::rules::{At, Writer, chain_name, counter_chain};
use super::{Table, sets};
use crate::policy::element::SetId;
use crate::policy::ruleset::{Action, ChainName, Rule};

impl Writer<'_> {
    /// Writes the rule's end down; none: it cannot be said.
    pub(super) fn actions(&mut self, at: At, of: ChainName, actions: &[Action]) -> Option<()> {
        let mut targets = Vec::new();
        // Several targets of a rule with conditions get a chain of their own.
        let within = at.chain != at.top || actions.len() > 1 && !at.spec().is_empty();
        let mut rest = actions.iter();
        while let Some(action) = rest.next() {
            let target = match action {
                Action::Count(counter) => {
                    let end = match rest.next()? {
                        Action::Drop => "-j DROP",
                        // The table `filter` would refuse with an answer; to a program of the machine the drop is one: it is told
                        // that it may not.
                        Action::Refuse if matches!(of, ChainName::Output | ChainName::Caller) => "-j DROP",
                        // To `REFUSE`, which stands in the next table, and knows it by the mark that it lacks.
                        Action::Refuse if at.table == Table::Mangle => "-j ACCEPT",
                        _ => return None,
                    };
                    let chain = counter_chain(*counter);
                    self.make(at.table, &chain);
                    let ends = self.chains.get_mut(&at.table)?.get_mut(&chain)?;
                    *ends = vec![end.to_owned()];
                    format!("-j {chain}")
                }
                Action::Drop => "-j DROP".to_owned(),
                Action::Accept if at.table == Table::Mangle && of != ChainName::Mark => {
                    "-j ACCEPT".to_owned()
                }
                // In these chains nothing is judged: they are left, and others' rules of the table are met.
                Action::Accept if !within => "-j RETURN".to_owned(),
                Action::Accept => return None,
                Action::Jump(chain) => format!("-j {}", chain_name(*chain)),
                Action::Goto(chain) => {
                    // From a row of chains it would come back to the rule after.
                    (!within || self.ends(*chain)).then_some(())?;
                    format!("-g {}", chain_name(*chain))
                }
                Action::SetMark(mark) => format!("-j MARK --set-xmark {mark}"),
                Action::MarkBySource(family) => {
                    let map = sets::name(SetId::ExitMarks(*family), *family);
                    format!("-j SET --map-set {map} src --map-mark")
                }
                Action::SaveMark(mask) => {
                    format!("-j CONNMARK --save-mark --nfmask {mask:#x} --ctmask {mask:#x}")
                }
                Action::SetFlowMark(mark) => format!("-j CONNMARK --set-xmark {mark:#x}/0xffffffff"),
                Action::Dnat(address, port) => {
                    at.protocol?;
                    // What `marking.rs` remembered for the first packet is not for what stays in the cell.
                    targets.push(format!("-j CONNMARK --set-xmark 0x0/{:#x}", self.marks.mask));
                    format!(
                        "-j DNAT --to-destination {}",
                        std::net::SocketAddr::new(*address, *port)
                    )
                }
                Action::DnatToEntry => {
                    targets.push(format!("-j CONNMARK --set-xmark 0x0/{:#x}", self.marks.mask));
                    format!("-j {}", self.lead_entries())
                }
                Action::Masquerade => "-j MASQUERADE".to_owned(),
                Action::ClampMss => "-j TCPMSS --clamp-mss-to-pmtu".to_owned(),
                // Where they can be said, `marking.rs` says them; elsewhere there is a counter before it.
                Action::FlowMarkBySource(_) | Action::DnatBySource(..) | Action::Refuse => return None,
            };
            targets.push(target);
        }
        self.targets(at, targets);
        Some(())
    }

    /// One target in the rule itself, several in a chain of their own.
    fn targets(&mut self, mut at: At, mut targets: Vec<String>) {
        let needs_protocol = targets.iter().any(|target| target.starts_with("-j DNAT"));
        if targets.len() > 1 && !at.spec().is_empty() {
            let protocol = at.protocol.filter(|_| needs_protocol);
            self.split(&mut at);
            if let Some(protocol) = protocol {
                self.push(at.table, &at.chain, targets.remove(0));
                // The target wants to see the protocol in its own rule.
                self.head(&mut at, 'p', protocol.to_string());
            }
        }
        for target in targets {
            self.push(at.table, &at.chain, at.with(&target));
        }
    }

    /// Whether no packet comes out of the chain again.
    fn ends(&self, name: ChainName) -> bool {
        let chain = self.ruleset.chains.iter().find(|chain| chain.name == name);
        let Some(Rule { matches, actions }) = chain.and_then(|chain| chain.rules.last()) else {
            return false;
        };
        matches.is_empty()
            && match actions.last() {
                Some(Action::Accept | Action::Drop | Action::Refuse) => true,
                Some(Action::Goto(next)) => self.ends(*next),
                _ => false,
            }
    }
}
