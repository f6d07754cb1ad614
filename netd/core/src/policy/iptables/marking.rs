//! Marks of exits, and what is redirected to the relay.
//!
//! nftables marks after the translation of destinations, and there iptables has no chain. So a flow's first packet is judged
//! before it, in `mangle`, the mark is put down in the flow, and the packet gets it back at the end of `nat`, to which what others
//! translate does not come. What somebody else's DNAT turns goes the table `main`'s way: inside it passes, as with
//! nftables, and outside it is another way than the exit's and is dropped.
//!
//! By the mark of the flow `nat` knows the relay's port too, with a rule for each exit of the relay; nftables has a map.

use super::rules::{Writer, chain_name};
use super::{Table, Unsupported};
use crate::model::InterfaceName;
use crate::policy::element::SetId;
use crate::policy::iptables::sets;
use crate::policy::ruleset::{Action, Chain, ChainName, Match, Rule, Ruleset, Side, Test};
use crate::policy::text;

/// The rules that leave the chain, at its beginning, and the others.
fn halves(chain: &Chain) -> (&[Rule], &[Rule]) {
    let leaves = |rule: &&Rule| rule.actions == [Action::Accept];
    chain
        .rules
        .split_at(chain.rules.iter().take_while(leaves).count())
}

fn find(ruleset: &Ruleset, name: ChainName) -> Option<&Chain> {
    ruleset.chains.iter().find(|chain| chain.name == name)
}

/// The interface of the VPN: what does not come by it leaves the chain `mark` first.
pub(super) fn incoming(ruleset: &Ruleset) -> Option<InterfaceName> {
    let (leaving, _) = halves(find(ruleset, ChainName::Mark)?);
    let name = foreign(leaving.first()?)?;
    super::rules::plain(name).map(|_| name.clone())
}

/// What names of bridges of services begin with.
pub(super) fn bridges(ruleset: &Ruleset) -> Option<InterfaceName> {
    let rules = &find(ruleset, ChainName::Forward)?.rules;
    rules.iter().find_map(|rule| match rule.matches.as_slice() {
        [Match::InterfaceLike { prefix, is: true, .. }] => Some(prefix.clone()),
        _ => None,
    })
}

/// The interface that packets do not come by which leave the chain first: those of neither peers nor containers.
fn foreign(rule: &Rule) -> Option<&InterfaceName> {
    let (by, container) = match rule.matches.as_slice() {
        [by] => (by, None),
        [by, container] => (by, Some(container)),
        _ => return None,
    };
    let others = |container: &Match| {
        matches!(
            container,
            Match::Address(_, Side::Source, Test::NotIn(SetId::ServiceAddresses(_)))
        )
    };
    match by {
        Match::Interface {
            side: Side::Source,
            name,
            is: false,
        } if container.is_none_or(others) => Some(name),
        _ => None,
    }
}

impl Writer<'_> {
    /// In `mangle`.
    pub(super) fn mark(&mut self, chain: &Chain) -> Result<(), Unsupported> {
        let top = chain_name(ChainName::Mark);
        let (mask, accept) = (self.marks.mask, self.marks.accept.mask());
        let (leaving, marking) = halves(chain);
        let redirect = find(self.ruleset, ChainName::Redirect);
        let redirect = redirect.ok_or_else(|| Unsupported::new("a ruleset without the chain c_redirect"))?;
        let (same, redirecting) = halves(redirect);
        if same != leaving || !same.iter().any(|rule| self.leaves_foreign(rule)) {
            return Err(Unsupported::new(
                "a chain c_redirect that is left otherwise than c_mark",
            ));
        }
        let foreign = leaving
            .iter()
            .take_while(|rule| self.leaves_foreign(rule))
            .count();
        let (foreign, leaving) = leaving.split_at(foreign);
        for rule in foreign {
            self.rule(Table::Mangle, &top, ChainName::Mark, rule)?;
        }
        // Of a peer's packet all bits are ours, whoever set them.
        let clear = format!("-j MARK --set-xmark 0x0/{:#x}", mask | accept);
        self.push(Table::Mangle, &top, clear);
        self.judge_entries(&top);
        let translated = "-m conntrack --ctstate DNAT -j RETURN".to_owned();
        self.push(Table::Mangle, &top, translated);
        for rule in leaving {
            self.rule(Table::Mangle, &top, ChainName::Mark, rule)?;
        }
        for rule in marking {
            if rule.actions == [Action::SaveMark(mask)] {
                for rule in redirecting {
                    self.tentative(&top, rule)?;
                }
            }
            self.rule(Table::Mangle, &top, ChainName::Mark, rule)?;
        }
        let lift = format!("-m conntrack ! --ctstatus CONFIRMED -j MARK --set-xmark 0x0/{mask:#x}");
        self.push(Table::Mangle, &top, lift);
        Ok(())
    }

    fn leaves_foreign(&self, rule: &Rule) -> bool {
        foreign(rule).is_some_and(|name| *name == self.marks.interface)
    }

    /// What would be redirected is marked for it; only the flow's first packet is asked.
    fn tentative(&mut self, top: &str, rule: &Rule) -> Result<(), Unsupported> {
        let family = self.family;
        let of = match rule.actions.as_slice() {
            [Action::FlowMarkBySource(of), Action::DnatBySource(to, _)] if of == to => *of,
            _ => return Err(Unsupported::new(text::render_rule(rule))),
        };
        if of != family {
            return Ok(());
        }
        let mut matches = rule.matches.clone();
        matches.push(Match::FirstOfFlow);
        // The same target with the relay's map.
        let marked = Rule {
            matches,
            actions: vec![Action::MarkBySource(family)],
        };
        self.rule(Table::Mangle, top, ChainName::Mark, &marked)?;
        let chain = self
            .chains
            .get_mut(&Table::Mangle)
            .and_then(|chains| chains.get_mut(top));
        if let Some(line) = chain.and_then(|chain| chain.last_mut()) {
            let (exits, relay) = (SetId::ExitMarks(family), SetId::RelayMarks(family));
            *line = line.replace(
                &format!("--map-set {} ", sets::name(exits, family)),
                &format!("--map-set {} ", sets::name(relay, family)),
            );
        }
        Ok(())
    }

    /// In `nat`, last.
    pub(super) fn redirect(&mut self, chain: &Chain) -> Result<(), Unsupported> {
        let top = chain_name(ChainName::Redirect);
        let mask = self.marks.mask;
        let (leaving, redirecting) = halves(chain);
        for rule in leaving.iter().take_while(|rule| foreign(rule).is_some()) {
            self.rule(Table::Nat, &top, ChainName::Redirect, rule)?;
        }
        let hidden = redirecting
            .iter()
            .flat_map(|rule| &rule.actions)
            .find_map(|action| match action {
                Action::DnatBySource(family, hidden) if *family == self.family => Some(*hidden),
                _ => None,
            });
        if let Some(hidden) = hidden {
            let relays = self.ruleset.relays.clone();
            for (mark, port) in relays {
                let to = std::net::SocketAddr::new(hidden, port);
                let line = format!(
                    "-p tcp -m connmark --mark {:#x}/{mask:#x} -j DNAT --to-destination {to}",
                    mark.value()
                );
                self.push(Table::Nat, &top, line);
            }
        }
        let line = format!(
            "-m connmark ! --mark 0x0/{mask:#x} -j CONNMARK --restore-mark --nfmask {mask:#x} --ctmask {mask:#x}"
        );
        self.push(Table::Nat, &top, line);
        Ok(())
    }
}
