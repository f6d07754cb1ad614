//! What root put on the machine for the broker, by the program behind its sandbox: images that were built here, manifests that
//! were shipped, folders of the cell's own containers; and the signal that has one of these read its configuration again.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::time::Duration;

use cell_broker_core::deploy::Bundle;
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    DeployResponse, GetContainerLogsRequest, ReloadContainerRequest, RemoveDeploymentRequest,
};
use cell_proto::fault;
use cell_proto::ipc::connect;
use serde_json::{Value, json};
use support::deployed::{deploy_request, put_request};
use support::dockerd::{Dockerd, IMAGE};
use support::program::Program;
use support::proxy::Proxy;
use support::signed::{bundle, manifest};
use tonic::Status;
use tonic::transport::Channel;

struct World {
    client: DeploymentServiceClient<Channel>,
    channel: Channel,
    program: Program,
    proxy: Proxy,
    dockerd: Dockerd,
    folder: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cell-owned-")
            .tempdir_in("/srv")
            .unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        for name in ["etc", "catalog", "dns"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        chown(folder.path().join("dns"), Some(1000), Some(1000)).unwrap();
        std::fs::write(folder.path().join("dns/zone"), "zone").unwrap();
        let dockerd = Dockerd::start();
        let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
        std::fs::set_permissions(&proxy.path, PermissionsExt::from_mode(0o777)).unwrap();
        // A key within [deploy], which is the table before [deploy.limits].
        let at = |name: &str| folder.path().join(name).display().to_string();
        let program = Program::start_below(
            &proxy.path,
            &format!(
                "local_images = {:?}\nshipped = {:?}\ncore = {{ caddy = \"172.20.0.2\" }}\n",
                at("etc/images.toml"),
                at("catalog")
            ),
            &format!(
                "[deploy.bind_roots.dns]\npath = {:?}\nowner = \"1000\"\ncore = true\n",
                at("dns")
            ),
        );
        let channel = connect(program.socket());
        World {
            client: DeploymentServiceClient::new(channel.clone()),
            channel,
            program,
            proxy,
            dockerd,
            folder,
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn list_image(&self, name: &str) {
        let id = self
            .dockerd
            .say(&["image", "inspect", "--format", "{{.Id}}", IMAGE]);
        std::fs::write(
            self.at("etc/images.toml"),
            format!("[images]\n{name} = \"{id}\"\n"),
        )
        .unwrap();
    }

    /// As root's package would.
    fn ship(&self, id: &str, manifest: &Value) -> Vec<u8> {
        let bytes = serde_json::to_vec_pretty(manifest).unwrap();
        std::fs::create_dir_all(self.at("catalog").join(id)).unwrap();
        std::fs::write(self.at("catalog").join(id).join("manifest.json"), &bytes).unwrap();
        bytes
    }

    async fn put(&mut self, bundle: Bundle) -> Result<String, Status> {
        let put = self.client.put_manifest(put_request(bundle)).await?;
        Ok(put.into_inner().digest)
    }

    async fn deploy(&mut self, digest: &str, core: bool) -> Result<DeployResponse, Status> {
        let mut request = deploy_request(digest, &[]);
        if core {
            request.place = None;
        }
        Ok(self.client.deploy(request).await?.into_inner())
    }

    async fn reload(&self, service: &str) -> Result<(), Status> {
        let request = ReloadContainerRequest {
            service: service.to_owned(),
        };
        let mut acts = ContainerServiceClient::new(self.channel.clone());
        acts.reload_container(request).await.map(drop)
    }

    async fn remove(&mut self, service: &str) {
        let request = RemoveDeploymentRequest {
            service: service.to_owned(),
            delete_volumes: true,
        };
        self.client.remove_deployment(request).await.unwrap();
    }

    /// That Docker was sent nothing but what the broker asks on its own account.
    fn nothing_was_made(&self) {
        let (_, sent) = self.proxy.take();
        assert!(!sent.contains("POST") && !sent.contains("DELETE"), "{sent}");
    }
}

fn unsigned(manifest: Vec<u8>) -> Bundle {
    Bundle {
        manifest,
        signature: String::new(),
        images: Vec::new(),
    }
}

fn reason(status: &Status) -> String {
    fault::reason(status).unwrap_or_default()
}

fn core(image: &str) -> Value {
    let mut core = manifest(image);
    (core["kind"], core["id"]) = (json!("core"), json!("caddy"));
    core["flags"] = json!({"has_storage": true});
    core["containers"][0]["command"] = json!([
        "/bin/busybox",
        "sh",
        "-c",
        "trap 'echo reloaded' HUP; while :; do sleep 1; done"
    ]);
    core["containers"][0]["reload_signal"] = json!("SIGHUP");
    core["containers"][0]["mounts"] =
        json!([{"type": "bind", "root": "dns", "target": "/etc/coredns", "read_only": true}]);
    core
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_root_shipped_and_built_is_deployed_and_reloaded() {
    let mut world = World::start();
    world.list_image("caddy");
    let shipped = world.ship("caddy", &core("local:caddy"));
    let digest = world.put(unsigned(shipped.clone())).await;
    let digest = digest.unwrap_or_else(|status| panic!("{status:?}\n{}", world.program.log()));
    let made = world.deploy(&digest, true).await;
    let made = made.unwrap_or_else(|status| panic!("{status:?}\n{}", world.program.log()));
    let id = made.deployment.unwrap().containers[0].id.clone();
    let zone = world
        .dockerd
        .say(&["exec", &id, "/bin/busybox", "cat", "/etc/coredns/zone"]);
    assert_eq!(zone, "zone");

    world.reload("caddy").await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let mut reads = ContainerStatusServiceClient::new(world.channel.clone());
    let request = GetContainerLogsRequest {
        service: "caddy".to_owned(),
        lines: 10,
    };
    let logs = reads.get_container_logs(request).await.unwrap().into_inner();
    assert_eq!(logs.lines, ["reloaded"]);
    let (_, sent) = world.proxy.take();
    assert!(
        sent.contains(&format!("/containers/{id}/kill?signal=SIGHUP HTTP")),
        "{sent}"
    );

    // The package ships another version: what runs is still known, and what changed is another manifest.
    let mut second = core("local:caddy");
    second["version"] = json!("2.0");
    world.ship("caddy", &second);
    assert!(!world.deploy(&digest, true).await.unwrap().changed);
    assert_eq!(
        reason(&world.put(unsigned(shipped)).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );

    // Root builds the image anew: the same manifest then means another container.
    world.dockerd.say(&["rmi", "--force", "cell-test:2"]);
    world
        .dockerd
        .say(&["commit", "--change", "LABEL again=1", &id, "cell-test:2"]);
    let other = world
        .dockerd
        .say(&["image", "inspect", "--format", "{{.Id}}", "cell-test:2"]);
    std::fs::write(
        world.at("etc/images.toml"),
        format!("[images]\ncaddy = \"{other}\"\n"),
    )
    .unwrap();
    let again = world.deploy(&digest, true).await.unwrap();
    let again_id = again.deployment.unwrap().containers[0].id.clone();
    assert!(again.changed && again_id != id);
    let image = world
        .dockerd
        .say(&["inspect", "--format", "{{.Image}}", &again_id]);
    assert_eq!(image, other);
    way_back(&mut world, &digest, &other).await;
    world.remove("caddy").await;
}

/// A new version runs, and does not do what it should: what ran before runs again, with the image that it ran with, though root has
/// shipped another manifest and built another image since.
async fn way_back(world: &mut World, first: &str, ran_with: &str) {
    let mut second = core("local:caddy");
    second["version"] = json!("2.0");
    let shipped = world.ship("caddy", &second);
    let digest = world.put(unsigned(shipped)).await.unwrap();
    assert!(world.deploy(&digest, true).await.unwrap().changed);
    world.list_image("caddy");
    let back = world.deploy(first, true).await.unwrap();
    let id = back.deployment.unwrap().containers[0].id.clone();
    let image = world.dockerd.say(&["inspect", "--format", "{{.Image}}", &id]);
    assert_eq!((back.changed, image.as_str()), (true, ran_with));
}

#[allow(clippy::too_many_lines, reason = "a list of denials")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_root_did_not_put_there_is_refused_and_docker_hears_nothing() {
    let mut world = World::start();
    world.list_image("files");
    let mut store = manifest("local:files");
    store["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    let shipped = world.ship("files", &store);

    // Unsigned: one changed byte, a file that others may write, one of another owner, one behind a link, one of nobody's.
    let mut changed = shipped.clone();
    *changed.last_mut().unwrap() = b' ';
    assert_eq!(
        reason(&world.put(unsigned(changed)).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    let path = world.at("catalog/files/manifest.json");
    let mode = |mode: u32| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
    mode(0o666);
    assert_eq!(
        reason(&world.put(unsigned(shipped.clone())).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    mode(0o644);
    chown(&path, Some(1000), None).unwrap();
    assert_eq!(
        reason(&world.put(unsigned(shipped.clone())).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    chown(&path, Some(0), None).unwrap();
    std::fs::rename(world.at("catalog/files"), world.at("elsewhere")).unwrap();
    symlink(world.at("elsewhere"), world.at("catalog/files")).unwrap();
    assert_eq!(
        reason(&world.put(unsigned(shipped.clone())).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    std::fs::remove_file(world.at("catalog/files")).unwrap();
    std::fs::rename(world.at("elsewhere"), world.at("catalog/files")).unwrap();
    let good = world.put(unsigned(shipped.clone())).await.unwrap();

    // The list of images: open to others, behind a link, of another form, without the name.
    let list = world.at("etc/images.toml");
    std::fs::set_permissions(&list, PermissionsExt::from_mode(0o664)).unwrap();
    assert_eq!(
        reason(&world.deploy(&good, false).await.unwrap_err()),
        "LOCAL_IMAGES"
    );
    std::fs::set_permissions(&list, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::rename(&list, world.at("etc/real.toml")).unwrap();
    symlink(world.at("etc/real.toml"), &list).unwrap();
    assert_eq!(
        reason(&world.deploy(&good, false).await.unwrap_err()),
        "LOCAL_IMAGES"
    );
    std::fs::remove_file(&list).unwrap();
    assert_eq!(
        reason(&world.deploy(&good, false).await.unwrap_err()),
        "LOCAL_IMAGES"
    );
    std::fs::write(&list, "[images]\nfiles = \"cell-test:1\"\n").unwrap();
    assert_eq!(
        reason(&world.deploy(&good, false).await.unwrap_err()),
        "LOCAL_IMAGES"
    );
    world.list_image("others");
    let refused = world.deploy(&good, false).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "I1_LOCAL");

    // A service of the store, well signed, that names a folder of the cell's own containers.
    let mut greedy = store.clone();
    greedy["containers"][0]["mounts"] =
        json!([{"type": "bind", "root": "dns", "target": "/etc/coredns", "read_only": true}]);
    greedy["flags"] = json!({"has_storage": true});
    let greedy = world.put(bundle(&greedy)).await.unwrap();
    world.list_image("files");
    let refused = world.deploy(&greedy, false).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "M1_CORE_ROOT");
    world.nothing_was_made();

    // The control.
    let made = world.deploy(&good, false).await;
    made.unwrap_or_else(|status| panic!("{status:?}\n{}", world.program.log()));
    // It has no signal, and nobody else's container gets one.
    world.proxy.take();
    assert_eq!(
        reason(&world.reload("files").await.unwrap_err()),
        "NO_RELOAD_SIGNAL"
    );
    assert_eq!(reason(&world.reload("caddy").await.unwrap_err()), "NOT_OWNED");
    assert!(!world.proxy.take().1.contains("/kill"));
    world.remove("files").await;
}
