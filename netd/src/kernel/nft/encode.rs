//! A ruleset, or a change of elements, as one transaction.

use std::collections::BTreeSet;

use cell_netd_core::model::{Family, TableName};
use cell_netd_core::policy::{
    Chain, Counter, Element, ElementDelta, HookPoint, Rule, Ruleset, SetId, SetKind,
};
use netlink_packet_core::{DefaultNla, Emitable as _, NLA_F_NESTED, NLM_F_APPEND, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage,
    SetAttribute, SetElementList, SetElementMessage, SetFlags, SetMessage, TableAttribute, TableFlags,
    TableMessage,
};

use super::batch::Batch;
use super::{element, expression};

/// Written into the table, so that a table of the same name that is not ours is told apart. A comment in the form of
/// libnftnl's userdata: type 0, length, text with NUL.
pub(super) const TABLE_TAG: &[u8] = b"\x00\x13made by cell-netd\0\0";

/// Adds, deletes and adds the table, so that it is replaced whether it was there or not.
pub(super) fn replace(ruleset: &Ruleset, owned: bool) -> Batch {
    let Ruleset {
        table,
        chains,
        elements,
        relays: _,
    } = ruleset;
    let mut batch = Batch::default();
    batch.push(NfTablesMessage::NewTable(tagged(table, owned)), NLM_F_CREATE);
    batch.push(NfTablesMessage::DeleteTable(named(table)), 0);
    batch.push(NfTablesMessage::NewTable(tagged(table, owned)), NLM_F_CREATE);
    for counter in Counter::ALL {
        batch.push(
            NfTablesMessage::NewObject(new_counter(table, counter)),
            NLM_F_CREATE,
        );
    }
    for (index, set) in SetId::ALL.into_iter().enumerate() {
        batch.push(
            NfTablesMessage::NewSet(new_set(table, set, index as u32 + 1)),
            NLM_F_CREATE,
        );
    }
    for chain in chains {
        batch.push(NfTablesMessage::NewChain(new_chain(table, chain)), NLM_F_CREATE);
    }
    for chain in chains {
        for rule in &chain.rules {
            batch.push(
                NfTablesMessage::NewRule(new_rule(table, chain, rule)),
                NLM_F_CREATE | NLM_F_APPEND,
            );
        }
    }
    for (set, elements) in elements {
        push_elements(&mut batch, table, *set, elements, NfTablesMessage::NewSetElement);
    }
    batch
}

/// Takes ownership of a table that nobody owns.
pub(super) fn adopt(table: &TableName) -> Batch {
    let mut batch = Batch::default();
    batch.push(NfTablesMessage::NewTable(tagged(table, true)), 0);
    batch
}

/// Switches a table on again that nobody owns.
pub(super) fn wake(table: &TableName) -> Batch {
    let mut message = named(table);
    message
        .attributes
        .push(TableAttribute::Flags(TableFlags::empty()));
    let mut batch = Batch::default();
    batch.push(NfTablesMessage::NewTable(message), 0);
    batch
}

/// Removals first: a range may give way to one that overlaps it.
pub(super) fn update(table: &TableName, delta: &ElementDelta) -> Batch {
    let mut batch = Batch::default();
    for (set, elements) in &delta.removed {
        push_elements(
            &mut batch,
            table,
            *set,
            elements,
            NfTablesMessage::DeleteSetElement,
        );
    }
    for (set, elements) in &delta.added {
        push_elements(&mut batch, table, *set, elements, NfTablesMessage::NewSetElement);
    }
    batch
}

pub(super) fn remove(table: &TableName) -> Batch {
    let mut batch = Batch::default();
    batch.push(NfTablesMessage::DeleteTable(named(table)), 0);
    batch
}

pub(super) fn named(table: &TableName) -> TableMessage {
    TableMessage {
        attributes: vec![TableAttribute::Name(table.to_string())],
    }
}

fn tagged(table: &TableName, owned: bool) -> TableMessage {
    let mut message = named(table);
    if owned {
        message
            .attributes
            .push(TableAttribute::Flags(TableFlags::Owner | TableFlags::Persisent));
    }
    message
        .attributes
        .push(TableAttribute::UserData(TABLE_TAG.to_vec()));
    message
}

