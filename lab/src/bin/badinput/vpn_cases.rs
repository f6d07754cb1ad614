//! Malformed input for the HTTPS listener, which only peers reach: beside TLS, inside it, and as HTTP/2 frames.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::raw::{Answer, connect, parse};

/// The API's own patience with a handshake, and what a busy machine adds.
const HANDSHAKE: std::ops::Range<Duration> = Duration::from_secs(9)..Duration::from_secs(14);
/// How long an answer to frames may take.
const ANSWER: Duration = Duration::from_secs(5);
/// GOAWAY and RST_STREAM (RFC 9113, section 6).
const GOAWAY: u8 = 7;
const RST_STREAM: u8 = 3;

/// The listener, and how it is to be believed.
pub struct Vpn {
    /// Its hidden address.
    pub server: SocketAddr,
    /// The cell's address in the VPN: a name in its certificate, and a Host.
    pub name: String,
    /// The cell's root, PEM.
    pub root: Vec<u8>,
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

impl Vpn {
    fn tls(&self, protocol: &[u8]) -> Result<Tls> {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(&self.root) {
            roots.add(root?)?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let name = ServerName::try_from(self.name.clone())?;
        let connection = ClientConnection::new(Arc::new(config), name)?;
        let mut stream = StreamOwned::new(connection, connect(self.server)?);
        stream.flush().context("handshake")?;
        Ok(stream)
    }

    /// A right request, for comparison: the status of `GET /health`.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn health(&self) -> Result<u16> {
        Ok(self
            .exchange(&format!(
                "GET /health HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
                self.name
            ))?
            .status)
    }

    fn exchange(&self, request: &str) -> Result<Answer> {
        let mut stream = self.tls(b"http/1.1")?;
        stream.write_all(request.as_bytes())?;
        let mut got = Vec::new();
        // A server that closes without close_notify ends the answer too.
        let _ = stream.read_to_end(&mut got);
        Ok(parse(&got))
    }

    /// What is wrong with how bytes that are no TLS are met: they must get nothing but an alert, at once.
    fn no_tls(&self, bytes: &[u8]) -> Result<(), String> {
        let told = || -> Result<Vec<u8>> {
            let mut stream = connect(self.server)?;
            stream.set_read_timeout(Some(ANSWER))?;
            stream.write_all(bytes)?;
            let mut got = Vec::new();
            match stream.read_to_end(&mut got) {
                Ok(_) => Ok(got),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(got),
                Err(error) => Err(error.into()),
            }
        };
        match told() {
            // Content type 21 is an alert (RFC 8446, section 5.1).
            Ok(got) if got.first().is_none_or(|kind| *kind == 21) => Ok(()),
            Ok(got) => Err(format!("answered {} bytes that are no alert", got.len())),
            Err(error) => Err(format!("was not cut off: {error:#}")),
        }
    }

    /// A handshake that never comes must be ended by the server's deadline, not before and not later.
    fn silent(&self, bytes: &[u8]) -> Result<(), String> {
        let start = Instant::now();
        let wait = || -> Result<usize> {
            let mut stream = connect(self.server)?;
            stream.write_all(bytes)?;
            let mut got = Vec::new();
            Ok(stream.read_to_end(&mut got)?)
        };
        match (wait(), start.elapsed()) {
            (Ok(0), elapsed) if HANDSHAKE.contains(&elapsed) => Ok(()),
            (told, elapsed) => Err(format!("{told:?} after {elapsed:?}")),
        }
    }

    /// Frames after a right preface: the server must end the stream or the connection and say so, or refuse a request.
    fn frames(&self, frames: &[u8]) -> Result<(), String> {
        let exchange = || -> Result<Vec<u8>> {
            let mut stream = self.tls(b"h2")?;
            ensure!(stream.conn.alpn_protocol() == Some(b"h2"), "no HTTP/2");
            stream.sock.set_read_timeout(Some(ANSWER))?;
            stream.write_all(
                &[
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                    &frame(4, 0, 0, &[])[..],
                    frames,
                ]
                .concat(),
            )?;
            let mut got = Vec::new();
            let mut buffer = [0; 4096];
            // Until it is told, or closed, or nothing comes.
            while !refused(&got) && !is_problem(&got) {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(length) => got.extend_from_slice(&buffer[..length]),
                }
            }
            Ok(got)
        };
        match exchange() {
            Ok(got) if refused(&got) || is_problem(&got) => Ok(()),
            Ok(got) => Err(format!(
                "no GOAWAY, no RST_STREAM and no problem in {} bytes",
                got.len()
            )),
            Err(error) => Err(format!("{error:#}")),
        }
    }
}

/// One HTTP/2 frame (RFC 9113, section 4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// Whether the frames end a stream or the connection with an error.
fn refused(mut bytes: &[u8]) -> bool {
    while let Some((head, rest)) = bytes.split_at_checked(9) {
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            return false;
        };
        let code = match head[3] {
            GOAWAY => payload.get(4..8),
            RST_STREAM => payload.get(..4),
            _ => None,
        };
        if code.is_some_and(|code| code != [0; 4]) {
            return true;
        }
        bytes = rest;
    }
    false
}

