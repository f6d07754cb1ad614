//! The client's side of SOCKS 5 (RFC 1928), with user and password (RFC 1929).

use std::fmt;

use crate::credentials::Credentials;
use crate::destination::Destination;
use crate::handshake::{HandshakeError, Outgoing, Refusal, Step};

const VERSION: u8 = 5;
/// Of the sub-negotiation of RFC 1929.
const LOGIN_VERSION: u8 = 1;
const NO_LOGIN: u8 = 0;
const LOGIN: u8 = 2;
const NONE_ACCEPTABLE: u8 = 0xff;
const CONNECT: u8 = 1;
/// Before the address of a reply: version, reply, reserved, type of address.
const REPLY_HEAD: usize = 4;
const PORT: usize = 2;

/// What an exit answers to a request (RFC 1928, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reply {
    /// 1
    GeneralFailure,
    /// 2
    NotAllowed,
    /// 3
    NetworkUnreachable,
    /// 4
    HostUnreachable,
    /// 5
    ConnectionRefused,
    /// 6
    TtlExpired,
    /// 7
    CommandNotSupported,
    /// 8
    AddressTypeNotSupported,
    /// 9 and above, which no RFC assigns.
    Unassigned(u8),
}

impl Reply {
    /// 0 is success and no refusal.
    fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            0 => return None,
            1 => Reply::GeneralFailure,
            2 => Reply::NotAllowed,
            3 => Reply::NetworkUnreachable,
            4 => Reply::HostUnreachable,
            5 => Reply::ConnectionRefused,
            6 => Reply::TtlExpired,
            7 => Reply::CommandNotSupported,
            8 => Reply::AddressTypeNotSupported,
            9..=u8::MAX => Reply::Unassigned(byte),
        })
    }
}

impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::GeneralFailure => f.write_str("general failure"),
            Reply::NotAllowed => f.write_str("not allowed by its rules"),
            Reply::NetworkUnreachable => f.write_str("network unreachable"),
            Reply::HostUnreachable => f.write_str("host unreachable"),
            Reply::ConnectionRefused => f.write_str("connection refused"),
            Reply::TtlExpired => f.write_str("TTL expired"),
            Reply::CommandNotSupported => f.write_str("command not supported"),
            Reply::AddressTypeNotSupported => f.write_str("type of address not supported"),
            Reply::Unassigned(code) => write!(f, "reply {code}"),
        }
    }
}

/// Which answer is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Method,
    Login,
    Reply,
    Over,
}

/// See [`crate::handshake::Handshake`].
#[derive(Debug)]
pub struct Socks5 {
    destination: Destination,
    credentials: Option<Credentials>,
    state: State,
    /// What came of the answer that is waited for; at most one answer and what came with it.
    held: Vec<u8>,
}

/// What is said to a port to learn whether it speaks SOCKS 5: the greeting alone, as exits of type Tor begin, with user and password
/// offered. Nothing is asked of it.
pub const GREETING: [u8; 3] = [VERSION, 1, LOGIN];

/// Whether this answer to [`GREETING`] is a choice of what it offers.
///
/// # Errors
/// [`HandshakeError::NoMethod`] of a port that does not want it, else [`HandshakeError::Protocol`].
pub fn judge_greeted(answer: [u8; 2]) -> Result<(), HandshakeError> {
    chosen(answer, LOGIN)
}

fn chosen([version, method]: [u8; 2], offered: u8) -> Result<(), HandshakeError> {
    if version != VERSION {
        return Err(HandshakeError::Protocol("its version is not 5"));
    }
    match method {
        NONE_ACCEPTABLE => Err(HandshakeError::NoMethod),
        _ if method != offered => Err(HandshakeError::Protocol("a method that was not offered")),
        _ => Ok(()),
    }
}

impl Socks5 {
    pub(crate) fn new(destination: Destination, credentials: Option<Credentials>) -> Self {
        Socks5 {
            destination,
            credentials,
            state: State::Method,
            held: Vec::new(),
        }
    }

