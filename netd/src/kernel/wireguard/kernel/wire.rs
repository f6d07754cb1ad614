//! The generic netlink socket. What holds a key is wiped: requests and answers when they are dropped, and of an answer the
//! keys before it is parsed, since the parsed attributes are not.

use std::io;
use std::time::Duration;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable,
};
use netlink_packet_generic::GenlMessage;
use netlink_packet_generic::ctrl::nlas::GenlCtrlAttrs;
use netlink_packet_generic::ctrl::{GenlCtrl, GenlCtrlCmd};
use netlink_packet_wireguard::{WireguardAttribute, WireguardCmd, WireguardMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_GENERIC};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use zeroize::Zeroizing;

use super::super::{BackendError, DeviceState, PresharedKey, PrivateKey};
use super::decode;

const ANSWER: Duration = Duration::from_secs(20);
/// Room for one datagram of a dump (the kernel sends at most 32 KiB). The buffer never grows, which would leave a copy.
const DATAGRAM: usize = 1 << 17;
/// How often a dump is taken again when the device changed meanwhile (NLM_F_DUMP_INTR).
const ATTEMPTS: usize = 10;
/// struct nlmsghdr, struct genlmsghdr.
const HEADERS: usize = 16 + 4;

/// A generic netlink socket and the family's number.
pub(super) struct Wire {
    socket: Socket,
    family: u16,
    sequence: u32,
}

impl Wire {
    pub(super) fn open() -> Result<Self, BackendError> {
        let mut socket = Socket::new(NETLINK_GENERIC)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let patience = TimeVal::new(ANSWER.as_secs() as i64, 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience).map_err(io::Error::from)?;
        let mut wire = Wire {
            socket,
            family: 0,
            sequence: 0,
        };
        wire.family = wire.resolve()?;
        Ok(wire)
    }

    fn resolve(&mut self) -> Result<u16, BackendError> {
        let payload = GenlCtrl {
            cmd: GenlCtrlCmd::GetFamily,
            nlas: vec![GenlCtrlAttrs::FamilyName("wireguard".to_owned())],
        };
        let request = request(GenlMessage::from_payload(payload), NLM_F_ACK);
        let answers: Vec<GenlMessage<GenlCtrl>> = self.exchange(request, false)?;
        let id =
            answers
                .iter()
                .flat_map(|answer| &answer.payload.nlas)
                .find_map(|attribute| match attribute {
                    GenlCtrlAttrs::FamilyId(id) => Some(*id),
                    _ => None,
                });
        id.ok_or_else(|| BackendError::Io(io::Error::from_raw_os_error(libc::EOPNOTSUPP)))
    }

    /// Changes the device; `key` takes the place that the attributes keep for it.
    pub(super) fn set(
        &mut self,
        attributes: Vec<WireguardAttribute>,
        key: Option<&PrivateKey>,
    ) -> Result<(), BackendError> {
        let request = set_request(self.family, attributes, key);
        self.exchange::<WireguardMessage>(request, false).map(drop)
    }

    /// Changes the one peer that the attributes name; its preshared key takes the place that they keep for it.
    pub(super) fn set_peer(
        &mut self,
        attributes: Vec<WireguardAttribute>,
        preshared: Option<&PresharedKey>,
    ) -> Result<(), BackendError> {
        let request = peer_request(self.family, attributes, preshared);
        self.exchange::<WireguardMessage>(request, false).map(drop)
    }

