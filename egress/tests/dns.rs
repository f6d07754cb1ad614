//! The DNS relay as a whole program, over real sockets. Needs root.
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use cell_lab::process::until;
use cell_proto::egress::v1;
use cell_proto::fault;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{DNSClass, RData, RecordType};
use support::dns::{
    DEFAULT, DnsLab, FIRST, Heard, OF_FIRST, OF_NONE, OF_REDIRECT, OF_SECOND, RELAY_OF_BOUND, Relay, SECOND,
    STRANGER, UNBOUND, addresses, question, resolver, spec,
};
use support::servers::{self, Asked, Login, serve};
use support::{FAR, PATIENCE, exit, socks5};

const MOMENT: Duration = Duration::from_millis(300);

struct Ready {
    lab: DnsLab,
    relay: Relay,
    /// Of the default way, and of the two exits.
    heard: [Heard; 3],
}

fn ready() -> Result<Ready> {
    let lab = DnsLab::new()?;
    let heard = [
        resolver(&lab.far, DEFAULT),
        resolver(&lab.exits[0], FIRST),
        resolver(&lab.exits[1], SECOND),
    ];
    let relay = Relay::start(&lab)?;
    relay.apply(spec())?;
    Ok(Ready { lab, relay, heard })
}

fn count(heard: &Heard) -> usize {
    heard.lock().unwrap().len()
}

#[test]
fn each_peer_is_answered_by_its_own_way() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    for round in 0..3 {
        assert_eq!(lab.addresses(OF_FIRST, "example.org"), [FIRST], "round {round}");
        assert_eq!(lab.addresses(OF_SECOND, "example.org"), [SECOND], "round {round}");
        assert_eq!(
            lab.by_default()?,
            0,
            "a question of a bound peer went the default way"
        );
    }
    // The same name, in caches apart: each resolver was asked once.
    assert_eq!([count(&heard[0]), count(&heard[1]), count(&heard[2])], [0, 1, 1]);
    assert_eq!(lab.addresses(UNBOUND, "example.org"), [DEFAULT]);
    assert!(lab.by_default()? > 0, "control: the counter counts");
    assert_eq!(relay.way(Some(1)).cached, 2);
    assert_eq!(lab.addresses(OF_FIRST, "eXaMPLe.ORG"), [FIRST], "case is nothing");
    assert_eq!(count(&heard[1]), 1);
    for heard in &heard {
        assert_eq!(*heard.lock().unwrap(), ["example.org."]);
    }
    let log = relay.process.output();
    assert!(!log.contains("example"), "a name is in the log:\n{log}");
    Ok(())
}

