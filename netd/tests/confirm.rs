//! Changes that wait, over a real socket and a kernel in memory: what is refused meanwhile, what comes back and when, and
//! what a netd that is started anew makes of the file of the one before.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod core_support;
mod support;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cell_netd::kept::Kept;
use cell_netd::kernel::fake::Fake;
use cell_netd::reconciler::Reconciler;
use cell_netd::service::routes;
use cell_netd_core::rebound::Moved;
use cell_proto::fault::{reason, violations};
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::netd::v1;
use cell_proto::netd::v1::network_service_client::NetworkServiceClient;
use cell_proto::netd::v1::network_status_service_client::NetworkStatusServiceClient;
use support::{access, peer, spec};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};

/// The shortest window, seconds.
const SHORT: u32 = 5;
const LONG: u32 = 600;
const EXIT: &str = "exit0";

/// A netd, and what outlives it.
struct Service {
    kernel: Fake,
    folder: tempfile::TempDir,
    channel: Channel,
    serving: JoinHandle<()>,
    started: u64,
}

impl Service {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let kernel = Fake::default();
        let (channel, serving) = serve(&kernel, &folder, 1);
        Service {
            kernel,
            folder,
            channel,
            serving,
            started: 1,
        }
    }

    /// With p1 and p2 in force, and their etag.
    async fn with_two() -> (Self, String) {
        let service = Service::start().await;
        let good = service.apply(spec(vec![one(1), one(2)]), "", 0).await.unwrap();
        (service, good.etag)
    }

    /// netd is gone without a word, and another one starts.
    async fn start_anew(&mut self) {
        self.serving.abort();
        let _aborted = (&mut self.serving).await;
        self.started += 1;
        (self.channel, self.serving) = serve(&self.kernel, &self.folder, self.started);
        // What comes back comes before the first answer.
        self.status().await;
    }

    fn client(&self) -> NetworkServiceClient<Channel> {
        NetworkServiceClient::new(self.channel.clone())
    }

    async fn apply(
        &self,
        spec: v1::NetworkSpec,
        etag: &str,
        confirm_within_seconds: u32,
    ) -> Result<v1::ApplyNetworkResponse, Status> {
        let request = v1::ApplyNetworkRequest {
            spec: Some(spec),
            etag: etag.to_owned(),
            validate_only: false,
            confirm_within_seconds,
        };
        self.client()
            .apply_network(request)
            .await
            .map(Response::into_inner)
    }

    async fn delta(
        &self,
        base_etag: &str,
        upserted_peers: Vec<v1::PeerSpec>,
        removed: &[&str],
        confirm_within_seconds: u32,
    ) -> Result<v1::ApplyNetworkDeltaResponse, Status> {
        let request = v1::ApplyNetworkDeltaRequest {
            base_etag: base_etag.to_owned(),
            upserted_peers,
            removed_peers: removed.iter().map(|name| (*name).to_owned()).collect(),
            validate_only: false,
            confirm_within_seconds,
        };
        self.client()
            .apply_network_delta(request)
            .await
            .map(Response::into_inner)
    }

    async fn confirm(&self, etag: &str) -> Result<v1::ConfirmNetworkResponse, Status> {
        let etag = etag.to_owned();
        let request = v1::ConfirmNetworkRequest { etag };
        self.client()
            .confirm_network(request)
            .await
            .map(Response::into_inner)
    }

    async fn roll_back(&self, etag: &str) -> Result<v1::RollBackNetworkResponse, Status> {
        let etag = etag.to_owned();
        let request = v1::RollBackNetworkRequest { etag };
        self.client()
            .roll_back_network(request)
            .await
            .map(Response::into_inner)
    }

    async fn status(&self) -> v1::NetworkStatus {
        let request = v1::GetNetworkRequest { include_spec: false };
        let mut client = NetworkStatusServiceClient::new(self.channel.clone());
        client
            .get_network(request)
            .await
            .unwrap()
            .into_inner()
            .status
            .unwrap()
    }

    async fn rollback_ready(&self) -> String {
        let conditions = self.status().await.conditions;
        conditions
            .into_iter()
            .find(|condition| condition.r#type == "RollbackReady")
            .unwrap()
            .reason
    }

    /// The peers that the kernel admits, by the first byte of their keys.
    fn admitted(&self) -> BTreeSet<u8> {
        let inner = self.kernel.inner();
        let device = inner.kernel.link.as_ref().and_then(|link| link.device.as_ref());
        device
            .into_iter()
            .flat_map(|device| device.peers.keys())
            .map(|key| key.as_bytes()[0])
            .collect()
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("last-good")
    }

    async fn rolled_back(&self, within: Duration) -> v1::NetworkRollback {
        let until = Instant::now() + within;
        loop {
            let status = self.status().await;
            if status.pending.is_none() {
                return status.last_rollback.unwrap();
            }
            assert!(Instant::now() < until, "not rolled back within {within:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn serve(kernel: &Fake, folder: &tempfile::TempDir, number: u64) -> (Channel, JoinHandle<()>) {
    let path = folder.path().join(format!("netd-{number}.sock"));
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let kept = Kept::new(folder.path());
    let handle = Reconciler::spawn(
        kernel.clone(),
        core_support::ceiling(),
        kept,
        number,
        Arc::new(Notify::new()),
    );
    let policy = CallerPolicy {
        uids: vec![nix::unistd::getuid().as_raw()],
        unit: None,
    };
    let serving = async move {
        let _ended = ipc::serve(listener, policy, routes(handle), std::future::pending()).await;
    };
    (ipc::connect(path), tokio::spawn(serving))
}

fn one(index: u8) -> v1::PeerSpec {
    peer(
        index,
        &format!("p{index}"),
        &[index; 32],
        access(true, false, &[("10.0.5.7", 443)]),
    )
}

fn refused<T: std::fmt::Debug>(outcome: Result<T, Status>, code: Code, expected: &str) {
    let status = outcome.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_deref()),
        (code, Some(expected)),
        "{status:?}"
    );
}

#[tokio::test]
async fn an_unconfirmed_change_is_taken_back_at_its_deadline() {
    let (service, good) = Service::with_two().await;
    let asked = Instant::now();
    let changed = service.apply(spec(vec![one(3)]), &good, SHORT).await.unwrap();
    let pending = changed.pending.unwrap();
    assert_eq!((&pending.etag, &pending.previous_etag), (&changed.etag, &good));
    assert_eq!(service.status().await.pending, Some(pending));
    assert_eq!(
        (service.admitted(), service.rollback_ready().await.as_str()),
        ([3].into(), "WAITS")
    );
    let rollback = service.rolled_back(Duration::from_secs(10)).await;
    let took = asked.elapsed();
    assert!(
        took >= Duration::from_secs(4) && took < Duration::from_secs(7),
        "{took:?}"
    );
    assert_eq!(
        (&rollback.rejected_etag, rollback.reason()),
        (&changed.etag, v1::RollbackReason::Expired)
    );
    let status = service.status().await;
    assert_eq!(
        (rollback.restored_etag, status.observed_generation),
        (status.etag.clone(), status.generation)
    );
    assert!(status.etag != good && status.etag != changed.etag);
    assert_eq!(
        (service.admitted(), service.rollback_ready().await.as_str()),
        ([1, 2].into(), "ROLLED_BACK")
    );
    refused(service.confirm(&changed.etag).await, Code::Aborted, "NOT_PENDING");
}

/// One of the relay, which needs no tunnel.
fn exit() -> v1::ExitSpec {
    v1::ExitSpec {
        id: EXIT.to_owned(),
        mark: 0x1000,
        table: 0,
        interface: String::new(),
        way: Some(v1::exit_spec::Way::Redirect(v1::RedirectExit {
            port: 9100,
            servers: vec!["198.51.100.9:1080".parse::<SocketAddr>().unwrap().into()],
        })),
    }
}

/// Of who is carried another way and of nobody else (ADR 0049), whatever made the change.
#[tokio::test]
async fn flows_of_who_is_carried_another_way_are_ended() {
    let bound = |index, exit: &str| v1::PeerSpec {
        exit: exit.to_owned(),
        ..one(index)
    };
    let whole = |exits: [&str; 2]| v1::NetworkSpec {
        exits: vec![exit()],
        ..spec(vec![bound(1, exits[0]), bound(2, exits[1])])
    };
    let addresses = |index: u8| -> BTreeSet<IpAddr> {
        let texts = [format!("10.86.0.{}", index + 1), format!("fd86::{}", index + 1)];
        texts.iter().map(|text| text.parse().unwrap()).collect()
    };
    let service = Service::start().await;
    let ended = || -> Vec<BTreeSet<IpAddr>> {
        let ended = std::mem::take(&mut service.kernel.inner().ended);
        let addresses = |moved: Moved| moved.into_keys().collect();
        ended.into_iter().map(addresses).collect()
    };
    let first = service.apply(whole(["", ""]), "", 0).await.unwrap();
    assert!(ended().is_empty(), "nobody had any flow that netd knew of");
    let etag = service
        .apply(whole([EXIT, ""]), &first.etag, 0)
        .await
        .unwrap()
        .etag;
    assert_eq!(ended(), [addresses(1)], "by the whole");
    let etag = service
        .delta(&etag, vec![bound(2, EXIT)], &[], 0)
        .await
        .unwrap()
        .etag;
    assert_eq!(ended(), [addresses(2)], "by a difference");
    let narrowed = v1::PeerSpec {
        access: Some(access(true, false, &[])),
        ..bound(2, EXIT)
    };
    let etag = service.delta(&etag, vec![narrowed], &[], 0).await.unwrap().etag;
    assert!(ended().is_empty(), "it is carried as before");
    let changed = service.apply(whole(["", EXIT]), &etag, SHORT).await.unwrap();
    assert_eq!(ended(), [addresses(1)], "a change that waits");
    let etag = service.roll_back(&changed.etag).await.unwrap().etag;
    assert_eq!(ended(), [addresses(1)], "and its end");
    let renamed = v1::PeerSpec {
        name: "renamed".to_owned(),
        ..bound(2, "")
    };
    let gone = bound(2, "").name;
    service.delta(&etag, vec![renamed], &[&gone], 0).await.unwrap();
    assert_eq!(ended(), [addresses(2)], "whatever it is called");
}

#[tokio::test]
async fn a_confirmed_change_stands_and_a_confirmation_names_it() {
    let (mut service, good) = Service::with_two().await;
    let changed = service.apply(spec(vec![one(1)]), "", SHORT).await.unwrap();
    assert!(service.file().exists(), "what comes back is on the disk");
    refused(service.confirm(&good).await, Code::Aborted, "ETAG_MISMATCH");
    refused(service.roll_back(&good).await, Code::Aborted, "ETAG_MISMATCH");
    refused(service.confirm("").await, Code::InvalidArgument, "INVALID_SPEC");
    for _ in 0..2 {
        assert_eq!(service.confirm(&changed.etag).await.unwrap().etag, changed.etag);
    }
    assert!(!service.file().exists());
    tokio::time::sleep(Duration::from_millis(u64::from(SHORT) * 1000 + 500)).await;
    let status = service.status().await;
    assert_eq!(
        (status.pending, status.last_rollback, status.etag),
        (None, None, changed.etag)
    );
    assert_eq!(service.admitted(), [1].into());
    service.start_anew().await;
    assert_eq!(
        (service.status().await.etag.as_str(), service.admitted()),
        ("", [1].into())
    );
}

#[tokio::test]
async fn what_does_not_know_of_the_change_is_refused_while_it_waits() {
    let (service, good) = Service::with_two().await;
    let changed = service.apply(spec(vec![one(1)]), &good, LONG).await.unwrap();
    let now = &changed.etag;
    for (etag, window) in [("", 0), ("", LONG), (good.as_str(), 0), (good.as_str(), LONG)] {
        let other = service.apply(spec(vec![one(2)]), etag, window).await;
        refused(other, Code::FailedPrecondition, "CHANGE_PENDING");
    }
    // Nor is a change for good, that gives.
    refused(
        service.apply(spec(vec![one(2)]), now, 0).await,
        Code::FailedPrecondition,
        "CHANGE_PENDING",
    );
    refused(
        service.delta(now, vec![one(4)], &[], 0).await,
        Code::FailedPrecondition,
        "CHANGE_PENDING",
    );
    assert_eq!(service.admitted(), [1].into());
    // The same again is nothing new, and a plan does nothing.
    assert_eq!(
        service.apply(spec(vec![one(1)]), now, 0).await.unwrap().etag,
        *now
    );
    let plan = v1::ApplyNetworkRequest {
        spec: Some(spec(vec![one(2)])),
        validate_only: true,
        ..Default::default()
    };
    assert!(
        service
            .client()
            .apply_network(plan)
            .await
            .unwrap()
            .into_inner()
            .change_count
            > 0
    );
    let joined = service.delta(now, vec![one(4)], &[], LONG).await.unwrap();
    let (first, joined) = (changed.pending.unwrap(), joined.pending.unwrap());
    assert_eq!(
        (joined.deadline_unix_ms, &joined.previous_etag),
        (first.deadline_unix_ms, &good)
    );
    assert_eq!(service.admitted(), [1, 4].into());
    let back = service.roll_back(&joined.etag).await.unwrap();
    assert_eq!(service.admitted(), [1, 2].into());
    let status = service.status().await;
    assert_eq!((back.etag, status.pending), (status.etag, None));
    assert_eq!(
        status.last_rollback.unwrap().reason(),
        v1::RollbackReason::Requested
    );
}

#[tokio::test]
async fn who_is_revoked_while_a_change_waits_stays_out() {
    let (mut service, good) = Service::with_two().await;
    let changed = service
        .apply(spec(vec![one(1), one(3)]), &good, LONG)
        .await
        .unwrap();
    // p2 is gone already, but would come back; p3 is new.
    let beside = service.delta(&changed.etag, vec![], &["p2"], 0).await.unwrap();
    assert_eq!(beside.etag, changed.etag, "what is in force is the same");
    let less = peer(1, "p1", &[1; 32], access(false, false, &[]));
    let beside = service.delta(&beside.etag, vec![less], &["p3"], 0).await.unwrap();
    assert_eq!(beside.pending.unwrap().etag, beside.etag);
    assert_eq!(service.admitted(), [1].into());
    // netd dies: what comes back is without p2, and p1 has no more than it was left.
    service.start_anew().await;
    let status = service.status().await;
    assert_eq!((status.peer_count, service.admitted()), (1, [1].into()));
    let rollback = status.last_rollback.unwrap();
    assert_eq!(
        (&rollback.rejected_etag, rollback.reason()),
        (&beside.etag, v1::RollbackReason::Restarted)
    );
    let request = v1::GetNetworkRequest { include_spec: true };
    let mut client = NetworkStatusServiceClient::new(service.channel.clone());
    let told = client
        .get_network(request)
        .await
        .unwrap()
        .into_inner()
        .spec
        .unwrap();
    assert_eq!(told.peers[0].access, Some(access(false, false, &[])));
}

#[tokio::test]
async fn a_rollback_is_noted_before_anything_is_applied() {
    let (mut service, good) = Service::with_two().await;
    let bad = service.apply(spec(vec![]), &good, LONG).await.unwrap();
    service.start_anew().await;
    // However often netd starts, the state is there until somebody shows that they know.
    for _ in 0..2 {
        assert_eq!(service.admitted(), [1, 2].into());
        refused(
            service.apply(spec(vec![]), "", 0).await,
            Code::FailedPrecondition,
            "ROLLED_BACK",
        );
        refused(
            service.apply(spec(vec![]), &bad.etag, 0).await,
            Code::Aborted,
            "ETAG_MISMATCH",
        );
        let rollback = service.status().await.last_rollback.unwrap();
        assert_eq!(
            (&rollback.rejected_etag, rollback.reason()),
            (&bad.etag, v1::RollbackReason::Restarted)
        );
        service.start_anew().await;
    }
    let etag = service.status().await.etag;
    service.delta(&etag, vec![one(3)], &[], 0).await.unwrap();
    assert!(!service.file().exists());
    assert_eq!(
        (service.admitted(), service.rollback_ready().await.as_str()),
        ([1, 2, 3].into(), "NOTHING_WAITS")
    );
    service.apply(spec(vec![one(1)]), "", 0).await.unwrap();
}

#[tokio::test]
async fn a_change_that_the_kernel_refuses_leaves_nothing_waiting() {
    let (service, good) = Service::with_two().await;
    let steps = service.kernel.inner().steps;
    service.kernel.inner().fail_after = Some(steps + 1);
    refused(
        service.apply(spec(vec![one(3)]), &good, LONG).await,
        Code::Unavailable,
        "KERNEL",
    );
    let status = service.status().await;
    assert_eq!(
        (status.pending, status.etag, service.admitted()),
        (None, good.clone(), [1, 2].into())
    );
    assert!(!service.file().exists());
    // A part that is refused leaves the rest waiting.
    let changed = service.apply(spec(vec![one(3)]), &good, LONG).await.unwrap();
    let steps = service.kernel.inner().steps;
    service.kernel.inner().fail_after = Some(steps + 1);
    refused(
        service.delta(&changed.etag, vec![one(4)], &[], LONG).await,
        Code::Unavailable,
        "KERNEL",
    );
    assert_eq!(
        (service.status().await.pending.unwrap().etag, service.admitted()),
        (changed.etag, [3].into())
    );
}

#[tokio::test]
async fn there_must_be_something_to_come_back_to() {
    let service = Service::start().await;
    service.status().await;
    // Bridges of services were closed.
    let steps = service.kernel.inner().steps;
    let first = service.apply(spec(vec![one(1)]), "", SHORT).await;
    refused(first, Code::FailedPrecondition, "NO_LAST_GOOD");
    assert_eq!(service.kernel.inner().steps, steps);
    for seconds in [1, 4, 3601] {
        let status = service.apply(spec(vec![one(1)]), "", seconds).await.unwrap_err();
        assert_eq!(violations(&status)[0].field, "confirm_within_seconds");
    }
    let good = service.apply(spec(vec![one(1)]), "", 0).await.unwrap();
    let same = service
        .apply(spec(vec![one(1)]), &good.etag, SHORT)
        .await
        .unwrap();
    assert_eq!(
        (same.pending, same.etag),
        (None, good.etag),
        "nothing changes, so nothing waits"
    );
}

#[tokio::test]
async fn without_a_disk_nothing_waits_and_nobody_keeps_what_is_taken_away() {
    let (service, good) = Service::with_two().await;
    let blocker = service.folder.path().join("last-good.new");
    std::fs::create_dir(&blocker).unwrap();
    refused(
        service.apply(spec(vec![one(3)]), &good, LONG).await,
        Code::Unavailable,
        "STATE",
    );
    assert_eq!(
        (service.admitted(), service.rollback_ready().await.as_str()),
        ([1, 2].into(), "NOT_WRITTEN")
    );
    std::fs::remove_dir(&blocker).unwrap();
    let changed = service
        .apply(spec(vec![one(1), one(2), one(3)]), &good, LONG)
        .await
        .unwrap();
    std::fs::create_dir(&blocker).unwrap();
    refused(
        service.delta(&changed.etag, vec![], &["p2"], 0).await,
        Code::Unavailable,
        "STATE",
    );
    let etag = service.status().await.pending.unwrap().etag;
    assert_eq!(
        service.admitted(),
        [1, 3].into(),
        "the caller is told to try again, and p2 is out all the same"
    );
    std::fs::remove_dir(&blocker).unwrap();
    service.roll_back(&etag).await.unwrap();
    assert_eq!(service.admitted(), [1].into());
}

#[tokio::test]
async fn a_damaged_file_leaves_the_network_as_it_is_and_is_told() {
    let (mut service, good) = Service::with_two().await;
    service.apply(spec(vec![one(3)]), &good, LONG).await.unwrap();
    let mut content = std::fs::read(service.file()).unwrap();
    *content.last_mut().unwrap() ^= 1;
    std::fs::write(service.file(), content).unwrap();
    service.start_anew().await;
    assert_eq!(
        (service.rollback_ready().await.as_str(), service.admitted()),
        ("DAMAGED", [3].into())
    );
    let status = service.status().await;
    assert_eq!((status.etag.as_str(), status.last_rollback), ("", None));
    service.apply(spec(vec![one(1)]), "", 0).await.unwrap();
    assert_eq!(service.rollback_ready().await, "NOTHING_WAITS");
    assert!(!service.file().exists());
}
