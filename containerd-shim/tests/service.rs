//! The service over a real socket, with a stand-in for Docker: what is refused, how it is told, and what Docker sees of it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use cell_broker::engine::EngineError;
use cell_broker_core::Unreachable;
use cell_broker_core::model::ContainerState;
use cell_proto::broker::v1::{
    ContainerState as WireState, GetBrokerStatusRequest, GetContainerLogsRequest, GetContainerStatsRequest,
    ListContainersRequest, RestartContainerRequest,
};
use cell_proto::common::v1::{Condition, ConditionStatus};
use cell_proto::fault;
use support::fake::FakeEngine;
use support::served::Served;
use tonic::{Code, Status};

const OWN: &[(&str, &str)] = &[("cell.owner", "default"), ("cell.service", "files")];

fn told(status: &Status) -> (Code, String) {
    (status.code(), fault::reason(status).unwrap_or_default())
}

fn is(status: &Status, code: Code, reason: &str) {
    assert_eq!(told(status), (code, reason.to_owned()), "{status:?}");
}

async fn condition(served: &Served, kind: &str) -> Condition {
    let answer = served
        .reads
        .clone()
        .get_broker_status(GetBrokerStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    answer
        .status
        .unwrap()
        .conditions
        .into_iter()
        .find(|c| c.r#type == kind)
        .unwrap()
}

#[tokio::test]
async fn an_own_container_can_be_listed_started_and_read() {
    let engine = FakeEngine::default();
    let id = engine.create(OWN);
    let mut served = Served::to_us(engine);
    let listed = served
        .reads
        .list_containers(ListContainersRequest {})
        .await
        .unwrap()
        .into_inner()
        .containers;
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].service.as_str(), listed[0].id.as_str()),
        ("files", id.as_str())
    );
    assert_eq!(
        served.start_container("files").await.unwrap().state(),
        WireState::Running
    );
    let request = GetContainerLogsRequest {
        service: "files".to_owned(),
        lines: 0,
    };
    assert_eq!(
        served
            .reads
            .get_container_logs(request)
            .await
            .unwrap()
            .into_inner()
            .lines,
        ["one", "two"]
    );
    let request = GetContainerStatsRequest {
        service: "files".to_owned(),
    };
    assert_eq!(
        served
            .reads
            .get_container_stats(request)
            .await
            .unwrap()
            .into_inner()
            .stats
            .unwrap()
            .pids,
        1
    );
}

#[tokio::test]
async fn an_own_container_can_be_stopped_and_restarted() {
    let engine = FakeEngine::default();
    let id = engine.create(OWN);
    engine.set_state(&id, ContainerState::Running);
    let mut served = Served::to_us(engine);
    let stopped = served.stop("files", 1).await.unwrap();
    assert_eq!((stopped.state(), stopped.exit_code), (WireState::Exited, 7));
    let request = RestartContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 0,
    };
    let restarted = served
        .acts
        .restart_container(request)
        .await
        .unwrap()
        .into_inner()
        .container
        .unwrap();
    assert_eq!(restarted.state(), WireState::Running);
}