/// Of nobody else anything is told, and nothing of them changes.
#[test]
fn peers_that_are_led_another_way_ask_by_it_from_then_on() -> Result<()> {
    let Ready { lab, relay, .. } = ready()?;
    let all = spec().peers;
    let of = |source: &str| {
        let source = source.parse::<IpAddr>().unwrap().into();
        let is_it = |peer: &&v1::DnsPeer| peer.addresses.contains(&source);
        all.iter().find(is_it).unwrap().clone()
    };
    let led = |exit_id: &str| v1::DnsPeer {
        exit_id: exit_id.to_owned(),
        ..of(OF_FIRST)
    };
    assert_eq!(lab.addresses(OF_FIRST, "example.org"), [FIRST]);
    let told = relay.status();
    let revision = relay.lead(told.revision, vec![led(&of(OF_SECOND).exit_id)])?;
    assert_eq!(lab.addresses(OF_FIRST, "example.org"), [SECOND]);
    assert_eq!(lab.addresses(OF_SECOND, "example.org"), [SECOND]);
    assert_eq!(lab.by_default()?, 0);
    let now = relay.status();
    assert_eq!(
        (now.revision, now.names, now.peer_addresses),
        (revision, told.names, told.peer_addresses)
    );
    assert_eq!(now.ways.len(), told.ways.len());

    let refused = |revision, peer| {
        let status = relay.lead(revision, vec![peer]).unwrap_err();
        let fields = fault::violations(&status).into_iter().map(|fault| fault.field);
        (fault::reason(&status).unwrap(), fields.collect::<Vec<_>>())
    };
    for stale in [0, told.revision, revision.wrapping_add(1)] {
        assert_eq!(refused(stale, led("")).0, "OTHER_DNS");
    }
    let stranger = v1::DnsPeer {
        addresses: vec![STRANGER.parse::<IpAddr>()?.into()],
        exit_id: String::new(),
    };
    let of_stranger = (
        "INVALID_REQUEST".to_owned(),
        vec!["peers[0].addresses[0]".to_owned()],
    );
    assert_eq!(refused(revision, stranger), of_stranger);
    let of_nothing = ("INVALID_REQUEST".to_owned(), vec!["peers[0].exit_id".to_owned()]);
    assert_eq!(refused(revision, led("first")), of_nothing);
    assert_eq!(
        lab.addresses(OF_FIRST, "example.org"),
        [SECOND],
        "all is as it was"
    );
    assert_eq!(relay.status().revision, revision);

    let revision = relay.lead(revision, vec![led("")])?;
    assert_eq!(lab.addresses(OF_FIRST, "example.org"), [DEFAULT]);
    drop(relay);
    let relay = Relay::start(&lab)?;
    relay.apply(spec())?;
    let status = relay.lead(revision, vec![led("")]).unwrap_err();
    assert_eq!(
        fault::reason(&status).as_deref(),
        Some("OTHER_DNS"),
        "of another process"
    );
    Ok(())
}

/// Whatever the table says: netd has bound whoever comes by the second port.
#[test]
fn what_comes_by_the_port_of_bound_peers_never_goes_the_default_way() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let udp = |source, name: &str| {
        let question = question(name, RecordType::A).to_vec().unwrap();
        let answer = lab.send_to(RELAY_OF_BOUND, source, &question, PATIENCE);
        let answer = Message::from_vec(&answer.expect("an answer")).unwrap();
        (answer.metadata.response_code, addresses(&answer))
    };
    let tcp = |source, name: &str| {
        let answer = lab.ask_tcp_of(RELAY_OF_BOUND, source, name, RecordType::A);
        answer.map(|answer| addresses(&answer))
    };
    assert_eq!(udp(UNBOUND, "example.org"), (ResponseCode::ServFail, Vec::new()));
    assert_eq!(
        tcp(UNBOUND, "example.org"),
        None,
        "it opens another, by the other port"
    );
    assert_eq!(relay.status().without_way, 2);
    assert_eq!((lab.by_default()?, count(&heard[0])), (0, 0));
    for (source, by) in [(OF_FIRST, FIRST), (OF_SECOND, SECOND)] {
        assert_eq!(udp(source, "example.org"), (ResponseCode::NoError, vec![by]));
        assert_eq!(tcp(source, "example.org"), Some(vec![by]));
    }
    for source in [UNBOUND, OF_FIRST] {
        assert_eq!(udp(source, "nas.home.arpa").1.len(), 1, "the cell's own names");
        assert_eq!(tcp(source, "nas.home.arpa").map(|all| all.len()), Some(1));
    }
    assert_eq!(udp(STRANGER, "example.org").0, ResponseCode::Refused);
    assert_eq!(lab.by_default()?, 0);
    assert_eq!(lab.addresses(UNBOUND, "example.org"), [DEFAULT], "control");
    assert!(lab.by_default()? > 0, "control: the counter counts");
    Ok(())
}

