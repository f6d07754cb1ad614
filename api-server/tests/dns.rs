//! DNS follows the exits of peers: what `cell-egress` is told of it, and when.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cell_proto::egress::v1::dns_exit::Reached;
use cell_proto::egress::v1::{DnsSpec, dns_record};
use serde_json::{Value, json};
use support::client::Client;
use support::{Cell, add, eventually};

const ALL: &str = "/api/connectivity/connections";

const WIREGUARD: &str = "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n\
    Address = 10.2.0.2/32, fd00::2/128\nDNS = 10.2.0.1\n\n[Peer]\n\
    PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=\n\
    AllowedIPs = 0.0.0.0/0, ::/0\nEndpoint = 192.0.2.1:51820\n";

async fn connect(admin: &Client, body: Value) -> String {
    let made = admin.post(ALL, &body).await.expect(201).json();
    made["connection"]["id"].as_str().unwrap().to_owned()
}

async fn bind(admin: &Client, peer: &str, connection: Value) {
    let path = format!("/api/connectivity/peers/{peer}/exit");
    admin
        .put(&path, &json!({"connection_id": connection}))
        .await
        .expect(200);
}

/// A peer's exit as netd is told of it, and as the relay has it then.
type Told = (String, Option<String>);

/// The exit of the peer whose IPv4 address ends so; `None`: the relay does not know the peer.
fn way(dns: &DnsSpec, host: u8) -> Option<String> {
    let address = IpAddr::from([10, 86, 0, host]).into();
    let peer = dns.peers.iter().find(|peer| peer.addresses.contains(&address))?;
    Some(peer.exit_id.clone())
}

fn names(dns: &DnsSpec) -> Vec<String> {
    let v4 = |record: &&cell_proto::egress::v1::DnsRecord| match &record.data {
        Some(dns_record::Data::Address(ip)) => IpAddr::try_from(ip).unwrap().is_ipv4(),
        Some(dns_record::Data::Alias(_)) | None => panic!("an address"),
    };
    dns.records
        .iter()
        .filter(v4)
        .map(|record| record.name.clone())
        .collect()
}

fn upstreams(all: &[cell_proto::common::v1::Endpoint]) -> Vec<String> {
    all.iter()
        .map(|one| SocketAddr::try_from(one).unwrap().to_string())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_relay_knows_the_cells_names_and_each_peers_way() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    add(&admin, "tv", 2).await;
    let home = connect(
        &admin,
        json!({"name": "home", "type": "wireguard_ext", "import": {"file": WIREGUARD}}),
    )
    .await;
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    let work = connect(&admin, json!({"name": "work", "type": "proxy", "import": import})).await;
    bind(&admin, "phone", json!(home)).await;
    eventually("it knows all", || {
        let dns = cell.egress.dns();
        way(&dns, 2) == Some(home.clone()) && way(&dns, 3) == Some(String::new()) && dns.exits.len() == 2
    })
    .await;
    let dns = cell.egress.dns();
    assert_eq!(dns.zones, ["home.cell"]);
    assert_eq!(
        names(&dns),
        ["home.cell", "api.home.cell", "phone.home.cell", "tv.home.cell"]
    );
    let of = |id: &str| dns.exits.iter().find(|exit| exit.id == id).unwrap();
    assert_eq!(upstreams(&of(&home).upstreams), ["10.2.0.1:53"]);
    assert!(matches!(&of(&home).reached, Some(Reached::Interface(name)) if name.starts_with("wgext_")));
    assert_eq!(of(&work).upstreams, dns.upstreams);
    assert!(matches!(of(&work).reached, Some(Reached::Redirect(_))));
    assert_eq!(upstreams(&dns.upstreams)[0], "9.9.9.9:53");
    {
        let state = cell.netd.state.lock().unwrap();
        let spec = state.spec.as_ref().unwrap();
        let ports: Vec<(u32, u32, u32)> = spec
            .cell_ports
            .iter()
            .map(|port| (port.port, port.target_port, port.bound_target_port))
            .collect();
        assert_eq!(ports, [(443, 3443, 0), (53, 9053, 9054), (53, 9053, 9054)]);
        assert_eq!(spec.dns_upstreams, dns.upstreams);
    }
    let config = admin.get("/api/peers/tv/config").await.expect(200);
    let text = config.text;
    assert!(text.contains("DNS = 10.86.0.1, fd12:3456:789a::1"), "{text}");
    let applies = cell.egress.state.lock().unwrap().dns_applies;
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(
        cell.egress.state.lock().unwrap().dns_applies,
        applies,
        "it is not told twice"
    );
    cell.egress.forget();
    eventually("it was started anew", || cell.egress.dns() == dns).await;
    admin.delete("/api/peers/tv").await.expect(204);
    eventually("a peer is gone", || way(&cell.egress.dns(), 3).is_none()).await;
}

