//! Malformed gRPC calls: wrong values in well-formed messages, as data.

use cell_proto::api::v1::setup_step::Step;
use cell_proto::api::v1::{
    AdminStep, ClaimStep, CreatePeerRequest, IdentityStep, NetworkStep, PeerAccess, ServiceAccess, SetupStep,
    SubmitSetupStepRequest, UpdatePeerRequest,
};

use crate::rest_cases::KEY;

/// A malformed call of PeerService/CreatePeer and the fields that the answer must name.
pub struct Create {
    /// What is wrong with it.
    pub what: String,
    /// The message.
    pub request: CreatePeerRequest,
    /// Fields that the violations must name.
    pub fields: Vec<&'static str>,
}

/// A malformed call of PeerService/UpdatePeer.
pub struct Update {
    /// What is wrong with it.
    pub what: String,
    /// The message.
    pub request: UpdatePeerRequest,
    /// Fields that the violations must name.
    pub fields: Vec<&'static str>,
}

fn valid() -> CreatePeerRequest {
    CreatePeerRequest {
        name: "bad".into(),
        public_key: KEY.into(),
        ..Default::default()
    }
}

fn with_service(address: &str, protocol: &str, port: u32) -> CreatePeerRequest {
    let service = ServiceAccess {
        address: address.into(),
        protocol: protocol.into(),
        port,
    };
    CreatePeerRequest {
        access: Some(PeerAccess {
            services: vec![service],
            ..Default::default()
        }),
        ..valid()
    }
}

/// Calls of CreatePeer.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn creates() -> Vec<Create> {
    let mut cases = Vec::new();
    let mut add = |what: String, request, fields| {
        cases.push(Create {
            what,
            request,
            fields,
        })
    };
    let names = [
        "",
        " ",
        "../x",
        "a/b",
        "a\nb",
        "a\0b",
        "küche",
        "📱",
        ".x",
        "-x",
        "$(id)",
        "a b",
        "[Peer]",
        "a\u{202e}b",
    ];
    for name in names
        .into_iter()
        .map(str::to_owned)
        .chain(["n".repeat(65), "n".repeat(100_000)])
    {
        let shown: String = name.chars().take(12).collect();
        add(
            format!("name {shown:?}"),
            CreatePeerRequest { name, ..valid() },
            vec!["name"],
        );
    }
    for key in ["AAAA", "!!!!", "k\n[Peer]", &KEY[..43], &"00".repeat(32)] {
        let request = CreatePeerRequest {
            public_key: key.to_owned(),
            ..valid()
        };
        add(format!("public key {:?}", &key[..4]), request, vec!["public_key"]);
    }
    for address in [
        "",
        "10.0.0",
        "10.0.0.0/8",
        "::g",
        "localhost",
        "0.0.0.0",
        "0.1.2.3",
        "169.254.1.1",
        "fe80::1",
        "239.1.1.1",
        "ff02::1",
        "169.254.169.254",
        "fe80::1",
        "0.1.2.3",
    ] {
        add(
            format!("service address {address:?}"),
            with_service(address, "tcp", 1),
            vec!["access.services[0].address"],
        );
    }
    for protocol in ["", "TCP", "icmp", "tcp\0"] {
        let request = with_service("10.9.9.9", protocol, 1);
        add(
            format!("service protocol {protocol:?}"),
            request,
            vec!["access.services[0].protocol"],
        );
    }
    for port in [0, 65_536, u32::MAX] {
        add(
            format!("service port {port}"),
            with_service("10.9.9.9", "tcp", port),
            vec!["access.services[0].port"],
        );
    }
    add(
        "no key".into(),
        CreatePeerRequest {
            public_key: String::new(),
            ..valid()
        },
        vec!["public_key"],
    );
    add(
        "both keys".into(),
        CreatePeerRequest {
            server_makes_key: true,
            ..valid()
        },
        vec!["server_makes_key"],
    );
    add(
        "tunnel".into(),
        CreatePeerRequest {
            tunnel: "half".into(),
            ..valid()
        },
        vec!["tunnel"],
    );
    let many = CreatePeerRequest {
        name: "../x".into(),
        public_key: "?".into(),
        tunnel: "half".into(),
        ..with_service("x", "y", 0)
    };
    let fields = vec![
        "name",
        "public_key",
        "tunnel",
        "access.services[0].address",
        "access.services[0].protocol",
        "access.services[0].port",
    ];
    add("six faults".into(), many, fields);
    cases
}

