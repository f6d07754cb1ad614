//! Malformed HTTP: what is wrong stands outside the body. Every case must be refused (4xx, or the connection closed),
//! within the server's own deadlines.

/// One malformed exchange.
pub struct Case {
    /// What is wrong with it.
    pub what: &'static str,
    /// The bytes to send; `HOST` and `AUTH` are replaced by a good Host value and by good session headers.
    pub bytes: Vec<u8>,
    /// Statuses that are right; 0 stands for a connection closed without an answer.
    pub statuses: &'static [u16],
}

/// Exchanges that are sent at once.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn at_once() -> Vec<Case> {
    let case = |what, text: &str, statuses| Case {
        what,
        bytes: text.as_bytes().to_vec(),
        statuses,
    };
    let headers: String = (0..500).map(|n| format!("X-{n}: {n}\r\n")).collect();
    let long = "a".repeat(100_000);
    let mut cases = vec![
        case(
            "no HTTP at all",
            "\x16\x03\x01\x02\x00\x01\x00\x01\u{fc}\x03\x03\r\n\r\n",
            &[0, 400],
        ),
        case("HTTP/0.9", "GET /api/peers\r\n\r\n", &[0, 400]),
        case(
            "HTTP/3.7",
            "GET /api/peers HTTP/3.7\r\nHost: HOST\r\n\r\n",
            &[0, 400, 505],
        ),
        case(
            "lower case method",
            "get /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n",
            &[400, 403, 404, 405],
        ),
        case(
            "space before colon",
            "GET /api/peers HTTP/1.1\r\nHost : HOST\r\n\r\n",
            &[0, 400, 421],
        ),
        case(
            "folded header",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nX: a\r\n b\r\n\r\n",
            &[0, 400, 401],
        ),
        case("no Host", "GET /api/peers HTTP/1.1\r\n\r\n", &[400, 421]),
        case(
            "two Hosts",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nHost: evil.example\r\n\r\n",
            &[400, 421],
        ),
        case(
            "foreign Host",
            "GET /api/peers HTTP/1.1\r\nHost: evil.example\r\nAUTH\r\n\r\n",
            &[421],
        ),
        case(
            "Host with a trailing dot name",
            "GET / HTTP/1.1\r\nHost: localhost.evil.\r\n\r\n",
            &[421],
        ),
        case(
            "decimal address as Host",
            "GET / HTTP/1.1\r\nHost: 2130706433\r\n\r\n",
            &[421],
        ),
        case(
            "Host with user",
            "GET / HTTP/1.1\r\nHost: HOST@evil.example\r\n\r\n",
            &[400, 421],
        ),
        case("empty Host", "GET / HTTP/1.1\r\nHost: \r\n\r\n", &[400, 421]),
        case(
            "absolute form of another",
            "GET http://evil.example/api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n",
            &[400, 421],
        ),
        case(
            "asterisk form",
            "OPTIONS * HTTP/1.1\r\nHost: HOST\r\n\r\n",
            &[400, 401, 403, 404, 405],
        ),
        case(
            "CONNECT",
            "CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: HOST\r\n\r\n",
            &[400, 401, 403, 404, 405, 421],
        ),
        case(
            "length and chunks",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            &[0, 400],
        ),
        case(
            "two lengths",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
            &[0, 400],
        ),
        case(
            "negative length",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Length: -1\r\n\r\n",
            &[0, 400],
        ),
        case(
            "huge length",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nContent-Length: 99999999999999\r\n\r\n{",
            &[400, 413],
        ),
        case(
            "bad chunk size",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
            &[0, 400],
        ),
        case(
            "unknown coding",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nTransfer-Encoding: gzip\r\n\r\n",
            &[0, 400, 501],
        ),
        case(
            "compressed body",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
            &[400, 415, 422],
        ),
        case(
            "control byte in a header",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nX: a\x01b\r\n\r\n",
            &[0, 400, 401],
        ),
        case(
            "upgrade to h2c",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n\r\n",
            &[400, 401],
        ),
        case(
            "another's forwarded address",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: HOST\r\nForwarded: for=127.0.0.1\r\n\r\n",
            &[401],
        ),
        case(
            "forged session",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nCookie: cell=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA; __Host-cell=x\r\n\r\n",
            &[401],
        ),
        case(
            "cookie of 8 KiB",
            &format!(
                "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nCookie: cell={}\r\n\r\n",
                "a".repeat(8000)
            ),
            &[400, 401, 431],
        ),
        case(
            "500 headers",
            &format!("GET /api/peers HTTP/1.1\r\nHost: HOST\r\n{headers}\r\n"),
            &[0, 400, 401, 431],
        ),
        case(
            "header of 100 KB",
            &format!("GET /api/peers HTTP/1.1\r\nHost: HOST\r\nX: {long}\r\n\r\n"),
            &[0, 400, 431],
        ),
        case(
            "target of 100 KB",
            &format!("GET /api/peers/{long} HTTP/1.1\r\nHost: HOST\r\nAUTH\r\n\r\n"),
            &[0, 400, 404, 414, 431],
        ),
    ];
    cases.push(case(
        "no CSRF token",
        "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nCOOKIE\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        &[403],
    ));
    cases.push(case(
        "cross-site",
        "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nSec-Fetch-Site: cross-site\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        &[403],
    ));
    cases.push(case(
        "another's Origin",
        "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nOrigin: https://evil.example\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        &[403],
    ));
    cases.push(case(
        "Origin null",
        "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nOrigin: null\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
        &[403],
    ));
    cases
}

/// An exchange that is sent a byte a second.
pub struct Slow {
    /// What is slow.
    pub what: &'static str,
    /// What comes first, at once.
    pub head: &'static str,
    /// What is dripped.
    pub tail: &'static str,
    /// Statuses that are right once the server's deadline has passed; 0 stands for a connection closed without an answer,
    /// which is right only where no request has come that could be answered.
    pub statuses: &'static [u16],
}

/// Exchanges that are sent a byte a second.
pub fn slow() -> Vec<Slow> {
    let slow = |what, head, tail, statuses| Slow {
        what,
        head,
        tail,
        statuses,
    };
    vec![
        slow("slow request line", "", "G", &[0, 408]),
        slow(
            "slow headers",
            "GET /api/peers HTTP/1.1\r\nHost: HOST\r\nX-Slow: ",
            "a",
            &[0, 408],
        ),
        slow(
            "slow body",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
            " ",
            &[408],
        ),
        slow(
            "slow chunks",
            "POST /api/peers HTTP/1.1\r\nHost: HOST\r\nAUTH\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n400\r\n{",
            " ",
            &[408],
        ),
    ]
}
