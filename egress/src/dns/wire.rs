//! Questions and answers on the wire. The one file that knows how hickory reads and writes them.

use std::net::IpAddr;

use cell_egress_core::dns::address::leads_inside;
use cell_egress_core::dns::decide::Kind;
use cell_egress_core::dns::name::Name;
use cell_egress_core::dns::zone::{Data, Line, Local, Outcome};
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SVCB};
use hickory_proto::rr::{DNSClass, Name as WireName, RData, Record, RecordType};

/// Largest datagram that is sent, bytes: it is never cut into fragments (RFC 9715).
pub const DATAGRAM_MAX: u16 = 1232;
/// What everybody takes, bytes (RFC 1035, section 4.2.1).
const DATAGRAM_LEAST: u16 = 512;
/// A message without any record, bytes.
const HEADER: usize = 12;
/// Most records of an answer that is passed on.
const RECORDS_MAX: usize = 512;
/// How long it may be remembered that a name of the cell is not there, seconds.
const ABSENT_TTL: u32 = 60;

/// A question that can be decided.
#[derive(Debug)]
pub struct Question {
    /// As it is decided about and remembered.
    pub name: Name,
    /// As it is decided about.
    pub kind: Kind,
    /// What resolvers are asked, and what answers are remembered by.
    pub asked: Asked,
    /// What the answer repeats.
    request: Metadata,
    query: Query,
    edns: Option<u16>,
}

/// What a resolver is asked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asked {
    /// Of which name.
    pub name: Name,
    /// The number of the kind.
    pub kind: u16,
    /// With signatures (RFC 3225).
    pub signed: bool,
    /// Unchecked (RFC 4035, section 3.2.2).
    pub unchecked: bool,
}

/// What came in.
#[derive(Debug)]
pub enum Incoming {
    /// A question.
    Question(Box<Question>),
    /// Something else that is answered, with what is sent back.
    Refused(Vec<u8>),
    /// What gets no answer: no question at all.
    Noise,
}

/// What a resolver said, without what is particular to one asker.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    code: ResponseCode,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    /// How long it may be kept, seconds.
    pub ttl: u32,
    /// Whether an address of it leads inside.
    pub inside: bool,
    /// About how large it is, bytes.
    pub size: usize,
}

/// How an answer travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In one datagram.
    Udp,
    /// Behind its length.
    Tcp,
}

/// Reads what a peer sent.
pub fn read(bytes: &[u8]) -> Incoming {
    if bytes.len() < HEADER {
        return Incoming::Noise;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    if bytes[2] & 0x80 != 0 {
        // An answer: to answer it would let two relays talk for ever.
        return Incoming::Noise;
    }
    let Ok(message) = Message::from_vec(bytes) else {
        return refused(
            Metadata::new(id, MessageType::Response, OpCode::Query),
            ResponseCode::FormErr,
        );
    };
    let request = message.metadata;
    if request.op_code != OpCode::Query {
        return refused(request, ResponseCode::NotImp);
    }
    let [query] = message.queries.as_slice() else {
        return refused(request, ResponseCode::FormErr);
    };
    if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refused(request, ResponseCode::BADVERS);
    }
    if query.query_class() != DNSClass::IN {
        return refused(request, ResponseCode::Refused);
    }
    let Some(name) = name_of(query.name()) else {
        return refused(request, ResponseCode::FormErr);
    };
    let signed = message.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
    let asked = Asked {
        name: name.clone(),
        kind: query.query_type().into(),
        signed,
        unchecked: request.checking_disabled,
    };
    Incoming::Question(Box::new(Question {
        name,
        kind: kind_of(query.query_type()),
        asked,
        request,
        query: query.clone(),
        edns: message.edns.as_ref().map(Edns::max_payload),
    }))
}

fn refused(request: Metadata, code: ResponseCode) -> Incoming {
    let mut metadata = Metadata::response_from_request(&request);
    metadata.response_code = code;
    let mut message = Message::response(request.id, request.op_code);
    message.metadata = metadata;
    if code == ResponseCode::BADVERS {
        message.set_edns(edns(false));
    }
    message.to_vec().map_or(Incoming::Noise, Incoming::Refused)
}

fn kind_of(kind: RecordType) -> Kind {
    match kind {
        RecordType::A => Kind::A,
        RecordType::AAAA => Kind::Aaaa,
        RecordType::CNAME => Kind::Cname,
        RecordType::PTR => Kind::Ptr,
        RecordType::SOA => Kind::Soa,
        RecordType::NS => Kind::Ns,
        RecordType::ANY => Kind::Any,
        RecordType::AXFR | RecordType::IXFR => Kind::Transfer,
        other => match u16::from(other) {
            // MAILB and MAILA ask for several kinds, and OPT and TKEY to TSIG are no kinds of records.
            253 | 254 => Kind::Any,
            41 | 249 | 250 => Kind::Transfer,
            number => Kind::Other(number),
        },
    }
}