/// Calls of UpdatePeer on a peer that exists.
pub fn updates() -> Vec<Update> {
    let base = || UpdatePeerRequest {
        name: "anchor".into(),
        ..Default::default()
    };
    vec![
        Update {
            what: "key".into(),
            request: UpdatePeerRequest {
                public_key: Some("x".into()),
                ..base()
            },
            fields: vec!["public_key"],
        },
        Update {
            what: "tunnel".into(),
            request: UpdatePeerRequest {
                tunnel: Some("x".into()),
                ..base()
            },
            fields: vec!["tunnel"],
        },
        Update {
            what: "two faults".into(),
            request: UpdatePeerRequest {
                tunnel: Some("x".into()),
                public_key: Some("".into()),
                ..base()
            },
            fields: vec!["tunnel", "public_key"],
        },
        Update {
            what: "exit".into(),
            request: UpdatePeerRequest {
                exit: Some("no such\0".into()),
                ..base()
            },
            fields: vec!["exit_connection_id"],
        },
        Update {
            what: "name".into(),
            request: UpdatePeerRequest {
                name: "a/b".into(),
                ..base()
            },
            fields: vec!["name"],
        },
    ]
}

/// Names of peers that GetPeer and DeletePeer are asked for: none of them is one.
pub fn strangers() -> Vec<String> {
    let names = [
        "",
        " ",
        "..",
        "../anchor",
        "anchor/",
        "ANCHOR",
        "anchor\0",
        "anchor\n",
        "%61nchor",
        "anchor'; DROP TABLE peers; --",
        "änchor",
        "*",
    ];
    names
        .into_iter()
        .map(str::to_owned)
        .chain(["n".repeat(100_000)])
        .collect()
}

/// A malformed step of setup and the fields that the answer must name.
pub struct Setup {
    /// What is wrong with it.
    pub what: String,
    /// The message.
    pub request: SubmitSetupStepRequest,
    /// Fields that the violations must name.
    pub fields: Vec<&'static str>,
}

/// Steps of setup, on a cell that waits for them.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn setups(claim_token: &str) -> Vec<Setup> {
    let step = |what: &str, step: Step, fields: &[&'static str]| Setup {
        what: what.to_owned(),
        request: SubmitSetupStepRequest {
            step: Some(SetupStep { step: Some(step) }),
            claim_token: claim_token.to_owned(),
        },
        fields: fields.to_vec(),
    };
    let identity = |name: &str, mode: &str| {
        Step::Identity(IdentityStep {
            cell_name: name.to_owned(),
            domain_mode: mode.to_owned(),
        })
    };
    let network = |v4: &str, v6: &str, host: &str| {
        Step::Network(NetworkStep {
            vpn_range_ipv4: v4.to_owned(),
            vpn_range_ipv6: v6.to_owned(),
            endpoint_host: host.to_owned(),
        })
    };
    let admin = |username: &str, password: &str| {
        Step::Admin(AdminStep {
            username: username.to_owned(),
            password: password.to_owned(),
        })
    };
    let claim = Step::Claim(ClaimStep {
        claim_token: String::new(),
    });
    let mut cases = vec![
        step("no token", claim, &[]),
        step("no name", identity("", "lan"), &["cell_name"]),
        step("a name with a dot", identity("a.b", "lan"), &["cell_name"]),
        step("a name of 64", identity(&"a".repeat(64), "lan"), &["cell_name"]),
        step("a mode that is none", identity("home", "x"), &["domain_mode"]),
        step("two faults", identity("-", ""), &["cell_name", "domain_mode"]),
        step("no user", admin("", "correct horse battery"), &["username"]),
        step("a short password", admin("admin", "x"), &["password"]),
        step(
            "a user and a password",
            admin("a b", ""),
            &["username", "password"],
        ),
        step("a range of text", network("x", "", ""), &["vpn_range_ipv4"]),
        step(
            "three faults",
            network("8.8.8.0/24", "fe80::/64", "a b"),
            &["vpn_range_ipv4", "vpn_range_ipv6", "endpoint_host"],
        ),
    ];
    for range in [
        "10.0.0.0",
        "10.0.0.0/33",
        "10.0.0.1/24",
        "8.8.8.0/24",
        "0.0.0.0/0",
        "127.0.0.0/8",
        "fd00::/64",
    ] {
        cases.push(step(range, network(range, "", ""), &["vpn_range_ipv4"]));
    }
    for range in [
        "fd00::",
        "fd00::1/64",
        "2001:db8::/64",
        "fd00::/128",
        "::/0",
        "10.0.0.0/24",
    ] {
        cases.push(step(
            range,
            network("10.86.0.0/24", range, ""),
            &["vpn_range_ipv6"],
        ));
    }
    cases
}