/// Whether they carry the body of a typed refusal.
fn is_problem(bytes: &[u8]) -> bool {
    const CODE: &[u8] = b"\"code\":\"";
    bytes.windows(CODE.len()).any(|window| window == CODE)
}

/// Everything, with what was wrong about it.
pub fn all(vpn: &Vpn) -> Vec<(&'static str, Result<(), String>)> {
    let slow = std::thread::scope(|scope| {
        let silent = scope.spawn(|| vpn.silent(b""));
        let half = scope.spawn(|| vpn.silent(b"\x16\x03\x01\x02\x00\x01"));
        [silent, half].map(|waiting| waiting.join().unwrap_or_else(|_| Err("panicked".to_owned())))
    });
    let [silent, half] = slow;
    let mut verdicts = vec![
        ("a handshake that never comes", silent),
        ("half a handshake", half),
    ];
    for (what, bytes) in beside_tls() {
        verdicts.push((what, vpn.no_tls(&bytes)));
    }
    for (what, request, statuses) in inside_tls(&vpn.name) {
        let verdict = match vpn.exchange(&request) {
            Ok(answer) if statuses.contains(&answer.status) => Ok(()),
            Ok(answer) => Err(format!("answered {}, expected {statuses:?}", answer.status)),
            Err(error) => Err(format!("{error:#}")),
        };
        verdicts.push((what, verdict));
    }
    for (what, bytes) in http2() {
        verdicts.push((what, vpn.frames(&bytes)));
    }
    verdicts
}

fn beside_tls() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("plain HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("SSH", b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        (
            "an HTTP/2 preface in the clear",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        (
            "an SSLv2 hello",
            b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec(),
        ),
        ("a record that is too long", b"\x16\x03\x01\xff\xff".to_vec()),
        ("application data first", b"\x17\x03\x03\x00\x02hi".to_vec()),
        (
            "a hello of random bytes",
            [&b"\x16\x03\x01\x00\x20\x01\x00\x00\x1c"[..], &[0xa5; 28]].concat(),
        ),
    ]
}

fn inside_tls(name: &str) -> Vec<(&'static str, String, &'static [u16])> {
    let long = "a".repeat(100_000);
    vec![
        (
            "TLS: foreign Host",
            "GET /api/peers HTTP/1.1\r\nHost: evil.example\r\n\r\n".into(),
            &[421],
        ),
        (
            "TLS: no Host",
            "GET /api/peers HTTP/1.1\r\n\r\n".into(),
            &[400, 421],
        ),
        ("TLS: no HTTP", "\x00\x01\x02\r\n\r\n".into(), &[0, 400]),
        (
            "TLS: no session",
            format!("GET /api/peers HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n"),
            &[401],
        ),
        (
            "TLS: header of 100 KB",
            format!("GET /health HTTP/1.1\r\nHost: {name}\r\nX: {long}\r\n\r\n"),
            &[0, 400, 431],
        ),
        (
            "TLS: length and chunks",
            format!(
                "POST /api/auth/login HTTP/1.1\r\nHost: {name}\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            &[0, 400, 415],
        ),
    ]
}

fn http2() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("HTTP/2: data on stream 0", frame(0, 0, 0, b"x")),
        ("HTTP/2: data on a stream that is not open", frame(0, 0, 5, b"x")),
        ("HTTP/2: headers that are no HPACK", frame(1, 5, 1, &[0xff; 40])),
        ("HTTP/2: headers on an even stream", frame(1, 5, 2, &[0x82])),
        ("HTTP/2: a continuation of nothing", frame(9, 4, 1, &[0x82])),
        ("HTTP/2: a window that grows by nothing", frame(8, 0, 0, &[0; 4])),
        (
            "HTTP/2: a setting beyond its range",
            frame(4, 0, 0, &[0, 2, 0, 0, 0, 7]),
        ),
        ("HTTP/2: settings of five bytes", frame(4, 0, 0, &[0; 5])),
        (
            "HTTP/2: a push of the client's",
            frame(5, 4, 1, &[0, 0, 0, 2, 0x82]),
        ),
        ("HTTP/2: a ping of seven bytes", frame(6, 0, 0, &[0; 7])),
        (
            "HTTP/2: a frame of 16 MiB",
            [&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1][..], &[0; 64]].concat(),
        ),
        ("HTTP/2: a request without a path", frame(1, 5, 1, &[0x82, 0x87])),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_error_is_a_refusal() {
        let settings = frame(4, 0, 0, &[]);
        assert!(!refused(&settings) && !refused(&[]));
        assert!(!refused(&frame(GOAWAY, 0, 0, &[0; 8])), "NO_ERROR");
        let reset = [settings, frame(RST_STREAM, 0, 1, &[0, 0, 0, 1])].concat();
        assert!(refused(&reset));
        assert!(!refused(&reset[..reset.len() - 1]), "not there yet");
    }
}
