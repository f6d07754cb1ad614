//! The way through Docker's world. Docker sets the policy of `filter FORWARD` to drop, and an accept in our table does
//! not override a drop in another. So one rule at the top of DOCKER-USER (of FORWARD, where there is no such chain and
//! its policy is drop) accepts what carries our mark, and nothing else.

use cell_netd_core::model::Mark;
use netlink_packet_core::NLM_F_CREATE;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, NfTablesMessage, RuleAttribute, RuleMessage,
};

use super::batch::Batch;
use super::socket::{NftError, NftSocket};
use super::{compare, expression};

/// Tables that iptables-nft and Docker make.
const FAMILIES: [NetfilterProtoFamily; 2] = [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6];
const TABLE: &str = "filter";
/// A comment in libnftnl's userdata: type 0, length, "cell" with NUL. How we know our rule again.
const TAG: &[u8] = b"\x00\x05cell\0";
/// NF_DROP as a chain's policy.
pub(super) const POLICY_DROP: u32 = 0;
/// Table and base chain of iptables.
pub(super) const FORWARD: (&str, &str) = (TABLE, "FORWARD");

/// How the way through is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// iptables' tables do not drop what is forwarded.
    NotNeeded,
    /// Our rule is at the top.
    Open,
}

/// Our rule, where it is and whether it stands right.
#[derive(Debug)]
struct Found {
    chain: String,
    handle: u64,
    first: bool,
    sound: bool,
}

/// Makes the way through as it should be; `mark` of none takes it away. Returns how it is, and whether it was touched.
pub fn ensure(socket: &mut NftSocket, mark: Option<Mark>) -> Result<(Passage, bool), NftError> {
    let mut passage = Passage::NotNeeded;
    let mut batch = Batch::default();
    for family in FAMILIES {
        let chains = socket.chains_of(family, TABLE)?;
        let wanted = mark.and_then(|mark| place(&chains).map(|chain| (chain, mark)));
        let mut stands = false;
        for found in ours(socket, family, &chains, mark)? {
            let right = wanted.as_ref().is_some_and(|(chain, _)| *chain == found.chain);
            if right && found.first && found.sound && !stands {
                stands = true;
            } else {
                batch.push_family(family, NfTablesMessage::DeleteRule(existing(&found)), 0);
            }
        }
        if let Some((chain, mark)) = wanted {
            passage = Passage::Open;
            if !stands {
                // Without NLM_F_APPEND a rule goes to the top.
                batch.push_family(
                    family,
                    NfTablesMessage::NewRule(accepting(&chain, mark)),
                    NLM_F_CREATE,
                );
            }
        }
    }
    let touched = !batch.is_empty();
    socket.commit(batch)?;
    Ok((passage, touched))
}

/// Whether our rule has a place among a family's chains, where [`ensure`] has put it.
pub(super) fn is_opened(chains: &[ChainMessage]) -> bool {
    let within: Vec<ChainMessage> = chains
        .iter()
        .filter(|chain| {
            chain
                .attributes
                .contains(&ChainAttribute::Table(TABLE.to_owned()))
        })
        .cloned()
        .collect();
    place(&within).is_some()
}

/// The chain that our rule belongs in, if one is needed.
fn place(chains: &[ChainMessage]) -> Option<String> {
    let named = |name: &str| {
        chains
            .iter()
            .find(|chain| chain.attributes.contains(&ChainAttribute::Name(name.to_owned())))
    };
    if named("DOCKER-USER").is_some() {
        return Some("DOCKER-USER".to_owned());
    }
    let forward = named("FORWARD")?;
    forward
        .attributes
        .contains(&ChainAttribute::Policy(POLICY_DROP))
        .then(|| "FORWARD".to_owned())
}

fn ours(
    socket: &mut NftSocket,
    family: NetfilterProtoFamily,
    chains: &[ChainMessage],
    mark: Option<Mark>,
) -> Result<Vec<Found>, NftError> {
    if chains.is_empty() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for chain in ["DOCKER-USER", "FORWARD"] {
        if !chains.iter().any(|message| {
            message
                .attributes
                .contains(&ChainAttribute::Name(chain.to_owned()))
        }) {
            continue;
        }
        let within = vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
        ];
        let rules = socket.rules_of(family, within)?;
        for (index, rule) in rules.iter().enumerate() {
            if !rule.attributes.contains(&RuleAttribute::UserData(TAG.to_vec())) {
                continue;
            }
            let handle = rule.attributes.iter().find_map(|attribute| match attribute {
                RuleAttribute::Handle(handle) => Some(*handle),
                _ => None,
            });
            let sound = mark.is_some_and(|mark| {
                compare::same_rule(&expression::passage(mark), &compare::expressions(rule))
            });
            if let Some(handle) = handle {
                found.push(Found {
                    chain: chain.to_owned(),
                    handle,
                    first: index == 0,
                    sound,
                });
            }
        }
    }
    Ok(found)
}

fn accepting(chain: &str, mark: Mark) -> RuleMessage {
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expression::passage(mark).into_iter().map(Into::into).collect()),
            RuleAttribute::UserData(TAG.to_vec()),
        ],
    }
}

fn existing(found: &Found) -> RuleMessage {
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(found.chain.clone()),
            RuleAttribute::Handle(found.handle),
        ],
    }
}