/// A CreatePeer whose message never ends; answers the status that it is cut off with, and after how long.
///
/// # Errors
/// When there is no answer with a status within `patience`.
pub async fn unfinished(
    socket: &std::path::Path,
    patience: std::time::Duration,
) -> anyhow::Result<(tonic::Code, std::time::Duration)> {
    use futures_util::{StreamExt, stream};
    use http_body_util::StreamBody;
    use hyper::body::Frame;

    let start = std::time::Instant::now();
    // The prefix of a message of 64 bytes, then one byte every three seconds.
    let prefix = bytes::Bytes::from_static(&[0, 0, 0, 0, 64]);
    let drip = stream::unfold((), |()| async {
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        Some((bytes::Bytes::from_static(b"\x0a"), ()))
    });
    let body = stream::iter([prefix])
        .chain(drip)
        .map(|bytes| Ok::<_, std::io::Error>(Frame::data(bytes)));
    let method = "cell.api.v1.PeerService/CreatePeer";
    let code =
        tokio::time::timeout(patience, send(socket, method, StreamBody::new(Box::pin(body)))).await??;
    Ok((tonic::Code::from_i32(code), start.elapsed()))
}

/// Bodies that are no gRPC message: the five-byte prefix (flag, length) or what follows it is wrong.
pub fn frames() -> Vec<(&'static str, Vec<u8>)> {
    let framed = |body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        [&[0][..], &length.to_be_bytes(), body].concat()
    };
    vec![
        ("no prefix", b"hello".to_vec()),
        (
            "a length of 4 GiB",
            [&[0][..], &u32::MAX.to_be_bytes(), b"x"].concat(),
        ),
        (
            "a length of 17 MiB",
            [&[0][..], &(17_u32 << 20).to_be_bytes(), b"x"].concat(),
        ),
        (
            "compressed with nothing",
            [&[1][..], &5_u32.to_be_bytes(), b"xxxxx"].concat(),
        ),
        ("unknown flag", [&[9][..], &0_u32.to_be_bytes()].concat()),
        ("cut short", framed(b"\x0a\x05ab")),
        ("wrong wire type", framed(b"\x0f\x01\x02\x03")),
        ("invalid UTF-8", framed(b"\x0a\x02\xff\xfe")),
        ("endless varint", framed(&[0xff; 30])),
        ("10,000 nested groups", framed(&[0x1b; 10_000])),
        ("random", framed(&(0..=255).rev().collect::<Vec<u8>>())),
    ]
}

/// Sends `body` as it is and answers the gRPC status code (0: OK).
///
/// # Errors
/// When there is no answer with a status.
pub async fn call_raw(socket: &std::path::Path, method: &str, body: Vec<u8>) -> anyhow::Result<i32> {
    send(
        socket,
        method,
        http_body_util::Full::new(bytes::Bytes::from(body)),
    )
    .await
}

async fn send<B>(socket: &std::path::Path, method: &str, body: B) -> anyhow::Result<i32>
where
    B: hyper::body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    use anyhow::Context;
    use http_body_util::BodyExt;
    use hyper_util::rt::{TokioExecutor, TokioIo};

    let stream = tokio::net::UnixStream::connect(socket).await?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = hyper::Request::post(format!("http://cell.invalid/{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(body)?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let trailers = body
        .collect()
        .await
        .ok()
        .and_then(|body| body.trailers().cloned());
    let status = trailers
        .as_ref()
        .and_then(|t| t.get("grpc-status"))
        .or_else(|| parts.headers.get("grpc-status"));
    status
        .and_then(|s| s.to_str().ok()?.parse().ok())
        .context("no grpc-status")
}
