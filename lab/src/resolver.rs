//! A resolver that has one address for every name, and what asks it.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};

use crate::netns::Namespace;

const TTL_SECONDS: u32 = 60;
/// How long a connection may be silent.
const IDLE: Duration = Duration::from_secs(10);
/// Between two tries after the kernel told a socket of an error.
const PAUSE: Duration = Duration::from_millis(20);

/// Answers at `at`, over UDP and TCP, as long as the test's process lives.
///
/// # Errors
/// When the port is taken.
pub fn serve(namespace: &Namespace, at: SocketAddr, address: Ipv4Addr) -> Result<()> {
    serve_noting(namespace, at, address, |_| {})
}

/// [`serve`], and tells `note` the name that each question is about: in lower case, without the last dot.
///
/// # Errors
/// As [`serve`].
pub fn serve_noting(
    namespace: &Namespace,
    at: SocketAddr,
    address: Ipv4Addr,
    note: impl Fn(&str) + Send + Sync + 'static,
) -> Result<()> {
    let bound = namespace.inside(|| -> io::Result<_> { Ok((UdpSocket::bind(at)?, TcpListener::bind(at)?)) });
    let (udp, tcp) = bound?.with_context(|| format!("a resolver at {at} in {}", namespace.name()))?;
    let note = Arc::new(note);
    let noted = Arc::clone(&note);
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        loop {
            match udp.recv_from(&mut buffer) {
                Ok((length, from)) => {
                    let answer = answer(&buffer[..length], address, &*noted);
                    let _ = answer.map(|answer| udp.send_to(&answer, from));
                }
                // Told of an answer that went nowhere.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    });
    thread::spawn(move || {
        for stream in tcp.incoming().flatten() {
            let note = Arc::clone(&note);
            thread::spawn(move || converse(stream, address, &*note));
        }
    });
    Ok(())
}

fn converse(mut stream: TcpStream, address: Ipv4Addr, note: &dyn Fn(&str)) {
    if stream.set_read_timeout(Some(IDLE)).is_err() {
        return;
    }
    while let Ok(question) = read_framed(&mut stream) {
        let answer = answer(&question, address, note);
        let sent = answer.map(|answer| write_framed(&mut stream, &answer));
        if !matches!(sent, Some(Ok(()))) {
            return;
        }
    }
}

/// With the question as it was put, and the address if that was asked for. None: it is no question.
fn answer(question: &[u8], address: Ipv4Addr, note: &dyn Fn(&str)) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let [query] = question.queries.as_slice() else {
        return None;
    };
    if question.metadata.message_type != MessageType::Query {
        return None;
    }
    note(query.name().to_lowercase().to_ascii().trim_end_matches('.'));
    let mut answer = Message::response(question.metadata.id, OpCode::Query);
    answer.metadata = Metadata::response_from_request(&question.metadata);
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    if query.query_type() == RecordType::A {
        let data = RData::A(A(address));
        answer
            .answers
            .push(Record::from_rdata(query.name().clone(), TTL_SECONDS, data));
    }
    answer.to_vec().ok()
}

/// How a question ended: a code of RFC 1035, section 4.1.1, and the first address.
pub type Ended = (ResponseCode, Option<Ipv4Addr>);

/// Nobody could say.
pub const FAILED: Ended = (ResponseCode::ServFail, None);
/// It is not answered.
pub const REFUSED: Ended = (ResponseCode::Refused, None);

/// The address was told.
pub fn found(address: Ipv4Addr) -> Ended {
    (ResponseCode::NoError, Some(address))
}

/// The bytes of a question for the address of a name.
///
/// # Errors
/// When it is no name.
pub fn question(id: u16, name: &str) -> Result<Vec<u8>> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let mut name = Name::from_ascii(name).with_context(|| name.to_owned())?;
    name.set_fqdn(true);
    message.add_query(Query::query(name, RecordType::A));
    Ok(message.to_vec()?)
}

/// The same as it goes over TCP, behind its length.
///
/// # Errors
/// As [`question`].
pub fn framed_question(id: u16, name: &str) -> Result<Vec<u8>> {
    let bytes = question(id, name)?;
    let length = u16::try_from(bytes.len())?;
    Ok([length.to_be_bytes().as_slice(), &bytes].concat())
}

/// Asks for an address. None: no answer within `patience`.
///
/// # Errors
/// When the namespace cannot be entered, or it is no name.
pub fn ask(
    from: &Namespace,
    to: SocketAddr,
    name: &str,
    tcp: bool,
    patience: Duration,
) -> Result<Option<Ended>> {
    const ID: u16 = 0x172a;
    let question = question(ID, name)?;
    let asked = from.inside(|| {
        if tcp {
            by_tcp(to, &question, patience)
        } else {
            by_udp(to, &question, patience)
        }
    })?;
    let Ok(bytes) = asked else { return Ok(None) };
    let answer = Message::from_vec(&bytes)?;
    anyhow::ensure!(answer.metadata.id == ID, "an answer to another question");
    let address = answer.answers.iter().find_map(|record| match &record.data {
        RData::A(A(address)) => Some(*address),
        _ => None,
    });
    Ok(Some((answer.metadata.response_code, address)))
}

fn by_udp(to: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(to)?;
    socket.set_read_timeout(Some(patience))?;
    socket.send(question)?;
    let mut answer = vec![0; 2048];
    let length = socket.recv(&mut answer)?;
    answer.truncate(length);
    Ok(answer)
}

fn by_tcp(to: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&to, patience)?;
    stream.set_read_timeout(Some(patience))?;
    write_framed(&mut stream, question)?;
    read_framed(&mut stream)
}

fn write_framed(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    let length = u16::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&[length.to_be_bytes().as_slice(), bytes].concat())
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_question_is_answered_and_noted_and_an_answer_is_not() {
        let address = Ipv4Addr::new(192, 0, 2, 1);
        let noted = RefCell::new(Vec::new());
        let note = |name: &str| noted.borrow_mut().push(name.to_owned());
        let bytes = answer(&question(7, "Q1.Example").unwrap(), address, &note).unwrap();
        let read = Message::from_vec(&bytes).unwrap();
        assert_eq!((read.metadata.id, read.answers.len()), (7, 1));
        assert_eq!(noted.borrow().as_slice(), ["q1.example"]);
        assert_eq!(answer(&bytes, address, &note), None, "or two would talk for ever");
        assert_eq!(answer(&[0; 5], address, &note), None);
        assert_eq!(noted.borrow().len(), 1);
    }
}