#[test]
fn an_exit_that_is_down_has_no_way_but_the_cells_names() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    lab.cell.ip("link set wgext_1 down")?;
    assert_eq!(lab.code(OF_FIRST, "example.org"), ResponseCode::ServFail);
    assert_eq!(
        lab.code(OF_NONE, "example.org"),
        ResponseCode::ServFail,
        "an exit without DNS"
    );
    assert_eq!(
        lab.code(OF_REDIRECT, "example.org"),
        ResponseCode::ServFail,
        "one that does not run"
    );
    lab.cell.ip("link del wgext_2")?;
    assert_eq!(
        lab.code(OF_SECOND, "example.org"),
        ResponseCode::ServFail,
        "one whose interface is gone"
    );
    for peer in [UNBOUND, OF_FIRST, OF_SECOND, OF_NONE, OF_REDIRECT] {
        assert_eq!(lab.addresses(peer, "nas.home.arpa").len(), 1, "{peer}");
    }
    assert_eq!((lab.by_default()?, count(&heard[0])), (0, 0));
    let status = relay.status();
    assert_eq!((status.without_way, status.answered_here), (1, 5));
    assert_eq!(relay.way(Some(1)).failed, 1);
    // Up again, it works again: nobody's silence is remembered for long.
    lab.cell.ip("link set wgext_1 up")?;
    lab.cell
        .ip("route add default via 10.99.1.2 dev wgext_1 table 1001")?;
    until(PATIENCE, "the exit's answer", || {
        let answer = lab.ask(OF_FIRST, "example.org", RecordType::A);
        (addresses(&answer) == [FIRST]).then_some(())
    })?;
    assert_eq!(lab.by_default()?, 0);
    assert_eq!(lab.addresses(UNBOUND, "example.org"), [DEFAULT], "control");
    assert!(lab.by_default()? > 0, "control: the counter counts");
    Ok(())
}

#[test]
fn a_redirect_exit_carries_questions_over_tcp() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let proxy = format!("{FAR}:1080").parse()?;
    let asked = Asked::default();
    serve(
        &lab.far,
        proxy,
        servers::socks5(Login::None, Asked::clone(&asked)),
    );
    relay.apply_exits(vec![exit(4, socks5(proxy, ""))])?;
    assert_eq!(lab.addresses(OF_REDIRECT, "example.org"), [DEFAULT]);
    assert_eq!(*asked.lock().unwrap(), [" 198.51.100.53:53"], "through the exit");
    assert_eq!(lab.by_default()?, 0, "and by no other way");
    assert_eq!(lab.addresses(OF_REDIRECT, "example.org"), [DEFAULT]);
    assert_eq!(
        (count(&heard[0]), asked.lock().unwrap().len()),
        (1, 1),
        "from the cache"
    );
    // Another exit of the same id: it is told nothing of what the first one said.
    let other = format!("{FAR}:1081").parse()?;
    serve(
        &lab.far,
        other,
        servers::socks5(Login::None, Asked::clone(&asked)),
    );
    relay.apply_exits(vec![exit(4, socks5(other, ""))])?;
    assert_eq!(lab.addresses(OF_REDIRECT, "example.org"), [DEFAULT]);
    assert_eq!((count(&heard[0]), asked.lock().unwrap().len()), (2, 2));
    relay.apply_exits(vec![exit(4, socks5(other, ""))])?;
    assert_eq!(lab.addresses(OF_REDIRECT, "example.org"), [DEFAULT]);
    assert_eq!(count(&heard[0]), 2, "control: one that stays is remembered");
    relay.apply_exits(Vec::new())?;
    assert_eq!(lab.code(OF_REDIRECT, "example.net"), ResponseCode::ServFail);
    assert_eq!(lab.by_default()?, 0);
    Ok(())
}

