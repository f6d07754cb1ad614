//! What is said to exits and what their answers mean: byte for byte, in any pieces, truncated, hostile.
#![allow(clippy::unwrap_used, reason = "tests")]

use cell_egress_core::credentials::Credentials;
use cell_egress_core::destination::Destination;
use cell_egress_core::handshake::{Handshake, HandshakeError, Refusal, Step};
use cell_egress_core::http_connect::HEAD_MAX;
use cell_egress_core::socks5::{GREETING, Reply, judge_greeted};
use proptest::prelude::*;
use zeroize::Zeroizing;

fn destination(text: &str) -> Destination {
    Destination::judge(text.parse().unwrap(), "10.8.0.1:9100".parse().unwrap()).unwrap()
}

fn credentials() -> Credentials {
    Credentials::try_new("hans", Zeroizing::new(b"hunter2".to_vec())).unwrap()
}

fn socks5(with_login: bool) -> Handshake {
    Handshake::socks5(destination("192.0.2.7:443"), with_login.then(credentials))
}

fn http(with_login: bool) -> Handshake {
    Handshake::http_connect(
        destination("[2001:db8::7]:443"),
        with_login.then(credentials).as_ref(),
    )
}

/// Gives a machine an exit's words one after the other and answers all that was sent, and what came early.
fn spoken(machine: &mut Handshake, words: &[&[u8]]) -> Result<(Vec<u8>, Option<Vec<u8>>), HandshakeError> {
    let mut sent = machine.start().bytes().to_vec();
    for word in words {
        match machine.receive(word)? {
            Step::Wait => {}
            Step::Send(more) => sent.extend_from_slice(more.bytes()),
            Step::Open(early) => return Ok((sent, Some(early))),
        }
    }
    Ok((sent, None))
}

const REPLY: &[u8] = &[5, 0, 0, 1, 198, 51, 100, 1, 0x1f, 0x90];

#[test]
fn socks5_without_login_is_what_the_rfc_writes() {
    let (sent, early) = spoken(&mut socks5(false), &[&[5, 0], REPLY]).unwrap();
    assert_eq!(
        sent,
        [&[5u8, 1, 0] as &[u8], &[5, 1, 0, 1, 192, 0, 2, 7, 1, 187]].concat()
    );
    assert_eq!(early, Some(vec![]));
}

#[test]
fn socks5_with_login_is_what_the_rfc_writes() {
    let (sent, early) = spoken(
        &mut socks5(true),
        &[&[5, 2], &[1, 0], &[REPLY, b"220 hello"].concat()],
    )
    .unwrap();
    let login = [&[1u8, 4] as &[u8], b"hans", &[7], b"hunter2"].concat();
    assert_eq!(
        sent,
        [&[5, 1, 2], login.as_slice(), &[5, 1, 0, 1, 192, 0, 2, 7, 1, 187]].concat()
    );
    assert_eq!(
        early.unwrap(),
        b"220 hello",
        "what the destination said at once is kept"
    );
}

#[test]
fn socks5_knows_each_address_of_a_reply() {
    let v6 = [&[5u8, 0, 0, 4] as &[u8], &[7; 16], &[0, 80]].concat();
    let name = [&[5u8, 0, 0, 3, 255] as &[u8], &[b'n'; 255], &[0, 80]].concat();
    for reply in [REPLY, &v6, &name, &[5, 0, 0, 3, 0, 0, 80]] {
        for cut in 0..reply.len() {
            let (_, early) = spoken(&mut socks5(false), &[&[5, 0], &reply[..cut]]).unwrap();
            assert_eq!(early, None, "a reply cut at {cut} is not the whole");
        }
        let (_, early) = spoken(&mut socks5(false), &[&[5, 0], reply]).unwrap();
        assert_eq!(early, Some(vec![]));
    }
}

