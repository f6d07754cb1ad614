//! Ends flows in the kernel's table of them (nf_conntrack, include/uapi/linux/netfilter/nfnetlink_conntrack.h).
//!
//! The kernel's own filter (CTA_FILTER) is not used: older kernels have none for this, and Linux 6.18 takes IPv6 addresses in it the
//! wrong way round (ADR 0049).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::{mem, thread};

use cell_netd_core::rebound::{Datagrams, Moved};
use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP, NetlinkMessage, NetlinkPayload, Nla};
use netlink_packet_netfilter::conntrack::{
    ConntrackAttribute, ConntrackMessage, IPTuple, ProtoTuple, Protocol, Tuple,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use super::socket::{NftError, NftSocket, again};

/// CTA_ID, by which a flow is told from one that takes its place.
const ID: u16 = 12;
/// CTA_ZONE.
const ZONE: u16 = 18;
/// Flows of one address that are ended at once: whoever keeps more open has the rest of them cut until they are idle.
const OF_ONE: usize = 256;
/// And of all addresses.
const OF_ALL: usize = 8192;

/// What names a flow, and where it began.
struct Flow {
    from: IpAddr,
    name: Vec<ConntrackAttribute>,
}

/// Ends flows of some addresses beside all else: nothing depends on them, and a full table of flows takes seconds to be read.
#[derive(Debug)]
pub(in crate::kernel) struct Ender {
    waiting: Arc<Mutex<Waiting>>,
    /// The bits of a flow's mark that say which exit.
    mask: u32,
}

#[derive(Debug, Default)]
struct Waiting {
    moved: Moved,
    /// Whoever ends them now looks here once more before it is done; none: nobody does.
    worker: Option<JoinHandle<()>>,
}

impl Ender {
    pub(in crate::kernel) fn new(mask: u32) -> Self {
        let waiting = Arc::default();
        Ender { waiting, mask }
    }

    /// Ends flows without connections (UDP, ICMP) that began at these addresses and are of the way before, soon. What cannot be done
    /// is logged.
    pub(in crate::kernel) fn end(&self, moved: Moved) {
        let mut waiting = lock(&self.waiting);
        waiting.moved.extend(moved);
        // One that has panicked is finished and did not say so.
        if waiting
            .worker
            .as_ref()
            .is_some_and(|worker| !worker.is_finished())
        {
            return;
        }
        let (shared, mask) = (Arc::clone(&self.waiting), self.mask);
        // Not of the runtime, which would wait for it when netd ends.
        let begun = thread::Builder::new()
            .name("flows".to_owned())
            .spawn(move || work(&shared, mask));
        match begun {
            Ok(worker) => waiting.worker = Some(worker),
            Err(error) => say(&error.into()),
        }
    }
}

fn work(shared: &Mutex<Waiting>, mask: u32) {
    loop {
        let moved = {
            let mut waiting = lock(shared);
            if waiting.moved.is_empty() {
                waiting.worker = None;
                return;
            }
            mem::take(&mut waiting.moved)
        };
        let ended = NftSocket::open()
            .map_err(NftError::from)
            .and_then(|mut socket| end_datagrams(&mut socket, &moved, mask));
        if let Err(error) = ended {
            say(&error);
        }
    }
}

fn say(error: &NftError) {
    tracing::warn!(%error, "flows that were moved stay cut until they are idle");
}

fn lock(shared: &Mutex<Waiting>) -> MutexGuard<'_, Waiting> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads all flows that there are. Answers with the first error of the kernel's, after the others were tried.
fn end_datagrams(socket: &mut NftSocket, moved: &Moved, mask: u32) -> Result<(), NftError> {
    let flows = again(|| found(socket, moved, mask))?;
    let ended = flows.into_iter().map(|flow| end(socket, flow));
    // Each is tried, whatever becomes of another.
    ended.fold(Ok(()), Result::and)
}

fn found(socket: &mut NftSocket, moved: &Moved, mask: u32) -> Result<Vec<Flow>, NftError> {
    let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
    let read = |message: &[u8], found: &mut Vec<Flow>| -> Result<(), DecodeError> {
        let Some(flow) = of_before(message, moved, mask).filter(|_| found.len() < OF_ALL) else {
            return Ok(());
        };
        let count = counts.entry(flow.from).or_default();
        *count += 1;
        if *count <= OF_ONE {
            found.push(flow);
        }
        Ok(())
    };
    let all = ConntrackMessage::Get(Vec::new());
    socket.exchange_with(NetfilterProtoFamily::Unspec, all, NLM_F_DUMP, read)
}

fn end(socket: &mut NftSocket, flow: Flow) -> Result<(), NftError> {
    let family = match flow.from {
        IpAddr::V4(_) => NetfilterProtoFamily::IPv4,
        IpAddr::V6(_) => NetfilterProtoFamily::IPv6,
    };
    let message = ConntrackMessage::Delete(flow.name);
    let acknowledged = |_: &[u8], _: &mut Vec<()>| Ok(());
    match socket.exchange_with(family, message, NLM_F_ACK, acknowledged) {
        // It has ended by itself.
        Err(error) if error.errno() == Some(libc::ENOENT) => Ok(()),
        outcome => outcome.map(drop),
    }
}

/// The flow of a message, if it is one of these.
fn of_before(message: &[u8], moved: &Moved, mask: u32) -> Option<Flow> {
    let message = NetlinkMessage::<NetfilterMessage>::deserialize(message).ok()?;
    let NetlinkPayload::InnerMessage(NetfilterMessage {
        inner: NetfilterMessageInner::Conntrack(ConntrackMessage::New(attributes)),
        ..
    }) = message.payload
    else {
        return None;
    };
    let (mut sent, mut answered, mut mark) = (Ends::default(), Ends::default(), 0);
    for attribute in &attributes {
        match attribute {
            ConntrackAttribute::CtaTupleOrig(tuple) => sent = Ends::of(tuple),
            ConntrackAttribute::CtaTupleReply(tuple) => answered = Ends::of(tuple),
            ConntrackAttribute::CtaMark(all) => mark = all & mask,
            _ => {}
        }
    }
    let from = sent.source.filter(|_| sent.is_of_datagrams)?;
    let way = moved.get(&from)?;
    let flow = Datagrams {
        destination: sent.destination?,
        port: sent.to_port,
        answers: (answered.source?, answered.from_port),
        mark,
    };
    (!way.is_of(&flow)).then(|| Flow {
        from,
        name: attributes.into_iter().filter(is_name).collect(),
    })
}

/// What counts of a tuple.
#[derive(Default)]
struct Ends {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    from_port: Option<u16>,
    to_port: Option<u16>,
    is_of_datagrams: bool,
}

impl Ends {
    fn of(tuple: &[Tuple]) -> Self {
        let mut ends = Ends::default();
        for part in tuple {
            match part {
                Tuple::Ip(ip) => ip.iter().for_each(|one| ends.take_address(one)),
                Tuple::Proto(of) => of.iter().for_each(|one| ends.take_protocol(one)),
                _ => {}
            }
        }
        ends
    }

    fn take_address(&mut self, one: &IPTuple) {
        match one {
            IPTuple::SourceAddress(address) => self.source = Some(*address),
            IPTuple::DestinationAddress(address) => self.destination = Some(*address),
            _ => {}
        }
    }

    fn take_protocol(&mut self, one: &ProtoTuple) {
        match one {
            ProtoTuple::Protocol(Protocol::Udp | Protocol::Icmp | Protocol::Ipv6Icmp) => {
                self.is_of_datagrams = true;
            }
            ProtoTuple::SourcePort(port) => self.from_port = Some(*port),
            ProtoTuple::DestinationPort(port) => self.to_port = Some(*port),
            _ => {}
        }
    }
}

fn is_name(attribute: &ConntrackAttribute) -> bool {
    match attribute {
        ConntrackAttribute::CtaTupleOrig(_) => true,
        other => [ID, ZONE].contains(&other.kind()),
    }
}
