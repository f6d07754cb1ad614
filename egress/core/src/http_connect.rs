//! The client's side of HTTP CONNECT (RFC 9110, section 9.3.6), with Basic authentication (RFC 7617).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::credentials::Credentials;
use crate::destination::Destination;
use crate::handshake::{HandshakeError, Outgoing, Refusal, Step};

/// Longest head of all answers together, bytes.
pub const HEAD_MAX: usize = 8 * 1024;
/// Most header fields of one answer.
const FIELDS_MAX: usize = 64;
const END: &[u8] = b"\r\n\r\n";

/// See [`crate::handshake::Handshake`].
#[derive(Debug)]
pub struct HttpConnect {
    request: Outgoing,
    held: Vec<u8>,
    /// How many bytes of `held` were looked through for an end.
    searched: usize,
    over: bool,
    /// What may still come as heads.
    left: usize,
}

impl HttpConnect {
    pub(crate) fn new(destination: &Destination, credentials: Option<&Credentials>) -> Self {
        let authority = destination.authority();
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(credentials) = credentials {
            let pair = Zeroizing::new([credentials.username(), b":", credentials.password()].concat());
            request += "Proxy-Authorization: Basic ";
            request += &Zeroizing::new(STANDARD.encode(pair.as_slice()));
            request += "\r\n";
        }
        request += "\r\n";
        HttpConnect {
            request: Outgoing::new(request.into_bytes()),
            held: Vec::new(),
            searched: 0,
            over: false,
            left: HEAD_MAX,
        }
    }

    pub(crate) fn start(&self) -> Outgoing {
        self.request.clone()
    }

    pub(crate) fn receive(&mut self, bytes: &[u8]) -> Result<Step, HandshakeError> {
        if self.over {
            return Err(HandshakeError::Over);
        }
        self.held.extend_from_slice(bytes);
        let step = self.answers();
        self.over = !matches!(step, Ok(Step::Wait));
        step
    }

    /// Goes through answers that are only on the way (1xx) to the one that decides.
    fn answers(&mut self) -> Result<Step, HandshakeError> {
        while let Some(end) = self.end()? {
            let early = self.held.split_off(end);
            let head = std::mem::replace(&mut self.held, early);
            self.searched = 0;
            self.left -= end;
            match status(&head)? {
                100..=199 => {}
                200..=299 => return Ok(Step::Open(std::mem::take(&mut self.held))),
                // RFC 9110, section 15.5.8; tinyproxy says 401 where the password is wrong.
                401 | 407 => return Err(HandshakeError::Credentials),
                code => return Err(HandshakeError::Refused(Refusal::Http(code))),
            }
        }
        Ok(Step::Wait)
    }

    /// Where the first head in `held` ends. Looks at each byte once, however small the pieces are that come.
    fn end(&mut self) -> Result<Option<usize>, HandshakeError> {
        let from = self.searched.saturating_sub(END.len() - 1);
        let found = self.held[from..]
            .windows(END.len())
            .position(|window| window == END);
        self.searched = self.held.len();
        let end = found.map(|at| from + at + END.len());
        match end {
            Some(end) if end <= self.left => Ok(Some(end)),
            None if self.held.len() < self.left => Ok(None),
            Some(_) | None => Err(HandshakeError::Protocol("its answer is too long")),
        }
    }
}

/// The status of one answer, which `head` holds and nothing else.
fn status(head: &[u8]) -> Result<u16, HandshakeError> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut fields);
    match (response.parse(head), response.code) {
        (Ok(httparse::Status::Complete(length)), Some(code)) if length == head.len() => Ok(code),
        _ => Err(HandshakeError::Protocol("its answer is not HTTP/1")),
    }
}