#[test]
fn socks5_errors_are_told_apart() {
    let fault = |login, words: &[&[u8]]| spoken(&mut socks5(login), words).unwrap_err();
    assert_eq!(fault(false, &[&[5, 0xff]]), HandshakeError::NoMethod);
    assert_eq!(fault(true, &[&[5, 2], &[1, 1]]), HandshakeError::Credentials);
    for (login, words) in [
        (false, vec![&[4u8, 0] as &[u8]]),
        (false, vec![b"HTTP/1.1 400 Bad Request\r\n\r\n"]),
        (false, vec![&[5, 2]]),
        // Whoever was given a password and asks for none is another exit than was meant.
        (true, vec![&[5, 0]]),
        (true, vec![&[5, 2], &[7, 0]]),
        (false, vec![&[5, 0, 5]]),
        (false, vec![&[5, 0], &[4]]),
        (false, vec![&[5, 0], &[5, 0, 0, 2, 1]]),
    ] {
        assert!(
            matches!(fault(login, &words), HandshakeError::Protocol(_)),
            "{words:?}"
        );
    }
    for (code, reply) in [
        (1, Reply::GeneralFailure),
        (2, Reply::NotAllowed),
        (3, Reply::NetworkUnreachable),
        (4, Reply::HostUnreachable),
        (5, Reply::ConnectionRefused),
        (6, Reply::TtlExpired),
        (7, Reply::CommandNotSupported),
        (8, Reply::AddressTypeNotSupported),
        (9, Reply::Unassigned(9)),
        (255, Reply::Unassigned(255)),
    ] {
        let refused = fault(false, &[&[5, 0], &[5, code, 0, 1, 0, 0, 0, 0, 0, 0]]);
        assert_eq!(refused, HandshakeError::Refused(Refusal::Socks5(reply)));
    }
}

#[test]
fn http_connect_is_what_the_rfc_writes() {
    let (sent, early) = spoken(
        &mut http(true),
        &[b"HTTP/1.1 200 Connection established\r\n\r\nSSH-2.0-x"],
    )
    .unwrap();
    let expected = "CONNECT [2001:db8::7]:443 HTTP/1.1\r\nHost: [2001:db8::7]:443\r\n\
                    Proxy-Authorization: Basic aGFuczpodW50ZXIy\r\n\r\n";
    assert_eq!(String::from_utf8(sent).unwrap(), expected);
    assert_eq!(early.unwrap(), b"SSH-2.0-x");
    let (sent, _) = spoken(&mut http(false), &[]).unwrap();
    assert!(!String::from_utf8(sent).unwrap().contains("Authorization"));
}

#[test]
fn http_answers_are_told_apart() {
    let answer = |text: &str| spoken(&mut http(false), &[text.as_bytes()]);
    // The fields that would frame a body mean nothing in the answer to CONNECT (RFC 9110, section 9.3.6).
    let (_, early) =
        answer("HTTP/1.0 204 x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc").unwrap();
    assert_eq!(early.unwrap(), b"abc");
    let (_, early) =
        answer("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nz").unwrap();
    assert_eq!(early.unwrap(), b"z");
    assert_eq!(
        answer("HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\n"),
        Err(HandshakeError::Credentials)
    );
    assert_eq!(
        answer("HTTP/1.1 401 Unauthorized\r\n\r\n"),
        Err(HandshakeError::Credentials)
    );
    for code in [301, 403, 502, 599] {
        let refused = Err(HandshakeError::Refused(Refusal::Http(code)));
        assert_eq!(answer(&format!("HTTP/1.1 {code} x\r\n\r\n")), refused);
    }
    for broken in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 200 OK\n\nHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno field\r\n\r\n",
    ] {
        assert!(
            matches!(answer(broken), Err(HandshakeError::Protocol(_))),
            "{broken}"
        );
    }
}

