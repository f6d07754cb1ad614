//! Makes and removes what deployments consist of. Every request is built here or in the core, goes by full ids or by names
//! that the broker gave, and passes the second table and the field policy where it leaves (`transport`).

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use cell_broker_core::deploy::{Ceiling, Finished, NetworkPlan};
use cell_broker_core::model::{ContainerId, ContainerState, Health};
use cell_manifest::{Digest, Image};
use http::Method;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{EngineError, observe, transport};

/// How long one image may take to come.
const PULL_DEADLINE: Duration = Duration::from_secs(1800);
/// How long Docker may say nothing while one comes.
const PULL_SILENCE: Duration = Duration::from_secs(120);
/// Longest line of Docker's about a pull, bytes.
const PULL_LINE_BYTES: usize = 64 * 1024;

/// Most seconds that a container has to stop by itself.
const STOP_MAX: u32 = 60;
/// Docker's status for what another request is at already.
const CONFLICT: u16 = 409;
/// Between two looks at what that one does.
const LOOK: Duration = Duration::from_millis(100);

/// Docker, as far as deployments go.
#[derive(Debug)]
pub struct Maker {
    socket: PathBuf,
    deadline: Duration,
    ceiling: Ceiling,
}

/// What is known of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// There is none.
    Absent,
    /// It is this cell's and plain.
    Own,
    /// Somebody else's, or not what the broker makes.
    Foreign,
}

/// What a container does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Condition {
    /// Now.
    pub state: ContainerState,
    /// Exit status of the last run.
    pub exit_code: i32,
    /// Of its health check.
    pub health: Health,
    /// Milliseconds since 1970-01-01T00:00:00Z; `None`: never started.
    pub started_unix_ms: Option<i64>,
}

/// A word of Docker's about an image that comes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Progress {
    /// What it does, printable.
    pub status: String,
    /// Bytes so far.
    pub current: u64,
    /// Of so many.
    pub total: u64,
}

impl Maker {
    /// Docker at `socket`; each answer is to come within `deadline`.
    pub fn new(socket: PathBuf, deadline: Duration, ceiling: Ceiling) -> Self {
        Maker {
            socket,
            deadline,
            ceiling,
        }
    }

    /// The ceiling that each create request is looked at by.
    pub fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    /// Creates a container; it does not run. Its full id.
    pub async fn create_container(
        &self,
        finished: &Finished,
        name: &str,
    ) -> Result<ContainerId, EngineError> {
        let target = format!("/containers/create?name={name}");
        let answer = self.call(Method::POST, &target, Some(finished.body())).await?;
        id(&answer["Id"])
    }

    /// All that Docker says of a container.
    pub async fn inspect_container(&self, id: &ContainerId) -> Result<Value, EngineError> {
        self.call(Method::GET, &format!("/containers/{id}/json"), None)
            .await
    }

    /// What it does now.
    pub async fn condition(&self, id: &ContainerId) -> Result<Condition, EngineError> {
        let answer = self.inspect_container(id).await?;
        let parsed: bollard::models::ContainerInspectResponse = serde_json::from_value(answer)
            .map_err(|_| EngineError::Unusable("not of the documented form"))?;
        let observed = observe::observed(parsed)?;
        Ok(Condition {
            state: observed.state,
            exit_code: observed.exit_code,
            health: observed.health,
            started_unix_ms: observed.started_unix_ms,
        })
    }

