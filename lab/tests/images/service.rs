//! A service of the catalog, started in a Docker daemon of its own under the hardening that the broker renders
//! (`containerd-shim/core/src/deploy/render.rs`).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::dockerd::Dockerd;

/// The service's network.
const BRIDGE: &str = "cellsvc7";
const SUBNET: &str = "172.21.7.0/24";
/// The machine's own address in it.
pub const MACHINE: &str = "172.21.7.1";

/// The repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Waits until `holds` gives something.
pub fn eventually<T>(what: &str, limit: Duration, mut holds: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        match holds() {
            Ok(value) => return value,
            Err(error) => assert!(Instant::now() < deadline, "{what}: {error}"),
        }
        std::thread::sleep(Duration::from_millis(150));
    }
}

/// A daemon with one network, and containers in it.
pub struct Service {
    pub dockerd: Dockerd,
    images: BTreeMap<String, String>,
    started: Vec<String>,
}

impl Service {
    /// Starts a daemon, loads images into it, and makes the network.
    pub fn new(images: &[&str]) -> Self {
        let dockerd = Dockerd::start();
        let images = load(&dockerd, images);
        let bridge = format!("com.docker.network.bridge.name={BRIDGE}");
        dockerd.say(&[
            "network",
            "create",
            "--internal",
            "--subnet",
            SUBNET,
            "--opt",
            &bridge,
            "own",
        ]);
        Service {
            dockerd,
            images,
            started: Vec::new(),
        }
    }

    /// Creates all containers of a manifest of the catalog, then starts them, as the broker does. `binds` are the folders of the
    /// roots that it names.
    pub fn deploy(&mut self, id: &str, binds: &BTreeMap<&str, PathBuf>) {
        let manifest = manifest(id);
        let containers = manifest["containers"].as_array().unwrap();
        for container in containers {
            self.create(id, container, binds);
        }
        for container in containers {
            let name = format!("cell-{id}-{}", container["name"].as_str().unwrap());
            self.dockerd.say(&["start", &name]);
            self.started.push(name);
        }
    }

    fn create(&self, id: &str, container: &Value, binds: &BTreeMap<&str, PathBuf>) {
        let name = container["name"].as_str().unwrap();
        let image = container["image"]
            .as_str()
            .unwrap()
            .strip_prefix("local:")
            .unwrap();
        let mut args: Vec<String> = vec!["create".to_owned()];
        args.extend([
            "--name".to_owned(),
            format!("cell-{id}-{name}"),
            format!("--network-alias={name}"),
        ]);
        args.extend(hardening(container));
        args.extend(mounts(id, container, binds));
        let entries = container["environment"].as_object().into_iter().flatten();
        for (key, value) in entries {
            args.push(format!("--env={key}={}", fill(value)));
        }
        if let Some(health) = container.get("health") {
            // The check itself is run by `healthy`, word by word: the command line's knows only one for a shell.
            assert!(health["command"].is_array());
        }
        args.push(self.images[image].clone());
        args.extend(container["command"].as_array().into_iter().flatten().map(fill));
        let words: Vec<&str> = args.iter().map(String::as_str).collect();
        self.dockerd.say(&words);
    }

    /// The address of a container.
    pub fn address(&self, container: &str) -> String {
        let format = "{{.NetworkSettings.Networks.own.IPAddress}}";
        self.dockerd.say(&["inspect", "--format", format, container])
    }