#[test]
fn what_is_asked_of_the_cell_stays_in_it() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let own = lab.ask(OF_FIRST, "www.home.arpa", RecordType::AAAA);
    assert_eq!(own.answers.len(), 2, "the alias and its address");
    assert!(own.metadata.authoritative && own.metadata.recursion_available);
    let pointer = lab.ask(OF_FIRST, "1.0.8.10.in-addr.arpa", RecordType::PTR);
    assert!(matches!(&pointer.answers[0].data, RData::PTR(name) if name.0.to_ascii() == "nas.home.arpa."));
    for (name, code) in [
        ("gone.home.arpa", ResponseCode::NXDomain),
        ("printer.local", ResponseCode::NXDomain),
        ("printer", ResponseCode::NXDomain),
        ("1.1.168.192.in-addr.arpa", ResponseCode::NXDomain),
        ("x.onion", ResponseCode::NXDomain),
        ("use-application-dns.net", ResponseCode::NXDomain),
        ("localhost", ResponseCode::NoError),
    ] {
        assert_eq!(lab.code(UNBOUND, name), code, "{name}");
        assert_eq!(lab.code(OF_FIRST, name), code, "{name}");
    }
    let denial = lab.ask(OF_FIRST, "gone.home.arpa", RecordType::A);
    assert!(
        matches!(&denial.authorities[0].data, RData::SOA(_)),
        "for whoever remembers"
    );
    for kind in [RecordType::ANY, RecordType::AXFR, RecordType::IXFR] {
        let answer = lab.ask(UNBOUND, "home.arpa", kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::Refused, "{kind}");
    }
    assert_eq!(lab.code(STRANGER, "nas.home.arpa"), ResponseCode::Refused);
    assert_eq!(heard.each_ref().map(count), [0; 3], "nothing left the cell");
    assert_eq!(lab.by_default()?, 0);
    // Another table, at once.
    relay.apply(v1::DnsSpec {
        zones: vec!["other.internal".to_owned()],
        records: Vec::new(),
        ..spec()
    })?;
    assert_eq!(lab.code(UNBOUND, "nas.home.arpa"), ResponseCode::NXDomain);
    Ok(())
}

#[test]
fn answers_are_whole_bounded_and_to_the_question() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let cut = lab.ask(OF_FIRST, "big.example", RecordType::A);
    assert!(
        cut.metadata.truncation && cut.answers.is_empty(),
        "too large for a datagram"
    );
    let whole = lab.ask_tcp(OF_FIRST, "big.example", RecordType::A);
    assert_eq!((whole.metadata.truncation, whole.answers.len()), (false, 200));
    assert_eq!(count(&heard[1]), 2, "by UDP, then by TCP, and then remembered");
    assert_eq!(
        lab.addresses(OF_FIRST, "forged.example"),
        [FIRST],
        "what was guessed is not taken"
    );
    assert_eq!(
        lab.addresses(OF_FIRST, "case.example"),
        [FIRST],
        "a resolver that changes case, by TCP"
    );
    assert_eq!(lab.code(OF_FIRST, "inside.example"), ResponseCode::Refused);
    assert_eq!(relay.way(Some(1)).withheld, 1);
    assert_eq!(lab.code(OF_FIRST, "fail.example"), ResponseCode::ServFail);
    let before = count(&heard[1]);
    for _ in 0..3 {
        assert_eq!(lab.code(OF_FIRST, "nx.example"), ResponseCode::NXDomain);
    }
    assert_eq!(
        count(&heard[1]),
        before + 1,
        "that there is no such name is remembered"
    );
    assert_eq!(lab.addresses(OF_FIRST, "short.example"), [FIRST]);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(lab.addresses(OF_FIRST, "short.example"), [FIRST]);
    assert_eq!(count(&heard[1]), before + 3, "after its time it is asked again");
    Ok(())
}

#[test]
fn one_question_of_many_is_asked_once_and_another_resolver_helps() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let mut changed = spec();
    // Nobody is there.
    changed.exits[0]
        .upstreams
        .insert(0, "198.51.100.54:53".parse::<std::net::SocketAddr>()?.into());
    relay.apply(changed)?;
    std::thread::scope(|scope| {
        let asking: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| lab.addresses(OF_FIRST, "example.org")))
            .collect();
        for asked in asking {
            assert_eq!(asked.join().unwrap(), [FIRST]);
        }
    });
    assert_eq!(count(&heard[1]), 1, "the same question, under way, is joined");
    assert_eq!(relay.way(Some(1)).asked, 1);
    Ok(())
}

