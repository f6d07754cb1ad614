//! What a peer sends to the DNS relay, and what a resolver answers it: the first byte says by what the answer travels.
#![no_main]

use std::net::IpAddr;
use std::sync::LazyLock;

use cell_egress::dns::wire::{Asked, DATAGRAM_MAX, Heard, Incoming, Outgoing, Transport, read};
use cell_egress_core::dns::decide::{Asker, Decision, decide};
use cell_egress_core::dns::name::Name;
use cell_egress_core::dns::request::{self, AskedData, AskedDns, AskedPeer, AskedRecord, DnsCeiling};
use cell_egress_core::dns::table::Table;
use libfuzzer_sys::fuzz_target;

const PEER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 8, 0, 2));

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let record = |name, data| AskedRecord { name, ttl: 60, data: Some(data) };
    let asked = AskedDns {
        zones: vec!["cell"],
        records: vec![
            record("*.cell", AskedData::Address(Ok(PEER))),
            record("a.cell", AskedData::Alias("b.cell")),
        ],
        peers: vec![AskedPeer { addresses: vec![Ok(PEER)], exit: "" }],
        ..AskedDns::default()
    };
    let ceiling = DnsCeiling { upstreams: Vec::new(), local_upstreams: Vec::new(), interface_prefixes: Vec::new(), authorities: Vec::new() };
    request::table(&asked, &ceiling).expect("it is in order")
});

fuzz_target!(|input: &[u8]| {
    let Some((first, bytes)) = input.split_first() else { return };
    let transport = if first & 1 == 0 { Transport::Udp } else { Transport::Tcp };
    match read(bytes) {
        Incoming::Question(question) => {
            let answer = match decide(&TABLE, Asker::Peer(PEER), &question.name, question.kind) {
                Decision::Answer(local) => question.local(&local, transport),
                Decision::Default => question.failed(transport),
                Decision::Refuse(_) => question.refused(transport),
                Decision::Exit(..) | Decision::NoWay => panic!("the peer has no exit"),
                Decision::Authority(..) => panic!("there is no authority"),
            };
            let answer = answer.expect("a question that can be read is answered");
            assert_eq!(answer[..2], bytes[..2], "the id");
            assert!(answer[2] & 0x80 != 0, "an answer");
            if transport == Transport::Udp {
                assert!(answer.len() <= usize::from(DATAGRAM_MAX));
            }
            assert!(matches!(read(&answer), Incoming::Noise), "no answer is answered");
        }
        Incoming::Refused(answer) => {
            assert_eq!(answer[..2], bytes[..2], "the id");
            assert!(answer.len() <= 512 && matches!(read(&answer), Incoming::Noise));
        }
        Incoming::Noise => {}
    }
    let name = Name::of_host("example.org").expect("a name");
    let asked = Asked { name, kind: 1, signed: false, unchecked: false };
    let outgoing = Outgoing::new(&asked, u16::from(*first)).expect("it can be asked");
    if let Heard::Reply(reply) = outgoing.hear(bytes, transport) {
        assert_eq!(bytes[..2], u16::from(*first).to_be_bytes(), "the id that was asked with");
        assert!(reply.addresses().len() <= bytes.len() / 4);
    }
});
