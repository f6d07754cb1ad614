//! The broker before a real Docker, with every byte to its socket written down.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use cell_broker::engine::DockerEngine;
use cell_broker_core::logs::MAX_BYTES;
use cell_broker_core::model::ContainerId;
use cell_proto::broker::v1::{
    Container, ContainerState, GetBrokerStatusRequest, GetContainerLogsRequest, GetContainerLogsResponse,
    GetContainerStatsRequest, ListContainersRequest, RestartContainerRequest,
};
use cell_proto::common::v1::ConditionStatus;
use cell_proto::fault;
use support::SERVICE;
use support::dockerd::Dockerd;
use support::proxy::Proxy;
use support::served::Served;
use tonic::{Code, Status};

const SECRET: &str = "hunter2-of-somebody-else";

fn is(status: &Status, code: Code, reason: &str) {
    assert_eq!(
        (status.code(), fault::reason(status).as_deref()),
        (code, Some(reason)),
        "{status:?}"
    );
}

fn engine(socket: std::path::PathBuf) -> DockerEngine {
    DockerEngine::new(socket, Duration::from_secs(25)).unwrap()
}

async fn listed(served: &Served) -> Vec<Container> {
    served
        .reads
        .clone()
        .list_containers(ListContainersRequest {})
        .await
        .unwrap()
        .into_inner()
        .containers
}

async fn logs(served: &Served, service: &str, lines: u32) -> GetContainerLogsResponse {
    let request = GetContainerLogsRequest {
        service: service.to_owned(),
        lines,
    };
    served
        .reads
        .clone()
        .get_container_logs(request)
        .await
        .unwrap()
        .into_inner()
}

