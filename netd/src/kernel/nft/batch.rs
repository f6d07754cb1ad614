//! One transaction: BATCH_BEGIN, operations, BATCH_END in a single message, of which the last operation asks for the
//! answer (an error is answered anyway).

use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_netfilter::nftables::NfTablesMessage;
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{
    NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily,
};

/// NFNL_SUBSYS_NFTABLES, which a batch is for.
const SUBSYSTEM: u16 = 10;

/// Operations of one transaction, in order.
#[derive(Debug, Default)]
pub(super) struct Batch {
    operations: Vec<(NetfilterProtoFamily, NfTablesMessage, u16)>,
}

/// A transaction as bytes. Operation `n` has sequence number `first + n`.
pub(super) struct Wire {
    pub bytes: Vec<u8>,
    pub first: u32,
    pub last: u32,
}

impl Batch {
    /// Adds an operation on a table of family inet.
    pub(super) fn push(&mut self, message: NfTablesMessage, flags: u16) {
        self.push_family(NetfilterProtoFamily::Inet, message, flags);
    }

    /// Adds an operation on a table of another family.
    pub(super) fn push_family(&mut self, family: NetfilterProtoFamily, message: NfTablesMessage, flags: u16) {
        self.operations.push((family, message, flags));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    /// The bytes to send; sequence numbers start at `first`.
    pub(super) fn serialize(self, first: u32) -> Wire {
        let last = first + self.operations.len() as u32 - 1;
        let mut bytes = Vec::new();
        append(&mut bytes, control(ControlMessage::BatchBegin, first - 1));
        for (index, (family, message, flags)) in self.operations.into_iter().enumerate() {
            let sequence = first + index as u32;
            let acknowledge = if sequence == last { NLM_F_ACK } else { 0 };
            append(
                &mut bytes,
                request(family, message, flags | acknowledge, sequence),
            );
        }
        append(&mut bytes, control(ControlMessage::BatchEnd, last + 1));
        Wire { bytes, first, last }
    }
}

/// One request, in a batch or alone.
pub(super) fn request(
    family: NetfilterProtoFamily,
    inner: impl Into<NetfilterMessageInner>,
    flags: u16,
    sequence: u32,
) -> NetlinkMessage<NetfilterMessage> {
    with_resource(family, 0, inner, flags, sequence)
}

fn control(message: ControlMessage, sequence: u32) -> NetlinkMessage<NetfilterMessage> {
    with_resource(NetfilterProtoFamily::Unspec, SUBSYSTEM, message, 0, sequence)
}

fn with_resource(
    family: NetfilterProtoFamily,
    resource: u16,
    inner: impl Into<NetfilterMessageInner>,
    flags: u16,
    sequence: u32,
) -> NetlinkMessage<NetfilterMessage> {
    let mut message = NetlinkMessage::from(NetfilterMessage::new(
        NetfilterHeader::new(family, 0, resource),
        inner,
    ));
    message.header.flags = NLM_F_REQUEST | flags;
    message.header.sequence_number = sequence;
    message
}

/// Appends a message, padded as netlink wants it (NLMSG_ALIGN).
pub(super) fn append(bytes: &mut Vec<u8>, mut message: NetlinkMessage<NetfilterMessage>) {
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
    message.serialize(&mut bytes[start..]);
}
