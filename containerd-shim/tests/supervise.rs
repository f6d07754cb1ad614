//! What ends is started again by the broker and by nobody else, in the boot in which somebody asked for it: before a real Docker
//! that is killed, with a broker that is killed, and after a boot.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cell_proto::broker::v1::{RestartContainerRequest, StartContainerRequest, StopContainerRequest};
use cell_proto::fault;
use nix::unistd::{Uid, chown};
use serde_json::{Value, json};
use support::deployed::{Deployed, deploy_request, put_request};
use support::dockerd::Dockerd;
use support::program::{Program, USER};
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest};

/// Sleeps until it is ended.
fn service(digest: &str, restart: &Value) -> Value {
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["containers"][0]["command"] = json!(["/bin/sh", "-c", "sleep 1000 & wait"]);
    manifest["containers"][0]["restart"] = restart.clone();
    manifest
}

fn running(dockerd: &Dockerd, id: &str) -> bool {
    dockerd.say(&["inspect", "--format", "{{.State.Running}}", id]) == "true"
}

/// Ends the container's program from outside, as a fault of its own would.
fn fail(dockerd: &Dockerd, id: &str) {
    let pid: i32 = dockerd
        .say(&["inspect", "--format", "{{.State.Pid}}", id])
        .parse()
        .unwrap();
    // In the daemon's own process namespace.
    let target = dockerd.inner().to_string();
    let killed = std::process::Command::new("nsenter")
        .args([
            "--target",
            &target,
            "--pid",
            "--mount",
            "kill",
            "-9",
            &pid.to_string(),
        ])
        .status()
        .unwrap();
    assert!(killed.success());
}

async fn until(what: &str, seconds: u64, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(seconds);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A broker of another process's life over the same folder.
fn broker(docker: &Path, state: &Path, boot: &str) -> (Deployed, Vec<tokio::task::JoinHandle<()>>) {
    let broker = Deployed::start_in(docker, state, ceiling(), boot);
    let tasks = vec![
        tokio::spawn(Arc::clone(&broker.deployments).keep_order()),
        tokio::spawn(Arc::clone(&broker.deployments).supervise()),
    ];
    (broker, tasks)
}

async fn stop(broker: &Deployed) -> Result<(), tonic::Status> {
    let request = StopContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 1,
    };
    broker.acts.clone().stop_container(request).await.map(drop)
}

#[allow(clippy::too_many_lines, reason = "one container's story")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_is_started_again_and_what_was_stopped_is_not() {
    let mut dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let state = tempfile::tempdir().unwrap();
    let (world, mut tasks) = broker(&dockerd.socket(), state.path(), "one");
    let named = world
        .put(bundle(&service(&digest, &json!({"policy": "unless-stopped"}))))
        .await
        .unwrap();
    world.pull(&named).await.unwrap();
    let made = world.deploy(&named, &[]).await.unwrap().deployment.unwrap();
    let id = made.containers[0].id.clone();

    fail(&dockerd, &id);
    until("it ends", 5, || !running(&dockerd, &id)).await;
    until("it is started again", 10, || running(&dockerd, &id)).await;

    // By a verb it stays stopped, also for a broker that begins later.
    stop(&world).await.unwrap();
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!running(&dockerd, &id));
    let again = world.deploy(&named, &[]).await.unwrap();
    assert!(
        !again.changed && !running(&dockerd, &id),
        "deployed already, and stopped"
    );
    tasks.drain(..).for_each(|task| task.abort());
    let (world, mut tasks) = broker(&dockerd.socket(), state.path(), "one");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(!running(&dockerd, &id));
    let start = StartContainerRequest {
        service: "files".to_owned(),
    };
    world.acts.clone().start_container(start).await.unwrap();

    // While it waits to be started again, a stop counts, though there is nothing to stop.
    fail(&dockerd, &id);
    until("it ends", 5, || !running(&dockerd, &id)).await;
    let refused = stop(&world).await.unwrap_err();
    assert_eq!(fault::reason(&refused).as_deref(), Some("WRONG_STATE"));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!running(&dockerd, &id));
    let restart = RestartContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 1,
    };
    world.acts.clone().restart_container(restart).await.unwrap();

    // Docker is killed: nothing of its own starts, the broker does.
    dockerd.kill();
    dockerd.run();
    until("Docker was killed, and it runs again", 30, || {
        running(&dockerd, &id)
    })
    .await;

    // Another boot: nothing starts until somebody asks.
    tasks.drain(..).for_each(|task| task.abort());
    dockerd.end();
    dockerd.run();
    let (world, mut tasks) = broker(&dockerd.socket(), state.path(), "two");
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert!(!running(&dockerd, &id), "nobody asked in this boot");
    assert_eq!(world.list().await[0].containers[0].id, id, "it is there");
    let asked = world.deploy(&named, &[]).await.unwrap();
    assert!(asked.changed && running(&dockerd, &id));
    assert_eq!(
        asked.deployment.unwrap().containers[0].id,
        id,
        "the same container"
    );
    assert!(!world.deploy(&named, &[]).await.unwrap().changed);
    fail(&dockerd, &id);
    until("it is started again", 10, || running(&dockerd, &id)).await;
    tasks.drain(..).for_each(|task| task.abort());
    world.remove("files", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_fails_is_started_so_often_as_its_manifest_says() {
    let dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let state = tempfile::tempdir().unwrap();
    let (world, tasks) = broker(&dockerd.socket(), state.path(), "one");
    let restart = json!({"policy": "on-failure", "retries": 2});
    let named = world.put(bundle(&service(&digest, &restart))).await.unwrap();
    world.pull(&named).await.unwrap();
    let made = world.deploy(&named, &[]).await.unwrap().deployment.unwrap();
    let id = made.containers[0].id.clone();
    for _ in 0..2 {
        fail(&dockerd, &id);
        until("it ends", 5, || !running(&dockerd, &id)).await;
        until("it is started again", 10, || running(&dockerd, &id)).await;
    }
    fail(&dockerd, &id);
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert!(!running(&dockerd, &id), "twice, and no third time");
    tasks.into_iter().for_each(|task| task.abort());
}

/// The program behind its sandbox, killed: the next one knows what is to run, and says what it starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_killed_starts_again_what_ended_meanwhile() {
    let dockerd = Dockerd::start();
    chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let mut program = Program::start(&dockerd.socket());
    let connect = || {
        let channel = cell_proto::ipc::connect(program.socket());
        cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient::new(channel)
    };
    let mut client = connect();
    let bundle = bundle(&service(&digest, &json!({"policy": "unless-stopped"})));
    let named = client
        .put_manifest(put_request(bundle))
        .await
        .unwrap()
        .into_inner()
        .digest;
    let pull = cell_proto::broker::v1::PullImagesRequest {
        manifest_digest: named.clone(),
    };
    let mut pulled = client.pull_images(pull).await.unwrap().into_inner();
    while pulled.message().await.unwrap().is_some() {}
    let made = client
        .deploy(deploy_request(&named, &[]))
        .await
        .unwrap()
        .into_inner();
    let id = made.deployment.unwrap().containers[0].id.clone();
    program.kill();
    fail(&dockerd, &id);
    until("it ends", 5, || !running(&dockerd, &id)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(!running(&dockerd, &id), "control: Docker does nothing by itself");
    program.run();
    until("it is started again", 15, || running(&dockerd, &id)).await;
    // Docker has started it before the broker hears so and says it.
    until("the broker says so", 10, || {
        let log = program.log();
        log.contains("start-again") && log.contains(&id)
    })
    .await;
}