    pub(crate) fn start(&self) -> Outgoing {
        Outgoing::new(vec![VERSION, 1, self.method()])
    }

    fn method(&self) -> u8 {
        match self.credentials {
            Some(_) => LOGIN,
            None => NO_LOGIN,
        }
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Step, HandshakeError> {
        self.held.extend_from_slice(bytes);
        let step = match self.state {
            State::Method => self.method_chosen(),
            State::Login => self.logged_in(),
            State::Reply => self.replied(),
            State::Over => Err(HandshakeError::Over),
        };
        if step.is_err() {
            self.state = State::Over;
        }
        step
    }

    fn method_chosen(&mut self) -> Result<Step, HandshakeError> {
        let Some(answer) = self.answer()? else {
            return Ok(Step::Wait);
        };
        chosen(answer, self.method())?;
        match &self.credentials {
            Some(credentials) => {
                let login = login(credentials);
                self.state = State::Login;
                Ok(Step::Send(login))
            }
            None => Ok(self.request()),
        }
    }

    fn logged_in(&mut self) -> Result<Step, HandshakeError> {
        match self.answer()? {
            None => Ok(Step::Wait),
            // Some exits write 5 here; RFC 1929 says 1, and whoever takes neither speaks something else.
            Some([LOGIN_VERSION | VERSION, 0]) => Ok(self.request()),
            Some([LOGIN_VERSION | VERSION, _]) => Err(HandshakeError::Credentials),
            Some([_, _]) => Err(HandshakeError::Protocol("its version of the login is not 1")),
        }
    }

    /// An answer of two bytes, once it is there. The exit has nothing more to say before it is spoken to again.
    fn answer(&mut self) -> Result<Option<[u8; 2]>, HandshakeError> {
        match self.held.as_slice() {
            [] | [_] => Ok(None),
            &[first, second] => {
                self.held.clear();
                Ok(Some([first, second]))
            }
            [_, _, ..] => Err(HandshakeError::Protocol("an answer that nobody asked for")),
        }
    }

    fn request(&mut self) -> Step {
        self.state = State::Reply;
        let head = [VERSION, CONNECT, 0];
        Step::Send(Outgoing::new(
            [&head, self.destination.socks5().as_slice()].concat(),
        ))
    }

    fn replied(&mut self) -> Result<Step, HandshakeError> {
        let &[version, reply, _, kind, ref rest @ ..] = self.held.as_slice() else {
            return match self.held.first() {
                Some(version) if *version != VERSION => Err(HandshakeError::Protocol("its version is not 5")),
                Some(_) | None => Ok(Step::Wait),
            };
        };
        if version != VERSION {
            return Err(HandshakeError::Protocol("its version is not 5"));
        }
        if let Some(reply) = Reply::of(reply) {
            return Err(HandshakeError::Refused(Refusal::Socks5(reply)));
        }
        let address = match (kind, rest.first()) {
            (1, _) => 4,
            (4, _) => 16,
            (3, Some(length)) => 1 + usize::from(*length),
            (3, None) => return Ok(Step::Wait),
            (_, _) => return Err(HandshakeError::Protocol("an unknown type of address")),
        };
        let end = REPLY_HEAD + address + PORT;
        if self.held.len() < end {
            return Ok(Step::Wait);
        }
        self.state = State::Over;
        Ok(Step::Open(self.held.split_off(end)))
    }
}

/// RFC 1929, section 2. The lengths fit: [`Credentials`] are at most 255 bytes each.
fn login(credentials: &Credentials) -> Outgoing {
    let (username, password) = (credentials.username(), credentials.password());
    let mut bytes = Vec::with_capacity(3 + username.len() + password.len());
    bytes.push(LOGIN_VERSION);
    for part in [username, password] {
        bytes.push(part.len() as u8);
        bytes.extend_from_slice(part);
    }
    Outgoing::new(bytes)
}
