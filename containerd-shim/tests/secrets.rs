//! Secrets of services before a real Docker, by the program behind its sandbox: the container reads them as files, nothing else
//! tells them, another one is there when its service is asked for again, and nothing stays, whenever the program is killed.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    DeployResponse, ListDeploymentsRequest, PullImagesRequest, RemoveDeploymentRequest,
};
use cell_proto::fault;
use cell_proto::ipc::connect;
use nix::unistd::Uid;
use serde_json::{Value, json};
use support::deployed::{deploy_request, put_request};
use support::dockerd::Dockerd;
use support::program::{Program, USER};
use support::proxy::Proxy;
use support::registry;
use support::signed::{REGISTRY, bundle, manifest};
use support::vault::Vault;
use tonic::transport::Channel;
use tonic::{Code, Status};

const TOKEN: &str = "svc_files_dns_token";

struct World {
    client: DeploymentServiceClient<Channel>,
    program: Program,
    vault: Vault,
    dockerd: Dockerd,
    proxy: Proxy,
    folder: tempfile::TempDir,
    digest: String,
}

impl World {
    fn start() -> Self {
        let folder = tempfile::Builder::new()
            .prefix("cell-secrets-")
            .tempdir_in("/srv")
            .unwrap();
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).unwrap();
        let secrets = folder.path().join("secrets");
        std::fs::create_dir(&secrets).unwrap();
        std::fs::set_permissions(&secrets, PermissionsExt::from_mode(0o700)).unwrap();
        chown(&secrets, Some(USER), Some(USER)).unwrap();
        let vault = Vault::serve(&folder.path().join("vault.sock"), USER);
        let dockerd = Dockerd::start();
        let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
        let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
        std::fs::set_permissions(&proxy.path, PermissionsExt::from_mode(0o777)).unwrap();
        nix::unistd::chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
        let program = Program::start_with(
            &proxy.path,
            &format!(
                "[deploy.secrets]\nvault_socket = {:?}\nfolder = {secrets:?}\n",
                folder.path().join("vault.sock")
            ),
        );
        World {
            client: DeploymentServiceClient::new(connect(program.socket())),
            program,
            vault,
            dockerd,
            proxy,
            folder,
            digest,
        }
    }

    fn manifest(&self) -> Value {
        let mut manifest = manifest(&format!("{REGISTRY}/store/files@{}", self.digest));
        manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
        manifest["containers"][0]["restart"] = json!({"policy": "unless-stopped"});
        manifest["containers"][0]["secrets"] =
            json!([{"name": "dns_token"}, {"name": "other", "optional": true}]);
        manifest
    }

    async fn hand_in(&mut self, manifest: &Value) -> String {
        let put = self.client.put_manifest(put_request(bundle(manifest))).await;
        let digest = put
            .unwrap_or_else(|status| panic!("{status:?}\n{}", self.program.log()))
            .into_inner()
            .digest;
        let request = PullImagesRequest {
            manifest_digest: digest.clone(),
        };
        let mut pulled = self.client.pull_images(request).await.unwrap().into_inner();
        while pulled.message().await.unwrap().is_some() {}
        digest
    }

    async fn deploy(&mut self, digest: &str) -> Result<DeployResponse, Status> {
        Ok(self
            .client
            .deploy(deploy_request(digest, &[]))
            .await?
            .into_inner())
    }

    async fn remove(&mut self) {
        let request = RemoveDeploymentRequest {
            service: "files".to_owned(),
            delete_volumes: true,
        };
        self.client.remove_deployment(request).await.unwrap();
    }

    fn secrets(&self) -> PathBuf {
        self.folder.path().join("secrets")
    }

    /// What a program in the container says.
    fn within(&self, id: &str, program: &[&str]) -> String {
        self.dockerd
            .say(&[&["exec", id, "/bin/busybox"], program].concat())
    }
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(90);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn is(status: &Status, code: Code, reason: &str) {
    let found = (status.code(), fault::reason(status));
    assert_eq!(found, (code, Some(reason.to_owned())), "{status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_finds_its_secrets_and_nothing_else_tells_them() {
    let mut world = World::start();
    let digest = world.hand_in(&world.manifest()).await;

    // What is not there, and who is away: said, and nothing is made.
    let missing = world.deploy(&digest).await.unwrap_err();
    is(&missing, Code::FailedPrecondition, "SECRET_MISSING");
    assert!(missing.message().contains("dns_token"), "{missing:?}");
    assert!(!missing.message().contains("other"), "{missing:?}");
    world.vault.set(TOKEN, "xyzzy-first");
    world.vault.seal(true);
    is(
        &world.deploy(&digest).await.unwrap_err(),
        Code::Unavailable,
        "SECRETS_AWAY",
    );
    assert_eq!(world.dockerd.say(&["ps", "--all", "--quiet"]), "");
    assert_eq!(files(&world.secrets()), Vec::<PathBuf>::new());
    world.vault.seal(false);

    let _ = world.proxy.take();
    let made = world.deploy(&digest).await.unwrap();
    let id = made.deployment.unwrap().containers[0].id.clone();
    assert_eq!(
        world.within(&id, &["cat", "/run/secrets/dns_token"]),
        "xyzzy-first"
    );
    assert_eq!(
        world.within(&id, &["ls", "-a", "/run/secrets"]),
        ".\n..\ndns_token"
    );
    let write = "echo x > /run/secrets/dns_token";
    let write = world
        .dockerd
        .docker(&["exec", &id, "/bin/busybox", "sh", "-c", write]);
    assert!(!write.status.success(), "it is read-only");
    let asked: Vec<String> = world.vault.asked().into_iter().collect();
    assert_eq!(asked, [TOKEN, "svc_files_other"], "nothing else is asked for");

    // The same again changes nothing; another one is given to the same container, which is started anew.
    assert!(!world.deploy(&digest).await.unwrap().changed);
    world.vault.set(TOKEN, "xyzzy-second");
    world.vault.set("svc_files_other", "xyzzy-other");
    let again = world.deploy(&digest).await.unwrap();
    assert!(again.changed && again.deployment.unwrap().containers[0].id == id);
    assert_eq!(
        world.within(&id, &["cat", "/run/secrets/dns_token"]),
        "xyzzy-second"
    );
    assert_eq!(world.within(&id, &["cat", "/run/secrets/other"]), "xyzzy-other");

    // So is one that ended and is started again by itself.
    world.vault.set(TOKEN, "xyzzy-third");
    world.dockerd.say(&["kill", &id]);
    let read = ["exec", &id, "/bin/busybox", "cat", "/run/secrets/dns_token"];
    until("it is started again, with the secret of then", || {
        world.dockerd.docker(&read).stdout == b"xyzzy-third"
    })
    .await;

    nobody_else_tells(&world, &id);
    world.remove().await;
    assert_eq!(files(&world.secrets()), Vec::<PathBuf>::new());
    assert_eq!(std::fs::read_dir(world.secrets()).unwrap().count(), 0);
}

/// Docker's word of the container, what was sent to Docker, the broker's log and its store: none has a value; the folder is closed.
fn nobody_else_tells(world: &World, id: &str) {
    let inspected = world.dockerd.say(&["inspect", id]);
    assert!(inspected.contains("/run/secrets"), "control: {inspected}");
    let environment = world.within(id, &["env"]);
    let (_, sent) = world.proxy.take();
    let sent = format!("{sent:?}");
    assert!(sent.contains("/run/secrets"), "control");
    let log = world.program.log();
    assert!(log.contains("SECRET_MISSING"), "control: {log}");
    for text in [inspected, environment, sent, log] {
        assert!(!text.contains("xyzzy"), "{text}");
    }
    for path in files(&world.program.dir.path().join("state")) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(5).any(|window| window == b"xyzzy"), "{path:?}");
    }
    let mode = std::fs::metadata(world.secrets()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Killed while it deploys and removes: in the end the folder has what the deployed service needs, or nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_leaves_no_secret_of_what_is_not_there() {
    let mut world = World::start();
    world.vault.set(TOKEN, "xyzzy");
    let digest = world.hand_in(&world.manifest()).await;
    let own = world.secrets().join("files/main/dns_token");
    let (mut whole, mut absent) = (0, 0);
    for round in 0..5_u64 {
        let mut caller = world.client.clone();
        let request = deploy_request(&digest, &[]);
        let act = tokio::spawn(async move {
            if round == 3 {
                let request = RemoveDeploymentRequest {
                    service: "files".to_owned(),
                    delete_volumes: true,
                };
                let _ = caller.remove_deployment(request).await;
            } else {
                let _ = caller.deploy(request).await;
            }
        });
        // When files are there already, somewhere in a removal, or when it is done.
        match round {
            0 | 1 => until("it is on its way", || own.exists() || act.is_finished()).await,
            3 => tokio::time::sleep(Duration::from_millis(30)).await,
            _ => until("it is done", || act.is_finished()).await,
        }
        world.program.kill();
        let _ = act.await;
        std::fs::write(world.secrets().join("half"), "xyzzy").unwrap();
        world.program.run();
        world.client = DeploymentServiceClient::new(connect(world.program.socket()));
        let deadline = Instant::now() + Duration::from_secs(90);
        loop {
            let answer = world.client.list_deployments(ListDeploymentsRequest {}).await;
            let there = answer.is_ok_and(|answer| !answer.into_inner().deployments.is_empty());
            let expected = if there { vec![own.clone()] } else { Vec::new() };
            let containers = world.dockerd.say(&["ps", "--all", "--quiet"]).lines().count();
            let found = files(&world.secrets());
            if found == expected && containers == usize::from(there) {
                *(if there { &mut whole } else { &mut absent }) += 1;
                break;
            }
            assert!(
                Instant::now() < deadline,
                "round {round}: {found:?}, {containers} containers\n{}",
                world.program.log()
            );
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
    assert!(whole > 0 && absent > 0, "control: {whole} whole, {absent} absent");
    if own.exists() {
        world.remove().await;
    }
    assert_eq!(files(&world.secrets()), Vec::<PathBuf>::new());
}
