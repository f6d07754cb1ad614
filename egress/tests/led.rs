//! What is open through an exit, when its peer goes by another. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use anyhow::{Context as _, Result};
use cell_egress_core::dns::table::Table;
use cell_egress_core::dns::zone::Zones;
use cell_egress_core::exit::ExitId;
use support::inside::{Inside, Kept};
use support::servers::serve;
use support::{Ceiling, FAR, Lab, PATIENCE, beyond, exit, id, socks5};

const PHONE: &str = "10.8.0.2";
const TV: &str = "10.8.0.3";

/// Each peer by the exit of this number.
fn ways(peers: &[(&str, Option<u16>)]) -> Arc<Table> {
    let way = |(peer, exit): &(&str, Option<u16>)| {
        let exit = exit.map(|number| ExitId::parse(&id(number)).unwrap());
        (peer.parse::<IpAddr>().unwrap(), exit)
    };
    let peers: BTreeMap<_, _> = peers.iter().map(way).collect();
    Arc::new(Table::new(
        Zones::default(),
        Vec::new(),
        BTreeMap::new(),
        peers,
        None,
    ))
}

/// A SOCKS 5 server that is every destination itself: it sends back what it gets, and says how each of its connections ended.
fn server(lab: &Lab, at: SocketAddr) -> Receiver<io::Result<()>> {
    let (ended, ends) = channel();
    serve(&lab.far, at, move |mut stream| {
        stream.read_exact(&mut [0; 3])?;
        stream.write_all(&[5, 0])?;
        stream.read_exact(&mut [0; 10])?;
        stream.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
        let end = loop {
            let mut piece = [0; 64];
            match stream.read(&mut piece) {
                Ok(0) => break Ok(()),
                Ok(length) => stream.write_all(&piece[..length])?,
                Err(error) => break Err(error),
            }
        };
        let _ = ended.send(end);
        Ok(())
    });
    ends
}

fn talks(stream: &mut TcpStream) -> io::Result<()> {
    stream.write_all(b"hello")?;
    stream.read_exact(&mut [0; 5])
}

fn is_cut(mut stream: TcpStream, ends: &Receiver<io::Result<()>>) -> Result<()> {
    let told = stream.read(&mut [0]).expect_err("it was not reset");
    assert_eq!(told.kind(), io::ErrorKind::ConnectionReset);
    // Nor does it look finished to the far end.
    let end = ends.recv_timeout(PATIENCE).context("the far end still has it")?;
    assert!(end.is_err(), "the far end saw it finished");
    Ok(())
}

#[test]
fn what_is_open_ends_when_its_peer_is_led_elsewhere_and_nothing_else() -> Result<()> {
    let lab = Lab::new()?;
    let far: SocketAddr = format!("{FAR}:1080").parse()?;
    let ends = server(&lab, far);
    let engine = Inside::start(&lab, &Ceiling::default(), Kept::default())?;
    engine.apply(vec![exit(0, socks5(far, "")), exit(1, socks5(far, ""))])?;
    engine.lead_by(ways(&[(PHONE, Some(0)), (TV, Some(0))]));
    let open = |source| lab.connect_from(source, beyond(0, 0));
    let (mut phone, mut tv) = (open(PHONE)?, open(TV)?);
    talks(&mut phone)?;
    talks(&mut tv)?;

    engine.lead_by(ways(&[(PHONE, Some(1)), (TV, Some(0))]));
    is_cut(phone, &ends)?;
    engine.settles(0, |exit| exit.open_connections == 1)?;
    talks(&mut tv).context("nobody led the tv elsewhere")?;

    // What comes by it all the same comes since netd has not heard of it yet: it is no reason to have no way at all.
    let mut phone = open(PHONE)?;
    talks(&mut phone)?;
    engine.lead_by(ways(&[(PHONE, Some(1)), (TV, None)]));
    is_cut(tv, &ends)?;
    talks(&mut phone).context("it was elsewhere before")?;

    engine.lead_by(ways(&[(PHONE, Some(0))]));
    talks(&mut phone)?;
    engine.lead_by(ways(&[(PHONE, None)]));
    is_cut(phone, &ends)?;
    engine.settles(0, |exit| exit.open_connections == 0)?;
    lab.nothing_went_directly()
}