#[tokio::test]
async fn every_malformed_request_is_refused_before_docker_is_asked() {
    let engine = FakeEngine::default();
    engine.create(OWN);
    let served = Served::to_us(engine.clone());
    let bad = [
        "",
        "Files",
        "1files",
        "-files",
        "files ",
        " files",
        "files\n",
        "files\0",
        "../files",
        "files/../x",
        "files%2f",
        "files?x=1",
        "files#",
        "{\"a\":1}",
        "файлы",
        "ﬁles",
        "f\u{202e}",
        "a b",
        "a_b",
        "a.b",
        "*",
        &"0f".repeat(32),
        &"x".repeat(64),
        &"x".repeat(100_000),
        "cell.service=files",
        "files,photos",
    ];
    for name in bad {
        for status in [
            served.get(name).await.unwrap_err(),
            served.start_container(name).await.unwrap_err(),
            served.stop(name, 0).await.unwrap_err(),
        ] {
            is(&status, Code::InvalidArgument, "INVALID_REQUEST");
            assert_eq!(fault::violations(&status)[0].field, "service");
        }
    }
    for seconds in [61, 3600, u32::MAX] {
        let status = served.stop("Files", seconds).await.unwrap_err();
        let fields: Vec<_> = fault::violations(&status).into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["service", "timeout_seconds"]);
    }
    assert_eq!(engine.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn what_is_not_owned_is_not_found_and_looks_like_what_is_not_there() {
    let engine = FakeEngine::default();
    engine.create(&[("cell.service", "files")]);
    engine.create(&[("cell.owner", "other"), ("cell.service", "files")]);
    engine.create(&[("cell.owner", "default")]);
    let served = Served::to_us(engine.clone());
    let foreign = served.stop("files", 0).await.unwrap_err();
    let absent = served.stop("absent", 0).await.unwrap_err();
    is(&foreign, Code::NotFound, "NOT_OWNED");
    assert_eq!(
        (foreign.message(), foreign.details()),
        (absent.message(), absent.details())
    );
    assert_eq!(engine.calls(), ["list", "list"]);
}

#[tokio::test]
async fn a_docker_that_lists_the_wrong_container_does_not_get_it_stopped() {
    let engine = FakeEngine::default();
    let foreign = engine.create(&[("cell.service", "files")]);
    engine.set_state(&foreign, ContainerState::Running);
    engine.lie(vec![foreign.clone()]);
    let mut served = Served::to_us(engine.clone());
    is(
        &served.stop("files", 0).await.unwrap_err(),
        Code::NotFound,
        "NOT_OWNED",
    );
    is(
        &served.get("files").await.unwrap_err(),
        Code::NotFound,
        "NOT_OWNED",
    );
    // A wrong state would tell that there is something: the same answer for a start of what runs.
    is(
        &served.start_container("files").await.unwrap_err(),
        Code::NotFound,
        "NOT_OWNED",
    );
    let listed = served
        .reads
        .list_containers(ListContainersRequest {})
        .await
        .unwrap()
        .into_inner()
        .containers;
    assert_eq!(listed, []);
    assert!(
        engine
            .calls()
            .iter()
            .all(|call| call == "list" || *call == format!("inspect {foreign}"))
    );
}

async fn list(served: &mut Served) -> (usize, bool) {
    let answer = served.reads.list_containers(ListContainersRequest {}).await;
    let answer = answer.unwrap().into_inner();
    (answer.containers.len(), answer.incomplete)
}

#[tokio::test]
async fn a_container_that_nobody_understands_does_not_hide_the_others() {
    let engine = FakeEngine::default();
    let ids = ["files", "photos", "mail"]
        .map(|service| engine.create(&[("cell.owner", "default"), ("cell.service", service)]));
    let mut served = Served::to_us(engine.clone());
    assert_eq!(list(&mut served).await, (3, false), "control");
    engine.garble(&ids[1]);
    assert_eq!(list(&mut served).await, (2, true));
    is(
        &served.get("photos").await.unwrap_err(),
        Code::Internal,
        "DOCKER_ANSWER",
    );
}

#[tokio::test]
async fn a_list_that_is_cut_says_so() {
    let engine = FakeEngine::default();
    for n in 0..256 {
        let service = format!("s{n}");
        engine.create(&[("cell.owner", "default"), ("cell.service", &service)]);
    }
    let mut served = Served::to_us(engine.clone());
    assert_eq!(list(&mut served).await, (256, false), "control");
    engine.create(&[("cell.owner", "default"), ("cell.service", "more")]);
    assert_eq!(list(&mut served).await, (256, true));
}

#[tokio::test]
async fn two_containers_of_one_service_are_acted_on_by_nobody() {
    let engine = FakeEngine::default();
    engine.create(OWN);
    engine.create(OWN);
    let served = Served::to_us(engine.clone());
    is(
        &served.start_container("files").await.unwrap_err(),
        Code::FailedPrecondition,
        "AMBIGUOUS",
    );
    assert_eq!(engine.calls(), ["list"]);
}

#[tokio::test]
async fn a_state_in_which_the_verb_means_nothing_is_named() {
    let engine = FakeEngine::default();
    let id = engine.create(OWN);
    let served = Served::to_us(engine.clone());
    for state in ContainerState::ALL {
        engine.set_state(&id, state);
        let expected = matches!(state, ContainerState::Created | ContainerState::Exited);
        match served.start_container("files").await {
            Ok(_) => assert!(expected, "{state}"),
            Err(status) => {
                assert!(!expected, "{state}");
                is(&status, Code::FailedPrecondition, "WRONG_STATE");
                assert_eq!(fault::metadata(&status)["state"], state.to_string());
            }
        }
    }
}

#[tokio::test]
async fn each_failure_of_docker_has_its_own_answer() {
    let engine = FakeEngine::default();
    engine.create(OWN);
    let served = Served::to_us(engine.clone());
    let cases = [
        (
            EngineError::Unreachable(Unreachable::NoSocket),
            Code::Unavailable,
            "NO_DOCKER",
        ),
        (
            EngineError::Unreachable(Unreachable::TooOld),
            Code::Unavailable,
            "NO_DOCKER",
        ),
        (EngineError::Slow, Code::DeadlineExceeded, "DOCKER_SLOW"),
        (
            EngineError::Refused { status: 500 },
            Code::FailedPrecondition,
            "DOCKER_REFUSED",
        ),
        (EngineError::Unusable("x"), Code::Internal, "DOCKER_ANSWER"),
    ];
    for (error, code, reason) in cases {
        engine.go_away(Some(error));
        is(&served.get("files").await.unwrap_err(), code, reason);
    }
    engine.go_away(None);
    assert_eq!(served.get("files").await.unwrap().service, "files");
}

#[tokio::test]
async fn the_status_follows_docker_and_dates_the_change() {
    let engine = FakeEngine::default();
    engine.go_away(Some(EngineError::Unreachable(Unreachable::Refused)));
    let served = Served::to_us(engine.clone());
    let away = condition(&served, "DockerReachable").await;
    assert_eq!(
        (away.status(), away.reason.as_str()),
        (ConditionStatus::False, "REFUSED")
    );
    assert!(away.last_transition_unix_ms > 1_600_000_000_000);
    engine.go_away(None);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let back = condition(&served, "DockerReachable").await;
    assert_eq!(
        (back.status(), back.reason.as_str()),
        (ConditionStatus::True, "ANSWERS")
    );
    assert!(back.last_transition_unix_ms > away.last_transition_unix_ms);
    assert_eq!(condition(&served, "CallerUnitChecked").await.reason, "USER_ONLY");
    // Asked four times, Docker was asked twice: answers count for a second.
    assert_eq!(engine.calls(), ["version", "version"]);
}

#[tokio::test]
async fn another_user_is_refused_before_the_message_is_read() {
    let engine = FakeEngine::default();
    engine.create(OWN);
    let served = Served::start(engine.clone(), 16, nix::unistd::geteuid().as_raw() + 1);
    is(
        &served.stop("files", 0).await.unwrap_err(),
        Code::PermissionDenied,
        "CALLER_UNKNOWN_USER",
    );
    assert_eq!(engine.calls(), Vec::<String>::new());
}

#[tokio::test]
async fn more_requests_than_allowed_are_refused_and_not_queued() {
    let engine = FakeEngine::default();
    engine.create(OWN);
    let served = Served::start(engine.clone(), 2, nix::unistd::geteuid().as_raw());
    let held = engine.gate.clone().acquire_many_owned(64).await.unwrap();
    let (answers, mut answered) = tokio::sync::mpsc::unbounded_channel();
    for _ in 0..8 {
        let (mut reads, answers) = (served.reads.clone(), answers.clone());
        tokio::spawn(async move {
            answers
                .send(reads.list_containers(ListContainersRequest {}).await)
                .unwrap()
        });
    }
    // Two are let in and wait for Docker; only the others can be answered.
    for _ in 0..6 {
        is(
            &answered.recv().await.unwrap().unwrap_err(),
            Code::ResourceExhausted,
            "BUSY",
        );
    }
    drop(held);
    for _ in 0..2 {
        assert_eq!(
            answered
                .recv()
                .await
                .unwrap()
                .unwrap()
                .into_inner()
                .containers
                .len(),
            1
        );
    }
    assert_eq!(served.get("files").await.unwrap().service, "files");
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_undo_the_act() {
    let engine = FakeEngine::default();
    let id = engine.create(OWN);
    let served = Served::to_us(engine.clone());
    // The two reads pass, the act waits; then the caller goes away.
    let held = engine.gate.clone().acquire_many_owned(63).await.unwrap();
    let last = engine.gate.clone();
    let caller = tokio::spawn({
        let mut acts = served.acts.clone();
        async move {
            let service = "files".to_owned();
            acts.start_container(cell_proto::broker::v1::StartContainerRequest { service })
                .await
        }
    });
    while engine.calls().len() < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let stalled = last.acquire_owned().await.unwrap();
    caller.abort();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop((held, stalled));
    let started = format!("start {id}");
    for _ in 0..200 {
        if engine.calls().contains(&started) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the act was lost: {:?}", engine.calls());
}