    /// The device; none: there is no such interface, it is not a WireGuard one, or it has no key. `first_part` is enough
    /// to know the device by, and costs the same with many peers.
    pub(super) fn get(
        &mut self,
        interface: &str,
        first_part: bool,
    ) -> Result<Option<DeviceState>, BackendError> {
        for _ in 0..ATTEMPTS {
            let attributes = vec![WireguardAttribute::IfName(interface.to_owned())];
            let request = request(
                message(self.family, WireguardCmd::GetDevice, attributes),
                NLM_F_DUMP,
            );
            match self.exchange::<WireguardMessage>(request, first_part) {
                Ok(answers) => return decode::state(answers.into_iter().map(|answer| answer.payload)),
                Err(BackendError::Restless) => {}
                // No such interface, or not a WireGuard one.
                Err(BackendError::Io(error))
                    if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EOPNOTSUPP)) =>
                {
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        Err(BackendError::Restless)
    }

    fn exchange<P>(
        &mut self,
        mut request: Zeroizing<Vec<u8>>,
        first_part: bool,
    ) -> Result<Vec<GenlMessage<P>>, BackendError>
    where
        GenlMessage<P>: NetlinkDeserializable,
    {
        self.sequence += 1;
        number(&mut request, self.sequence);
        self.socket.send(&request, 0)?;
        let mut collected = Collected {
            sequence: self.sequence,
            answers: Vec::new(),
            interrupted: false,
        };
        let mut buffer = Zeroizing::new(Vec::with_capacity(DATAGRAM));
        loop {
            buffer.clear();
            self.socket.recv(&mut *buffer, 0)?;
            if collected.take(&mut buffer)? || first_part && !collected.answers.is_empty() {
                return Ok(collected.answers);
            }
        }
    }
}

/// The answers to one request.
struct Collected<P> {
    sequence: u32,
    answers: Vec<GenlMessage<P>>,
    interrupted: bool,
}

impl<P> Collected<P>
where
    GenlMessage<P>: NetlinkDeserializable,
{
    /// Takes a datagram. Returns whether the answer is complete.
    fn take(&mut self, mut datagram: &mut [u8]) -> Result<bool, BackendError> {
        while !datagram.is_empty() {
            let length = length(datagram).filter(|length| (HEADERS - 4..=datagram.len()).contains(length));
            let length = length.ok_or_else(|| BackendError::Answer("a length that cannot be".to_owned()))?;
            let (message, rest) = datagram.split_at_mut(length);
            datagram = rest
                .get_mut(length.next_multiple_of(4) - length..)
                .unwrap_or_default();
            forget_keys(message);
            let answer = NetlinkMessage::<GenlMessage<P>>::deserialize(message)
                .map_err(|error| BackendError::Answer(error.to_string()))?;
            // What is left of a dump that was not read to its end.
            if answer.header.sequence_number != self.sequence {
                continue;
            }
            self.interrupted |= answer.header.flags & NLM_F_DUMP_INTR != 0;
            match answer.payload {
                NetlinkPayload::Done(done) if done.code != 0 => {
                    return Err(io::Error::from_raw_os_error(-done.code).into());
                }
                NetlinkPayload::Done(_) if self.interrupted => return Err(BackendError::Restless),
                NetlinkPayload::Done(_) => return Ok(true),
                NetlinkPayload::Error(error) => {
                    return match error.code {
                        Some(code) => Err(io::Error::from_raw_os_error(-code.get()).into()),
                        None => Ok(true),
                    };
                }
                NetlinkPayload::InnerMessage(inner) => self.answers.push(inner),
                _ => {}
            }
        }
        Ok(false)
    }
}

fn message(
    family: u16,
    cmd: WireguardCmd,
    attributes: Vec<WireguardAttribute>,
) -> GenlMessage<WireguardMessage> {
    let mut message = GenlMessage::from_payload(WireguardMessage { cmd, attributes });
    message.set_resolved_family_id(family);
    message
}

/// The bytes of WG_CMD_SET_DEVICE.
pub(super) fn set_request(
    family: u16,
    attributes: Vec<WireguardAttribute>,
    key: Option<&PrivateKey>,
) -> Zeroizing<Vec<u8>> {
    let mut bytes = request(message(family, WireguardCmd::SetDevice, attributes), NLM_F_ACK);
    if let Some(key) = key
        && let Some(place) = attribute(&mut bytes[HEADERS..], WGDEVICE_A_PRIVATE_KEY)
    {
        place.copy_from_slice(key.expose());
    }
    bytes
}

/// The bytes of WG_CMD_SET_DEVICE that change one peer.
fn peer_request(
    family: u16,
    attributes: Vec<WireguardAttribute>,
    preshared: Option<&PresharedKey>,
) -> Zeroizing<Vec<u8>> {
    let mut bytes = set_request(family, attributes, None);
    if let Some(preshared) = preshared
        && let Some(peers) = attribute(&mut bytes[HEADERS..], WGDEVICE_A_PEERS)
    {
        each_attribute(peers, |_, peer| {
            if let Some(place) = attribute(peer, WGPEER_A_PRESHARED_KEY) {
                place.copy_from_slice(preshared.expose());
            }
        });
    }
    bytes
}

fn request<P>(message: GenlMessage<P>, flags: u16) -> Zeroizing<Vec<u8>>
where
    GenlMessage<P>: NetlinkSerializable,
    P: std::fmt::Debug,
{
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.header.sequence_number = 1;
    request.finalize();
    let mut bytes = Zeroizing::new(vec![0; request.buffer_len()]);
    request.serialize(&mut bytes);
    bytes
}

/// Writes nlmsg_seq.
fn number(request: &mut [u8], sequence: u32) {
    if let Some(place) = request.get_mut(8..12) {
        place.copy_from_slice(&sequence.to_ne_bytes());
    }
}

/// nlmsg_len.
fn length(message: &[u8]) -> Option<usize> {
    let bytes = message.first_chunk::<4>()?;
    usize::try_from(u32::from_ne_bytes(*bytes)).ok()
}

const WGDEVICE_A_PRIVATE_KEY: u16 = 3;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_PRESHARED_KEY: u16 = 2;

/// Takes the keys out of a message of the device before anything copies them: the private key becomes zeros, and a
/// preshared key becomes ones, so that it is seen that there is one. Errors, ends and what the controller says hold none.
fn forget_keys(message: &mut [u8]) {
    let family = message
        .get(4..6)
        .map(|bytes| u16::from_ne_bytes([bytes[0], bytes[1]]));
    // Above those of netlink itself and GENL_ID_CTRL.
    const FIRST_FAMILY: u16 = 0x11;
    if family.is_none_or(|family| family < FIRST_FAMILY) {
        return;
    }
    let Some(attributes) = message.get_mut(HEADERS..) else {
        return;
    };
    if let Some(key) = attribute(attributes, WGDEVICE_A_PRIVATE_KEY) {
        key.fill(0);
    }
    let Some(peers) = attribute(attributes, WGDEVICE_A_PEERS) else {
        return;
    };
    each_attribute(peers, |_, peer| {
        if let Some(key) = attribute(peer, WGPEER_A_PRESHARED_KEY)
            && key.iter().any(|byte| *byte != 0)
        {
            key.fill(1);
        }
    });
}

/// The value of the first attribute of that kind.
fn attribute(attributes: &mut [u8], wanted: u16) -> Option<&mut [u8]> {
    let mut place = None;
    each_header(attributes, |kind, start, end| {
        if kind == wanted && place.is_none() {
            place = Some(start..end);
        }
    });
    attributes.get_mut(place?)
}

fn each_attribute(attributes: &mut [u8], mut visit: impl FnMut(u16, &mut [u8])) {
    let mut places = Vec::new();
    each_header(attributes, |kind, start, end| places.push((kind, start, end)));
    for (kind, start, end) in places {
        if let Some(value) = attributes.get_mut(start..end) {
            visit(kind, value);
        }
    }
}

/// Kind, and start and end of the value, of each attribute (struct nlattr).
fn each_header(attributes: &[u8], mut visit: impl FnMut(u16, usize, usize)) {
    /// NLA_F_NESTED and NLA_F_NET_BYTEORDER.
    const FLAGS: u16 = 0xc000;
    let mut offset = 0;
    while let Some([low, high, kind_low, kind_high]) = attributes
        .get(offset..)
        .and_then(|rest| rest.first_chunk::<4>())
        .copied()
    {
        let length = usize::from(u16::from_ne_bytes([low, high]));
        let kind = u16::from_ne_bytes([kind_low, kind_high]) & !FLAGS;
        if length < 4 || offset + length > attributes.len() {
            return;
        }
        visit(kind, offset + 4, offset + length);
        offset += length.next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use netlink_packet_core::DoneMessage;
    use netlink_packet_wireguard::{WireguardPeer, WireguardPeerAttribute};

    const FAMILY: u16 = 0x1c;

    fn collected() -> Collected<WireguardMessage> {
        Collected {
            sequence: 1,
            answers: Vec::new(),
            interrupted: false,
        }
    }

    fn part(flags: u16) -> Vec<u8> {
        let peer = |index: u8, preshared: [u8; 32]| {
            WireguardPeer(vec![
                WireguardPeerAttribute::PublicKey([index; 32]),
                WireguardPeerAttribute::PresharedKey(preshared),
            ])
        };
        let attributes = vec![
            WireguardAttribute::ListenPort(51820),
            WireguardAttribute::Fwmark(7),
            WireguardAttribute::PrivateKey([0x5a; 32]),
            WireguardAttribute::PublicKey([0x44; 32]),
            WireguardAttribute::Peers(vec![peer(1, [0; 32]), peer(2, [0x5a; 32])]),
        ];
        let mut bytes = request(message(FAMILY, WireguardCmd::GetDevice, attributes), 0).to_vec();
        bytes[6..8].copy_from_slice(&flags.to_ne_bytes());
        bytes
    }

    fn done(code: i32) -> Vec<u8> {
        let mut done = DoneMessage::default();
        done.code = code;
        let mut message = NetlinkMessage::<GenlMessage<WireguardMessage>>::new(
            Default::default(),
            NetlinkPayload::Done(done),
        );
        message.header.sequence_number = 1;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    #[test]
    fn no_key_is_left_in_a_message_that_is_parsed() {
        let mut datagram = part(0);
        assert!(datagram.windows(32).any(|window| window == [0x5a; 32]), "before");
        let mut collected = collected();
        assert!(!collected.take(&mut datagram).unwrap());
        assert!(!datagram.contains(&0x5a));
        assert!(!format!("{:?}", collected.answers).contains("90, 90"));
        let answers = collected.answers.into_iter().map(|answer| answer.payload);
        let device = decode::state(answers).unwrap().unwrap().device;
        assert_eq!(
            (device.listen_port, device.fwmark, device.peers.len()),
            (51820, 7, 2)
        );
        let foreign: Vec<_> = device.preshared.iter().map(|key| key.as_bytes()[0]).collect();
        assert_eq!(foreign, [2], "that a peer has a preshared key is told");
    }

    #[test]
    fn a_preshared_key_takes_its_place_in_the_message_and_only_there() {
        let attributes = |preshared| {
            let mut peer = vec![WireguardPeerAttribute::PublicKey([7; 32])];
            if preshared {
                peer.push(WireguardPeerAttribute::PresharedKey([0; 32]));
            }
            vec![
                WireguardAttribute::IfName("wg0".to_owned()),
                WireguardAttribute::Peers(vec![WireguardPeer(peer)]),
            ]
        };
        let key = PresharedKey::from_slice(&[0x5a; 32]).unwrap();
        let mut bytes = peer_request(FAMILY, attributes(true), Some(&key)).to_vec();
        let at = bytes.windows(32).position(|window| window == [0x5a; 32]).unwrap();
        // Its header: 36 bytes of kind WGPEER_A_PRESHARED_KEY.
        assert_eq!(
            bytes[at - 4..at],
            [36_u16.to_ne_bytes(), 2_u16.to_ne_bytes()].concat()
        );
        bytes[at..at + 32].fill(0);
        assert_eq!(bytes, peer_request(FAMILY, attributes(true), None).to_vec());
        let none = peer_request(FAMILY, attributes(false), Some(&key));
        assert!(!none.contains(&0x5a));
    }

    #[test]
    fn a_dump_ends_well_only_if_it_says_so_and_nothing_changed_meanwhile() {
        let end = |code, flags| {
            let mut datagram = [part(flags), done(code)].concat();
            collected().take(&mut datagram)
        };
        assert!(end(0, 0).unwrap());
        assert!(matches!(end(0, NLM_F_DUMP_INTR), Err(BackendError::Restless)));
        let Err(BackendError::Io(error)) = end(-libc::EMSGSIZE, 0) else {
            panic!("the error of the end is told");
        };
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        let mut cut = part(0);
        cut[0] = 255;
        cut[1] = 255;
        assert!(matches!(collected().take(&mut cut), Err(BackendError::Answer(_))));
    }

    #[test]
    fn the_rest_of_an_earlier_dump_is_not_taken_for_an_answer() {
        let mut old = part(0);
        number(&mut old, 7);
        let mut collected = collected();
        assert!(!collected.take(&mut old).unwrap());
        assert!(collected.answers.is_empty());
    }
}
