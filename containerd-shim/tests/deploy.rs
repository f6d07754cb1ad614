//! Deployments before a real Docker: made, looked at, started, changed, removed; and what a refusal leaves: nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use cell_broker_core::deploy::Ceiling;
use cell_proto::fault;
use serde_json::{Value, json};
use support::deployed::Deployed;
use support::dockerd::{Dockerd, IMAGE};
use support::proxy::Proxy;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest, name, rich};
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

struct World {
    dockerd: Dockerd,
    broker: Deployed,
    proxy: Proxy,
    digest: String,
    _state: tempfile::TempDir,
}

impl World {
    fn start(config: &Value) -> Self {
        Self::start_below(config, ceiling())
    }

    fn start_below(config: &Value, ceiling: Ceiling) -> Self {
        let dockerd = Dockerd::start();
        let digest = registry::serve(&dockerd, config);
        let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
        let state = tempfile::tempdir().unwrap();
        let broker = Deployed::start(&proxy.path, state.path(), ceiling);
        World {
            dockerd,
            broker,
            proxy,
            digest,
            _state: state,
        }
    }

    /// Puts, pulls and deploys.
    async fn deploy(&self, manifest: &Value) -> Result<cell_proto::broker::v1::DeployResponse, Status> {
        let named = self.broker.put(bundle(manifest)).await?;
        self.broker.pull(&named).await?;
        // The cell's own have no place, and no two services the same.
        let place = match (manifest["kind"].as_str(), manifest["id"].as_str()) {
            (Some("core"), _) => 0,
            (_, Some("mail")) => 2,
            _ => 1,
        };
        self.broker.deploy_at(&named, &[], place).await
    }

    /// Everything at Docker that is the cell's, or has no name.
    fn left(&self) -> String {
        let of_cell = ["--filter", "label=cell.owner=default"];
        let all = [
            self.dockerd.say(&["ps", "--all", "--quiet"]),
            self.dockerd.say(&["volume", "ls", "--quiet"]),
            self.dockerd
                .say(&["network", "ls", "--quiet", of_cell[0], of_cell[1]]),
        ];
        all.join("|")
    }

