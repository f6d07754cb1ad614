//! What a test of a service asks on the wire, and what counts as an answer: a question to CoreDNS in a peer's name, and one for the
//! time. Pure.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use crate::published::HostName;

/// Longest answer over TCP that is read, bytes.
pub const ANSWER_MAX: usize = 4_096;
/// Type A, class IN.
const A_IN: [u8; 4] = [0, 1, 0, 1];
/// The first bytes of every PROXY protocol header of version 2.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// An answer that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Not an answer to what was asked.
    #[error("what came back is no answer to the question")]
    Garbled,
    /// There is no such name for whoever asked.
    #[error("there is no such name for this device")]
    NoName,
    /// It says that it cannot answer; its code.
    #[error("it answered with code {0}")]
    Code(u8),
}

/// The header that says who asks, and the question after it, as they are sent over TCP. The name is asked for by its address.
pub fn question(id: u16, peer: Ipv4Addr, server: SocketAddrV4, name: &HostName) -> Vec<u8> {
    let mut sent = SIGNATURE.to_vec();
    // Version 2, PROXY; IPv4 over TCP; two addresses and two ports follow.
    sent.extend([0x21, 0x11, 0, 12]);
    sent.extend(peer.octets());
    sent.extend(server.ip().octets());
    sent.extend(4_096_u16.to_be_bytes());
    sent.extend(server.port().to_be_bytes());
    let message = message(id, name);
    sent.extend(u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes());
    sent.extend(message);
    sent
}

fn message(id: u16, name: &HostName) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    message.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.as_str().split('.') {
        // A label of a name has at most 63 bytes.
        message.push(u8::try_from(label.len()).unwrap_or(63));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(A_IN);
    message
}

/// The addresses that an answer gives (without the two bytes of its length).
///
/// # Errors
/// [`NoAnswer`].
pub fn addresses(id: u16, name: &HostName, answer: &[u8]) -> Result<Vec<IpAddr>, NoAnswer> {
    let asked = message(id, name);
    let header = answer.get(..12).ok_or(NoAnswer::Garbled)?;
    let is_answer = header[..2] == asked[..2] && header[2] & 0x80 != 0;
    let repeats = answer.get(12..asked.len()) == asked.get(12..);
    if !is_answer || !repeats {
        return Err(NoAnswer::Garbled);
    }
    match header[3] & 0x0f {
        0 => {}
        3 => return Err(NoAnswer::NoName),
        code => return Err(NoAnswer::Code(code)),
    }
    let count = u16::from_be_bytes([header[6], header[7]]);
    let mut rest = &answer[asked.len()..];
    let mut found = Vec::new();
    for _ in 0..count {
        let after_name = skip_name(rest).ok_or(NoAnswer::Garbled)?;
        let fixed = after_name.get(..10).ok_or(NoAnswer::Garbled)?;
        let length = usize::from(u16::from_be_bytes([fixed[8], fixed[9]]));
        let data = after_name.get(10..10 + length).ok_or(NoAnswer::Garbled)?;
        if fixed[..4] == A_IN
            && let Ok(octets) = <[u8; 4]>::try_from(data)
        {
            found.push(IpAddr::from(octets));
        }
        rest = &after_name[10 + length..];
    }
    match found.is_empty() {
        true => Err(NoAnswer::NoName),
        false => Ok(found),
    }
}

/// What follows a name: labels, or a pointer to where they are.
fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        let length = *rest.first()?;
        match length {
            0 => return rest.get(1..),
            0xc0.. => return rest.get(2..),
            1..=63 => rest = rest.get(1 + usize::from(length)..)?,
            64..=0xbf => return None,
        }
    }
}

/// A request for the time (RFC 5905): version 4, client. `cookie` comes back with the answer.
pub fn time_request(cookie: [u8; 8]) -> [u8; 48] {
    let mut sent = [0; 48];
    sent[0] = 0x23;
    sent[40..].copy_from_slice(&cookie);
    sent
}

/// Whether an answer is a server's to the request with this cookie.
pub fn is_time(cookie: [u8; 8], answer: &[u8]) -> bool {
    answer.len() >= 48 && answer[0] & 7 == 4 && answer[24..32] == cookie
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    fn name() -> HostName {
        HostName::parse("notes.home.cell").unwrap()
    }

    fn answer(code: u8, records: &[&[u8]]) -> Vec<u8> {
        let mut answer = message(7, &name());
        (answer[2], answer[3]) = (0x85, code);
        answer[7] = u8::try_from(records.len()).unwrap();
        records.iter().for_each(|record| answer.extend(*record));
        answer
    }

    const FOUND: &[u8] = &[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 10, 86, 0, 254];

    #[test]
    fn a_question_says_who_asks_and_what() {
        let sent = question(
            7,
            "10.86.0.2".parse().unwrap(),
            "172.20.0.3:53".parse().unwrap(),
            &name(),
        );
        assert_eq!(sent[..12], SIGNATURE);
        assert_eq!(
            sent[12..28],
            [0x21, 0x11, 0, 12, 10, 86, 0, 2, 172, 20, 0, 3, 16, 0, 0, 53]
        );
        let (length, message) = (&sent[28..30], &sent[30..]);
        assert_eq!(
            usize::from(u16::from_be_bytes([length[0], length[1]])),
            message.len()
        );
        assert_eq!(message[12..18], *b"\x05notes");
    }

    #[test]
    fn an_answer_is_one_to_what_was_asked() {
        let parse = |bytes: &[u8]| addresses(7, &name(), bytes);
        assert_eq!(
            parse(&answer(0, &[FOUND])),
            Ok(vec!["10.86.0.254".parse().unwrap()])
        );
        // An alias before it is passed over.
        let alias: &[u8] = &[1, b'a', 0, 0, 5, 0, 1, 0, 0, 0, 60, 0, 2, 0xc0, 12];
        assert_eq!(parse(&answer(0, &[alias, FOUND])).unwrap().len(), 1);
        assert_eq!(parse(&answer(3, &[])), Err(NoAnswer::NoName));
        assert_eq!(parse(&answer(0, &[])), Err(NoAnswer::NoName));
        assert_eq!(parse(&answer(2, &[])), Err(NoAnswer::Code(2)));
        assert_eq!(
            addresses(8, &name(), &answer(0, &[FOUND])),
            Err(NoAnswer::Garbled)
        );
        let other = HostName::parse("board.home.cell").unwrap();
        assert_eq!(addresses(7, &other, &answer(0, &[FOUND])), Err(NoAnswer::Garbled));
        assert_eq!(parse(&message(7, &name())), Err(NoAnswer::Garbled), "a question");
        assert_eq!(parse(&answer(0, &[&FOUND[..12]])), Err(NoAnswer::Garbled));
    }

    #[test]
    fn the_time_is_a_servers() {
        let cookie = [9; 8];
        let mut told = time_request(cookie);
        assert!(!is_time(cookie, &told), "a request is none");
        told[0] = 0x24;
        told[24..32].copy_from_slice(&cookie);
        assert!(is_time(cookie, &told) && !is_time([8; 8], &told) && !is_time(cookie, &told[..47]));
    }

    proptest! {
        #[test]
        fn no_bytes_end_it(bytes in proptest::collection::vec(any::<u8>(), 0..200), tail in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = addresses(7, &name(), &bytes);
            let _ = is_time([0; 8], &bytes);
            let _ = addresses(7, &name(), &answer(0, &[&tail]));
        }
    }
}
