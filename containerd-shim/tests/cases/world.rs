//! A Docker with what is foreign, a broker before it, and a recorder between the two.

use std::process::Command;

use cell_broker::backup::BackupPolicy;
use cell_proto::fault;
use serde_json::{Value, json};
use tonic::Status;

use super::expected::changed;
use super::support::deployed::Deployed;
use super::support::dockerd::Dockerd;
use super::support::proxy::Proxy;
use super::support::signed::{self, REGISTRY, bundle, ceiling, manifest};
use super::support::{SERVICE, registry};

pub struct World {
    pub dockerd: Dockerd,
    pub proxy: Proxy,
    pub broker: Deployed,
    /// The digest of the image that its registry has.
    pub image: String,
    _state: tempfile::TempDir,
    _lists: tempfile::TempDir,
}

impl World {
    pub fn start() -> Self {
        let dockerd = Dockerd::start();
        let image = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
        let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
        let state = tempfile::tempdir().unwrap();
        // Every folder above the list is root's: else it would not be read.
        let lists = tempfile::Builder::new()
            .prefix("cell-cases-")
            .tempdir_in("/root")
            .unwrap();
        let list = lists.path().join("images.toml");
        std::fs::write(&list, format!("[images]\ncaddy = \"{}\"\n", signed::DIGEST)).unwrap();
        let mut ceiling = ceiling();
        ceiling.local_images = Some(list.display().to_string());
        let backup = BackupPolicy {
            recipients: vec![age::x25519::Identity::generate().to_public()],
            most_bytes: 1 << 20,
        };
        let broker = Deployed::start_with(&proxy.path, state.path(), ceiling, "this-boot", Some(backup));
        World {
            dockerd,
            proxy,
            broker,
            image,
            _state: state,
            _lists: lists,
        }
    }

    /// A volume and a container that are not the cell's; the container's id.
    pub fn with_foreign(&self, name: &str) -> String {
        self.dockerd.say(&["volume", "create", "foreign"]);
        let named = format!("--name={name}");
        self.dockerd.create(&[&named], &[], SERVICE).to_string()
    }

    /// The folder that the reference's bodies call a registered root, where Docker alone sees it.
    pub fn with_root(&self) {
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.dockerd.inner());
        let script = "mount -t tmpfs tmpfs /srv && mkdir -p /srv/cell/data";
        let made = Command::new("nsenter")
            .args([&namespace, "sh", "-c", script])
            .status();
        assert!(made.unwrap().success(), "{script}");
    }

    /// The least manifest, of an image that is there.
    pub fn least(&self) -> Value {
        manifest(&format!("{REGISTRY}/store/files@{}", self.image))
    }

    /// Has the broker fetch and make the least manifest with a command that goes on; its digest and the container's id.
    pub async fn deployed(&self) -> (String, String) {
        let command = json!(["/bin/sleep", "1000"]);
        let least = changed(&self.least(), "/containers/0/command", &command);
        let digest = self.broker.put(bundle(&least)).await.unwrap();
        self.broker.pull(&digest).await.unwrap();
        let made = self.broker.deploy(&digest, &[]).await.unwrap();
        let id = made.deployment.unwrap().containers[0].id.clone();
        (digest, id)
    }

    /// The control of "no byte": what the broker did just now has been recorded.
    pub fn assert_recorded(&self, what: &str) {
        let (connections, bytes) = self.proxy.take();
        assert!(
            connections > 0 && bytes.contains(what),
            "control: {connections} connections and {} bytes, none with {what}",
            bytes.len()
        );
    }

    /// Nothing of it, either, that would come late.
    pub fn assert_untouched(&self, before: &str) {
        assert_eq!(
            self.inventory(),
            before,
            "nothing is made, and nothing taken away"
        );
        assert_eq!(self.proxy.take(), (0, String::new()));
    }

    /// All that is at Docker.
    pub fn inventory(&self) -> String {
        let all = [
            self.dockerd.say(&["ps", "--all", "--quiet", "--no-trunc"]),
            self.dockerd.say(&["volume", "ls", "--quiet"]),
            self.dockerd.say(&["network", "ls", "--quiet", "--no-trunc"]),
            self.dockerd.say(&["images", "--quiet", "--no-trunc"]),
        ];
        all.join("\n--\n")
    }

    /// Which Docker gave the statuses: those of the reference are 20.10.24's.
    pub fn version(&self) -> String {
        self.dockerd.say(&["version", "--format", "{{.Server.Version}}"])
    }
}

/// The stable reason.
pub fn reason(status: &Status) -> String {
    fault::reason(status).unwrap_or_default()
}

/// What a line of a report says, and whether all of it is right.
#[derive(Default)]
pub struct Line {
    said: Vec<String>,
    faults: Vec<String>,
}

impl Line {
    pub fn say(&mut self, words: impl Into<String>) {
        self.said.push(words.into());
    }

    /// Notes a fault unless `holds`.
    pub fn must(&mut self, holds: bool, words: impl FnOnce() -> String) {
        if !holds {
            self.faults.push(words());
        }
    }

    /// What was seen, then what of it is wrong.
    pub fn told(&self) -> String {
        let wrong = self.faults.iter().map(|fault| format!("WRONG: {fault}"));
        let said: Vec<String> = self.said.iter().cloned().chain(wrong).collect();
        said.join("; ")
    }

    pub fn holds(&self) -> bool {
        self.faults.is_empty()
    }
}
