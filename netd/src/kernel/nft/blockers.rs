//! Other programs' chains at the forward hook that end by dropping: an accept of ours does not override them, and but for
//! iptables' own (`passage`) netd does not write into them. They are named, so that somebody can let the VPN through.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Expressions, Hook, RuleAttribute, Verdict,
};

use cell_netd_core::model::TableName;
use cell_netd_core::policy::HookPoint;

use super::passage::{self, POLICY_DROP};
use super::socket::{NftError, NftSocket};
use super::{compare, encode, expression};

const FAMILIES: [(NetfilterProtoFamily, &str); 3] = [
    (NetfilterProtoFamily::Inet, "inet"),
    (NetfilterProtoFamily::IPv4, "ip"),
    (NetfilterProtoFamily::IPv6, "ip6"),
];

/// Family, table and name of each such chain, as nft(8) writes them. Tables of iptables-legacy are not nftables' and not
/// among them.
pub fn named(socket: &mut NftSocket, own: &TableName) -> Result<Vec<String>, NftError> {
    let mut found = Vec::new();
    for (family, family_name) in FAMILIES {
        let chains = socket.all_chains(family)?;
        let opened = passage::is_opened(&chains);
        for chain in &chains {
            let Some((table, name)) = base_at_forward(chain) else {
                continue;
            };
            let ours = family == NetfilterProtoFamily::Inet && table == own.as_str();
            let is_iptables = family != NetfilterProtoFamily::Inet && (table, name) == passage::FORWARD;
            if ours || is_iptables && opened {
                continue;
            }
            if chain.attributes.contains(&ChainAttribute::Policy(POLICY_DROP))
                || ends_in_drop(socket, family, table, name)?
            {
                found.push(format!("{family_name} {table} {name}"));
            }
        }
    }
    Ok(found)
}

/// Table and name of a base chain that forwarded packets meet.
fn base_at_forward(chain: &ChainMessage) -> Option<(&str, &str)> {
    let (mut table, mut name, mut at_forward) = (None, None, false);
    for attribute in &chain.attributes {
        match attribute {
            ChainAttribute::Table(found) => table = Some(found.as_str()),
            ChainAttribute::Name(found) => name = Some(found.as_str()),
            ChainAttribute::Hook(parts) => {
                let forward = u32::from(encode::hook_number(HookPoint::Forward));
                at_forward = parts
                    .iter()
                    .any(|part| matches!(part, Hook::Number(found) if u32::from(*found) == forward));
            }
            _ => {}
        }
    }
    at_forward.then_some(())?;
    Some((table?, name?))
}

/// Whether its last rule drops or rejects all that came so far (firewalld's way).
fn ends_in_drop(
    socket: &mut NftSocket,
    family: NetfilterProtoFamily,
    table: &str,
    name: &str,
) -> Result<bool, NftError> {
    let within = vec![
        RuleAttribute::Table(table.to_owned()),
        RuleAttribute::Chain(name.to_owned()),
    ];
    let rules = socket.rules_of(family, within)?;
    let Some(last) = rules.last() else {
        return Ok(false);
    };
    let is = |expression: &Expressions, names: &[&str]| {
        matches!(expression, Expressions::Other { expression_type, .. }
            if names.contains(&expression_type.as_str()))
    };
    let deciding: Vec<&Expressions> = compare::expressions(last)
        .into_iter()
        .filter(|expression| !is(expression, &["counter", "log"]))
        .collect();
    let drop = [expression::verdict(Verdict::Other(expression::DROP), None)];
    Ok(match deciding.as_slice() {
        [only] => is(only, &["reject"]) || compare::same_rule(&drop, &[*only]),
        _ => false,
    })
}