    /// Runs a program in the daemon's network: what a device behind the VPN would run.
    pub fn outside(&self, program: &str, args: &[&str]) -> Output {
        Command::new("nsenter")
            .arg(format!("--net=/proc/{}/ns/net", self.dockerd.inner()))
            // A client that waits for good is a failure too.
            .args(["timeout", "300", program])
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What it printed; fails when it failed.
    pub fn out(&self, program: &str, args: &[&str]) -> String {
        let output = self.outside(program, args);
        let (said, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(
            output.status.success(),
            "{program} {args:?}: {said} {error}{}",
            self.logs()
        );
        said.trim().to_owned()
    }

    /// A client of `lab/tests/images/NAME.py`.
    pub fn client(&self, name: &str, args: &[&str]) -> Value {
        let script = repository().join("lab/tests/images").join(name);
        let mut words = vec![script.to_str().unwrap()];
        words.extend(args);
        let said = self.out("/usr/bin/python3", &words);
        serde_json::from_str(said.lines().last().unwrap_or_default()).unwrap()
    }

    /// Adds addresses of devices to the daemon's side of the network.
    pub fn devices(&self, addresses: &[&str]) {
        for address in addresses {
            self.out("ip", &["address", "add", &format!("{address}/32"), "dev", BRIDGE]);
        }
    }

    /// Waits until every container's own health check passes.
    pub fn healthy(&self, id: &str) {
        for container in manifest(id)["containers"].as_array().unwrap() {
            let name = format!("cell-{id}-{}", container["name"].as_str().unwrap());
            let Some(check) = container.get("health") else {
                continue;
            };
            let command: Vec<String> = check["command"].as_array().unwrap().iter().map(fill).collect();
            let mut words = vec!["exec", &name];
            words.extend(command.iter().map(String::as_str));
            eventually(&format!("{name} is healthy"), Duration::from_secs(30), || {
                let output = self.dockerd.docker(&words);
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                output
                    .status
                    .success()
                    .then_some(())
                    .ok_or_else(|| said + &self.logs())
            });
        }
    }

    /// What the containers use, printed: the measure is the kernel's (memory.current less what can be dropped).
    pub fn print_memory(&self) {
        let mut args = vec!["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"];
        args.extend(self.started.iter().map(String::as_str));
        for line in self.dockerd.say(&args).lines() {
            println!("memory: {line}");
        }
    }

    /// What the containers wrote, for a failure's message.
    pub fn logs(&self) -> String {
        let mut all = String::new();
        for name in &self.started {
            let output = self.dockerd.docker(&["logs", "--tail", "40", name]);
            let (said, error) = (
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr),
            );
            all += &format!("\n--- {name}\n{said}{error}");
        }
        all
    }

    /// Asks the interface for accounts, as the machine: the status.
    pub fn accounts(&self, container: &str, method: &str, path: &str, body: &str) -> String {
        self.accounts_as(MACHINE, container, method, path, body)
    }

    /// The same from another address of the daemon's side.
    pub fn accounts_as(&self, source: &str, container: &str, method: &str, path: &str, body: &str) -> String {
        let url = format!("http://{}:8090{path}", self.address(container));
        let mut args = vec![
            "-sS",
            "--max-time",
            "10",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "-X",
            method,
            "--interface",
            source,
        ];
        if !body.is_empty() {
            args.extend(["-H", "Content-Type: application/json", "--data", body]);
        }
        args.push(&url);
        self.out("curl", &args)
    }
}

/// A manifest of the catalog.
pub fn manifest(id: &str) -> Value {
    let path = repository()
        .join("compose/catalog")
        .join(id)
        .join("manifest.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Builds or takes from the cache, loads, and reads the list that the broker would read.
fn load(dockerd: &Dockerd, names: &[&str]) -> BTreeMap<String, String> {
    let list = dockerd.dir().join("images.toml");
    let output = Command::new(repository().join("compose/images/build.sh"))
        .arg("--cache")
        .arg(repository().join("target/lab-cache/images"))
        .arg("--list")
        .arg(&list)
        .args(names)
        .env("DOCKER_HOST", format!("unix://{}", dockerd.socket().display()))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "build.sh: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = std::fs::read_to_string(list).unwrap();
    let entries = text.lines().filter_map(|line| line.split_once(" = "));
    entries
        .map(|(name, id)| (name.to_owned(), id.trim_matches('"').to_owned()))
        .collect()
}

/// The places that manifests of the catalog have.
fn fill(template: &Value) -> String {
    template
        .as_str()
        .unwrap()
        .replace("${config.domain}", "cell.example")
}

/// `HostConfig` of `render.rs` as the command line's options.
fn hardening(container: &Value) -> Vec<String> {
    assert!(
        container.get("capabilities").is_none(),
        "no service of the catalog needs one"
    );
    assert!(
        container.get("read_only_root").is_none(),
        "nor a root that can be written to"
    );
    let limits = &container["limits"];
    let memory = limits["memory_mib"].as_u64().unwrap();
    let cpu = limits["cpu_milli"].as_f64().unwrap() / 1000.0;
    let files = limits["files"].as_u64().unwrap_or(1024);
    let seccomp = repository().join("containerd-shim/core/src/deploy/seccomp.json");
    vec![
        format!("--user={}", container["user"].as_str().unwrap()),
        format!("--security-opt=seccomp={}", seccomp.display()),
        format!("--memory={memory}m"),
        format!("--memory-swap={memory}m"),
        format!("--cpus={cpu}"),
        format!("--pids-limit={}", limits["pids"]),
        format!("--shm-size={}m", limits["shm_mib"].as_u64().unwrap_or(64)),
        format!("--ulimit=nofile={files}:{files}"),
        format!(
            "--stop-signal={}",
            container["stop_signal"].as_str().unwrap_or("SIGTERM")
        ),
    ]
    .into_iter()
    .chain(
        [
            "--network=own",
            "--cap-drop=ALL",
            "--security-opt=no-new-privileges",
            "--read-only",
            "--ipc=private",
            "--cgroupns=private",
            "--cgroup-parent=cell-apps.slice",
            "--init",
            "--restart=no",
            "--dns=172.21.7.1",
            "--ulimit=nproc=4096:4096",
            "--ulimit=core=0:0",
        ]
        .map(str::to_owned),
    )
    .collect()
}

fn mounts(id: &str, container: &Value, binds: &BTreeMap<&str, PathBuf>) -> Vec<String> {
    let mount = |mount: &Value| {
        let text = |key: &str| mount[key].as_str().unwrap_or_default();
        let read_only = if mount["read_only"] == true {
            ",readonly"
        } else {
            ""
        };
        let target = text("target");
        let words = match text("type") {
            "volume" => format!(
                "type=volume,source=cell-{id}-{},target={target}{read_only}",
                text("volume")
            ),
            "bind" => {
                let source = binds[text("root")].display();
                format!("type=bind,source={source},target={target},bind-propagation=rprivate{read_only}")
            }
            "tmpfs" => {
                let bytes = mount["size_mib"].as_u64().unwrap() << 20;
                format!(
                    "type=tmpfs,target={target},tmpfs-size={bytes},tmpfs-mode={}{read_only}",
                    text("mode")
                )
            }
            other => panic!("a mount of type {other}"),
        };
        format!("--mount={words}")
    };
    container["mounts"]
        .as_array()
        .into_iter()
        .flatten()
        .map(mount)
        .collect()
}
