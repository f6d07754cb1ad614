//! The program is killed (SIGKILL) at random moments while it deploys, changes and removes: each time it ends with a service that
//! is whole, or with nothing at all.
//!
//! 8 times here; `CELL_BROKER_KILLS=50` for longer (`make brokertest`). `CELL_BROKER_SEED` has it draw the same moments again.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/random.rs"]
mod random;
mod support;

use std::time::{Duration, Instant};

use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    Deployment, ListDeploymentsRequest, PullImagesRequest, RemoveDeploymentRequest,
};
use cell_proto::ipc::connect;
use nix::unistd::{Uid, chown};
use random::Random;
use serde_json::{Value, json};
use support::deployed::{deploy_request, put_request};
use support::dockerd::Dockerd;
use support::program::{Program, USER};
use support::registry;
use support::signed::{REGISTRY, bundle, manifest};
use tonic::transport::Channel;

fn versioned(digest: &str, version: &str) -> Value {
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["version"] = json!(version);
    manifest["flags"] = json!({"has_storage": true});
    manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    manifest["containers"][0]["mounts"] = json!([{"type": "volume", "volume": "data", "target": "/data"}]);
    let mut side = manifest["containers"][0].clone();
    (side["name"], side["mounts"]) = (json!("side"), json!([]));
    manifest["containers"].as_array_mut().unwrap().push(side);
    manifest
}

async fn listed(client: &mut DeploymentServiceClient<Channel>) -> Option<Vec<Deployment>> {
    let answer = client.list_deployments(ListDeploymentsRequest {}).await.ok()?;
    Some(answer.into_inner().deployments)
}

/// What is at Docker and is not in order by what the broker says; empty: all is.
fn disorder(dockerd: &Dockerd, deployments: &[Deployment]) -> String {
    let lines = |args: &[&str]| -> Vec<String> {
        let mut all: Vec<String> = dockerd.say(args).lines().map(str::to_owned).collect();
        all.sort();
        all
    };
    let mut ids: Vec<String> = deployments
        .iter()
        .flat_map(|d| &d.containers)
        .map(|c| c.id.clone())
        .collect();
    ids.sort();
    let own = ["--filter", "label=cell.owner=default"];
    let there = lines(&["ps", "--all", "--quiet", "--no-trunc"]);
    let running = lines(&["ps", "--quiet", "--no-trunc"]);
    let networks = lines(&["network", "ls", "--quiet", own[0], own[1]]);
    let volumes = lines(&["volume", "ls", "--quiet"]);
    let whole = there == ids
        && running == ids
        && networks.len() == deployments.len()
        && volumes.len() == deployments.len();
    if whole {
        String::new()
    } else {
        format!("{ids:?}: there {there:?}, running {running:?}, networks {networks:?}, volumes {volumes:?}")
    }
}

/// Both versions, and their image fetched.
async fn handed_in(
    client: &mut DeploymentServiceClient<Channel>,
    digest: &str,
    program: &Program,
) -> Vec<String> {
    let mut named = Vec::new();
    for version in ["1.0", "2.0"] {
        let put = client
            .put_manifest(put_request(bundle(&versioned(digest, version))))
            .await;
        let put = put.unwrap_or_else(|status| panic!("{status:?}\n{}", program.log()));
        named.push(put.into_inner().digest);
    }
    let request = PullImagesRequest {
        manifest_digest: named[0].clone(),
    };
    let mut pulled = client.pull_images(request).await.unwrap().into_inner();
    while pulled.message().await.unwrap().is_some() {}
    named
}

/// Waits until all is in order; whether there is a service then.
async fn settled(
    client: &mut DeploymentServiceClient<Channel>,
    dockerd: &Dockerd,
    program: &Program,
    round: u64,
) -> bool {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let found = match listed(client).await {
            Some(deployments) => {
                let found = disorder(dockerd, &deployments);
                if found.is_empty() {
                    return !deployments.is_empty();
                }
                found
            }
            None => "no answer".to_owned(),
        };
        assert!(
            Instant::now() < deadline,
            "round {round}: {found}\n{}",
            program.log()
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// From the first request to Docker to after the last: a random moment of each part of that time, in a random order, so that few
/// kills meet early and late ones too.
fn moments(kills: u64, seed: u64) -> Vec<Duration> {
    let mut random = Random::new(seed);
    let (least, span) = (30, 2300);
    let part = |n: u64| i64::try_from(least + span * n / kills).unwrap();
    let moments = (0..kills).map(|n| random.within(part(n), part(n + 1)));
    let moments: Vec<i64> = moments.collect();
    let millis = |n: i64| Duration::from_millis(n.unsigned_abs());
    random.shuffled(moments).into_iter().map(millis).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_leaves_a_whole_service_or_none() {
    let kills = random::number("CELL_BROKER_KILLS").unwrap_or(8);
    let seed = random::seed();
    let dockerd = Dockerd::start();
    chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let mut program = Program::start(&dockerd.socket());
    let mut client = DeploymentServiceClient::new(connect(program.socket()));
    let named = handed_in(&mut client, &digest, &program).await;

    let (mut whole, mut absent) = (0, 0);
    for (round, moment) in (0..).zip(moments(kills, seed)) {
        if round % 2 == 1 {
            // Half of the kills find a whole service, to change or to remove.
            client.deploy(deploy_request(&named[0], &[])).await.unwrap();
        }
        let mut caller = client.clone();
        let request = deploy_request(&named[usize::try_from(round % 2).unwrap()], &[]);
        let act = tokio::spawn(async move {
            // Every third time it goes.
            if round % 3 == 2 {
                let request = RemoveDeploymentRequest {
                    service: "files".to_owned(),
                    delete_volumes: true,
                };
                let _ = caller.remove_deployment(request).await;
            } else {
                let _ = caller.deploy(request).await;
            }
        });
        tokio::time::sleep(moment).await;
        program.kill();
        let _ = act.await;
        program.run();
        client = DeploymentServiceClient::new(connect(program.socket()));
        let count = if settled(&mut client, &dockerd, &program, round).await {
            &mut whole
        } else {
            &mut absent
        };
        *count += 1;
    }
    // It works on: what was killed so often is deployed and removed.
    client.deploy(deploy_request(&named[0], &[])).await.unwrap();
    assert_eq!(disorder(&dockerd, &listed(&mut client).await.unwrap()), "");
    let request = RemoveDeploymentRequest {
        service: "files".to_owned(),
        delete_volumes: true,
    };
    client.remove_deployment(request).await.unwrap();
    assert_eq!(disorder(&dockerd, &[]), "");
    assert!(whole > 0 && absent > 0, "control: {whole} whole, {absent} absent");
    support::report::holds(
        "kill -9 of the broker at random moments",
        format!("{whole} whole, {absent} absent, seed {seed}"),
        "rounds",
        "nothing else",
    );
}
