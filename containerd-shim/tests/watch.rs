//! What a caller is told without asking again: what all containers do, and what one of them writes.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cell_proto::broker::v1::{
    ContainerState, FollowContainerLogsRequest, FollowContainerLogsResponse, StopContainerRequest,
    WatchDeploymentsRequest, WatchDeploymentsResponse,
};
use cell_proto::fault;
use serde_json::{Value, json};
use support::deployed::Deployed;
use support::dockerd::Dockerd;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest};
use tonic::{Status, Streaming};

fn running(digest: &str, script: &str) -> Value {
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["containers"][0]["command"] = json!(["/bin/busybox", "sh", "-c", script]);
    manifest
}

async fn soon<T>(what: &str, told: impl Future<Output = T>) -> T {
    let told = tokio::time::timeout(Duration::from_secs(20), told).await;
    told.unwrap_or_else(|_| panic!("{what}"))
}

/// What is told until it is so.
async fn until(
    told: &mut Streaming<WatchDeploymentsResponse>,
    what: &str,
    holds: impl Fn(&WatchDeploymentsResponse) -> bool,
) {
    let read = async {
        loop {
            let next = told.message().await.unwrap().unwrap();
            if holds(&next) {
                return;
            }
        }
    };
    soon(what, read).await;
}

fn is(all: &WatchDeploymentsResponse, state: ContainerState) -> bool {
    let containers = all.deployments.iter().flat_map(|one| &one.containers);
    containers.map(|one| one.state()).collect::<Vec<_>>() == [state]
}

async fn watch(broker: &Deployed) -> Result<Streaming<WatchDeploymentsResponse>, Status> {
    let told = broker
        .all
        .clone()
        .watch_deployments(WatchDeploymentsRequest {})
        .await?;
    Ok(told.into_inner())
}

async fn follow(broker: &Deployed, service: &str) -> Result<Streaming<FollowContainerLogsResponse>, Status> {
    let request = FollowContainerLogsRequest {
        service: service.to_owned(),
        lines: 2,
    };
    let told = broker.reads.clone().follow_container_logs(request).await?;
    Ok(told.into_inner())
}

fn reason(status: &Status) -> String {
    fault::reason(status).unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_watches_is_told_the_whole_of_it_whenever_it_changes() {
    let dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let state = tempfile::tempdir().unwrap();
    let world = Deployed::start(&dockerd.socket(), state.path(), ceiling());
    tokio::spawn(Arc::clone(&world.deployments).supervise());
    let mut told = watch(&world).await.unwrap();
    until(&mut told, "nothing is there", |all| all.deployments.is_empty()).await;
    let named = world.put(bundle(&running(&digest, "sleep 1000"))).await.unwrap();
    world.pull(&named).await.unwrap();
    world.deploy(&named, &[]).await.unwrap();
    until(&mut told, "it runs", |all| is(all, ContainerState::Running)).await;
    // Whoever comes later is told at once.
    let mut late = watch(&world).await.unwrap();
    let first = soon("the first", late.message()).await.unwrap().unwrap();
    assert!(is(&first, ContainerState::Running));

    let stop = StopContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 1,
    };
    world.acts.clone().stop_container(stop).await.unwrap();
    until(&mut told, "it ended", |all| is(all, ContainerState::Exited)).await;
    // Nothing changes, nothing is told.
    let quiet = tokio::time::timeout(Duration::from_secs(3), told.message()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    world.remove("files", true).await.unwrap();
    until(&mut told, "it is gone", |all| all.deployments.is_empty()).await;

    // Four at a time, and a place is free again when one goes.
    let mut more = vec![watch(&world).await.unwrap(), watch(&world).await.unwrap()];
    assert_eq!(reason(&watch(&world).await.unwrap_err()), "BUSY");
    more.pop();
    tokio::time::sleep(Duration::from_millis(500)).await;
    watch(&world).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_followed_and_one_without_end_is_held_to_its_rate() {
    let dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let state = tempfile::tempdir().unwrap();
    let world = Deployed::start(&dockerd.socket(), state.path(), ceiling());
    let script = "echo old; echo one; echo two; while :; do sleep 1; echo more; done";
    let named = world.put(bundle(&running(&digest, script))).await.unwrap();
    world.pull(&named).await.unwrap();
    world.deploy(&named, &[]).await.unwrap();
    assert_eq!(reason(&follow(&world, "absent").await.unwrap_err()), "NOT_OWNED");
    assert_eq!(
        reason(&follow(&world, "../x").await.unwrap_err()),
        "INVALID_REQUEST"
    );
    let mut told = follow(&world, "files").await.unwrap();
    let mut lines = Vec::new();
    while lines.len() < 4 {
        let next = soon("a line", told.message()).await.unwrap().unwrap();
        assert!(!next.skipped);
        lines.extend(next.lines);
    }
    assert_eq!(lines[2..], ["more", "more"], "{lines:?}");
    // It ends with the container.
    world.remove("files", true).await.unwrap();
    let end = async { while told.message().await.is_ok_and(|next| next.is_some()) {} };
    soon("the end", end).await;

    let flood =
        "while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done";
    let named = world.put(bundle(&running(&digest, flood))).await.unwrap();
    world.deploy(&named, &[]).await.unwrap();
    let mut told = follow(&world, "files").await.unwrap();
    let (mut bytes, began) = (0, std::time::Instant::now());
    while began.elapsed() < Duration::from_secs(5) {
        let Some(next) = soon("a piece", told.message()).await.unwrap() else {
            break;
        };
        let size: usize = next.lines.iter().map(String::len).sum();
        assert!(size <= 256 * 1024 && next.lines.len() <= 1000);
        bytes += size;
    }
    assert!(bytes > 0 && bytes < 6 * 1024 * 1024, "{bytes} bytes in 5 s");
    drop(told);
    world.remove("files", true).await.unwrap();
}