#[test]
fn a_peer_that_floods_is_held_back_alone() -> Result<()> {
    let Ready { lab, relay, .. } = ready()?;
    let bytes = question("nas.home.arpa", RecordType::A).to_vec()?;
    lab.peer.inside(|| {
        let socket = std::net::UdpSocket::bind((OF_FIRST, 0)).unwrap();
        for number in 0..3000 {
            // The allowance is to hold it back, not the kernel's queue.
            if number % 50 == 0 {
                std::thread::sleep(Duration::from_millis(5));
            }
            socket.send_to(&bytes, support::dns::RELAY).unwrap();
        }
    })?;
    // As every client does: a datagram may be lost when the kernel's queue is full.
    until(PATIENCE, "another peer's answer", || {
        lab.send(OF_SECOND, &bytes, 3 * MOMENT)
    })?;
    let status = relay.status();
    assert!(status.dropped > 100, "{status:?}");
    assert!(status.answered_here >= 400, "control: {status:?}");
    Ok(())
}

#[test]
fn malformed_questions_end_nothing() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let good = question("example.org", RecordType::A);
    let refused = |change: &dyn Fn(&mut Message)| {
        let mut message = good.clone();
        change(&mut message);
        let answer = lab.send(UNBOUND, &message.to_vec().unwrap(), MOMENT);
        answer.map(|answer| Message::from_vec(&answer).unwrap().metadata.response_code)
    };
    assert_eq!(
        refused(&|message| message.metadata.op_code = OpCode::Update),
        Some(ResponseCode::NotImp)
    );
    assert_eq!(
        refused(&|message| message.metadata.op_code = OpCode::Notify),
        Some(ResponseCode::NotImp)
    );
    assert_eq!(
        refused(&|message| message.queries.clear()),
        Some(ResponseCode::FormErr)
    );
    let twice = |message: &mut Message| message.queries.push(good.queries[0].clone());
    assert_eq!(refused(&twice), Some(ResponseCode::FormErr));
    let chaos = |message: &mut Message| message.queries[0].query_class = DNSClass::CH;
    assert_eq!(refused(&chaos), Some(ResponseCode::Refused));
    assert_eq!(
        refused(&|message| message.metadata.message_type = MessageType::Response),
        None
    );
    let version = |message: &mut Message| {
        message.edns.as_mut().unwrap().set_version(1);
    };
    // hickory calls the number by its other name, BADSIG.
    assert_eq!(refused(&version).map(u16::from), Some(16));
    let bytes = good.to_vec()?;
    for length in 0..bytes.len() {
        // Cut anywhere: an answer that it is no question, or none.
        if let Some(answer) = lab.send(UNBOUND, &bytes[..length], Duration::from_millis(20)) {
            let code = Message::from_vec(&answer)?.metadata.response_code;
            assert_eq!(code, ResponseCode::FormErr, "cut at {length}");
        }
    }
    assert_eq!(heard.each_ref().map(count), [0; 3], "none of these was carried");
    assert_eq!(lab.addresses(UNBOUND, "example.org"), [DEFAULT], "control");
    assert!(relay.status().refused > 6);
    Ok(())
}

#[test]
fn the_cell_looks_names_up_by_the_default_way() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let names = relay.resolve(&[
        "vpn.example.org",
        "nas.home.arpa",
        "nx.example",
        "fail.example",
        "x.onion",
    ])?;
    let told: Vec<_> = names
        .iter()
        .map(|name| (name.addresses.len(), name.failure.as_str()))
        .collect();
    assert_eq!(
        told,
        [(1, ""), (2, ""), (0, ""), (0, "no resolver answered"), (0, "")]
    );
    assert_eq!(names[0].addresses[0].octets, DEFAULT.octets());
    assert_eq!((names[0].ttl_seconds, names[1].ttl_seconds), (60, 60));
    assert_eq!([count(&heard[1]), count(&heard[2])], [0, 0]);
    for bad in [vec![], vec!["a b"], vec!["*.example"], vec!["x"; 65]] {
        let status = relay.resolve(&bad).unwrap_err();
        assert_eq!(fault::reason(&status).as_deref(), Some("INVALID_REQUEST"));
    }
    drop(lab);
    Ok(())
}

