//! A resolver that has one address for every name, and what asks it: the few bytes of RFC 1035 that it takes.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use anyhow::Result;
use cell_lab::netns::Namespace;

const ID: [u8; 2] = [0x17, 0x2a];
/// A (RFC 1035, section 3.2.2).
const ADDRESS: [u8; 2] = [0, 1];
const HEADER: usize = 12;

/// Answers at `at`, over UDP and TCP.
pub fn serve(namespace: &Namespace, at: SocketAddr, address: Ipv4Addr) -> Result<()> {
    let bound = namespace.inside(|| (UdpSocket::bind(at), TcpListener::bind(at)))?;
    let (udp, tcp) = (bound.0?, bound.1?);
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = udp.recv_from(&mut buffer) {
            let _ = udp.send_to(&answer(&buffer[..length], address), from);
        }
    });
    thread::spawn(move || {
        for mut stream in tcp.incoming().map_while(Result::ok) {
            if let Ok(question) = read_framed(&mut stream) {
                let _ = write_framed(&mut stream, &answer(&question, address));
            }
        }
    });
    Ok(())
}

/// With the question as it was put, and the address if that was asked for.
fn answer(question: &[u8], address: Ipv4Addr) -> Vec<u8> {
    let end = end_of_name(question, HEADER);
    let has = question[end..end + 2] == ADDRESS;
    let mut answer = question[..end + 4].to_vec();
    // An answer, recursion wanted and had; one question, and what there is.
    answer[2..HEADER].copy_from_slice(&[0x81, 0x80, 0, 1, 0, u8::from(has), 0, 0, 0, 0]);
    if has {
        answer.extend([0xc0, 0x0c, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(address.octets());
    }
    answer
}

/// Where the name that begins there is at its end: at the root's label, or at a pointer to the rest.
fn end_of_name(message: &[u8], begin: usize) -> usize {
    let mut at = begin;
    while message[at] != 0 {
        if message[at] >= 0xc0 {
            return at + 2;
        }
        at += usize::from(message[at]) + 1;
    }
    at + 1
}

/// How a question ended: a code of RFC 1035, section 4.1.1, and the first address.
pub type Ended = (u8, Option<Ipv4Addr>);

pub const FAILED: Ended = (2, None);
pub const REFUSED: Ended = (5, None);

pub fn found(address: Ipv4Addr) -> Ended {
    (0, Some(address))
}

/// Asks for an address. None: no answer.
pub fn ask(from: &Namespace, to: SocketAddr, name: &str, tcp: bool, patience: Duration) -> Option<Ended> {
    let question = question(name);
    let asked = from.inside(|| {
        if tcp {
            by_tcp(to, &question, patience)
        } else {
            by_udp(to, &question, patience)
        }
    });
    let answer = asked.unwrap().ok()?;
    assert_eq!(answer[..2], ID);
    let has = answer[6..8] != [0, 0];
    let address = has.then(|| {
        // Behind the question, of kind and class: the name, then kind, class, lifetime and length.
        let at = end_of_name(&answer, end_of_name(&answer, HEADER) + 4) + 10;
        <[u8; 4]>::try_from(&answer[at..at + 4]).unwrap()
    });
    Some((answer[3] & 0x0f, address.map(Ipv4Addr::from)))
}

fn question(name: &str) -> Vec<u8> {
    let mut bytes = [ID.as_slice(), &[1, 0, 0, 1, 0, 0, 0, 0, 0, 0]].concat();
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

fn by_udp(to: SocketAddr, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let any: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }.parse().unwrap();
    let socket = UdpSocket::bind(any)?;
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
    let length = u16::try_from(bytes.len()).unwrap();
    stream.write_all(&[length.to_be_bytes().as_slice(), bytes].concat())
}

fn read_framed(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut bytes = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}