fn name_of(name: &WireName) -> Option<Name> {
    Name::from_labels(name.iter()).ok()
}

fn wire_name(name: &Name) -> Option<WireName> {
    let mut wire = WireName::from_labels(name.labels()).ok()?;
    wire.set_fqdn(true);
    Some(wire)
}

fn edns(signed: bool) -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(DATAGRAM_MAX).set_dnssec_ok(signed);
    edns
}

impl Question {
    /// The answer that is given here.
    pub fn local(&self, local: &Local, transport: Transport) -> Option<Vec<u8>> {
        let mut message = self.response(match local.outcome {
            Outcome::Found | Outcome::NoData => ResponseCode::NoError,
            Outcome::NoName => ResponseCode::NXDomain,
        });
        message.metadata.authoritative = true;
        message.answers = local.lines.iter().map(record).collect::<Option<_>>()?;
        let start = match &local.zone {
            Some(zone) => start(wire_name(zone)?),
            // Nobody's name: the asker itself is the nearest thing to a zone.
            None => start(self.query.name().clone()),
        };
        match (local.outcome, self.kind, &local.zone) {
            (Outcome::Found, ..) => {}
            (Outcome::NoData, Kind::Soa, Some(zone)) if *zone == self.name => message.answers.push(start),
            (Outcome::NoData | Outcome::NoName, ..) => message.authorities.push(start),
        }
        self.bounded(message, transport)
    }

    /// What a resolver said `age` seconds ago.
    pub fn carried(&self, reply: &Reply, age: u32, transport: Transport) -> Option<Vec<u8>> {
        let mut message = self.response(reply.code);
        let aged = |record: &Record| {
            let mut record = record.clone();
            record.ttl = record.ttl.saturating_sub(age);
            record
        };
        message.answers = reply.answers.iter().map(aged).collect();
        message.authorities = reply.authorities.iter().map(aged).collect();
        self.bounded(message, transport)
    }

    /// No answer, since nobody gave one.
    pub fn failed(&self, transport: Transport) -> Option<Vec<u8>> {
        self.bounded(self.response(ResponseCode::ServFail), transport)
    }

    /// No answer, since there shall be none.
    pub fn refused(&self, transport: Transport) -> Option<Vec<u8>> {
        self.bounded(self.response(ResponseCode::Refused), transport)
    }

    fn response(&self, code: ResponseCode) -> Message {
        let mut message = Message::response(self.request.id, OpCode::Query);
        message.metadata = Metadata::response_from_request(&self.request);
        message.metadata.recursion_available = true;
        message.metadata.response_code = code;
        message.add_query(self.query.clone());
        if self.edns.is_some() {
            message.set_edns(edns(self.asked.signed));
        }
        message
    }

    /// As bytes: what does not fit is cut to a word that it did not, and the asker comes by TCP.
    fn bounded(&self, message: Message, transport: Transport) -> Option<Vec<u8>> {
        let most = match transport {
            Transport::Tcp => u16::MAX,
            Transport::Udp => self
                .edns
                .map_or(DATAGRAM_LEAST, |most| most.clamp(DATAGRAM_LEAST, DATAGRAM_MAX)),
        };
        let bytes = message.to_vec().ok()?;
        if bytes.len() <= usize::from(most) {
            return Some(bytes);
        }
        match transport {
            Transport::Udp => message.truncate().to_vec().ok(),
            Transport::Tcp => self.response(ResponseCode::ServFail).to_vec().ok(),
        }
    }
}

fn record(line: &Line) -> Option<Record> {
    let data = match &line.data {
        Data::V4(ip) => RData::A(A(*ip)),
        Data::V6(ip) => RData::AAAA(AAAA(*ip)),
        Data::Alias(target) => RData::CNAME(CNAME(wire_name(target)?)),
        Data::Pointer(target) => RData::PTR(PTR(wire_name(target)?)),
    };
    Some(Record::from_rdata(wire_name(&line.owner)?, line.ttl, data))
}

/// The start of a zone of the cell, which nobody transfers.
fn start(zone: WireName) -> Record {
    let data = SOA::new(zone.clone(), WireName::root(), 1, 3600, 600, 86_400, ABSENT_TTL);
    Record::from_rdata(zone, ABSENT_TTL, RData::SOA(data))
}

/// A question on its way to a resolver.
pub struct Outgoing {
    /// To be sent.
    pub bytes: Vec<u8>,
    id: u16,
    query: Query,
}

