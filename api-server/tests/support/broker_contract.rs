//! What `cell-api` counts on of a broker. The stand-in of these tests (`broker.rs`) and the real one before a real Docker
//! (`containerd-shim/tests/store_contract.rs`) are held to the same.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

use cell_manifest::Key;
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::*;
use cell_proto::fault;
use tonic::Status;
use tonic::transport::Channel;

const SUBNET: &str = "172.21.0.32/28";
const NUMBER: u32 = 3;

/// Goes through a service's life at the broker behind `channel`. `manifest` has the id `files`, one container, and no field that
/// has to be set.
pub async fn holds(channel: Channel, manifest: PutManifestRequest) {
    let mut broker = DeploymentServiceClient::new(channel.clone());
    let mut acts = ContainerServiceClient::new(channel);
    let is = |status: &Status, reason: &str| {
        assert_eq!(fault::reason(status).as_deref(), Some(reason), "{status:?}")
    };
    let deploy = |digest: &str| DeployRequest {
        manifest_digest: digest.to_owned(),
        instance: String::new(),
        parameters: Vec::new(),
        place: Some(ServicePlace {
            number: NUMBER,
            subnet: SUBNET.to_owned(),
        }),
    };
    let remove = |delete_volumes| RemoveDeploymentRequest {
        service: "files".to_owned(),
        delete_volumes,
    };
    let absent = format!("sha256:{}", "ab".repeat(32));
    is(&broker.deploy(deploy(&absent)).await.unwrap_err(), "NO_MANIFEST");
    let bad = PutManifestRequest {
        manifest: b"{}".to_vec(),
        ..manifest.clone()
    };
    broker.put_manifest(bad).await.unwrap_err();

    let keys = broker.list_manifest_keys(ListManifestKeysRequest {}).await;
    let keys = keys.unwrap().into_inner().pem;
    let signs = |pem: &String| {
        Key::from_pem(pem)
            .unwrap()
            .verifies(&manifest.manifest, &manifest.signature)
    };
    assert!(
        manifest.signature.is_empty() || keys.iter().any(signs),
        "what it says of its keys is what it goes by"
    );
    let stranger = PutManifestRequest {
        signature: "MEUCIQ==".to_owned(),
        ..manifest.clone()
    };
    is(
        &broker.put_manifest(stranger).await.unwrap_err(),
        "MANIFEST_UNSIGNED",
    );

    let digest = broker
        .put_manifest(manifest.clone())
        .await
        .unwrap()
        .into_inner()
        .digest;
    let again = broker.put_manifest(manifest).await.unwrap().into_inner().digest;
    assert_eq!(digest, again, "it can be handed in twice");
    is(&broker.deploy(deploy(&digest)).await.unwrap_err(), "IMAGE_ABSENT");
    let pull = PullImagesRequest {
        manifest_digest: digest.clone(),
    };
    let mut told = broker.pull_images(pull).await.unwrap().into_inner();
    while told.message().await.unwrap().is_some() {}

    let made = broker.deploy(deploy(&digest)).await.unwrap().into_inner();
    let deployment = made.deployment.unwrap();
    assert!(made.changed);
    assert_eq!(
        (
            deployment.service.as_str(),
            deployment.bridge.as_str(),
            deployment.subnet.as_str()
        ),
        ("files", "cellsvc3", SUBNET)
    );
    assert_eq!(deployment.manifest_digest, digest);
    let network: ipnet::Ipv4Net = SUBNET.parse().unwrap();
    let main = deployment.containers[0].clone();
    assert!(
        network.contains(&main.address.parse::<std::net::Ipv4Addr>().unwrap()),
        "{main:?}"
    );
    let twice = broker.deploy(deploy(&digest)).await.unwrap().into_inner();
    assert!(!twice.changed, "it can be asked for twice");
    assert_eq!(twice.deployment.unwrap(), deployment);
    let listed = broker
        .list_deployments(ListDeploymentsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.deployments, [deployment]);

    let stop = || StopContainerRequest {
        service: main.handle.clone(),
        timeout_seconds: 1,
    };
    acts.stop_container(stop()).await.unwrap();
    is(&acts.stop_container(stop()).await.unwrap_err(), "WRONG_STATE");
    let start = StartContainerRequest {
        service: main.handle.clone(),
    };
    acts.start_container(start.clone()).await.unwrap();
    is(&acts.start_container(start).await.unwrap_err(), "WRONG_STATE");

    broker.remove_deployment(remove(true)).await.unwrap();
    is(
        &broker.remove_deployment(remove(true)).await.unwrap_err(),
        "NOT_OWNED",
    );
    is(&acts.stop_container(stop()).await.unwrap_err(), "NOT_OWNED");
    let listed = broker
        .list_deployments(ListDeploymentsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.deployments, []);
}
