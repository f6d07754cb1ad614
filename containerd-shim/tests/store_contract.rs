//! What `cell-api` counts on of a broker, before a real Docker. The stand-in of its own tests is held to the same.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../../api-server/tests/support/broker_contract.rs"]
mod broker_contract;
mod support;

use serde_json::json;
use support::deployed::{Deployed, put_request};
use support::dockerd::Dockerd;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_what_cell_api_counts_on() {
    let dockerd = Dockerd::start();
    let digest = registry::serve(
        &dockerd,
        &json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sleep", "1000"]}),
    );
    let state = tempfile::tempdir().unwrap();
    let broker = Deployed::start(&dockerd.socket(), state.path(), ceiling());
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    let channel = cell_proto::ipc::connect(broker.socket());
    broker_contract::holds(channel, put_request(bundle(&manifest))).await;
}