/// What a message from a resolver is.
#[derive(Debug)]
pub enum Heard {
    /// The answer.
    Reply(Reply),
    /// The answer did not fit: by TCP it does.
    Truncated,
    /// The resolver cannot answer, or will not.
    Unwilling(&'static str),
    /// No answer to this question.
    Other,
}

impl Outgoing {
    /// A question with an id and letters of random case, both of which the answer must repeat (draft-vixie-dnsext-dns0x20).
    pub fn new(asked: &Asked, id: u16) -> Option<Self> {
        let mut name = wire_name(&asked.name)?;
        name.randomize_label_case();
        let query = Query::query(name, RecordType::from(asked.kind));
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.metadata.checking_disabled = asked.unchecked;
        message.add_query(query.clone());
        message.set_edns(edns(asked.signed));
        let bytes = message.to_vec().ok()?;
        Some(Outgoing { bytes, id, query })
    }

    /// Reads what came from the resolver. Over TCP nobody else can have sent it, so there the case of letters may differ, as it
    /// does with resolvers that do not keep it; in a datagram it then counts as one that did not fit.
    pub fn hear(&self, bytes: &[u8], transport: Transport) -> Heard {
        let Ok(message) = Message::from_vec(bytes) else {
            return Heard::Other;
        };
        let metadata = message.metadata;
        let is_ours = metadata.message_type == MessageType::Response
            && metadata.op_code == OpCode::Query
            && metadata.id == self.id;
        let ([query], true) = (message.queries.as_slice(), is_ours) else {
            return Heard::Other;
        };
        let same = query.name() == self.query.name()
            && query.query_type() == self.query.query_type()
            && query.query_class() == DNSClass::IN;
        if !same {
            return Heard::Other;
        }
        let exact = query.name().eq_case(self.query.name());
        if transport == Transport::Udp && (metadata.truncation || !exact) {
            return Heard::Truncated;
        }
        match metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => match reply(message) {
                Some(reply) => Heard::Reply(reply),
                None => Heard::Unwilling("it answered with more than is passed on"),
            },
            ResponseCode::ServFail => Heard::Unwilling("it answered SERVFAIL"),
            ResponseCode::Refused => Heard::Unwilling("it answered REFUSED"),
            _ => Heard::Unwilling("it answered with an error"),
        }
    }
}

/// Shows no name.
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Outgoing({} bytes)", self.bytes.len())
    }
}

fn reply(message: Message) -> Option<Reply> {
    let size = message.to_vec().ok()?.len();
    let Message {
        metadata,
        answers,
        authorities,
        ..
    } = message;
    if answers.len() + authorities.len() > RECORDS_MAX {
        return None;
    }
    let ttl = lifetime(metadata.response_code, &answers, &authorities);
    let inside = answers
        .iter()
        .any(|record| addresses(&record.data).any(leads_inside));
    Some(Reply {
        code: metadata.response_code,
        answers,
        authorities,
        ttl,
        inside,
        // Records in memory are larger than on the wire.
        size: size * 4,
    })
}

/// The least of the records'; of a denial, also what its SOA says (RFC 2308, section 5), and nothing without one.
fn lifetime(code: ResponseCode, answers: &[Record], authorities: &[Record]) -> u32 {
    let least = answers.iter().chain(authorities).map(|record| record.ttl).min();
    let denied = code == ResponseCode::NXDomain
        || answers
            .iter()
            .all(|record| matches!(record.data, RData::CNAME(_)));
    if !denied {
        return least.unwrap_or(0);
    }
    let of_start = authorities.iter().find_map(|record| match &record.data {
        RData::SOA(start) => Some(start.minimum),
        _ => None,
    });
    of_start.map_or(0, |minimum| least.unwrap_or(0).min(minimum))
}

/// All addresses that a record tells.
fn addresses(data: &RData) -> impl Iterator<Item = IpAddr> {
    let told = match data {
        RData::A(A(ip)) => vec![IpAddr::V4(*ip)],
        RData::AAAA(AAAA(ip)) => vec![IpAddr::V6(*ip)],
        RData::SVCB(service) => hints(service),
        RData::HTTPS(service) => hints(&service.0),
        _ => Vec::new(),
    };
    told.into_iter()
}

fn hints(service: &SVCB) -> Vec<IpAddr> {
    let of = |(_, value): &(_, SvcParamValue)| match value {
        SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|ip| IpAddr::V4(ip.0)).collect(),
        SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|ip| IpAddr::V6(ip.0)).collect(),
        _ => Vec::new(),
    };
    service.svc_params.iter().flat_map(of).collect()
}

impl Reply {
    /// The addresses that the name itself, or what it is an alias of, has.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let of = |record: &Record| match &record.data {
            RData::A(A(ip)) => Some(IpAddr::V4(*ip)),
            RData::AAAA(AAAA(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        };
        self.answers.iter().filter_map(of).collect()
    }
}
