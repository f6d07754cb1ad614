//! What OpenVPN says on its management socket (doc/management-notes.txt of OpenVPN), line by line. The program is taken for one
//! that a stranger may have taken over: each line is bounded, and what is not known is nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::pushed;

/// Longest line that is looked at, bytes.
pub const LINE_MAX: usize = 8 * 1024;
/// Longest text of it that is passed on.
pub const TOLD_MAX: usize = 200;

/// What a line means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It waits to be let go.
    Holds,
    /// It asks who signs in.
    AsksLogin,
    /// It asks for something else, e.g. the passphrase of a key, or a second factor.
    AsksElse(String),
    /// The server does not take who signed in.
    LoginRefused,
    /// It has a session, with these addresses.
    Connected(Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// It makes one.
    Connecting,
    /// It lost one, and why.
    Lost(String),
    /// Resolvers and the largest packet, as the server gave them.
    Pushed(Vec<IpAddr>, Option<u16>),
    /// There is no TUN that it may read and write, or not any more.
    NoTun,
    /// It ends, and why.
    Fatal(String),
    /// Anything else.
    Other,
}

/// Reads a line, without its end.
pub fn event(line: &str) -> Event {
    let Some((kind, rest)) = line.strip_prefix('>').and_then(|line| line.split_once(':')) else {
        return Event::Other;
    };
    match kind {
        "HOLD" => Event::Holds,
        "PASSWORD" => password(rest),
        "STATE" => state(rest),
        "LOG" => log(rest),
        "FATAL" => fatal(rest),
        _ => Event::Other,
    }
}

fn password(rest: &str) -> Event {
    if rest == "Need 'Auth' username/password" {
        return Event::AsksLogin;
    }
    if let Some(asked) = rest.strip_prefix("Need ") {
        return Event::AsksElse(told(asked));
    }
    if rest.starts_with("Verification Failed: 'Auth'") {
        return Event::LoginRefused;
    }
    if let Some(failed) = rest.strip_prefix("Verification Failed: ") {
        return Event::AsksElse(told(failed));
    }
    // A token that the server gave is among these.
    Event::Other
}

/// Time, name, detail, IPv4 address, server, port, own address, own port, IPv6 address.
fn state(rest: &str) -> Event {
    let fields: Vec<&str> = rest.split(',').collect();
    let field = |at: usize| fields.get(at).copied().unwrap_or_default();
    match field(1) {
        "CONNECTED" => Event::Connected(field(3).parse().ok(), field(8).parse().ok()),
        "RECONNECTING" => Event::Lost(told(field(2))),
        "CONNECTING" | "WAIT" | "AUTH" | "GET_CONFIG" | "ASSIGN_IP" | "ADD_ROUTES" | "RESOLVE"
        | "TCP_CONNECT" | "AUTH_PENDING" => Event::Connecting,
        _ => Event::Other,
    }
}

/// Time, flags, message.
fn log(rest: &str) -> Event {
    let Some(message) = rest.splitn(3, ',').nth(2) else {
        return Event::Other;
    };
    if let Some((resolvers, mtu)) = pushed::of_log(message) {
        return Event::Pushed(resolvers, mtu);
    }
    // EBADFD: the interface was taken away, and reading goes on in vain for ever.
    let gone = message.contains("TUN/TAP") && message.contains("File descriptor in bad state");
    if gone { Event::NoTun } else { Event::Other }
}

fn fatal(message: &str) -> Event {
    if message.contains("TUNSETIFF") || message.contains("/dev/net/tun") {
        Event::NoTun
    } else {
        Event::Fatal(told(message))
    }
}

/// What people may be shown.
fn told(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    printable.take(TOLD_MAX).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_openvpn_2_6_are_understood() {
        let v4 = Some("10.99.0.2".parse().unwrap());
        for (line, meaning) in [
            (">HOLD:Waiting for hold release:0", Event::Holds),
            (">PASSWORD:Need 'Auth' username/password", Event::AsksLogin),
            (">PASSWORD:Verification Failed: 'Auth'", Event::LoginRefused),
            (
                ">PASSWORD:Verification Failed: 'Auth' ['CRV1:x']",
                Event::LoginRefused,
            ),
            (
                ">PASSWORD:Need 'Private Key' password",
                Event::AsksElse("'Private Key' password".to_owned()),
            ),
            (
                ">STATE:1795751745,CONNECTED,SUCCESS,10.99.0.2,192.0.2.1,1194,,,fd99::1000",
                Event::Connected(v4, Some("fd99::1000".parse().unwrap())),
            ),
            (
                ">STATE:1795751745,CONNECTED,SUCCESS,10.99.0.2,192.0.2.1,1194,192.0.2.2,4711",
                Event::Connected(v4, None),
            ),
            (">STATE:1795751745,WAIT,,,,,,", Event::Connecting),
            (
                ">STATE:1,RECONNECTING,ping-restart,,,,,",
                Event::Lost("ping-restart".to_owned()),
            ),
            (
                ">FATAL:ERROR: Cannot ioctl TUNSETIFF ovpn_1: Operation not permitted (errno=1)",
                Event::NoTun,
            ),
            (
                ">LOG:1,,read from TUN/TAP : File descriptor in bad state (fd=5,code=77)",
                Event::NoTun,
            ),
            (
                ">LOG:1,,PUSH: Received control message: 'PUSH_REPLY,dhcp-option DNS 9.9.9.9,tun-mtu 1400'",
                Event::Pushed(vec!["9.9.9.9".parse().unwrap()], Some(1400)),
            ),
            (">FATAL:out of memory", Event::Fatal("out of memory".to_owned())),
        ] {
            assert_eq!(event(line), meaning, "{line}");
        }
    }

    #[test]
    fn what_is_no_word_of_it_is_nothing() {
        for line in [
            "",
            ">",
            ">HOLD",
            "HOLD:x",
            ">STATE:",
            ">STATE:1,ODD,,,",
            ">LOG:1",
            "SUCCESS: hold release succeeded",
            ">PASSWORD:Auth-Token:SESS_ID",
        ] {
            assert_eq!(event(line), Event::Other, "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_ends_it_and_what_is_told_is_short(line in ".*", kind in "(HOLD|PASSWORD|STATE|LOG|FATAL)") {
            for line in [line.clone(), format!(">{kind}:{line}")] {
                if let Event::AsksElse(told) | Event::Lost(told) | Event::Fatal(told) = event(&line) {
                    prop_assert!(told.chars().count() <= TOLD_MAX && !told.chars().any(char::is_control));
                }
            }
        }
    }
}