fn new_counter(table: &TableName, counter: Counter) -> Vec<DefaultNla> {
    let text = |kind, text: &str| DefaultNla::new(kind, [text.as_bytes(), b"\0"].concat());
    let zero = |kind| DefaultNla::new(kind, vec![0; 8]);
    let values = [zero(1), zero(2)];
    let mut data = vec![0; values.as_slice().buffer_len()];
    values.as_slice().emit(&mut data);
    // NFTA_OBJ_TABLE, NAME, TYPE = NFT_OBJECT_COUNTER, DATA (nested).
    vec![
        text(1, table.as_str()),
        text(2, counter.name()),
        DefaultNla::new(3, 1u32.to_be_bytes().to_vec()),
        DefaultNla::new(4 | NLA_F_NESTED, data),
    ]
}

/// Type number and length of a set's keys. Type numbers are nft(8)'s (enum datatypes), six bits for each part of a
/// concatenation, of which each part fills whole registers.
pub(super) fn key(kind: SetKind) -> (u32, u32) {
    const ADDRESS: [(u32, u32); 2] = [(7, 4), (8, 16)];
    const PROTOCOL: u32 = 12;
    const INTERFACE: (u32, u32) = (41, 16);
    let address = |family: Family| ADDRESS[usize::from(family == Family::V6)];
    match kind {
        SetKind::Address(family)
        | SetKind::Range(family)
        | SetKind::Mark(family)
        | SetKind::RelayPort(family) => address(family),
        SetKind::Service(family) => {
            let (kind, length) = address(family);
            (
                (kind << 18) | (kind << 12) | (PROTOCOL << 6) | SERVICE,
                2 * length + 8,
            )
        }
        SetKind::Port => ((PROTOCOL << 6) | SERVICE, 8),
        SetKind::Way(family) => {
            let ((kind, length), (name, name_length)) = (address(family), INTERFACE);
            ((kind << 12) | (name << 6) | MARK.0, length + name_length + MARK.1)
        }
        SetKind::Link => INTERFACE,
        SetKind::Host(family) => {
            let ((kind, length), (name, name_length)) = (address(family), INTERFACE);
            ((kind << 6) | name, length + name_length)
        }
        SetKind::RelayWay(family) => {
            let (kind, length) = address(family);
            ((kind << 12) | (SERVICE << 6) | MARK.0, length + 4 + MARK.1)
        }
        SetKind::Entry | SetKind::EntryTarget => {
            let (kind, length) = address(Family::V4);
            ((kind << 12) | (PROTOCOL << 6) | SERVICE, length + 8)
        }
        SetKind::EntryWay => {
            let (kind, length) = address(Family::V4);
            let first = (kind << 24) | (PROTOCOL << 18) | (SERVICE << 12);
            (first | (kind << 6) | SERVICE, 2 * length + 12)
        }
        SetKind::Server(family) => {
            let (kind, length) = address(family);
            ((kind << 6) | SERVICE, length + 4)
        }
    }
}

/// Type number and length of a mark.
const MARK: (u32, u32) = (19, 4);
/// Type number of a port; alone it has two bytes.
const SERVICE: u32 = 13;

/// Type number and length of what a map has for a key.
pub(super) fn data(kind: SetKind) -> (u32, u32) {
    match kind {
        SetKind::RelayPort(_) => (SERVICE, 2),
        SetKind::EntryTarget => ((7 << 6) | SERVICE, 8),
        SetKind::Address(_)
        | SetKind::Range(_)
        | SetKind::Service(_)
        | SetKind::Port
        | SetKind::Mark(_)
        | SetKind::Way(_)
        | SetKind::Link
        | SetKind::RelayWay(_)
        | SetKind::Host(_)
        | SetKind::Entry
        | SetKind::EntryWay
        | SetKind::Server(_) => MARK,
    }
}

/// Says to nft(8) alone that keys or data are in the host's byte order (libnftnl: enum nftnl_udata_set_types).
const fn host_order(of: u8) -> [u8; 6] {
    let [a, b, c, d] = 1u32.to_ne_bytes();
    [of, 4, a, b, c, d]
}
const OF_KEYS: u8 = 0;
const OF_DATA: u8 = 1;

