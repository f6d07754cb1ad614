//! What can be read: tables, sets, chains, rules, counters, single elements.

use std::collections::BTreeSet;
use std::io;

use cell_netd_core::model::TableName;
use cell_netd_core::policy::{Element, SetId};
use netlink_packet_core::{DefaultNla, NLM_F_ACK};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, GenAttribute, GenMessage, ListAttribute, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementList, SetMessage, TableMessage,
};

use super::socket::{NftError, NftSocket, parsed};
use super::{decode, element, encode};

impl NftSocket {
    /// One table of family inet.
    pub(super) fn table(&mut self, table: &TableName) -> Result<Option<TableMessage>, NftError> {
        let request = NfTablesMessage::GetTable(encode::named(table));
        let found = absent_is_none(self.exchange(NetfilterProtoFamily::Inet, request, NLM_F_ACK))?;
        Ok(found.into_iter().flatten().find_map(|message| match message {
            NfTablesMessage::NewTable(table) => Some(table),
            _ => None,
        }))
    }

    pub(super) fn generation(&mut self) -> Result<u32, NftError> {
        let request = NfTablesMessage::GetGen(GenMessage { attributes: vec![] });
        let answer = self.exchange(NetfilterProtoFamily::Unspec, request, NLM_F_ACK)?;
        let id = answer.into_iter().find_map(|message| match message {
            NfTablesMessage::NewGen(generation) => generation.attributes.into_iter().find_map(|attribute| {
                if let GenAttribute::Id(id) = attribute {
                    Some(id)
                } else {
                    None
                }
            }),
            _ => None,
        });
        id.ok_or_else(|| NftError::Socket(io::Error::other("no generation id in the answer")))
    }

    pub(super) fn sets(&mut self, table: &TableName) -> Result<Vec<SetMessage>, NftError> {
        let attributes = vec![SetAttribute::Table(table.to_string())];
        let request = || {
            NfTablesMessage::GetSet(SetMessage {
                attributes: attributes.clone(),
            })
        };
        let answer = self.dump(NetfilterProtoFamily::Inet, request, parsed)?;
        let set = |message| {
            if let NfTablesMessage::NewSet(set) = message {
                Some(set)
            } else {
                None
            }
        };
        Ok(answer.into_iter().filter_map(set).collect())
    }

    /// Keys of a set's elements, and whether each ends a range.
    ///
    /// Read without the crate's parser, which prints the whole datagram for each element of it (version 0.4).
    pub(super) fn elements(
        &mut self,
        table: &TableName,
        set: &str,
    ) -> Result<Vec<(Vec<u8>, bool)>, NftError> {
        self.dump(
            NetfilterProtoFamily::Inet,
            || NfTablesMessage::GetSetElement(encode::element_list(table, set, None)),
            decode::keys,
        )
    }

    /// Chains of one table; the kernel dumps those of the family, so others are left out here.
    pub(super) fn chains(&mut self, table: &TableName) -> Result<Vec<ChainMessage>, NftError> {
        self.chains_of(NetfilterProtoFamily::Inet, table.as_str())
    }

    pub(super) fn chains_of(
        &mut self,
        family: NetfilterProtoFamily,
        table: &str,
    ) -> Result<Vec<ChainMessage>, NftError> {
        let mut chains = self.all_chains(family)?;
        chains.retain(|chain| {
            chain
                .attributes
                .contains(&ChainAttribute::Table(table.to_owned()))
        });
        Ok(chains)
    }

    /// Chains of all tables of a family.
    pub(super) fn all_chains(&mut self, family: NetfilterProtoFamily) -> Result<Vec<ChainMessage>, NftError> {
        let answer = self.dump(
            family,
            || NfTablesMessage::GetChain(ChainMessage { attributes: vec![] }),
            parsed,
        )?;
        let chain = |message| {
            if let NfTablesMessage::NewChain(chain) = message {
                Some(chain)
            } else {
                None
            }
        };
        Ok(answer.into_iter().filter_map(chain).collect())
    }

    /// Which chains of the table have rules.
    ///
    /// Read at each word of a change, and exits have rules of their own: without the crate's parser, as [`NftSocket::elements`].
    pub(super) fn chains_with_rules(&mut self, table: &TableName) -> Result<BTreeSet<String>, NftError> {
        let within = || {
            NfTablesMessage::GetRule(RuleMessage {
                attributes: vec![RuleAttribute::Table(table.to_string())],
            })
        };
        let chains = self.dump(NetfilterProtoFamily::Inet, within, decode::chain_of_rule)?;
        Ok(chains.into_iter().collect())
    }

    pub(super) fn rules(&mut self, table: &TableName) -> Result<Vec<RuleMessage>, NftError> {
        self.rules_of(
            NetfilterProtoFamily::Inet,
            vec![RuleAttribute::Table(table.to_string())],
        )
    }

    pub(super) fn rules_of(
        &mut self,
        family: NetfilterProtoFamily,
        within: Vec<RuleAttribute>,
    ) -> Result<Vec<RuleMessage>, NftError> {
        let answer = self.dump(
            family,
            || {
                NfTablesMessage::GetRule(RuleMessage {
                    attributes: within.clone(),
                })
            },
            parsed,
        )?;
        let rule = |message| {
            if let NfTablesMessage::NewRule(rule) = message {
                Some(rule)
            } else {
                None
            }
        };
        Ok(answer.into_iter().filter_map(rule).collect())
    }

    pub(super) fn objects(&mut self, table: &TableName) -> Result<Vec<Vec<DefaultNla>>, NftError> {
        // NFTA_OBJ_TABLE.
        let within = vec![DefaultNla::new(1, [table.as_str().as_bytes(), b"\0"].concat())];
        let answer = self.dump(
            NetfilterProtoFamily::Inet,
            || NfTablesMessage::GetObject(within.clone()),
            parsed,
        )?;
        let object = |message| {
            if let NfTablesMessage::NewObject(object) = message {
                Some(object)
            } else {
                None
            }
        };
        Ok(answer.into_iter().filter_map(object).collect())
    }

    /// Whether one element is in its set, read alone; of a map, with what the map has for it.
    pub(super) fn has_element(
        &mut self,
        table: &TableName,
        set: SetId,
        element: Element,
    ) -> Result<bool, NftError> {
        let wanted = Some(element::wanted(element));
        let request = NfTablesMessage::GetSetElement(encode::element_list(table, set.name(), wanted));
        let found = absent_is_none(self.exchange(NetfilterProtoFamily::Inet, request, NLM_F_ACK))?;
        let data = element::data(element);
        let holds = |message: &NfTablesMessage| match message {
            NfTablesMessage::NewSetElement(list) => list.attributes.iter().any(|part| match part {
                SetElementList::Elements(elements) => {
                    data.is_none_or(|data| elements.iter().any(|element| has_data(element, data.as_slice())))
                }
                _ => false,
            }),
            _ => false,
        };
        Ok(found.is_some_and(|messages| messages.iter().any(holds)))
    }
}

fn has_data(element: &ListAttribute<SetElementAttribute>, data: &[u8]) -> bool {
    let is = |attribute: &SetElementAttribute| matches!(attribute, SetElementAttribute::Data(DataAttribute::Value(found)) if found == data);
    matches!(element, ListAttribute::Element(attributes) if attributes.iter().any(is))
}

fn absent_is_none<T>(outcome: Result<T, NftError>) -> Result<Option<T>, NftError> {
    match outcome {
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(None),
        outcome => outcome.map(Some),
    }
}