    /// Starts it.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        self.call(Method::POST, &format!("/containers/{id}/start"), None)
            .await
            .map(drop)
    }

    /// Stops it, with `seconds` (0-60) to do so by itself; no error when it is stopped or gone.
    pub async fn stop_container(&self, id: &ContainerId, seconds: u32) -> Result<(), EngineError> {
        let target = format!("/containers/{id}/stop?t={}", seconds.min(STOP_MAX));
        gone_is_done(self.call(Method::POST, &target, None).await)
    }

    /// Removes it, running or not, with the volumes that have no name; no error when it is gone. Where Docker is at it already,
    /// for a broker that was killed meanwhile, it is waited for.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), EngineError> {
        let target = format!("/containers/{id}?force=true&v=true");
        match self.call(Method::DELETE, &target, None).await {
            Err(EngineError::Refused { status: CONFLICT }) => self.is_gone(id).await,
            answer => gone_is_done(answer),
        }
    }

    /// Waits until there is no such container any more.
    async fn is_gone(&self, id: &ContainerId) -> Result<(), EngineError> {
        let looking = async {
            loop {
                match self.inspect_container(id).await {
                    Err(EngineError::Gone) => return Ok(()),
                    answer => answer.map(drop)?,
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::time::timeout(self.deadline, looking)
            .await
            .unwrap_or(Err(EngineError::Slow))
    }

    /// Ids of containers, or of networks, that bear the owner's label and `label`.
    pub async fn list_own(&self, networks: bool, label: &str) -> Result<Vec<ContainerId>, EngineError> {
        let filters = json!({"label": [self.ceiling.ownership.owner_filter(), label]}).to_string();
        let filters = utf8_percent_encode(&filters, NON_ALPHANUMERIC);
        let target = if networks {
            format!("/networks?filters={filters}")
        } else {
            format!("/containers/json?all=true&filters={filters}")
        };
        let answer = self.call(Method::GET, &target, None).await?;
        let all = answer.as_array().ok_or(EngineError::Unusable("no list"))?;
        all.iter().map(|item| id(&item["Id"])).collect()
    }

    /// Follows what happens to the cell's containers, and rings for each happening. What it was is read from the containers
    /// themselves. Ends with Docker, or after so many bytes.
    pub async fn follow(&self, ring: &tokio::sync::Notify) -> Result<(), EngineError> {
        let filters = json!({
            "event": ["create", "start", "die", "destroy", "pause", "unpause", "health_status"],
            "label": [self.ceiling.ownership.owner_filter()], "type": ["container"],
        });
        let filters = utf8_percent_encode(&filters.to_string(), NON_ALPHANUMERIC).to_string();
        let target = format!("/events?filters={filters}");
        let sent = self.send(Method::GET, &target, Vec::new());
        let answer = tokio::time::timeout(self.deadline, sent)
            .await
            .unwrap_or(Err(EngineError::Slow))?;
        // What happened before is told by nobody: Docker was away, or is only now back.
        ring.notify_one();
        let mut body = answer.into_body();
        while let Some(frame) = body.frame().await {
            frame.map_err(|error| failed(&io::Error::other(error)))?;
            ring.notify_one();
        }
        Ok(())
    }

    /// Creates a network. Its full id.
    pub async fn create_network(
        &self,
        plan: &NetworkPlan,
        service: &str,
        attempt: &str,
    ) -> Result<ContainerId, EngineError> {
        let mut labels = self.ceiling.ownership.labels(service);
        labels.insert("cell.attempt".to_owned(), attempt.to_owned());
        let body = json!({
            "Name": plan.name, "CheckDuplicate": true, "Driver": "bridge", "Internal": plan.internal,
            "Attachable": false, "Ingress": false, "EnableIPv6": false,
            "IPAM": {"Driver": "default", "Config": [
                {"Subnet": plan.subnet.to_string(), "Gateway": plan.gateway.to_string()}
            ]},
            "Options": {
                "com.docker.network.bridge.name": plan.bridge,
                "com.docker.network.bridge.enable_icc": "true",
                "com.docker.network.bridge.enable_ip_masquerade": "false",
            },
            "Labels": labels,
        });
        id(&self.call(Method::POST, "/networks/create", Some(&body)).await?["Id"])
    }

    /// Whether the network of this id is what the plan says.
    pub async fn is_network(&self, id: &ContainerId, plan: &NetworkPlan) -> Result<bool, EngineError> {
        let target = format!("/networks/{id}");
        let answer = match self.call(Method::GET, &target, None).await {
            Err(EngineError::Gone) => return Ok(false),
            answer => answer?,
        };
        let option = |key: &str| answer["Options"][format!("com.docker.network.bridge.{key}")].as_str();
        Ok(answer["Name"] == plan.name.as_str()
            && answer["Driver"] == "bridge"
            && answer["Internal"] == json!(plan.internal)
            && answer["Attachable"] == json!(false)
            && answer["EnableIPv6"] == json!(false)
            && answer["IPAM"]["Config"][0]["Subnet"] == plan.subnet.to_string()
            && option("name") == Some(plan.bridge.as_str())
            && option("enable_ip_masquerade") == Some("false"))
    }

    /// Removes it; no error when it is gone.
    pub async fn remove_network(&self, id: &ContainerId) -> Result<(), EngineError> {
        gone_is_done(self.call(Method::DELETE, &format!("/networks/{id}"), None).await)
    }

    /// Gives a container a second leg: the proxy's in a service's network.
    pub async fn connect(
        &self,
        network: &ContainerId,
        container: &ContainerId,
        address: std::net::Ipv4Addr,
    ) -> Result<(), EngineError> {
        let body = json!({
            "Container": container.as_str(),
            "EndpointConfig": {"IPAMConfig": {"IPv4Address": address.to_string()}},
        });
        let target = format!("/networks/{network}/connect");
        match self.call(Method::POST, &target, Some(&body)).await {
            // It has a leg there already.
            Err(EngineError::Refused { status: 403 }) => {}
            connected => return connected.map(drop),
        }
        if self.has_leg(network, container, address).await? {
            return Ok(());
        }
        // Somebody has put it elsewhere: devices and policies know this address.
        self.disconnect(network, container).await?;
        self.call(Method::POST, &target, Some(&body)).await.map(drop)
    }

    async fn has_leg(
        &self,
        network: &ContainerId,
        container: &ContainerId,
        address: std::net::Ipv4Addr,
    ) -> Result<bool, EngineError> {
        let answer = self.inspect_container(container).await?;
        let legs = answer["NetworkSettings"]["Networks"].as_object();
        Ok(legs.is_some_and(|legs| {
            legs.values().any(|leg| {
                leg["NetworkID"] == network.as_str()
                    && leg["IPAMConfig"]["IPv4Address"] == address.to_string()
            })
        }))
    }

    /// Takes the leg away; no error when there is none.
    pub async fn disconnect(
        &self,
        network: &ContainerId,
        container: &ContainerId,
    ) -> Result<(), EngineError> {
        let body = json!({"Container": container.as_str(), "Force": true});
        let answer = self
            .call(
                Method::POST,
                &format!("/networks/{network}/disconnect"),
                Some(&body),
            )
            .await;
        match answer {
            Err(EngineError::Gone | EngineError::Refused { .. }) => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Creates a volume of Docker's own driver, without options.
    pub async fn create_volume(&self, name: &str, service: &str, attempt: &str) -> Result<(), EngineError> {
        let mut labels = self.ceiling.ownership.labels(service);
        labels.insert("cell.attempt".to_owned(), attempt.to_owned());
        let body = json!({"Name": name, "Driver": "local", "DriverOpts": {}, "Labels": labels});
        self.call(Method::POST, "/volumes/create", Some(&body))
            .await
            .map(drop)
    }

    /// What there is of that name. Docker makes no second one: another's has to be told from ours before it is mounted.
    pub async fn volume(&self, name: &str, service: &str) -> Result<VolumeState, EngineError> {
        let answer = match self.call(Method::GET, &format!("/volumes/{name}"), None).await {
            Err(EngineError::Gone) => return Ok(VolumeState::Absent),
            answer => answer?,
        };
        let labels = self.ceiling.ownership.labels(service);
        let plain = answer["Options"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty);
        let own = labels
            .iter()
            .all(|(key, value)| answer["Labels"][key] == value.as_str());
        let good = answer["Driver"] == "local" && plain && own;
        Ok(if good {
            VolumeState::Own
        } else {
            VolumeState::Foreign
        })
    }

    /// Whether there is a volume of that name that this attempt made.
    pub async fn volume_is_of(&self, name: &str, attempt: &str) -> Result<bool, EngineError> {
        match self.call(Method::GET, &format!("/volumes/{name}"), None).await {
            Err(EngineError::Gone) => Ok(false),
            answer => Ok(answer?["Labels"]["cell.attempt"] == attempt),
        }
    }

    /// Removes it; no error when it is gone.
    pub async fn remove_volume(&self, name: &str) -> Result<(), EngineError> {
        gone_is_done(self.call(Method::DELETE, &format!("/volumes/{name}"), None).await)
    }

    /// Whether the image is there, by its digest.
    pub async fn has_image(&self, image: &Image) -> Result<bool, EngineError> {
        let answer = match self
            .call(Method::GET, &format!("/images/{image}/json"), None)
            .await
        {
            Err(EngineError::Gone) => return Ok(false),
            answer => answer?,
        };
        let digests = answer["RepoDigests"].as_array();
        Ok(digests.is_some_and(|all| all.iter().any(|digest| *digest == image.to_string())))
    }

    /// Whether the image of this id is there: one that was built on the machine.
    pub async fn has_image_id(&self, id: &Digest) -> Result<bool, EngineError> {
        match self.call(Method::GET, &format!("/images/{id}/json"), None).await {
            Err(EngineError::Gone) => Ok(false),
            answer => Ok(answer?["Id"] == id.as_str()),
        }
    }

    /// Fetches it. What Docker says goes to `progress`; a reader that is away does not end it.
    pub async fn pull(&self, image: &Image, progress: &mpsc::Sender<Progress>) -> Result<(), EngineError> {
        let target = format!("/images/create?fromImage={}&tag={}", image.name(), image.digest());
        let pulled = async {
            let answer = self.send(Method::POST, &target, Vec::new()).await?;
            let status = answer.status().as_u16();
            let mut body = answer.into_body();
            if status != 200 {
                return Err(refused(status, &self.gather(&mut body).await?));
            }
            follow(&mut body, progress).await
        };
        tokio::time::timeout(PULL_DEADLINE, pulled)
            .await
            .unwrap_or(Err(EngineError::Slow))
    }

    async fn call(&self, method: Method, target: &str, body: Option<&Value>) -> Result<Value, EngineError> {
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|_| EngineError::Unusable("no body"))?,
            None => Vec::new(),
        };
        // A container has its time to stop by itself.
        let stops = target.contains("/stop?");
        let deadline = self.deadline + Duration::from_secs(if stops { STOP_MAX.into() } else { 0 });
        let call = async {
            let answer = self.send(method, target, body).await?;
            let status = answer.status().as_u16();
            let bytes = self.gather(&mut answer.into_body()).await?;
            match status {
                204 | 304 => Ok(Value::Null),
                200..=299 if bytes.is_empty() => Ok(Value::Null),
                200..=299 => serde_json::from_slice(&bytes).map_err(|_| EngineError::Unusable("not JSON")),
                404 => Err(EngineError::Gone),
                status => Err(refused(status, &bytes)),
            }
        };
        tokio::time::timeout(deadline, call)
            .await
            .unwrap_or(Err(EngineError::Slow))
    }

    async fn send(
        &self,
        method: Method,
        target: &str,
        body: Vec<u8>,
    ) -> Result<http::Response<Incoming>, EngineError> {
        let sent = transport::make(&self.socket, &self.ceiling, method, target, body).await;
        sent.map_err(|error| failed(&error))
    }

    /// Puts an archive into a folder of a container, for root's way back alone. It takes as long as it takes.
    pub async fn put_back(
        &self,
        id: &ContainerId,
        folder: &str,
        archive: mpsc::Receiver<io::Result<bytes::Bytes>>,
    ) -> Result<(), EngineError> {
        let folder = folder.replace('/', "%2F").replace('+', "%2B").replace('@', "%40");
        let target = format!("/containers/{id}/archive?path={folder}");
        let sent = transport::put_back(&self.socket, &target, archive).await;
        let answer = sent.map_err(|error| failed(&error))?;
        let status = answer.status().as_u16();
        let bytes = self.gather(&mut answer.into_body()).await?;
        match status {
            200..=299 => Ok(()),
            404 => Err(EngineError::Gone),
            status => Err(refused(status, &bytes)),
        }
    }

    async fn gather(&self, body: &mut Incoming) -> Result<Vec<u8>, EngineError> {
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame
                .map_err(|error| failed(&io::Error::other(error)))?
                .into_data()
            {
                bytes.extend_from_slice(&data);
            }
        }
        Ok(bytes)
    }
}

/// Reads Docker's lines about a pull to their end. An error is told in one, after the status 200.
async fn follow(body: &mut Incoming, progress: &mpsc::Sender<Progress>) -> Result<(), EngineError> {
    let mut line = Vec::new();
    loop {
        let frame = tokio::time::timeout(PULL_SILENCE, body.frame())
            .await
            .map_err(|_| EngineError::Slow)?;
        let Some(frame) = frame else {
            return Ok(());
        };
        let Ok(data) = frame
            .map_err(|error| failed(&io::Error::other(error)))?
            .into_data()
        else {
            continue;
        };
        for byte in data {
            if byte != b'\n' {
                line.push(byte);
                if line.len() > PULL_LINE_BYTES {
                    return Err(EngineError::Unusable("too long a line about a pull"));
                }
                continue;
            }
            let told: Value = serde_json::from_slice(&line).unwrap_or_default();
            line.clear();
            if let Some(words) = told["error"].as_str() {
                let words = cell_broker_core::logs::printable(words);
                tracing::warn!(%words, "docker could not pull");
                return Err(EngineError::Refused { status: 502 });
            }
            let status = cell_broker_core::logs::printable(told["status"].as_str().unwrap_or_default());
            let detail = &told["progressDetail"];
            // What nobody reads in time is left out: progress is for people.
            let _ = progress.try_send(Progress {
                status: status.chars().take(200).collect(),
                current: detail["current"].as_u64().unwrap_or(0),
                total: detail["total"].as_u64().unwrap_or(0),
            });
        }
    }
}

fn id(value: &Value) -> Result<ContainerId, EngineError> {
    ContainerId::try_from(value.as_str().unwrap_or_default()).map_err(|_| EngineError::Unusable("no full id"))
}

fn gone_is_done(answer: Result<Value, EngineError>) -> Result<(), EngineError> {
    match answer {
        Err(EngineError::Gone) => Ok(()),
        answer => answer.map(drop),
    }
}

/// Docker's own words go to the log and no further.
fn refused(status: u16, bytes: &[u8]) -> EngineError {
    let words = String::from_utf8_lossy(&bytes[..bytes.len().min(2000)]);
    let words = cell_broker_core::logs::printable(&words);
    tracing::warn!(status, %words, "docker refused");
    EngineError::Refused { status }
}

fn failed(error: &io::Error) -> EngineError {
    let why = cause_of(error);
    // No Docker is a state of the machine's, which the status tells; it would be said at each look.
    if why != cell_broker_core::Unreachable::NoSocket.into() {
        tracing::warn!(%error, "docker call failed");
    }
    why
}

fn cause_of(error: &io::Error) -> EngineError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    loop {
        if let Some(found) = cause.downcast_ref::<io::Error>()
            && found.get_ref().is_none_or(|inner| !inner.is::<hyper::Error>())
        {
            return observe::io_error(found);
        }
        match std::error::Error::source(cause) {
            Some(inner) => cause = inner,
            None => return cell_broker_core::Unreachable::Lost.into(),
        }
    }
}
