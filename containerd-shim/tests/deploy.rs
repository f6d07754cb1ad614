//! Deployments before a real Docker: made, looked at, started, changed, removed; and what a refusal leaves: nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_proto::fault;
use serde_json::{Value, json};
use support::deployed::Deployed;
use support::dockerd::Dockerd;
use support::proxy::Proxy;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest};
use tonic::{Code, Status};

fn is(status: &Status, code: Code, reason: &str) {
    assert_eq!(
        (status.code(), fault::reason(status).as_deref()),
        (code, Some(reason)),
        "{status:?}"
    );
}

fn image_config() -> Value {
    json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000"]})
}

fn sleeping(digest: &str) -> Value {
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    manifest["containers"][0]["mounts"] = json!([
        {"type": "volume", "volume": "data", "target": "/data"},
        {"type": "tmpfs", "size_mib": 4, "target": "/tmp"}
    ]);
    manifest["flags"] = json!({"has_storage": true});
    manifest
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_pulled_deployed_used_changed_and_removed() {
    let dockerd = Dockerd::start();
    let digest = registry::serve(&dockerd, &image_config());
    let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
    let state = tempfile::tempdir().unwrap();
    let broker = Deployed::start(&proxy.path, state.path(), ceiling());
    let named = broker.put(bundle(&sleeping(&digest))).await.unwrap();
    assert_eq!(proxy.take().0, 0, "keeping a manifest asks Docker nothing");

    is(
        &broker.deploy(&named, &[]).await.unwrap_err(),
        Code::FailedPrecondition,
        "IMAGE_ABSENT",
    );
    let told = broker.pull(&named).await.unwrap();
    assert!(
        told.iter()
            .any(|answer| answer.status.contains("Downloaded") || answer.status.contains("Digest")),
        "{told:?}"
    );

    let made = broker.deploy(&named, &[]).await.unwrap();
    assert!(made.changed);
    let deployment = made.deployment.unwrap();
    let id = deployment.containers[0].id.clone();
    assert_eq!(
        dockerd.say(&["inspect", "--format", "{{.State.Running}}", &id]),
        "true"
    );
    assert_eq!(deployment.subnet, "172.21.0.0/28");
    let again = broker.deploy(&named, &[]).await.unwrap();
    assert!(!again.changed && again.deployment.unwrap().containers[0].id == id);
}
