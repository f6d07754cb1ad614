//! Folders of the machine that services are given, by the program behind its sandbox.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};

use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{PullImagesRequest, RemoveDeploymentRequest};
use cell_proto::fault;
use cell_proto::ipc::connect;
use nix::unistd::{Uid, chown};
use serde_json::{Value, json};
use support::deployed::{deploy_request, put_request};
use support::dockerd::Dockerd;
use support::program::{Program, USER};
use support::registry;
use support::signed::{REGISTRY, bundle, manifest};
use tonic::Status;
use tonic::transport::Channel;

struct World {
    dockerd: Dockerd,
    _program: Program,
    client: DeploymentServiceClient<Channel>,
    image: String,
}

impl World {
    async fn deploy(&mut self, mount: Value) -> Result<String, Status> {
        let mut manifest = manifest(&self.image);
        manifest["flags"] = json!({"has_storage": true});
        manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
        manifest["containers"][0]["mounts"] = json!([mount]);
        let put = self.client.put_manifest(put_request(bundle(&manifest))).await?;
        let digest = put.into_inner().digest;
        let request = PullImagesRequest {
            manifest_digest: digest.clone(),
        };
        let mut pulled = self.client.pull_images(request).await?.into_inner();
        while pulled.message().await?.is_some() {}
        let made = self.client.deploy(deploy_request(&digest, &[])).await?;
        Ok(made.into_inner().deployment.unwrap().containers[0].id.clone())
    }

    fn succeeds(&self, id: &str, script: &str) -> bool {
        let output = self
            .dockerd
            .docker(&["exec", id, "/bin/busybox", "sh", "-c", script]);
        output.status.success()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registered_folder_is_given_and_no_other_way_into_the_machine() {
    let root = tempfile::Builder::new()
        .prefix("cell-binds-")
        .tempdir_in("/srv")
        .unwrap();
    let at = |name: &str| root.path().join(name);
    std::fs::set_permissions(root.path(), PermissionsExt::from_mode(0o755)).unwrap();
    for folder in ["media/films", "media/shared/deep", "secret"] {
        std::fs::create_dir_all(at(folder)).unwrap();
    }
    std::fs::write(at("media/films/film"), "film").unwrap();
    let dockerd = Dockerd::start();
    chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
    let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
    let roots = format!("[deploy.bind_roots.media]\npath = {:?}\n", at("media"));
    let program = Program::start_with(&dockerd.socket(), &roots);
    let mut world = World {
        client: DeploymentServiceClient::new(connect(program.socket())),
        _program: program,
        dockerd,
        image: format!("{REGISTRY}/store/files@{digest}"),
    };
    let bind = |path: &str, read_only: bool| json!({"type": "bind", "root": "media", "path": path, "target": "/media", "read_only": read_only});
    let id = world.deploy(bind("films", true)).await.unwrap();
    assert!(world.succeeds(&id, "grep film /media/film"), "control");
    assert!(!world.succeeds(&id, "echo x > /media/x"));
    let refused = world.deploy(bind("films", false)).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "M2_BIND_READ_ONLY");

    symlink(at("secret"), at("media/link")).unwrap();
    std::fs::set_permissions(at("media/shared"), PermissionsExt::from_mode(0o777)).unwrap();
    for path in ["link", "absent", "films/film", "shared/deep"] {
        let refused = world.deploy(bind(path, true)).await.unwrap_err();
        assert_eq!(
            fault::reason(&refused).as_deref(),
            Some("BIND_ROOT"),
            "{path}: {refused:?}"
        );
    }
    assert!(world.succeeds(&id, "true"), "what ran goes on");
    let request = RemoveDeploymentRequest {
        service: "files".to_owned(),
        delete_volumes: true,
    };
    world.client.remove_deployment(request).await.unwrap();
    assert_eq!(
        std::fs::read_to_string(at("media/films/film")).unwrap(),
        "film",
        "nothing of the machine's is removed"
    );
}
