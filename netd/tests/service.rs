//! The service over a real socket and a kernel in memory: tokens, plans, refusals, and the way back after a failure.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod core_support;
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cell_netd::kept::Kept;
use cell_netd::kernel::fake::Fake;
use cell_netd::reconciler::Reconciler;
use cell_netd::service::routes;
use cell_netd_core::bridges::{Bridge, PATIENCE};
use cell_netd_core::fake::FAKE_PUBLIC_KEY;
use cell_netd_core::model::PublicKey;
use cell_netd_core::observed::Device;
use cell_netd_core::policy::SetId;
use cell_proto::common::v1 as common;
use cell_proto::fault::{reason, violations};
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::netd::v1;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use support::{access, peer, spec};
use tokio::sync::Notify;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

struct Service {
    kernel: Fake,
    changed: Arc<Notify>,
    channel: Channel,
    _folder: tempfile::TempDir,
}

impl Service {
    async fn start() -> Self {
        Service::over(Fake::default()).await
    }

    async fn over(kernel: Fake) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("netd.sock");
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let changed = Arc::new(Notify::new());
        let handle = Reconciler::spawn(
            kernel.clone(),
            core_support::ceiling(),
            Kept::new(folder.path()),
            7,
            Arc::clone(&changed),
        );
        let policy = CallerPolicy {
            uids: vec![nix::unistd::getuid().as_raw()],
            unit: None,
        };
        tokio::spawn(ipc::serve(
            listener,
            policy,
            routes(handle),
            std::future::pending(),
        ));
        Service {
            kernel,
            changed,
            channel: ipc::connect(path),
            _folder: folder,
        }
    }

    async fn apply(&self, request: v1::ApplyNetworkRequest) -> Result<v1::ApplyNetworkResponse, Status> {
        NetworkServiceClient::new(self.channel.clone())
            .apply_network(request)
            .await
            .map(Response::into_inner)
    }

    async fn apply_spec(&self, spec: v1::NetworkSpec) -> Result<v1::ApplyNetworkResponse, Status> {
        self.apply(v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: String::new(),
            validate_only: false,
            confirm_within_seconds: 0,
        })
        .await
    }

    async fn delta(
        &self,
        base_etag: &str,
        upserted_peers: Vec<v1::PeerSpec>,
        removed: &[&str],
    ) -> Result<v1::ApplyNetworkDeltaResponse, Status> {
        let request = v1::ApplyNetworkDeltaRequest {
            base_etag: base_etag.to_owned(),
            upserted_peers,
            removed_peers: removed.iter().map(|name| (*name).to_owned()).collect(),
            validate_only: false,
            confirm_within_seconds: 0,
        };
        let mut client = NetworkServiceClient::new(self.channel.clone());
        client
            .apply_network_delta(request)
            .await
            .map(Response::into_inner)
    }

    async fn status(&self) -> v1::NetworkStatus {
        self.get().await.status.unwrap()
    }

    async fn reason_of(&self, kind: &str) -> String {
        let conditions = self.status().await.conditions;
        let found = conditions.into_iter().find(|condition| condition.r#type == kind);
        found.unwrap().reason
    }

    async fn get(&self) -> v1::GetNetworkResponse {
        let mut client = NetworkStatusServiceClient::new(self.channel.clone());
        client
            .get_network(v1::GetNetworkRequest { include_spec: true })
            .await
            .unwrap()
            .into_inner()
    }
}

/// Waits until it is so.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting)
        .await
        .unwrap_or_else(|_| panic!("{what}"));
}

fn key(bytes: [u8; 32]) -> PublicKey {
    PublicKey::try_from(bytes.as_slice()).unwrap()
}

fn device(kernel: &Fake) -> Option<Device> {
    let inner = kernel.inner();
    inner.kernel.link.as_ref().and_then(|link| link.device.clone())
}

fn spoil(kernel: &Fake, change: impl FnOnce(&mut Device)) {
    let mut inner = kernel.inner();
    change(inner.kernel.link.as_mut().unwrap().device.as_mut().unwrap());
}