/// What the kernel is told, and tells, of the set's kind.
pub(super) fn flags(kind: SetKind) -> SetFlags {
    match kind {
        SetKind::Range(_) => SetFlags::Interval,
        SetKind::Mark(_) | SetKind::RelayPort(_) | SetKind::EntryTarget => SetFlags::Map,
        SetKind::Address(_)
        | SetKind::Service(_)
        | SetKind::Port
        | SetKind::Way(_)
        | SetKind::Link
        | SetKind::RelayWay(_)
        | SetKind::Host(_)
        | SetKind::Entry
        | SetKind::EntryWay
        | SetKind::Server(_) => SetFlags::default(),
    }
}

fn new_set(table: &TableName, set: SetId, id: u32) -> SetMessage {
    let (key_type, key_length) = key(set.kind());
    let (data_type, data_length) = data(set.kind());
    let flags = flags(set.kind());
    let mut attributes = vec![
        SetAttribute::Table(table.to_string()),
        SetAttribute::Name(set.name().to_owned()),
        SetAttribute::Flags(flags),
        SetAttribute::KeyType(key_type),
        SetAttribute::KeyLen(key_length),
        SetAttribute::Id(id),
    ];
    if flags.contains(SetFlags::Map) {
        attributes.extend([
            SetAttribute::DataType(data_type),
            SetAttribute::DataLen(data_length),
        ]);
    }
    if matches!(set.kind(), SetKind::Mark(_)) {
        attributes.push(SetAttribute::UserData(host_order(OF_DATA).to_vec()));
    }
    if set.kind() == SetKind::Link {
        attributes.push(SetAttribute::UserData(host_order(OF_KEYS).to_vec()));
    }
    SetMessage { attributes }
}

fn new_chain(table: &TableName, chain: &Chain) -> ChainMessage {
    let mut attributes = vec![
        ChainAttribute::Table(table.to_string()),
        ChainAttribute::Name(chain.name.as_str().to_owned()),
    ];
    if let Some(hook) = chain.hook {
        let number = hook_number(hook.point);
        attributes.push(ChainAttribute::Hook(vec![
            Hook::Number(number.into()),
            // The kernel reads it as a signed number.
            Hook::Priority(hook.priority as u32),
        ]));
        // NF_ACCEPT.
        attributes.push(ChainAttribute::Policy(1));
        attributes.push(ChainAttribute::Type(
            if hook.nat { "nat" } else { "filter" }.to_owned(),
        ));
    }
    ChainMessage { attributes }
}

pub(super) fn hook_number(point: HookPoint) -> InetHookNumber {
    match point {
        HookPoint::Prerouting => InetHookNumber::PreRouting,
        HookPoint::Input => InetHookNumber::LocalIn,
        HookPoint::Forward => InetHookNumber::Forward,
        HookPoint::Output => InetHookNumber::LocalOut,
        HookPoint::Postrouting => InetHookNumber::PostRouting,
    }
}

fn new_rule(table: &TableName, chain: &Chain, rule: &Rule) -> RuleMessage {
    RuleMessage {
        attributes: vec![
            RuleAttribute::Table(table.to_string()),
            RuleAttribute::Chain(chain.name.as_str().to_owned()),
            RuleAttribute::Expressions(expression::rule(rule).into_iter().map(Into::into).collect()),
        ],
    }
}

fn push_elements(
    batch: &mut Batch,
    table: &TableName,
    set: SetId,
    elements: &BTreeSet<Element>,
    operation: fn(SetElementMessage) -> NfTablesMessage,
) {
    for list in element::lists(elements.iter().copied()) {
        let message = element_list(table, set.name(), Some(list));
        batch.push(operation(message), NLM_F_CREATE);
    }
}

/// A message about elements of a set; `elements` as [`element`] makes them, none: of all.
pub(super) fn element_list(table: &TableName, set: &str, elements: Option<Vec<u8>>) -> SetElementMessage {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    let mut attributes = vec![
        SetElementList::Table(table.to_string()),
        SetElementList::Set(set.to_owned()),
    ];
    if let Some(elements) = elements {
        attributes.push(SetElementList::Other(DefaultNla::new(
            NFTA_SET_ELEM_LIST_ELEMENTS | NLA_F_NESTED,
            elements,
        )));
    }
    SetElementMessage { attributes }
}