#[test]
fn what_is_not_allowed_is_not_applied() -> Result<()> {
    let Ready { lab, relay, .. } = ready()?;
    let mut bad = spec();
    bad.exits[0].reached = Some(v1::dns_exit::Reached::Interface("eth1".to_owned()));
    bad.upstreams = vec!["203.0.113.53:53".parse::<std::net::SocketAddr>()?.into()];
    let status = relay.apply(bad).unwrap_err();
    let faults = fault::violations(&status);
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(fields, ["dns.upstreams[0]", "dns.exits[0].interface"]);
    assert_eq!(
        lab.addresses(OF_FIRST, "example.org"),
        [FIRST],
        "all is as it was"
    );
    drop(relay);
    Ok(())
}

#[test]
fn exits_are_proven_by_questions_of_the_relays_own() -> Result<()> {
    let Ready { lab, relay, heard } = ready()?;
    let proven = |number| {
        until(PATIENCE, "a proof", || {
            let way = relay.way(Some(number));
            (way.last_proven_unix_ms > 0).then_some(way)
        })
    };
    for way in [proven(1)?, proven(2)?] {
        assert_eq!((way.asked, way.cached, way.failed), (0, 0, 0), "no peer asked");
        assert_eq!(way.last_success_unix_ms, way.last_proven_unix_ms);
        assert_eq!(way.last_proof_failure_unix_ms, 0);
    }
    let failed = |number, why: &str| {
        until(PATIENCE, "a failure", || {
            let way = relay.way(Some(number));
            way.last_proof_failure.contains(why).then_some(way)
        })
    };
    // Of one that does not run, or is not told of yet, nothing is said: it was not asked.
    until(PATIENCE, "a question that was not asked", || {
        relay
            .process
            .output()
            .contains("the exit does not run")
            .then_some(())
    })?;
    let way = relay.way(Some(4));
    assert_eq!((way.last_proven_unix_ms, way.failed), (0, 0));
    assert_eq!((way.last_proof_failure_unix_ms, way.lost_proofs), (0, 0));
    // What is not the same way is not proven by what was.
    lab.cell.ip("link set wgext_1 down")?;
    let mut other = spec();
    let resolver = other.exits[0].upstreams[0].clone();
    other.exits[0].upstreams.push(resolver);
    relay.apply(other)?;
    let way = failed(1, "it cannot be reached")?;
    assert_eq!(way.last_proven_unix_ms, 0);
    assert_eq!(way.last_failure_detail, way.last_proof_failure);
    lab.cell.ip("link set wgext_1 up")?;
    lab.cell
        .ip("route replace default via 10.99.1.2 dev wgext_1 table 1001")?;
    assert!(proven(1)?.last_proof_failure_unix_ms > 0, "it is told still");
    let way = relay.way(None);
    assert_eq!((way.last_proven_unix_ms, way.last_success_unix_ms), (0, 0));
    assert_eq!(lab.by_default()?, 0, "nothing went another way");
    assert_eq!(count(&heard[0]), 0);
    Ok(())
}

#[test]
fn without_a_ceiling_there_is_no_dns() -> Result<()> {
    let lab = DnsLab::new()?;
    let relay = Relay::start_under(&lab, "")?;
    let status = relay.apply(spec()).unwrap_err();
    assert_eq!(fault::reason(&status).as_deref(), Some("NO_DNS"));
    let asked = question("nas.home.arpa", RecordType::A).to_vec()?;
    assert_eq!(lab.send(UNBOUND, &asked, PATIENCE), None, "nobody listens");
    drop(relay);
    let relay = Relay::start(&lab)?;
    assert_eq!(relay.status().names, 0);
    assert_eq!(
        lab.code(UNBOUND, "example.org"),
        ResponseCode::Refused,
        "before anything is applied"
    );
    assert_eq!(lab.by_default()?, 0);
    relay.apply(spec())?;
    assert_eq!(lab.addresses(UNBOUND, "nas.home.arpa").len(), 1, "control");
    Ok(())
}
