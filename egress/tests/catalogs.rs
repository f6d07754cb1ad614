//! cell-api is connected to catalogs by the cell's own way or through an exit, and by no other. The whole program. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::io::Write as _;
use std::net::SocketAddr;

use anyhow::Result;
use cell_lab::netns::Namespace;
use cell_lab::process::until;
use cell_proto::egress::v1::ConnectCatalogRequest;
use cell_proto::fault;
use support::dns::{DEFAULT, DnsLab, FIRST, Relay, resolver, spec};
use support::servers::{self, Asked, Login, serve};
use support::{PATIENCE, exit, id, socks5};

/// Where a catalog is, by each way another one.
const AT: &str = "192.0.2.2:8443";

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn to(text: &str, by: &str) -> ConnectCatalogRequest {
    ConnectCatalogRequest {
        to: Some(at(text).into()),
        exit_id: by.to_owned(),
        data: Vec::new(),
    }
}

fn bytes(data: &[u8]) -> ConnectCatalogRequest {
    ConnectCatalogRequest {
        data: data.to_vec(),
        ..ConnectCatalogRequest::default()
    }
}

/// Says who it is, and then what it hears.
fn catalog(namespace: &Namespace, name: &'static str) {
    serve(namespace, at(AT), move |mut stream| {
        stream.write_all(name.as_bytes())?;
        servers::echo(stream)
    });
}

fn reason(refused: &tonic::Status) -> String {
    fault::reason(refused).unwrap_or_default()
}

#[test]
fn each_goes_by_its_own_way_alone() -> Result<()> {
    let lab = DnsLab::new()?;
    resolver(&lab.far, DEFAULT);
    resolver(&lab.exits[0], FIRST);
    lab.exits[0].add_address("lo", "192.0.2.2/32".parse()?)?;
    catalog(&lab.far, "direct ");
    catalog(&lab.exits[0], "first! ");
    let relay = Relay::start(&lab)?;
    let said = |by: &str| relay.catalog(vec![to(AT, by), bytes(b"hello "), bytes(b"there")], 18);
    // Without DNS there is no exit, and the cell's own way is there.
    assert_eq!(reason(&said(&id(1)).unwrap_err()), "NO_EXIT");
    assert_eq!(said("").unwrap(), b"direct hello there");
    relay.apply(spec())?;
    assert_eq!(said(&id(1)).unwrap(), b"first! hello there");
    // Names, too.
    let first = relay.resolve_by(&["catalog.example"], &id(1))?;
    assert_eq!(first[0].addresses, [std::net::IpAddr::from(FIRST).into()]);
    let own = relay.resolve(&["catalog.example"])?;
    assert_eq!(own[0].addresses, [std::net::IpAddr::from(DEFAULT).into()]);
    let unknown = relay.resolve_by(&["catalog.example"], &id(9))?;
    assert!(unknown[0].failure.contains("no such exit"), "{unknown:?}");
    assert_eq!(
        reason(&relay.resolve_by(&["a.example"], "x").unwrap_err()),
        "INVALID_REQUEST"
    );

    // A redirect exit that does not run yet, and then does.
    assert_eq!(reason(&said(&id(4)).unwrap_err()), "NO_EXIT");
    let asked = Asked::default();
    let proxy = at("192.0.2.2:1080");
    serve(&lab.far, proxy, servers::socks5(Login::None, asked.clone()));
    relay.apply_exits(vec![exit(4, socks5(proxy, ""))])?;
    assert_eq!(said(&id(4)).unwrap(), b"direct hello there");
    // Beside it the relay's own questions, by which exits are proven.
    assert!(asked.lock().unwrap().iter().any(|one| one.ends_with(AT)));

    // One that is down: nobody answers, and nothing is tried by another way.
    lab.cell.ip("link set wgext_1 down")?;
    assert_eq!(reason(&said(&id(1)).unwrap_err()), "NO_ANSWER");
    assert_eq!(said("").unwrap(), b"direct hello there", "control");
    Ok(())
}

#[test]
fn what_is_no_catalog_by_the_ceiling_is_refused() -> Result<()> {
    let lab = DnsLab::new()?;
    catalog(&lab.far, "direct ");
    let relay = Relay::start(&lab)?;
    for elsewhere in [
        "192.0.2.2:443",
        "192.0.2.2:22",
        "198.51.100.53:8443",
        "192.0.2.66:8443",
        "127.0.0.1:8443",
        "169.254.67.1:8443",
        "[::1]:8443",
        "[::ffff:127.0.0.1]:8443",
        "0.0.0.0:8443",
        "224.0.0.1:8443",
    ] {
        let refused = relay.catalog(vec![to(elsewhere, "")], 1).unwrap_err();
        assert_eq!(reason(&refused), "NOT_A_CATALOG", "{elsewhere}");
    }
    let nobody = relay.catalog(vec![to("192.0.2.3:8443", "")], 1).unwrap_err();
    assert_eq!(reason(&nobody), "NO_ANSWER");
    for bad in [vec![], vec![bytes(b"x")], vec![to(AT, "not an id")]] {
        let refused = relay.catalog(bad, 1).unwrap_err();
        assert_eq!(reason(&refused), "INVALID_REQUEST");
    }
    // Another address in the middle ends it.
    let ended = relay.catalog(vec![to(AT, ""), to("192.0.2.2:22", ""), bytes(b"more")], 100)?;
    assert!(ended.is_empty() || ended == b"direct ", "{ended:?}");
    // So many at a time and no more.
    relay.held(4, &to(AT, ""), || {
        let refused = relay.catalog(vec![to(AT, "")], 1).unwrap_err();
        assert_eq!(reason(&refused), "BUSY");
    });
    until(PATIENCE, "room again", || {
        let said = relay.catalog(vec![to(AT, "")], 7);
        said.is_ok_and(|said| said == b"direct ").then_some(())
    })?;
    let log = relay.process.output();
    assert!(
        !log.contains("192.0.2.2:8443"),
        "where the cell goes is in the log:\n{log}"
    );
    Ok(())
}
