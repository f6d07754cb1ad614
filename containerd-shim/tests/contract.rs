//! One suite over Docker and over the stand-in of the other tests: what holds of one holds of both.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::Duration;

use cell_broker::engine::{DockerEngine, Engine, EngineError};
use cell_broker_core::model::{ContainerId, ContainerState, ServiceName};
use cell_broker_core::{Act, Permit, Request, Role, Verdict, judge};
use support::dockerd::{Dockerd, IMAGE};
use support::fake::FakeEngine;
use support::{SERVICE, policy};

/// Where containers come from and go to.
trait World {
    type Engine: Engine;
    fn engine(&self) -> &Self::Engine;
    fn create(&self, labels: &[(&str, &str)]) -> ContainerId;
    fn remove(&self, id: &ContainerId);
}

struct Real(Dockerd, DockerEngine);

impl World for Real {
    type Engine = DockerEngine;
    fn engine(&self) -> &DockerEngine {
        &self.1
    }
    fn create(&self, labels: &[(&str, &str)]) -> ContainerId {
        self.0.create(&[], labels, SERVICE)
    }
    fn remove(&self, id: &ContainerId) {
        self.0.say(&["rm", "--force", id.as_str()]);
    }
}

impl World for FakeEngine {
    type Engine = FakeEngine;
    fn engine(&self) -> &FakeEngine {
        self
    }
    fn create(&self, labels: &[(&str, &str)]) -> ContainerId {
        FakeEngine::create(self, labels)
    }
    fn remove(&self, id: &ContainerId) {
        FakeEngine::remove(self, id);
    }
}

#[tokio::test]
async fn docker_keeps_the_contract() {
    let dockerd = Dockerd::start();
    let engine = DockerEngine::new(dockerd.socket(), Duration::from_secs(25)).unwrap();
    keeps_the_contract(&Real(dockerd, engine)).await;
}

#[tokio::test]
async fn the_stand_in_keeps_the_contract() {
    keeps_the_contract(&FakeEngine::default()).await;
}

async fn keeps_the_contract(world: &impl World) {
    lists_by_both_labels(world).await;
    lives_and_dies(world).await;
    tells_what_is_gone(world).await;
}

async fn permit<A: Act>(world: &impl World, id: &ContainerId, request: Request<A>) -> Permit<A> {
    match judge(
        &policy(),
        Role::Api,
        &request,
        id,
        &world.engine().inspect(id).await.unwrap(),
    ) {
        Verdict::Allow(permit) => permit,
        Verdict::Deny(reasons) => panic!("{}: {reasons}", A::VERB),
    }
}

async fn state(world: &impl World, id: &ContainerId) -> ContainerState {
    world.engine().inspect(id).await.unwrap().state
}

async fn lists_by_both_labels(world: &impl World) {
    let files = world.create(&[("cell.owner", "default"), ("cell.service", "files")]);
    let photos = world.create(&[("cell.owner", "default"), ("cell.service", "photos")]);
    let others = [
        world.create(&[("cell.owner", "default")]),
        world.create(&[("cell.service", "files")]),
        world.create(&[("cell.owner", "other"), ("cell.service", "files")]),
        world.create(&[]),
    ];
    let ownership = policy().ownership;
    let mut all = world.engine().list(&ownership, None).await.unwrap();
    all.sort();
    let mut expected = [files.clone(), photos.clone()];
    expected.sort();
    assert_eq!(all, expected);
    let name = |name: &str| ServiceName::try_from(name).unwrap();
    assert_eq!(
        world
            .engine()
            .list(&ownership, Some(&name("files")))
            .await
            .unwrap(),
        std::slice::from_ref(&files)
    );
    assert_eq!(
        world
            .engine()
            .list(&ownership, Some(&name("file")))
            .await
            .unwrap(),
        []
    );
    for id in others.iter().chain([&files, &photos]) {
        world.remove(id);
    }
    assert_eq!(world.engine().list(&ownership, None).await.unwrap(), []);
}

async fn lives_and_dies(world: &impl World) {
    let id = world.create(&[("cell.owner", "default"), ("cell.service", "files")]);
    let fresh = world.engine().inspect(&id).await.unwrap();
    assert_eq!(
        (fresh.id, fresh.state, fresh.started_unix_ms),
        (id.clone(), ContainerState::Created, None)
    );
    assert_eq!((fresh.image.as_str(), fresh.memory_limit_bytes), (IMAGE, 0));
    assert_eq!(
        fresh.labels.get("cell.service").map(String::as_str),
        Some("files")
    );

    let start = permit(world, &id, Request::start("files").unwrap()).await;
    world.engine().start(&start).await.unwrap();
    assert_eq!(state(world, &id).await, ContainerState::Running);
    world
        .engine()
        .start(&start)
        .await
        .expect("starting the running is no error");
    assert!(
        world
            .engine()
            .inspect(&id)
            .await
            .unwrap()
            .started_unix_ms
            .is_some()
    );

    let stats = world
        .engine()
        .stats(&permit(world, &id, Request::stats("files").unwrap()).await)
        .await
        .unwrap();
    assert!(
        stats.pids >= 1 && stats.memory_usage_bytes > 0 && stats.cpu_usage_ns > 0,
        "{stats:?}"
    );
    assert_eq!(stats.memory_limit_bytes, 0);

    says_its_last_lines(world, &id).await;
    stops_and_starts(world, &id).await;
    world.remove(&id);
}

async fn says_its_last_lines(world: &impl World, id: &ContainerId) {
    let logs = permit(world, id, Request::logs("files", 10).unwrap()).await;
    let mut said = world.engine().logs(&logs).await.unwrap();
    for _ in 0..50 {
        if said.lines.len() >= 2 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        said = world.engine().logs(&logs).await.unwrap();
    }
    said.lines.sort();
    assert_eq!(
        (said.lines, said.truncated),
        (vec!["one".to_owned(), "two".to_owned()], false)
    );
    let last = world
        .engine()
        .logs(&permit(world, id, Request::logs("files", 1).unwrap()).await)
        .await
        .unwrap();
    assert_eq!((last.lines.len(), last.truncated), (1, true));
}

async fn stops_and_starts(world: &impl World, id: &ContainerId) {
    let stop = permit(world, id, Request::stop("files", 20).unwrap()).await;
    world.engine().stop(&stop).await.unwrap();
    let ended = world.engine().inspect(id).await.unwrap();
    assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, 7));
    world
        .engine()
        .stop(&stop)
        .await
        .expect("stopping the stopped is no error");

    let restart = permit(world, id, Request::restart("files", 20).unwrap()).await;
    world.engine().restart(&restart).await.unwrap();
    assert_eq!(state(world, id).await, ContainerState::Running);
    world.engine().restart(&restart).await.unwrap();
    assert_eq!(state(world, id).await, ContainerState::Running);
}

async fn tells_what_is_gone(world: &impl World) {
    let id = world.create(&[("cell.owner", "default"), ("cell.service", "files")]);
    let start = permit(world, &id, Request::start("files").unwrap()).await;
    let logs = permit(world, &id, Request::logs("files", 1).unwrap()).await;
    world.remove(&id);
    assert_eq!(world.engine().inspect(&id).await, Err(EngineError::Gone));
    assert_eq!(world.engine().start(&start).await, Err(EngineError::Gone));
    assert_eq!(world.engine().logs(&logs).await, Err(EngineError::Gone));
}