fn one(index: u8, name: &str) -> v1::PeerSpec {
    peer(
        index,
        name,
        &[index; 32],
        access(true, false, &[("10.0.5.7", 443)]),
    )
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, expected: &str) -> Status {
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (code, Some(expected)),
        "{status:?}"
    );
    status
}

#[tokio::test]
async fn what_was_applied_is_told_back() {
    let service = Service::start().await;
    let before = service.get().await;
    assert_eq!((before.spec, before.status.unwrap().etag.as_str()), (None, ""));
    let wanted = spec(vec![one(1, "a"), one(2, "b")]);
    let answer = service.apply_spec(wanted.clone()).await.unwrap();
    assert_eq!(answer.generation, 1);
    assert!(answer.change_count > 2);
    let now = service.get().await;
    let told = now.spec.unwrap();
    assert_eq!(
        told.wireguard.as_ref().unwrap().mtu_bytes,
        1420,
        "the default is told"
    );
    assert_eq!(told.peers, wanted.peers);
    assert_eq!(told.cell_ports, wanted.cell_ports);
    let status = now.status.unwrap();
    assert_eq!(
        (status.generation, status.observed_generation, status.peer_count),
        (1, 1, 2)
    );
    assert_eq!(status.etag, answer.etag);
    let kinds: Vec<_> = status
        .conditions
        .iter()
        .map(|condition| condition.r#type.as_str())
        .collect();
    assert_eq!(
        kinds,
        [
            "CallerUnitChecked",
            "Converged",
            "DockerPassage",
            "ExitsReady",
            "ForwardingEnabled",
            "KeyChecked",
            "PolicyRenderer",
            "RollbackReady",
            "TableOwned"
        ]
    );
}

#[tokio::test]
async fn tokens_order_the_writers() {
    let service = Service::start().await;
    let first = service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let again = service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    assert_eq!(
        (again.etag.as_str(), again.changes.len()),
        (first.etag.as_str(), 0)
    );
    let second = service.delta(&first.etag, vec![one(2, "b")], &[]).await.unwrap();
    assert_eq!(second.generation, 2);
    refused(
        service.delta(&first.etag, vec![], &["a"]).await,
        Code::Aborted,
        "ETAG_MISMATCH",
    );
    let stale = v1::ApplyNetworkRequest {
        spec: Some(spec(vec![])),
        etag: first.etag,
        validate_only: false,
        confirm_within_seconds: 0,
    };
    refused(service.apply(stale).await, Code::Aborted, "ETAG_MISMATCH");
    refused(
        service.delta("", vec![], &["a"]).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
    assert_eq!(service.get().await.status.unwrap().peer_count, 2);
}

#[tokio::test]
async fn a_plan_changes_nothing() {
    let service = Service::start().await;
    let request = v1::ApplyNetworkRequest {
        spec: Some(spec(vec![one(1, "a")])),
        etag: String::new(),
        validate_only: true,
        confirm_within_seconds: 0,
    };
    let answer = service.apply(request).await.unwrap();
    assert_eq!((answer.generation, answer.etag.as_str()), (0, ""));
    assert!(answer.changes.iter().any(|change| change.subject == "peer a"));
    assert_eq!(
        service.kernel.inner().steps,
        1,
        "bridges were closed at the start"
    );
}

#[tokio::test]
async fn malformed_and_forbidden_requests_name_every_fault_and_change_nothing() {
    let service = Service::start().await;
    let missing = v1::ApplyNetworkRequest {
        spec: None,
        etag: String::new(),
        validate_only: false,
        confirm_within_seconds: 0,
    };
    refused(
        service.apply(missing).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
    let mut bad = spec(vec![one(1, "a b"), one(2, "b")]);
    bad.peers[0].addresses[0].octets.pop();
    bad.peers[1].public_key.clear();
    bad.peers[1].access.as_mut().unwrap().services[0].protocol = 99;
    bad.wireguard.as_mut().unwrap().addresses[1].length = 129;
    let status = refused(
        service.apply_spec(bad).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
    let fields: Vec<_> = violations(&status).into_iter().map(|fault| fault.field).collect();
    let expected = [
        "spec.wireguard.addresses[1]",
        "spec.peers[0].name",
        "spec.peers[0].addresses[0]",
        "spec.peers[0].addresses[1]",
        "spec.peers[1].public_key",
        "spec.peers[1].addresses[1]",
        "spec.peers[1].access.services[0].protocol",
    ];
    assert_eq!(fields, expected);
    let mut above = spec(vec![]);
    above.wireguard.as_mut().unwrap().interface = "eth0".to_owned();
    above.cell_ports[0].port = 22;
    let status = refused(
        service.apply_spec(above).await,
        Code::PermissionDenied,
        "ABOVE_CEILING",
    );
    assert_eq!(violations(&status).len(), 2);
    // Far more faults than an answer has room for: the first are named, all are counted.
    let many = spec((0..20_000u32).map(|_| v1::PeerSpec::default()).collect());
    let status = refused(
        service.apply_spec(many).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
    assert!(violations(&status).len() >= 50);
    let count: usize = cell_proto::fault::metadata(&status)["fault_count"]
        .parse()
        .unwrap();
    assert!(count >= 60_000, "{count}");
    assert_eq!(
        service.kernel.inner().steps,
        1,
        "bridges were closed at the start"
    );
}

#[tokio::test]
async fn what_the_kernel_refuses_is_taken_back() {
    let service = Service::start().await;
    let first = service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let before = service.kernel.inner().kernel.clone();
    for after in 0..3 {
        {
            let mut inner = service.kernel.inner();
            inner.fail_after = Some(inner.steps + after);
        }
        // Moves a's address to b: three steps (loss, policy, gain), of which one fails.
        let delta = service
            .delta(&first.etag, vec![one(3, "a"), one(1, "b")], &[])
            .await;
        if delta.is_ok() {
            panic!("step {after} was to fail");
        }
        refused(delta, Code::Unavailable, "KERNEL");
        assert_eq!(service.kernel.inner().kernel, before, "after step {after}");
        let status = service.get().await.status.unwrap();
        assert_eq!(
            (status.etag.as_str(), status.observed_generation),
            (first.etag.as_str(), 1)
        );
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_touched() {
    let service = Service::start().await;
    service.kernel.inner().no_key = true;
    refused(
        service.apply_spec(spec(vec![one(1, "a")])).await,
        Code::FailedPrecondition,
        "NO_KEY",
    );
    assert_eq!(
        service.kernel.inner().steps,
        1,
        "bridges were closed at the start"
    );
    service.kernel.inner().no_key = false;
    service.kernel.inner().foreign = true;
    refused(
        service.apply_spec(spec(vec![one(1, "a")])).await,
        Code::FailedPrecondition,
        "FOREIGN_OBJECT",
    );
    assert_eq!(
        service.kernel.inner().steps,
        1,
        "bridges were closed at the start"
    );
}

#[tokio::test]
async fn a_watcher_sees_drift_being_repaired() {
    let service = Service::start().await;
    service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let mut client = NetworkStatusServiceClient::new(service.channel.clone());
    let mut stream = client
        .watch_network(v1::WatchNetworkRequest {})
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap().status.unwrap();
    assert_eq!((first.generation, first.drift_repairs), (1, 0));
    let right = service.kernel.inner().kernel.clone();
    service.kernel.inner().kernel.policy = None;
    service.changed.notify_one();
    let repaired = async {
        loop {
            let status = stream.message().await.unwrap().unwrap().status.unwrap();
            if status.drift_repairs == 1 {
                return status;
            }
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(5), repaired)
        .await
        .unwrap();
    assert_eq!(status.observed_generation, 1);
    assert_eq!(service.kernel.inner().kernel, right);
}

/// The device ignores a peer without a word, as the kernel does with its own key: that is no success, and the others go on.
#[tokio::test]
async fn a_peer_that_the_device_does_not_have_afterwards_is_not_acknowledged() {
    for reads_single_peers in [true, false] {
        let service = Service::start().await;
        service.kernel.inner().reads_single_peers = reads_single_peers;
        let first = service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
        let before = service.kernel.inner().kernel.clone();
        service.kernel.inner().deaf_to = Some(key([9; 32]));
        let outcome = service.delta(&first.etag, vec![one(9, "b")], &[]).await;
        refused(outcome, Code::Unavailable, "KERNEL");
        assert_eq!(service.kernel.inner().kernel, before);
        let second = service.delta(&first.etag, vec![one(2, "c")], &[]).await.unwrap();
        assert_eq!(second.generation, 2);
    }
}

/// Where peers cannot be read one by one and there are many, they are looked at soon after.
#[tokio::test]
async fn peers_that_could_not_be_read_back_are_looked_at_soon() {
    let service = Service::start().await;
    let mut many: Vec<_> = (1..=250).map(|index| one(index, &format!("p{index}"))).collect();
    for index in 0..20u8 {
        let mut extra = one(1, &format!("x{index}"));
        extra.public_key = [&[index], &[0xee; 31][..]].concat();
        extra.addresses = vec![support::address(&format!("fd86::1:{index:x}"))];
        many.push(extra);
    }
    let first = service.apply_spec(spec(many)).await.unwrap();
    service.kernel.inner().deaf_to = Some(key([251; 32]));
    service
        .delta(&first.etag, vec![one(251, "new")], &[])
        .await
        .unwrap();
    service.changed.notify_one();
    until("the lack is told", async || {
        let status = service.status().await;
        status.observed_generation < status.generation
    })
    .await;
}

#[tokio::test]
async fn the_cells_own_key_is_no_peers() {
    let service = Service::start().await;
    let own = peer(1, "a", &FAKE_PUBLIC_KEY, access(true, false, &[]));
    let status = refused(
        service.apply_spec(spec(vec![own.clone()])).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
    assert_eq!(violations(&status)[0].field, "spec.peers[0].public_key");
    let first = service.apply_spec(spec(vec![])).await.unwrap();
    let outcome = service.delta(&first.etag, vec![own], &[]).await;
    refused(outcome, Code::InvalidArgument, "INVALID_SPEC");
}

#[tokio::test]
async fn a_device_with_another_key_than_vaultds_is_made_anew() {
    let service = Service::start().await;
    service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let right = service.kernel.inner().kernel.clone();
    let changes: [fn(&mut Device); 2] = [
        |device| device.public_key = key([0x66; 32]),
        |device| device.fwmark = 0x2000,
    ];
    for (repaired, change) in (1..).zip(changes) {
        spoil(&service.kernel, change);
        service.changed.notify_one();
        until("it is repaired and counted", async || {
            service.status().await.drift_repairs == repaired
        })
        .await;
        assert_eq!(service.kernel.inner().kernel, right);
    }
}

/// While vaultd is away, what is there can be narrowed; the key is checked as soon as it is known.
#[tokio::test]
async fn a_device_is_adopted_without_the_key_and_checked_when_it_comes() {
    let first = Service::start().await;
    let both = spec(vec![one(1, "a"), one(2, "b")]);
    first.apply_spec(both).await.unwrap();
    let service = Service::over(Fake::default()).await;
    let kernel = first.kernel.inner().kernel.clone();
    service.kernel.inner().kernel = kernel;
    spoil(&service.kernel, |device| device.public_key = key([0x66; 32]));
    service.kernel.inner().no_key = true;
    service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    assert_eq!(device(&service.kernel).unwrap().peers.len(), 1, "b is gone");
    assert_eq!(service.reason_of("KeyChecked").await, "NO_KEY");
    service.kernel.inner().no_key = false;
    until("the device is made anew", async || {
        device(&service.kernel).is_some_and(|device| *device.public_key.as_bytes() == FAKE_PUBLIC_KEY)
    })
    .await;
    assert_eq!(service.reason_of("KeyChecked").await, "CHECKED");
}

#[tokio::test]
async fn an_earlier_netds_interface_goes_down_with_a_first_spec_that_is_refused() {
    let first = Service::start().await;
    first.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let service = Service::over(Fake::default()).await;
    service.kernel.inner().kernel = first.kernel.inner().kernel.clone();
    let up = |kernel: &Fake| kernel.inner().kernel.link.as_ref().is_some_and(|link| link.up);
    let mut forbidden = spec(vec![one(1, "a")]);
    if let Some(wireguard) = &mut forbidden.wireguard {
        wireguard.interface = "eth0".to_owned();
    }
    let plan = v1::ApplyNetworkRequest {
        spec: Some(forbidden.clone()),
        validate_only: true,
        confirm_within_seconds: 0,
        ..Default::default()
    };
    service.apply(plan).await.unwrap_err();
    assert!(up(&service.kernel), "asking what would be done does nothing");
    service.apply_spec(forbidden.clone()).await.unwrap_err();
    assert!(!up(&service.kernel), "what it let through may be forbidden now");
    service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    assert!(up(&service.kernel));
    service.apply_spec(forbidden).await.unwrap_err();
    assert!(up(&service.kernel), "a later one changes nothing");
}

#[tokio::test]
async fn the_policy_follows_the_prefixes_on_the_machines_links() {
    let service = Service::start().await;
    service.kernel.inner().on_link = ["192.0.2.1/24".parse().unwrap()].into();
    service.apply_spec(spec(vec![one(1, "a")])).await.unwrap();
    let local = |kernel: &Fake| -> Vec<String> {
        let elements = kernel.inner().kernel.elements();
        let local = elements
            .into_iter()
            .filter(|(set, _)| matches!(set, SetId::Local(_)));
        local
            .flat_map(|(_, elements)| elements)
            .map(|range| range.to_string())
            .collect()
    };
    let v4 = ["192.0.2.0-192.0.2.255", "64:ff9b::c000:200-64:ff9b::c000:2ff"];
    assert_eq!(local(&service.kernel), v4);
    service.kernel.inner().on_link = ["2001:db8:77::1/64".parse().unwrap()].into();
    service.changed.notify_one();
    until("the new prefix takes the place of the old one", async || {
        local(&service.kernel) == ["2001:db8:77::-2001:db8:77:0:ffff:ffff:ffff:ffff"]
    })
    .await;
    assert_eq!(service.status().await.drift_repairs, 0, "nobody meddled");
}

#[tokio::test]
async fn one_peers_status_is_asked_by_name() {
    let service = Service::start().await;
    service
        .apply_spec(spec(vec![one(1, "a"), one(2, "b")]))
        .await
        .unwrap();
    let mut client = NetworkStatusServiceClient::new(service.channel.clone());
    let mut ask = async |name: &str| {
        let name = name.to_owned();
        let request = v1::ListPeerStatusesRequest { name };
        let peers = client.list_peer_statuses(request).await?.into_inner().peers;
        let told: Vec<_> = peers
            .into_iter()
            .map(|peer| (peer.name, peer.public_key[0]))
            .collect();
        Ok::<_, Status>(told)
    };
    let (a, b) = (("a".to_owned(), 1), ("b".to_owned(), 2));
    assert_eq!(ask("").await.unwrap(), [a, b.clone()]);
    assert_eq!(ask("b").await.unwrap(), [b]);
    assert_eq!(ask("c").await.unwrap(), []);
    refused(ask("a b").await, Code::InvalidArgument, "INVALID_SPEC");
}

#[tokio::test]
async fn a_packets_fate_is_told_with_the_rules_that_it_meets() {
    let service = Service::start().await;
    let mut client = NetworkStatusServiceClient::new(service.channel.clone());
    let mut ask = async |peer: &str, to: &str, payload| {
        let request = v1::ExplainFlowRequest {
            peer: peer.to_owned(),
            destination: Some(to.parse::<std::net::IpAddr>().unwrap().into()),
            payload,
            service: String::new(),
        };
        client.explain_flow(request).await.map(Response::into_inner)
    };
    let tcp = |port| Some(v1::explain_flow_request::Payload::TcpPort(port));
    refused(ask("a", "10.0.5.7", tcp(443)).await, Code::NotFound, "NO_PEER");
    let may = support::access(false, false, &[("10.0.5.7", 443)]);
    let mut only_v4 = peer(2, "b", &[2; 32], support::access(true, false, &[]));
    only_v4.addresses.truncate(1);
    service
        .apply_spec(spec(vec![peer(1, "a", &[1; 32], may), only_v4]))
        .await
        .unwrap();

    let granted = ask("a", "10.0.5.7", tcp(443)).await.unwrap();
    assert!(granted.passes && granted.masqueraded && granted.counter.is_empty());
    assert_eq!((granted.target.as_str(), granted.translated_to), ("out", None));
    let last = granted.steps.last().unwrap();
    assert!(
        last.starts_with("c_postrouting rule 1:") && last.contains("masquerade"),
        "{last}"
    );
    let other = ask("a", "10.0.5.7", tcp(80)).await.unwrap();
    assert_eq!(
        (other.passes, other.counter.as_str()),
        (false, "from_peer_default")
    );
    let cell = ask("a", "10.86.0.1", tcp(443)).await.unwrap();
    assert!(cell.passes && cell.translated_to.is_some_and(|to| to.port == 3443));
    let ping = Some(v1::explain_flow_request::Payload::EchoRequest(true));
    assert!(ask("a", "fd86::1", ping).await.unwrap().passes);
    let device = ask("b", "10.86.0.2", ping).await.unwrap();
    assert_eq!(
        (device.target.as_str(), device.counter.as_str()),
        ("peers", "peer_to_peer")
    );

    refused(
        ask("b", "2001:db8::1", ping).await,
        Code::FailedPrecondition,
        "NO_ADDRESS",
    );
    refused(
        ask("a b", "10.0.0.1", tcp(70_000)).await,
        Code::InvalidArgument,
        "INVALID_SPEC",
    );
}

fn exit(index: u32) -> v1::ExitSpec {
    let prefix = |at: &str, length| common::IpPrefix {
        address: Some(support::address(at)),
        length,
    };
    v1::ExitSpec {
        id: format!("exit{index}"),
        mark: 0x1000 + 0x10 * index,
        table: 1000 + index,
        interface: format!("wgext_{index}"),
        way: Some(v1::exit_spec::Way::Wireguard(v1::WireguardExit {
            addresses: vec![support::address("172.20.0.2"), support::address("fd20::2")],
            mtu_bytes: 1380,
            far_ends: vec![v1::WireguardFarEnd {
                public_key: vec![0x50; 32],
                endpoint: Some("192.0.2.9:51820".parse::<SocketAddr>().unwrap().into()),
                persistent_keepalive_seconds: 25,
                allowed_ips: vec![prefix("0.0.0.0", 0), prefix("::", 0)],
                has_preshared_key: true,
            }],
            secret_revision: 0,
        })),
    }
}

fn bound(index: u8, name: &str, exit: &str) -> v1::PeerSpec {
    v1::PeerSpec {
        exit: exit.to_owned(),
        ..one(index, name)
    }
}

#[tokio::test]
async fn exits_are_told_as_they_were_given_and_a_peer_is_bound_anew_by_a_change() {
    let service = Service::start().await;
    let mut wanted = spec(vec![bound(1, "a", "exit0"), one(2, "b")]);
    wanted.exits = vec![exit(0), exit(1)];
    let first = service.apply_spec(wanted.clone()).await.unwrap();
    let told = service.get().await.spec.unwrap();
    assert_eq!(told.exits, wanted.exits);
    let bindings =
        |spec: &v1::NetworkSpec| -> Vec<String> { spec.peers.iter().map(|peer| peer.exit.clone()).collect() };
    assert_eq!(bindings(&told), ["exit0", ""]);
    let steps = service.kernel.inner().steps;
    let answer = service
        .delta(&first.etag, vec![bound(1, "a", "exit1")], &[])
        .await
        .unwrap();
    assert_eq!(answer.changes.len(), 1);
    assert_eq!(answer.changes[0].detail, "leaves by exit exit1");
    assert_eq!(service.kernel.inner().steps, steps + 1, "elements alone");
    assert_eq!(bindings(&service.get().await.spec.unwrap()), ["exit1", ""]);
    let unknown = service
        .delta(&answer.etag, vec![bound(1, "a", "exit9")], &[])
        .await;
    refused(unknown, Code::InvalidArgument, "INVALID_SPEC");
}

#[tokio::test]
async fn rules_of_exits_are_put_back_and_a_link_that_comes_up_is_no_drift() {
    let service = Service::start().await;
    let mut wanted = spec(vec![bound(1, "a", "exit0")]);
    wanted.exits = vec![exit(0)];
    // Without a key netd makes no interface of its own.
    service.kernel.inner().keyless.insert("wgext_0".parse().unwrap());
    service.apply_spec(wanted).await.unwrap();
    let unreachable = service.kernel.inner().kernel.routing.clone();
    service.kernel.inner().kernel.exits_up = ["wgext_0".parse().unwrap()].into();
    service.changed.notify_one();
    until("it has a way", async || {
        service.kernel.inner().kernel.routing.routes.len() == 4
    })
    .await;
    assert_eq!(service.status().await.drift_repairs, 0, "nobody meddled");
    let right = service.kernel.inner().kernel.routing.clone();
    assert_eq!(right.rules, unreachable.rules);
    service.kernel.inner().kernel.routing.rules.clear();
    service.changed.notify_one();
    until("it is repaired and counted", async || {
        service.status().await.drift_repairs == 1
    })
    .await;
    assert_eq!(service.kernel.inner().kernel.routing, right);
}

fn states(status: &v1::NetworkStatus) -> Vec<(&str, v1::ExitState)> {
    let exits = status.exits.iter();
    exits.map(|exit| (exit.id.as_str(), exit.state())).collect()
}

fn ready(status: &v1::NetworkStatus) -> (&str, &str) {
    let condition = status
        .conditions
        .iter()
        .find(|condition| condition.r#type == "ExitsReady");
    condition
        .map(|condition| (condition.reason.as_str(), condition.message.as_str()))
        .unwrap()
}

#[tokio::test]
async fn an_exit_that_fails_touches_no_other_and_is_told_and_tried_again() {
    use v1::ExitState::{Failed, NoKey, Ready};
    let service = Service::start().await;
    let mut wanted = spec(vec![bound(1, "a", "exit0"), bound(2, "b", "exit1")]);
    wanted.exits = vec![exit(0), exit(1), exit(2)];
    let [one, two] = ["wgext_1", "wgext_2"].map(|name| name.parse().unwrap());
    service.kernel.inner().keyless.insert(one);
    service.kernel.inner().broken.insert(two);
    service.apply_spec(wanted.clone()).await.unwrap();
    let status = service.status().await;
    assert_eq!(
        states(&status),
        [("exit0", Ready), ("exit1", NoKey), ("exit2", Failed)]
    );
    assert_eq!(status.exits[1].detail, "wireguard_key: NO_SECRET");
    let (reason, message) = ready(&status);
    assert_eq!(reason, "NOT_READY");
    assert!(
        message.contains("exit1 (wireguard_key: NO_SECRET)") && message.contains("exit2"),
        "{message}"
    );
    assert_eq!(
        status.observed_generation, status.generation,
        "the rest is in force"
    );
    {
        let inner = service.kernel.inner();
        assert_eq!(inner.tunnels.len(), 1, "what is not whole is not there");
        let ways = inner.kernel.routing.routes.len();
        assert_eq!(ways, 2 * 3 + 2, "the ready one has routes, at once");
    }
    service.kernel.inner().keyless.clear();
    service.kernel.inner().broken.clear();
    service.apply_spec(wanted).await.unwrap();
    let status = service.status().await;
    assert_eq!(
        states(&status),
        [("exit0", Ready), ("exit1", Ready), ("exit2", Ready)]
    );
    assert_eq!(ready(&status).0, "READY");
    assert_eq!(status.drift_repairs, 0);
}

#[tokio::test]
async fn tunnels_come_and_go_with_their_exits_and_those_of_others_stay() {
    let service = Service::start().await;
    let mut wanted = spec(vec![]);
    wanted.exits = vec![exit(0), exit(1)];
    service.apply_spec(wanted.clone()).await.unwrap();
    let names = || -> Vec<String> {
        let inner = service.kernel.inner();
        inner.tunnels.keys().map(ToString::to_string).collect()
    };
    assert_eq!(names(), ["wgext_0", "wgext_1"]);
    let revision = || {
        let inner = service.kernel.inner();
        inner
            .tunnels
            .values()
            .next()
            .and_then(|seen| seen.record.clone())
            .map(|record| record.revision)
    };
    assert_eq!(revision(), Some(0));

    // Another program makes the interface of an exit's name.
    service
        .kernel
        .inner()
        .tunnels
        .get_mut(&"wgext_1".parse().unwrap())
        .unwrap()
        .ours = false;
    let Some(v1::exit_spec::Way::Wireguard(tunnel)) = &mut wanted.exits[0].way else {
        panic!("a tunnel");
    };
    tunnel.secret_revision = 1;
    service.apply_spec(wanted.clone()).await.unwrap();
    assert_eq!(revision(), Some(1), "the keys were read again");
    let status = service.status().await;
    assert_eq!(states(&status)[1], ("exit1", v1::ExitState::Foreign));
    assert!(status.exits[1].detail.contains("FOREIGN_OBJECT"), "{status:?}");

    service.apply_spec(spec(vec![])).await.unwrap();
    assert_eq!(names(), ["wgext_1"], "it is not ours to remove");
    let status = service.status().await;
    assert_eq!((status.exits.len(), ready(&status).0), (0, "NONE"));
}

#[tokio::test]
async fn a_tunnel_that_others_spoil_is_put_right_and_counted() {
    let service = Service::start().await;
    let mut wanted = spec(vec![bound(1, "a", "exit0")]);
    wanted.exits = vec![exit(0)];
    service.apply_spec(wanted).await.unwrap();
    let right = service.kernel.inner().tunnels.clone();
    let spoil: [fn(&mut cell_netd_core::tunnel::TunnelSeen); 3] = [
        |seen| seen.addresses.clear(),
        |seen| seen.device.as_mut().unwrap().peers.clear(),
        |seen| seen.loose = false,
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        service.kernel.inner().tunnels.values_mut().for_each(spoil);
        service.changed.notify_one();
        until("it is repaired and counted", async || {
            service.status().await.drift_repairs == number as u64 + 1
        })
        .await;
        assert_eq!(service.kernel.inner().tunnels, right);
    }
}

#[tokio::test]
async fn a_bridge_whose_network_is_gone_is_removed_but_not_while_a_change_waits() {
    let service = Service::start().await;
    let [left, unknown] = [("cellsvc1", 4), ("cellsvc9", 5)].map(|(name, index)| Bridge {
        name: name.parse().unwrap(),
        index,
    });
    service.kernel.inner().bare_bridges.extend([left, unknown]);
    let pass = async |time: Duration| {
        tokio::time::pause();
        for _ in 0..time.as_secs() {
            tokio::time::advance(Duration::from_secs(1)).await;
            for _ in 0..20 {
                tokio::task::yield_now().await;
            }
        }
        tokio::time::resume();
        service.kernel.inner().bare_bridges.contains(&left)
    };
    assert!(
        pass(2 * PATIENCE).await,
        "before a spec nobody knows what is wanted"
    );
    let mut with_network = spec(vec![]);
    with_network.service_networks = vec![v1::ServiceNetwork {
        name: "files".to_owned(),
        bridge: "cellsvc1".to_owned(),
        subnet: Some("172.30.1.0/28".parse::<ipnet::IpNet>().unwrap().into()),
        ..Default::default()
    }];
    service.apply_spec(with_network).await.unwrap();
    assert!(pass(2 * PATIENCE).await, "it may only be stopped");
    service.apply_spec(spec(vec![])).await.unwrap();
    assert!(pass(PATIENCE / 2).await);
    let waiting = service
        .apply(v1::ApplyNetworkRequest {
            spec: Some(spec(vec![one(1, "a")])),
            confirm_within_seconds: 600,
            ..Default::default()
        })
        .await
        .unwrap();
    assert!(pass(2 * PATIENCE).await, "what was before may come back");
    let mut client = NetworkServiceClient::new(service.channel.clone());
    let confirm = v1::ConfirmNetworkRequest { etag: waiting.etag };
    client.confirm_network(confirm).await.unwrap();
    assert!(pass(PATIENCE / 2).await, "looks begin anew");
    assert!(!pass(PATIENCE).await);
    let left = service.kernel.inner().bare_bridges.clone();
    assert_eq!(
        left,
        [unknown].into(),
        "never wanted: not known to be a service's"
    );
}