#[test]
fn an_http_answer_has_an_end() {
    let mut machine = http(false);
    assert_eq!(machine.receive(b"HTTP/1.1 200 OK\r\nX: ").unwrap(), Step::Wait);
    let mut taken = 20;
    let fault = loop {
        match machine.receive(&[b'x'; 100]) {
            Ok(step) => assert_eq!(step, Step::Wait),
            Err(fault) => break fault,
        }
        taken += 100;
        assert!(taken <= HEAD_MAX);
    };
    assert!(matches!(fault, HandshakeError::Protocol(_)));
    assert_eq!(machine.receive(b"x"), Err(HandshakeError::Over));
    // Many small answers that decide nothing count together.
    let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(HEAD_MAX / 25 + 1);
    assert!(spoken(&mut http(false), &[many.as_bytes()]).is_err());
}

#[test]
fn no_password_is_shown() {
    for mut machine in [socks5(true), http(true)] {
        let mut shown = format!("{:?} {machine:?}", machine.start());
        shown += &format!("{:?}", machine.receive(&[5, 2]));
        for secret in ["hans", "hunter2", "aGFuczpodW50ZXIy", "104, 117, 110"] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}

/// Both machines, with a login and without.
fn machines() -> [Handshake; 4] {
    [socks5(false), socks5(true), http(false), http(true)]
}

proptest! {
    #[test]
    fn pieces_change_nothing(cuts in prop::collection::vec(1usize..9, 1..60), early in prop::collection::vec(any::<u8>(), 0..20)) {
        let head = b"HTTP/1.1 200 OK\r\nVia: a\r\n\r\n";
        let words = [head, early.as_slice()].concat();
        let mut machine = http(false);
        let (mut rest, mut got) = (words.as_slice(), None::<Vec<u8>>);
        for cut in cuts.iter().cycle() {
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            match &mut got {
                Some(bytes) => bytes.extend_from_slice(piece),
                None => if let Step::Open(bytes) = machine.receive(piece).unwrap() { got = Some(bytes) },
            }
            rest = left;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(got, Some(early));
    }

    #[test]
    fn a_socks5_reply_in_pieces_is_the_same(cuts in prop::collection::vec(1usize..5, 1..30), early in prop::collection::vec(any::<u8>(), 0..20)) {
        let words = [REPLY, early.as_slice()].concat();
        let mut machine = socks5(false);
        prop_assert!(matches!(machine.receive(&[5]).unwrap(), Step::Wait));
        prop_assert!(matches!(machine.receive(&[0]).unwrap(), Step::Send(_)));
        let (mut rest, mut got) = (words.as_slice(), None::<Vec<u8>>);
        for cut in cuts.iter().cycle() {
            let (piece, left) = rest.split_at((*cut).min(rest.len()));
            match &mut got {
                Some(bytes) => bytes.extend_from_slice(piece),
                None => if let Step::Open(bytes) = machine.receive(piece).unwrap() { got = Some(bytes) },
            }
            rest = left;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(got, Some(early));
    }

    #[test]
    fn whatever_an_exit_says_the_machine_ends_or_waits(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..24)) {
        for mut machine in machines() {
            machine.start();
            let (mut taken, mut failed) = (0, false);
            for word in &words {
                taken += word.len();
                match machine.receive(word) {
                    Ok(Step::Open(early)) => {
                        prop_assert!(!failed && early.len() <= taken);
                        break;
                    }
                    Ok(Step::Wait | Step::Send(_)) => prop_assert!(!failed),
                    Err(_) => failed = true,
                }
            }
        }
    }
}

#[test]
fn a_greeting_is_answered_by_the_choice_of_what_it_offers() {
    assert_eq!(
        GREETING.as_slice(),
        socks5(true).start().bytes(),
        "as exits of type Tor begin"
    );
    for version in 0..=u8::MAX {
        for method in 0..=u8::MAX {
            let judged = judge_greeted([version, method]);
            match (version, method) {
                (5, 2) => assert_eq!(judged, Ok(())),
                (5, 0xff) => assert_eq!(judged, Err(HandshakeError::NoMethod)),
                _ => assert!(matches!(judged, Err(HandshakeError::Protocol(_)))),
            }
        }
    }
}
