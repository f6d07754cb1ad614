//! One HTTP/1.1 exchange, byte by byte: what no well-behaved client library would send.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long a server may take to refuse.
const DEADLINE: Duration = Duration::from_secs(25);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// Status code; 0 when the server closed without an answer.
    pub status: u16,
    /// Header lines, lower case names.
    pub headers: Vec<(String, String)>,
    /// Body, as sent (chunked coding undone).
    pub body: Vec<u8>,
}

impl Answer {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Sends `bytes`, then reads until the server closes or the deadline passes.
pub fn exchange(server: SocketAddr, bytes: &[u8]) -> io::Result<Answer> {
    let mut stream = connect(server)?;
    // A server may refuse before it has read everything; then the rest of the write fails, and the answer is there.
    let _ = stream.write_all(bytes);
    read_answer(&mut stream)
}

/// Sends `head`, then one byte of `tail` a second, until the server gives up or `seconds` have passed.
pub fn drip(server: SocketAddr, head: &[u8], tail: &[u8], seconds: u64) -> io::Result<Answer> {
    let mut stream = connect(server)?;
    stream.write_all(head)?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut got = Vec::new();
    for byte in tail
        .iter()
        .cycle()
        .take(usize::try_from(seconds).unwrap_or(usize::MAX))
    {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer) {
            Ok(0) => return Ok(parse(&got)),
            Ok(n) => {
                got.extend_from_slice(&buffer[..n]);
                return Ok(parse(&got));
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    Ok(parse(&got))
}

/// A connection with deadlines.
pub fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

fn read_answer(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut got = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => got.extend_from_slice(&buffer[..n]),
            // A reset after the answer: the server closed with our bytes unread.
            Err(_) if !got.is_empty() => break,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => break,
            Err(error) => return Err(error),
        }
        if complete(&got) {
            break;
        }
    }
    Ok(parse(&got))
}

fn split(got: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = got.windows(4).position(|w| w == b"\r\n\r\n")?;
    Some((&got[..end], &got[end + 4..]))
}

fn complete(got: &[u8]) -> bool {
    let Some((_, body)) = split(got) else { return false };
    let answer = parse(got);
    match answer
        .header("content-length")
        .and_then(|v| v.parse::<usize>().ok())
    {
        Some(length) => body.len() >= length,
        None if answer.header("transfer-encoding").is_some() => body.ends_with(b"0\r\n\r\n"),
        None => answer.status == 204,
    }
}

/// What `got` says.
pub fn parse(got: &[u8]) -> Answer {
    let Some((head, body)) = split(got) else {
        return Answer {
            status: 0,
            headers: Vec::new(),
            body: Vec::new(),
        };
    };
    let head = String::from_utf8_lossy(head);
    let mut lines = head.split("\r\n");
    let status = lines
        .next()
        .and_then(|l| l.split(' ').nth(1))
        .and_then(|s| s.parse().ok())
        .unwrap_or(0);
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let chunked = headers
        .iter()
        .any(|(n, v)| n == "transfer-encoding" && v.contains("chunked"));
    Answer {
        status,
        headers,
        body: if chunked { unchunk(body) } else { body.to_vec() },
    }
}

fn unchunk(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    while let Some(end) = body.windows(2).position(|w| w == b"\r\n") {
        let size = usize::from_str_radix(String::from_utf8_lossy(&body[..end]).trim(), 16).unwrap_or(0);
        let (start, stop) = (end + 2, end + 2 + size);
        if size == 0 || stop > body.len() {
            break;
        }
        whole.extend_from_slice(&body[start..stop]);
        body = body.get(stop + 2..).unwrap_or_default();
    }
    whole
}