async fn reachable(served: &Served) -> (ConditionStatus, String, String) {
    let answer = served
        .reads
        .clone()
        .get_broker_status(GetBrokerStatusRequest {})
        .await
        .unwrap();
    let status = answer.into_inner().status.unwrap();
    let condition = status
        .conditions
        .iter()
        .find(|c| c.r#type == "DockerReachable")
        .unwrap();
    (
        condition.status(),
        condition.reason.clone(),
        status.docker_version,
    )
}

/// Containers of others, each nearly the cell's.
fn foreign(dockerd: &Dockerd) -> Vec<ContainerId> {
    let env = format!("--env=PASSWORD={SECRET}");
    let secret = format!("--label=note={SECRET}");
    let make = |name: &str, labels: &[(&str, &str)]| {
        let name = format!("--name={name}");
        let id = dockerd.create(&[&name, &env, &secret], labels, SERVICE);
        dockerd.say(&["start", id.as_str()]);
        id
    };
    vec![
        make("files", &[]),
        make("default_files", &[("cell.service", "files")]),
        make("half", &[("cell.owner", "default")]),
        make("neighbour", &[("cell.owner", "other"), ("cell.service", "files")]),
        make(
            "capitals",
            &[("Cell.Owner", "default"), ("cell.service", "files")],
        ),
        make("prefix", &[("cell.owner", "default2"), ("cell.service", "files")]),
        make(
            "spaced",
            &[("cell.owner", "default"), ("cell.service", "files two")],
        ),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_containers_only_and_not_a_byte_for_what_is_refused() {
    let dockerd = Dockerd::start();
    let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
    let served = Served::to_us(engine(proxy.path.clone()));
    let foreign = foreign(&dockerd);

    foreign_containers_are_out_of_reach(&served, &proxy, &foreign).await;
    malformed_requests_and_strangers_send_nothing(&served, &proxy).await;

    let own = dockerd.create(
        &["--memory=64m"],
        &[("cell.owner", "default"), ("cell.service", "files")],
        SERVICE,
    );
    an_own_container_lives(&served, &proxy, &own).await;
    the_name_does_not_matter(&served, &dockerd, &own).await;

    let running = dockerd.say(&["ps", "--quiet", "--no-trunc"]);
    for id in &foreign {
        assert!(
            running.contains(id.as_str()),
            "a container of somebody else was stopped"
        );
    }
}

async fn foreign_containers_are_out_of_reach(served: &Served, proxy: &Proxy, foreign: &[ContainerId]) {
    assert_eq!(listed(served).await, []);
    for service in ["files", "half", "neighbour", "default-files", "absent"] {
        is(
            &served.get(service).await.unwrap_err(),
            Code::NotFound,
            "NOT_OWNED",
        );
        is(
            &served.stop(service, 1).await.unwrap_err(),
            Code::NotFound,
            "NOT_OWNED",
        );
        is(
            &served.start_container(service).await.unwrap_err(),
            Code::NotFound,
            "NOT_OWNED",
        );
    }
    let (_, sent) = proxy.take();
    assert!(!sent.contains("POST"), "{sent}");
    for id in foreign {
        // "half" and "spaced" pass Docker's filter for the list and are inspected; nothing else is.
        let lines: Vec<_> = sent.lines().filter(|line| line.contains(id.as_str())).collect();
        assert!(
            lines
                .iter()
                .all(|line| *line == format!("GET /containers/{id}/json HTTP/1.1")),
            "{lines:?}"
        );
    }
}

async fn malformed_requests_and_strangers_send_nothing(served: &Served, proxy: &Proxy) {
    proxy.take();
    for name in [
        "",
        "../files",
        "FILES",
        "files/json",
        "files?force=1",
        "%2e%2e",
        "a\0b",
        &"f".repeat(64),
    ] {
        is(
            &served.get(name).await.unwrap_err(),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        );
        is(
            &served.stop(name, 1).await.unwrap_err(),
            Code::InvalidArgument,
            "INVALID_REQUEST",
        );
    }
    is(
        &served.stop("files", 999_999).await.unwrap_err(),
        Code::InvalidArgument,
        "INVALID_REQUEST",
    );
    let strangers = Served::start(engine(proxy.path.clone()), 16, 54_321);
    is(
        &strangers.get("files").await.unwrap_err(),
        Code::PermissionDenied,
        "CALLER_UNKNOWN_USER",
    );
    assert_eq!(proxy.take(), (0, String::new()));
}

async fn an_own_container_lives(served: &Served, proxy: &Proxy, own: &ContainerId) {
    is(
        &served.stop("files", 1).await.unwrap_err(),
        Code::FailedPrecondition,
        "WRONG_STATE",
    );
    assert!(!proxy.take().1.contains("POST"), "a refused act reached Docker");

    let started = served.start_container("files").await.unwrap();
    assert_eq!(
        (started.id.as_str(), started.state()),
        (own.as_str(), ContainerState::Running)
    );
    assert!(started.started_unix_ms > 1_600_000_000_000);
    let (_, sent) = proxy.take();
    assert_eq!(sent.matches("POST").count(), 1);
    assert!(
        sent.contains(&format!("POST /containers/{own}/start HTTP/1.1")),
        "{sent}"
    );

    assert_eq!(listed(served).await, std::slice::from_ref(&started));
    let request = GetContainerStatsRequest {
        service: "files".to_owned(),
    };
    let stats = served
        .reads
        .clone()
        .get_container_stats(request)
        .await
        .unwrap()
        .into_inner()
        .stats
        .unwrap();
    assert_eq!(stats.memory_limit_bytes, 64 << 20);
    assert!(stats.pids >= 1);

    let request = RestartContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 20,
    };
    let restarted = served
        .acts
        .clone()
        .restart_container(request)
        .await
        .unwrap()
        .into_inner()
        .container
        .unwrap();
    assert!(restarted.started_unix_ms > started.started_unix_ms);
    let stopped = served.stop("files", 20).await.unwrap();
    assert_eq!((stopped.state(), stopped.exit_code), (ContainerState::Exited, 7));
}

async fn the_name_does_not_matter(served: &Served, dockerd: &Dockerd, own: &ContainerId) {
    // Names are swapped between ours and another's: the broker goes by id and labels.
    dockerd.say(&["rename", "files", "was-files"]);
    dockerd.say(&["rename", own.as_str(), "files"]);
    assert_eq!(served.get("files").await.unwrap().id, own.as_str());
    dockerd.say(&["rename", "files", "something-else"]);
    dockerd.say(&["rename", "was-files", "files"]);
    assert_eq!(served.get("files").await.unwrap().id, own.as_str());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_that_writes_without_end_costs_the_broker_little() {
    let dockerd = Dockerd::start();
    let served = Served::to_us(engine(dockerd.socket()));
    let bombs = [
        (
            "lines",
            "i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done",
            &[][..],
        ),
        (
            "endless",
            "head -c 8000000 /dev/zero | tr '\\000' '\\033'; sleep 300",
            &[],
        ),
        (
            "terminal",
            "head -c 3000000 /dev/zero | tr '\\000' '\\001'; echo; echo end; sleep 300",
            &["--tty"],
        ),
    ];
    for (service, script, more) in bombs {
        let script = format!(
            "busybox() {{ /bin/busybox \"$@\"; }}; head() {{ busybox head \"$@\"; }}; tr() {{ busybox tr \"$@\"; }}; {script}"
        );
        let id = dockerd.create(
            more,
            &[("cell.owner", "default"), ("cell.service", service)],
            &script,
        );
        dockerd.say(&["start", id.as_str()]);
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let said = logs(&served, "lines", 3).await;
    assert_eq!(
        (said.lines, said.truncated),
        (
            vec!["line 19997".into(), "line 19998".into(), "line 19999".into()],
            true
        )
    );
    for service in ["lines", "endless", "terminal"] {
        let said = logs(&served, service, 1000).await;
        assert!(
            said.lines.iter().map(String::len).sum::<usize>() <= MAX_BYTES,
            "{service}"
        );
        assert!(said.truncated, "{service}");
        let printable = |c: char| c == '\t' || !c.is_control();
        assert!(
            said.lines.iter().all(|line| line.chars().all(printable)),
            "{service}"
        );
    }
    assert!(
        logs(&served, "terminal", 1000)
            .await
            .lines
            .iter()
            .any(|line| line.ends_with("end"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn docker_may_come_and_go() {
    let dir = tempfile::tempdir().unwrap();
    let served = Served::to_us(engine(dir.path().join("docker.sock")));
    let (status, reason, version) = reachable(&served).await;
    assert_eq!(
        (status, reason.as_str(), version.as_str()),
        (ConditionStatus::False, "NO_SOCKET", "")
    );
    let refused = served.get("files").await.unwrap_err();
    is(&refused, Code::Unavailable, "NO_DOCKER");
    assert_eq!(fault::metadata(&refused)["why"], "NO_SOCKET");

    let mut dockerd = Dockerd::start();
    let served = Served::to_us(engine(dockerd.socket()));
    let own = dockerd.create(
        &[],
        &[("cell.owner", "default"), ("cell.service", "files")],
        SERVICE,
    );
    assert_eq!(served.get("files").await.unwrap().id, own.as_str());
    assert_eq!(reachable(&served).await.0, ConditionStatus::True);

    dockerd.end();
    is(
        &served.get("files").await.unwrap_err(),
        Code::Unavailable,
        "NO_DOCKER",
    );
    is(
        &served.start_container("files").await.unwrap_err(),
        Code::Unavailable,
        "NO_DOCKER",
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(reachable(&served).await.0, ConditionStatus::False);

    dockerd.run();
    assert_eq!(
        served.start_container("files").await.unwrap().state(),
        ContainerState::Running
    );
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (status, _, version) = reachable(&served).await;
    assert_eq!(status, ConditionStatus::True);
    assert!(version.contains('.'), "{version}");
}

#[tokio::test]
async fn a_socket_that_nobody_serves_or_may_open_is_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("docker.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let served = Served::to_us(engine(path));
    assert_eq!(reachable(&served).await.1, "REFUSED");
}