/// In the table before, a device that is bound since would ask by the machine's own way.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_refuses_what_it_is_told_sends_nobodys_questions_another_way() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    add(&admin, "tv", 2).await;
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    let work = connect(&admin, json!({"name": "work", "type": "proxy", "import": import})).await;
    eventually("it knows both", || {
        let dns = cell.egress.dns();
        way(&dns, 2) == Some(String::new()) && way(&dns, 3) == Some(String::new())
    })
    .await;
    let refuses = |fields: &[&'static str]| cell.egress.state.lock().unwrap().refused_dns = fields.to_vec();
    // One resolver: the others, and who is bound, are taken.
    refuses(&["upstreams[0]"]);
    cell.egress.forget();
    eventually("it has the others", || {
        upstreams(&cell.egress.dns().upstreams)
            .first()
            .is_some_and(|first| first == "149.112.112.112:53")
    })
    .await;
    bind(&admin, "phone", json!(work)).await;
    eventually("the relay has who is bound", || {
        way(&cell.egress.dns(), 2) == Some(work.clone())
    })
    .await;
    assert_eq!(upstreams(&cell.egress.dns().upstreams)[0], "149.112.112.112:53");
    // Something of all of them: then it has none, and knows the cell's names alone.
    refuses(&["peers"]);
    bind(&admin, "tv", json!(work)).await;
    eventually("it has nobody", || cell.egress.dns().peers.is_empty()).await;
    let dns = cell.egress.dns();
    assert!(names(&dns).contains(&"phone.home.cell".to_owned()), "control");
    // At last nothing.
    refuses(&["zones"]);
    add(&admin, "laptop", 3).await;
    eventually("it has nothing", || cell.egress.dns() == DnsSpec::default()).await;
    // By itself, once it is there with another ceiling.
    refuses(&[]);
    cell.egress.forget();
    eventually("it is told again", || {
        let dns = cell.egress.dns();
        way(&dns, 2) == Some(work.clone()) && way(&dns, 3) == Some(work.clone())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_question_goes_directly_while_packets_do_not() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    let work = connect(&admin, json!({"name": "work", "type": "proxy", "import": import})).await;
    let journal: Arc<Mutex<Vec<Told>>> = Arc::default();
    let (egress, seen) = (Arc::clone(&cell.egress.state), Arc::clone(&journal));
    cell.netd.state.lock().unwrap().on_apply = Some(Box::new(move |peers| {
        let dns = egress.lock().unwrap().dns.clone().unwrap_or_default();
        seen.lock()
            .unwrap()
            .extend(peers.iter().map(|peer| (peer.exit.clone(), way(&dns, 2))));
    }));
    bind(&admin, "phone", json!(work)).await;
    bind(&admin, "phone", Value::Null).await;
    let told = journal.lock().unwrap().clone();
    let bound = Some(work.clone());
    assert_eq!(told, [(work, bound.clone()), (String::new(), bound)]);
    eventually("and then it goes directly", || {
        way(&cell.egress.dns(), 2) == Some(String::new())
    })
    .await;
}

/// What it costs does not grow with the number of peers.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_exit_tells_the_relay_of_nobody_else() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    add(&admin, "tv", 2).await;
    let import = json!({"url": "socks5://192.0.2.9:1080"});
    let work = connect(&admin, json!({"name": "work", "type": "proxy", "import": import})).await;
    eventually("it knows both, and the exit", || {
        let dns = cell.egress.dns();
        dns.peers.len() == 2 && dns.exits.len() == 1
    })
    .await;
    let counted = || {
        let state = cell.egress.state.lock().unwrap();
        let led = state
            .led
            .iter()
            .map(|peers| peers.iter().map(|peer| peer.exit_id.clone()).collect());
        (state.dns_applies, led.collect::<Vec<Vec<String>>>())
    };
    let (applies, _) = counted();
    bind(&admin, "phone", json!(work)).await;
    assert_eq!(counted(), (applies, vec![vec![work.clone()]]));
    assert_eq!(
        way(&cell.egress.dns(), 3),
        Some(String::new()),
        "and the other goes as before"
    );
    // What is taken away is told after netd took it, alone too.
    bind(&admin, "phone", Value::Null).await;
    eventually("it goes directly", || counted().1.len() == 2).await;
    assert_eq!(
        counted(),
        (applies, vec![vec![work.clone()], vec![String::new()]])
    );
    // Longer than the relay is looked at.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(counted().0, applies, "it has all that it is to have");

    // One that goes by something else is told everything, before netd hears of it.
    cell.egress.state.lock().unwrap().revision += 1_000_000;
    bind(&admin, "tv", json!(work)).await;
    assert_eq!(way(&cell.egress.dns(), 3), Some(work.clone()));
    assert_eq!((counted().0, counted().1.len()), (applies + 1, 2));
    bind(&admin, "phone", json!(work)).await;
    assert_eq!(
        (counted().0, counted().1.len()),
        (applies + 1, 3),
        "and from then on of what changes"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_chooses_the_resolvers() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    let set = async |list: Value| admin.put("/api/config", &json!({"dns_upstreams": list})).await;
    let shown = async || admin.get("/api/config").await.expect(200).json()["dns_upstreams"].clone();
    assert_eq!(
        shown().await,
        json!(["9.9.9.9", "149.112.112.112", "2620:fe::fe", "2620:fe::9"])
    );
    set(json!(["192.168.1.1", "[2001:db8::1]:5353"]))
        .await
        .expect(200);
    assert_eq!(shown().await, json!(["192.168.1.1", "[2001:db8::1]:5353"]));
    let both = ["192.168.1.1:53", "[2001:db8::1]:5353"];
    eventually("both are told", || {
        let at_netd = cell
            .netd
            .state
            .lock()
            .unwrap()
            .spec
            .clone()
            .unwrap()
            .dns_upstreams;
        upstreams(&cell.egress.dns().upstreams) == both && upstreams(&at_netd) == both
    })
    .await;
    for bad in [
        json!(["127.0.0.1"]),
        json!(["9.9.9.9", "9.9.9.9:53"]),
        json!(["dns.example"]),
        json!([7]),
    ] {
        let refused = set(bad.clone()).await.expect(400).json();
        let field = refused["violations"][0]["field"].as_str().unwrap().to_owned();
        assert!(field.starts_with("dns_upstreams["), "{bad}: {refused}");
    }
    assert_eq!(shown().await[0], "192.168.1.1", "what is refused changes nothing");
    set(json!([])).await.expect(200);
    assert_eq!(shown().await[0], "9.9.9.9");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_netd_without_dns_still_has_the_network() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    cell.netd.state.lock().unwrap().refuses_dns = true;
    cell.netd.foreign_change();
    eventually("it has the peers and no DNS", || {
        let state = cell.netd.state.lock().unwrap();
        let spec = state.spec.as_ref().unwrap();
        spec.peers.len() == 1 && spec.cell_ports.len() == 1 && spec.dns_upstreams.is_empty()
    })
    .await;
    let status = admin.get("/api/status").await.expect(200).json();
    let daemons = status["daemons"].as_array().unwrap().iter();
    let egress = daemons
        .clone()
        .find(|daemon| daemon["name"] == "egress")
        .unwrap()
        .clone();
    assert_eq!(egress["conditions"][0]["reason"], "NETD_REFUSES", "{egress}");
}

/// An edited `netd.toml` is kept when Cell is updated, and so is that of `make run`.
#[tokio::test(flavor = "multi_thread")]
async fn a_netd_whose_ceiling_is_from_before_loses_the_port_of_the_bound_alone() {
    let cell = Cell::ready().await;
    let admin = cell.admin().await;
    add(&admin, "phone", 1).await;
    let egress = async || {
        let status = admin.get("/api/status").await.expect(200).json();
        let daemons = status["daemons"].as_array().unwrap().clone();
        daemons
            .into_iter()
            .find(|daemon| daemon["name"] == "egress")
            .unwrap()
    };
    let ports = |cell: &Cell| {
        let state = cell.netd.state.lock().unwrap();
        let ports = &state.spec.as_ref().unwrap().cell_ports;
        let asked = ports.iter().filter(|port| port.port == 53);
        asked
            .map(|port| (port.target_port, port.bound_target_port))
            .collect::<Vec<_>>()
    };
    eventually("control: it has all", || ports(&cell) == [(9053, 9054); 2]).await;
    assert_eq!(egress().await["conditions"].as_array().unwrap().len(), 1);

    cell.netd.state.lock().unwrap().refuses_bound_port = true;
    cell.netd.foreign_change();
    eventually("DNS is there still", || ports(&cell) == [(9053, 0); 2]).await;
    let conditions = egress().await["conditions"].clone();
    assert_eq!(conditions[0]["type"], "DnsAccepted", "{conditions}");
    assert_eq!(conditions[1]["type"], "DnsBoundApart", "{conditions}");
    assert_eq!(conditions[1]["reason"], "NETD_REFUSES");
    let message = conditions[1]["message"].as_str().unwrap();
    assert!(message.contains("\"udp/9054\" and \"tcp/9054\""), "{message}");

    cell.netd.state.lock().unwrap().refuses_bound_port = false;
    cell.netd.foreign_change();
    eventually("it has all again", || ports(&cell) == [(9053, 9054); 2]).await;
    assert_eq!(egress().await["conditions"].as_array().unwrap().len(), 1);
}
