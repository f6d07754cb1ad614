//! One run of the program: what it is answered, and what is known of it.

use std::fmt;
use std::net::IpAddr;

use crate::management::{Event, event};
use crate::pushed::Pushed;

/// What the program does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// It runs, and has no session yet.
    Connecting,
    /// It has a session.
    Connected,
    /// It does not run.
    Waiting,
}

/// Why an exit is not connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// vaultd does not give a secret, or gives something else; in words without its content.
    NoSecret(String),
    /// netd has made no TUN for it yet, or took it away.
    NoTun,
    /// The server does not take the user's name or password.
    LoginRefused,
    /// It asks for what nobody can answer here.
    AsksMore(String),
    /// The program ended, and why.
    Ended(String),
    /// The session was lost.
    Lost(String),
    /// The program cannot be started.
    Spawn(String),
}

impl Trouble {
    /// For programs (proto/cell/openvpn/v1/openvpn_service.proto).
    pub fn reason(&self) -> &'static str {
        match self {
            Trouble::NoSecret(_) => "NO_SECRET",
            Trouble::NoTun => "NO_TUN",
            Trouble::LoginRefused => "LOGIN_REFUSED",
            Trouble::AsksMore(_) => "ASKS_MORE",
            Trouble::Ended(_) => "ENDED",
            Trouble::Lost(_) => "LOST",
            Trouble::Spawn(_) => "SPAWN",
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::NoSecret(why) => f.write_str(why),
            Trouble::NoTun => f.write_str("netd has made no interface for it yet"),
            Trouble::LoginRefused => f.write_str("the server does not take the user's name or password"),
            Trouble::AsksMore(what) => write!(f, "it asks for {what}, which cannot be answered here"),
            Trouble::Ended(why) => write!(f, "OpenVPN ended: {why}"),
            Trouble::Lost(why) => write!(f, "the session was lost: {why}"),
            Trouble::Spawn(why) => write!(f, "OpenVPN cannot be started: {why}"),
        }
    }
}

/// What to do after a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Nothing.
    None,
    /// Write this.
    Say(&'static str),
    /// Tell who signs in.
    Login,
    /// End the program.
    End,
}

/// Before the program is let go, it is told to tell what becomes of it.
const BEGIN: &str = "log on\nstate on\nhold off\nhold release\n";

/// See the module.
#[derive(Debug, Clone)]
pub struct Session {
    has_login: bool,
    phase: Phase,
    /// What the server gave in the session that is, or was last.
    pushed: Pushed,
    trouble: Option<Trouble>,
    /// What it has given of the session that is being made.
    next: (Vec<IpAddr>, Option<u16>),
}

impl Session {
    /// Of a program that was just started. `has_login`: whether the vault has a user's name and password. `pushed` is what the
    /// server gave last.
    pub fn new(has_login: bool, pushed: Pushed) -> Self {
        Session {
            has_login,
            phase: Phase::Connecting,
            pushed,
            trouble: None,
            next: Default::default(),
        }
    }

    /// What it does.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// What the server gave.
    pub fn pushed(&self) -> &Pushed {
        &self.pushed
    }

    /// What is amiss, if anything is.
    pub fn trouble(&self) -> Option<&Trouble> {
        self.trouble.as_ref()
    }

    /// After a line of the program's.
    pub fn hear(&mut self, line: &str) -> Answer {
        match event(line) {
            Event::Holds => return Answer::Say(BEGIN),
            Event::AsksLogin if self.has_login => return Answer::Login,
            Event::AsksLogin => return self.end(Trouble::AsksMore("a user's name and password".to_owned())),
            Event::AsksElse(what) => return self.end(Trouble::AsksMore(what)),
            Event::NoTun => return self.end(Trouble::NoTun),
            Event::LoginRefused => self.trouble = Some(Trouble::LoginRefused),
            Event::Fatal(why) => {
                self.trouble.get_or_insert(Trouble::Ended(why));
            }
            Event::Pushed(resolvers, mtu) => self.next = (resolvers, mtu),
            Event::Connected(v4, v6) => {
                let (resolvers, mtu) = std::mem::take(&mut self.next);
                self.pushed = Pushed {
                    v4,
                    v6,
                    resolvers,
                    mtu,
                };
                self.phase = Phase::Connected;
                self.trouble = None;
            }
            Event::Lost(why) => {
                self.phase = Phase::Connecting;
                // The first word counts: who signs in wrongly is told more than once.
                self.trouble.get_or_insert(Trouble::Lost(why));
            }
            Event::Connecting => self.phase = Phase::Connecting,
            Event::Other => {}
        }
        Answer::None
    }