    fn running(&self, id: &str) -> bool {
        self.dockerd
            .say(&["inspect", "--format", "{{.State.Running}}", id])
            == "true"
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_is_pulled_deployed_used_changed_and_removed() {
    let world = World::start(&image_config());
    let named = world.broker.put(bundle(&sleeping(&world.digest))).await.unwrap();
    assert_eq!(world.proxy.take().0, 0, "keeping a manifest asks Docker nothing");
    is(
        &world.broker.deploy(&named, &[]).await.unwrap_err(),
        Code::FailedPrecondition,
        "IMAGE_ABSENT",
    );
    let told = world.broker.pull(&named).await.unwrap();
    assert!(
        told.iter().any(|answer| answer.status.contains("Digest")),
        "{told:?}"
    );

    let made = world.broker.deploy(&named, &[]).await.unwrap();
    assert!(made.changed);
    let deployment = made.deployment.unwrap();
    let id = deployment.containers[0].id.clone();
    assert!(world.running(&id));
    assert_eq!(deployment.subnet, "172.21.0.16/28");
    checked(&world, &id);
    let again = world.broker.deploy(&named, &[]).await.unwrap();
    assert!(!again.changed && again.deployment.unwrap().containers[0].id == id);

    its_network_is_its_own(&world, &named, &id).await;
    labels_alone_make_nothing_the_cells_own(&world, &id).await;

    // What changes runs in another container; the first is gone, its volume is not.
    let mut changed = sleeping(&world.digest);
    changed["version"] = json!("2.0");
    let second = world
        .deploy(&changed)
        .await
        .unwrap()
        .deployment
        .unwrap()
        .containers[0]
        .id
        .clone();
    assert!(second != id && world.running(&second));
    assert!(!world.dockerd.docker(&["inspect", &id]).status.success());

    // What somebody else removed is made anew by the same request.
    world.dockerd.say(&["rm", "--force", &second]);
    let third = world.deploy(&changed).await.unwrap();
    assert!(third.changed && world.running(&third.deployment.unwrap().containers[0].id));

    world.broker.remove("files", false).await.unwrap();
    assert_eq!(world.left(), "|cell-files.data|");
    world.deploy(&sleeping(&world.digest)).await.unwrap();
    world.broker.remove("files", true).await.unwrap();
    assert_eq!(world.left(), "||");
    is(
        &world.broker.remove("files", true).await.unwrap_err(),
        Code::NotFound,
        "NOT_OWNED",
    );
}

/// Its network stays where it is, and no other service lies there: nothing is asked of Docker for either.
async fn its_network_is_its_own(world: &World, named: &str, id: &str) {
    world.proxy.take();
    is(
        &world.broker.deploy_at(named, &[], 2).await.unwrap_err(),
        Code::FailedPrecondition,
        "NETWORK_DIFFERS",
    );
    let mut other = sleeping(&world.digest);
    other["id"] = json!("other");
    let other = world.broker.put(bundle(&other)).await.unwrap();
    for (place, code) in [(0, "N2_PLACE"), (1, "N2_PLACE_TAKEN")] {
        let refused = world.broker.deploy_at(&other, &[], place).await.unwrap_err();
        is(&refused, Code::PermissionDenied, "DENIED");
        assert_eq!(fault::metadata(&refused)["codes"], code);
    }
    assert_eq!(world.proxy.take(), (0, String::new()));
    let dns = world.dockerd.say(&[
        "inspect",
        "--format",
        "{{.HostConfig.Dns}} {{.HostConfig.RestartPolicy.Name}}",
        id,
    ]);
    assert_eq!(dns, "[172.21.0.17] no");
}

async fn labels_alone_make_nothing_the_cells_own(world: &World, id: &str) {
    // The other verbs know it by its name, and nothing else that bears its labels.
    let labels = [("cell.owner", "default"), ("cell.service", "forged")];
    let forged = world.dockerd.create(&[], &labels, "sleep 1");
    let request = |service: &str| cell_proto::broker::v1::StopContainerRequest {
        service: service.to_owned(),
        timeout_seconds: 1,
    };
    let mut acts = world.broker.acts.clone();
    is(
        &acts.stop_container(request("forged")).await.unwrap_err(),
        Code::NotFound,
        "NOT_OWNED",
    );
    let mut reads = world.broker.reads.clone();
    let listed = reads
        .list_containers(cell_proto::broker::v1::ListContainersRequest {})
        .await;
    assert_eq!(listed.unwrap().into_inner().containers.len(), 1);
    acts.stop_container(request("files")).await.unwrap();
    assert!(!world.running(id));
    world.dockerd.say(&["rm", "--force", forged.as_str()]);
}

/// What Docker and the kernel say of a container that runs, looked at by nothing that the broker is made of.
fn checked(world: &World, id: &str) {
    let told: Value = serde_json::from_str(&world.dockerd.say(&["inspect", id])).unwrap();
    let (told, host) = (&told[0], &told[0]["HostConfig"]);
    for (key, right) in [
        ("Privileged", json!(false)),
        ("CapAdd", json!(null)),
        ("CapDrop", json!(["ALL"])),
        ("ReadonlyRootfs", json!(true)),
        ("PidMode", json!("")),
        ("UTSMode", json!("")),
        ("IpcMode", json!("private")),
        ("UsernsMode", json!("")),
        ("Binds", json!(null)),
        ("PortBindings", json!({})),
        ("Memory", json!(32 * 1024 * 1024)),
        ("PidsLimit", json!(32)),
    ] {
        let got = &host[key];
        let same =
            *got == right || (got.is_null() && right == json!({})) || (*got == json!([]) && right.is_null());
        assert!(same, "{key}: {got}");
    }
    let text = world
        .dockerd
        .say(&["exec", id, "/bin/busybox", "cat", "/proc/1/status"]);
    let line = |key: &str| {
        let found = text.lines().find_map(|line| line.strip_prefix(key));
        found.unwrap().split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(line("Uid:"), "1000");
    assert_eq!(line("Gid:"), "1000");
    assert_eq!(line("NoNewPrivs:"), "1");
    assert_eq!(line("Seccomp:"), "2");
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(u64::from_str_radix(&line(set), 16), Ok(0), "{set}");
    }
    let fails = |script: &str| {
        let output = world
            .dockerd
            .docker(&["exec", id, "/bin/busybox", "sh", "-c", script]);
        assert!(!output.status.success(), "{script}");
    };
    fails("echo x > /etc/x");
    fails("mount -t tmpfs none /srv");
    fails("unshare -U true");
    let routes = world.dockerd.say(&["exec", id, "/bin/busybox", "ip", "route"]);
    assert!(routes.contains("172.21.0.16/28"), "{routes}");
    assert_eq!(told["NetworkSettings"]["Networks"].as_object().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_start_or_is_not_what_was_asked_for_is_taken_away() {
    // The image brings a volume and a user of its own.
    let world = World::start(&json!({"Env": ["PATH=/bin"], "Volumes": {"/sneaky": {}}, "User": "0"}));
    let mut manifest = sleeping(&world.digest);
    is(
        &world.deploy(&manifest).await.unwrap_err(),
        Code::Aborted,
        "DIFFERENT",
    );
    assert_eq!(
        world.left(),
        "||",
        "no container, no anonymous volume, no volume, no network"
    );
    // Where the manifest mounts something there, nothing is left to the image.
    manifest["containers"][0]["mounts"][1]["target"] = json!("/sneaky");
    let good = world
        .deploy(&manifest)
        .await
        .unwrap()
        .deployment
        .unwrap()
        .containers[0]
        .id
        .clone();
    assert!(world.running(&good), "control");

    // A new version that does not start: what ran runs again.
    let mut broken = manifest.clone();
    broken["version"] = json!("2.0");
    broken["containers"][0]["command"] = json!(["/bin/absent"]);
    is(
        &world.deploy(&broken).await.unwrap_err(),
        Code::Aborted,
        "NOT_RUNNING",
    );
    assert!(world.running(&good));
    assert_eq!(world.left().split('|').next().unwrap().lines().count(), 1);
    let listed = world.broker.list().await;
    assert_eq!(listed[0].containers[0].id, good);

    // A first version that does not start leaves nothing.
    world.broker.remove("files", true).await.unwrap();
    world.deploy(&broken).await.unwrap_err();
    assert_eq!(world.left(), "||");

    // A volume of that name which somebody else made is not mounted.
    let options = ["--opt", "type=none", "--opt", "o=bind", "--opt", "device=/etc"];
    let mut args = vec!["volume", "create"];
    args.extend(options);
    args.push("cell-files.data");
    world.dockerd.say(&args);
    is(
        &world.deploy(&manifest).await.unwrap_err(),
        Code::FailedPrecondition,
        "FOREIGN_OBJECT",
    );
    assert_eq!(world.left(), "|cell-files.data|");
}

/// What an image says to the loader, where its program would begin, and labels that it takes for itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_image_brings_is_held_to_the_policy() {
    let world = World::start(&json!({
        "Env": ["PATH=/bin", "LD_PRELOAD=/data/x.so"], "WorkingDir": "/proc/self/fd/8", "Labels": {"cell.more": "x", "maker": "y"}
    }));
    let refused = world.deploy(&sleeping(&world.digest)).await.unwrap_err();
    is(&refused, Code::Aborted, "DIFFERENT");
    let told = refused.message();
    assert!(
        told.ends_with(": Config.Env,Config.WorkingDir,Config.Labels"),
        "{told}"
    );
    assert_eq!(world.left(), "||");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn services_are_apart_and_the_proxy_has_a_leg_in_each() {
    let world = World::start(&image_config());
    let mut one = sleeping(&world.digest);
    one["containers"][0]["command"] = json!([
        "/bin/busybox",
        "nc",
        "-ll",
        "-p",
        "8080",
        "-e",
        "/bin/busybox",
        "true"
    ]);
    // Devices reach its port: its network has a way out, and a name that comes before the cell's if Docker had its way.
    one["containers"][0]["ports"] = json!([{"port": 8080}]);
    let mut two = one.clone();
    two["id"] = json!("mail");
    let mut side = two["containers"][0].clone();
    (side["name"], side["mounts"]) = (json!("side"), json!([]));
    two["containers"].as_array_mut().unwrap().push(side);
    let mut caddy = sleeping(&world.digest);
    (caddy["kind"], caddy["id"]) = (json!("core"), json!("caddy"));
    world.deploy(&one).await.unwrap();
    let proxy = world.deploy(&caddy).await.unwrap().deployment.unwrap().containers[0].clone();
    assert_eq!(proxy.address, "172.20.0.2");
    let two = world.deploy(&two).await.unwrap().deployment.unwrap();
    assert_eq!(two.containers[1].handle, "mail-side");
    // What listens may need a moment.
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    let reaches = |id: &str, address: &str| reaches(&world, id, address);
    let (main, side) = (&two.containers[0], &two.containers[1]);
    assert!(reaches(&main.id, &side.address), "control: within a service");
    assert!(reaches(&main.id, "side"), "control: by its name");
    assert!(!reaches(&main.id, "172.21.0.18"), "another service");
    assert!(
        reaches(&proxy.id, "172.21.0.18") && reaches(&proxy.id, &main.address),
        "the proxy reaches both"
    );
    assert_eq!(default_route(&world, &main.id), "172.21.0.33");
    assert_eq!(default_route(&world, &proxy.id), "172.20.0.1");
    the_proxy_has_its_legs_again(&world, &caddy, &main.address).await;
    for service in ["files", "mail", "caddy"] {
        world.broker.remove(service, true).await.unwrap();
    }
    assert_eq!(world.left(), "||");
}

/// The gateway of a container.
fn default_route(world: &World, id: &str) -> String {
    let routes = world.dockerd.say(&["exec", id, "/bin/busybox", "ip", "route"]);
    let default = routes.lines().find_map(|line| line.strip_prefix("default via "));
    default
        .and_then(|rest| rest.split_whitespace().next())
        .unwrap_or(&routes)
        .to_owned()
}

fn reaches(world: &World, id: &str, address: &str) -> bool {
    let script = format!("nc -w 2 {address} 8080 </dev/null");
    world
        .dockerd
        .docker(&["exec", id, "/bin/busybox", "sh", "-c", &script])
        .status
        .success()
}

/// Another version of the proxy, and one after the proxy was away, have their legs too.
async fn the_proxy_has_its_legs_again(world: &World, caddy: &Value, main: &str) {
    for (version, remove) in [("2.0", false), ("3.0", true)] {
        if remove {
            world.broker.remove("caddy", true).await.unwrap();
        }
        let mut caddy = caddy.clone();
        caddy["version"] = json!(version);
        let proxy = world.deploy(&caddy).await.unwrap().deployment.unwrap().containers[0].clone();
        assert!(
            reaches(world, &proxy.id, "172.21.0.18") && reaches(world, &proxy.id, main),
            "{version}"
        );
        let legs = world.dockerd.say(&[
            "inspect",
            "--format",
            "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}",
            &proxy.id,
        ]);
        let mut legs: Vec<&str> = legs.split_whitespace().collect();
        legs.sort_unstable();
        assert_eq!(legs, ["172.20.0.2", "172.21.0.30", "172.21.0.46"]);
        assert_eq!(default_route(world, &proxy.id), "172.20.0.1");
    }
    let bridges = world.dockerd.say(&[
        "network",
        "ls",
        "--filter",
        "label=cell.owner=default",
        "--format",
        "{{.Name}}",
    ]);
    let mut named: Vec<&str> = bridges.lines().collect();
    named.sort_unstable();
    assert_eq!(named, ["cell-network", "cell-service-files", "cell-service-mail"]);
    assert_eq!(
        world.dockerd.say(&[
            "network",
            "inspect",
            "--format",
            "{{index .Options \"com.docker.network.bridge.name\"}}",
            "cell-network"
        ]),
        "cellsvc0"
    );
}

/// Every part of a manifest at once: Docker's answer is compared with all 72 fields.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_uses_every_part_is_made_as_it_was_asked_for() {
    let root = tempfile::Builder::new()
        .prefix("cell-parts-")
        .tempdir_in("/srv")
        .unwrap();
    std::fs::set_permissions(root.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut ceiling = ceiling();
    for (id, folder) in [("media", "media/films"), ("inbox", "inbox")] {
        std::fs::create_dir_all(root.path().join(folder)).unwrap();
        let path = root.path().join(id).display().to_string();
        ceiling.bind_roots.get_mut(&name(id)).unwrap().path = path;
    }
    let world = World::start_below(&image_config(), ceiling);
    let mut manifest = rich(&format!("{REGISTRY}/store/files@{}", world.digest));
    manifest["config_schema"]["quota"]["default"] = json!(100);
    manifest["containers"][1]["command"] = json!(["/bin/sleep", "1000"]);
    let made = world.deploy(&manifest).await.unwrap().deployment.unwrap();
    let id = &made.containers[0].id;
    let port = world.dockerd.say(&["port", id]);
    assert_eq!(port, "8080/tcp -> 127.0.0.1:20001");
    let says = |script: &str| {
        world
            .dockerd
            .say(&["exec", id, "/bin/busybox", "sh", "-c", script])
    };
    assert_eq!(says("cat /proc/sys/net/ipv4/conf/all/src_valid_mark"), "1");
    assert_eq!(says("echo $WHO"), "gateway");
    assert!(says("ls -l /dev/net/tun").starts_with('c'));
    assert_eq!(says("ulimit -n"), "256");
    let wide = world.dockerd.docker(&[
        "exec",
        id,
        "/bin/busybox",
        "sh",
        "-c",
        "ls /dev/vda || ls /dev/mem",
    ]);
    assert!(!wide.status.success());
    world.broker.remove("gateway", true).await.unwrap();
    assert_eq!(world.left(), "||");
}

/// Whatever Docker will not let go of one service, the others are made and removed, and it goes itself when its hindrance does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_docker_holds_back_of_one_service_holds_up_no_other() {
    let world = World::start(&image_config());
    let one = sleeping(&world.digest);
    let mut two = one.clone();
    two["id"] = json!("mail");
    let files = world.deploy(&one).await.unwrap().deployment.unwrap().containers[0].clone();
    let networks = "{{range .NetworkSettings.Networks}}{{.NetworkID}}{{end}}";
    let network = world.dockerd.say(&["inspect", "--format", networks, &files.id]);
    // Somebody's own container has a leg in it: Docker does not remove such a network.
    let run = [
        "run",
        "--detach",
        "--network",
        &network,
        IMAGE,
        "/bin/sleep",
        "1000",
    ];
    let guest = world.dockerd.say(&run);
    let held = world.broker.remove("files", true).await.unwrap_err();
    is(&held, Code::FailedPrecondition, "DOCKER_REFUSED");
    assert!(world.deploy(&one).await.is_err(), "it is half gone");
    let mail = world.deploy(&two).await.unwrap().deployment.unwrap();
    assert!(world.running(&mail.containers[0].id));
    world.broker.remove("mail", true).await.unwrap();
    assert!(
        world.broker.remove("files", true).await.is_err(),
        "control: it is held still"
    );
    world.dockerd.say(&["rm", "--force", &guest]);
    world.broker.remove("files", true).await.unwrap();
    assert_eq!(world.left(), "||");
}
