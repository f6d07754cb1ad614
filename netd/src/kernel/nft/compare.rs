//! Chains and rules that were read back, held against what was meant.

use std::collections::BTreeMap;

use cell_netd_core::policy::Chain;
use netlink_packet_core::{Emitable as _, NlasIterator};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, ExpressionAttribute, Expressions, Hook, ListAttribute, RuleAttribute,
    RuleMessage,
};

use super::{encode, expression};

/// Whether the chains are those, at their hooks, and no other.
pub(super) fn chains_match(wanted: &[Chain], dumped: &[ChainMessage]) -> bool {
    wanted.len() == dumped.len()
        && wanted
            .iter()
            .all(|chain| dumped.iter().any(|message| chain_matches(chain, message)))
}

fn chain_matches(wanted: &Chain, message: &ChainMessage) -> bool {
    let has = |attribute| message.attributes.contains(&attribute);
    if !has(ChainAttribute::Name(wanted.name.as_str().to_owned())) {
        return false;
    }
    let hook = message.attributes.iter().find_map(|attribute| match attribute {
        ChainAttribute::Hook(parts) => Some(parts),
        _ => None,
    });
    match (wanted.hook, hook) {
        (None, None) => true,
        (Some(hook), Some(parts)) => {
            let number = encode::hook_number(hook.point);
            parts.contains(&Hook::Priority(hook.priority as u32))
                && parts
                    .iter()
                    .any(|part| matches!(part, Hook::Number(found) if u32::from(*found) == u32::from(number)))
                && has(ChainAttribute::Policy(1))
                && has(ChainAttribute::Type(
                    if hook.nat { "nat" } else { "filter" }.to_owned(),
                ))
        }
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether each chain has its rules, in order, and no other.
pub(super) fn rules_match(wanted: &[Chain], dumped: &[RuleMessage]) -> bool {
    let mut found: BTreeMap<&str, Vec<Vec<&Expressions>>> = BTreeMap::new();
    for message in dumped {
        let Some(chain) = chain_of(message) else {
            return false;
        };
        found.entry(chain).or_default().push(expressions(message));
    }
    let known = |name: &&str| wanted.iter().any(|chain| chain.name.as_str() == *name);
    found.keys().all(known)
        && wanted.iter().all(|chain| {
            let found = found
                .get(chain.name.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            found.len() == chain.rules.len()
                && chain
                    .rules
                    .iter()
                    .zip(found)
                    .all(|(rule, found)| same_rule(&expression::rule(rule), found))
        })
}

/// Whether a dumped rule says what was meant.
pub(super) fn same_rule(wanted: &[Expressions], found: &[&Expressions]) -> bool {
    wanted.len() == found.len()
        && wanted
            .iter()
            .zip(found)
            .all(|(wanted, found)| attributes_hold(&attributes(wanted), &attributes(found)))
}

pub(super) fn chain_of(message: &RuleMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Chain(chain) => Some(chain.as_str()),
        _ => None,
    })
}

pub(super) fn expressions(message: &RuleMessage) -> Vec<&Expressions> {
    let lists = message.attributes.iter().filter_map(|attribute| match attribute {
        RuleAttribute::Expressions(list) => Some(list),
        _ => None,
    });
    let parts = lists.flatten().flat_map(|element| match element {
        ListAttribute::Element(parts) => parts.as_slice(),
        _ => &[],
    });
    parts
        .filter_map(|part| match part {
            ExpressionAttribute::Data(expression) => Some(expression),
            _ => None,
        })
        .collect()
}

/// Kind and bytes of each attribute, and the name of the expression under kind 0.
fn attributes(expression: &Expressions) -> BTreeMap<u16, Vec<u8>> {
    let name = match expression {
        Expressions::Bitwise(_) => "bitwise",
        Expressions::Cmp(_) => "cmp",
        Expressions::Immediate(_) => "immediate",
        Expressions::Lookup(_) => "lookup",
        Expressions::Meta(_) => "meta",
        Expressions::Payload(_) => "payload",
        Expressions::Other { expression_type, .. } => expression_type,
        _ => "",
    };
    let mut bytes = vec![0; expression.buffer_len()];
    expression.emit(&mut bytes);
    let mut attributes = BTreeMap::from([(0, name.as_bytes().to_vec())]);
    for nla in NlasIterator::new(bytes.as_slice()).flatten() {
        attributes.insert(nla.kind(), nla.value().to_vec());
    }
    attributes
}

/// The kernel adds attributes (handles, defaults) and counts, but keeps each that it was given.
fn attributes_hold(wanted: &BTreeMap<u16, Vec<u8>>, found: &BTreeMap<u16, Vec<u8>>) -> bool {
    let counter = wanted.get(&0).is_some_and(|name| name == b"counter");
    wanted
        .iter()
        .filter(|(kind, _)| !counter || **kind == 0)
        .all(|(kind, value)| found.get(kind) == Some(value))
}