    fn end(&mut self, trouble: Trouble) -> Answer {
        self.phase = Phase::Connecting;
        self.trouble = Some(trouble);
        Answer::End
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const PUSH: &str =
        ">LOG:1,,PUSH: Received control message: 'PUSH_REPLY,dhcp-option DNS 10.99.0.1,tun-mtu 1400'";
    const CONNECTED: &str = ">STATE:1,CONNECTED,SUCCESS,10.99.0.2,192.0.2.1,1194,,,fd99::1000";

    fn hear(session: &mut Session, lines: &[&str]) -> Vec<Answer> {
        lines.iter().map(|line| session.hear(line)).collect()
    }

    #[test]
    fn a_session_is_made_with_what_the_server_gives() {
        let mut session = Session::new(true, Pushed::default());
        let answers = hear(
            &mut session,
            &[
                ">INFO:OpenVPN Management Interface Version 5 -- type 'help' for more info",
                ">HOLD:Waiting for hold release:0",
                ">PASSWORD:Need 'Auth' username/password",
                ">STATE:1,WAIT,,,,,,",
                PUSH,
            ],
        );
        assert_eq!(
            answers,
            [
                Answer::None,
                Answer::Say(BEGIN),
                Answer::Login,
                Answer::None,
                Answer::None
            ]
        );
        assert_eq!(
            (session.phase(), session.pushed()),
            (Phase::Connecting, &Pushed::default()),
            "not before there is a session"
        );
        hear(&mut session, &[CONNECTED]);
        let given = Pushed {
            v4: Some("10.99.0.2".parse().unwrap()),
            v6: Some("fd99::1000".parse().unwrap()),
            resolvers: vec!["10.99.0.1".parse().unwrap()],
            mtu: Some(1400),
        };
        assert_eq!((session.phase(), session.pushed()), (Phase::Connected, &given));
        hear(&mut session, &[">STATE:1,RECONNECTING,ping-restart,,,,,"]);
        assert_eq!((session.phase(), session.pushed()), (Phase::Connecting, &given));
        assert_eq!(session.trouble().unwrap().reason(), "LOST");
        // Another session, without IPv6 and without a resolver.
        hear(
            &mut session,
            &[">STATE:1,CONNECTED,SUCCESS,10.99.0.3,192.0.2.1,1194,,"],
        );
        let other = Pushed {
            v4: Some("10.99.0.3".parse().unwrap()),
            ..Pushed::default()
        };
        assert_eq!((session.pushed(), session.trouble()), (&other, None));
    }

    #[test]
    fn what_cannot_be_answered_ends_it() {
        for (has_login, line, reason) in [
            (false, ">PASSWORD:Need 'Auth' username/password", "ASKS_MORE"),
            (true, ">PASSWORD:Need 'Private Key' password", "ASKS_MORE"),
            (
                true,
                ">PASSWORD:Need 'Auth' username/password SC:1,PIN",
                "ASKS_MORE",
            ),
            (
                true,
                ">FATAL:ERROR: Cannot ioctl TUNSETIFF ovpn_1: x (errno=1)",
                "NO_TUN",
            ),
        ] {
            let mut session = Session::new(has_login, Pushed::default());
            assert_eq!(session.hear(line), Answer::End, "{line}");
            assert_eq!(session.trouble().unwrap().reason(), reason, "{line}");
        }
    }

    #[test]
    fn the_first_word_of_an_end_counts() {
        let mut session = Session::new(true, Pushed::default());
        hear(
            &mut session,
            &[
                ">PASSWORD:Verification Failed: 'Auth'",
                ">STATE:1,RECONNECTING,auth-failure,,,,,",
                ">FATAL:x",
            ],
        );
        assert_eq!(session.trouble(), Some(&Trouble::LoginRefused));
    }
}
