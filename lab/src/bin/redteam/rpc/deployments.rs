//! The broker's deployments: what a taken-over `cell-api` could have made of manifests and parameters. All that is attacked with is
//! signed by keys of this cell's ceiling (`ceiling.rs`), unless the signature is what the attack is about.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    DeployRequest, ImageSignature, Parameter, PullImagesRequest, PutManifestRequest, ServicePlace,
};
use cell_proto::fault;
use cell_proto::ipc::connect;
use serde_json::{Value, json};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::expected::Attempt::{Instead, NoSuchKey, Refused, Rich, Text};
use super::expected::{Case, asking, cases, changed};
use super::{RpcCheck, quiet, run_within, told, worst};
use crate::attempt::Outcome;
use crate::ceiling::{IMAGES, MANIFESTS, NOBODY, sign};
use crate::stance::Stance;
use crate::target::Target;

/// How long a line with many calls may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a link is exchanged below a root that is the attacker's.
const FLIPS: usize = 10_000;
/// Requests of a flood.
const FLOOD: usize = 300;
const DIGEST: &str = "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

pub fn checks() -> Vec<RpcCheck> {
    vec![
        sandboxed("G29", "every create case as a signed manifest", |target| {
            run_within(PATIENCE, manifests(target))
        }),
        sandboxed("G29", "every create case as a parameter", |target| {
            run_within(PATIENCE, parameters(target))
        }),
        sandboxed(
            "G31",
            "deploy what is unsigned, altered, or another's by digest",
            |target| run_within(PATIENCE, unsigned(target)),
        ),
        sandboxed("G32", "pull what no signed manifest names", |target| {
            run_within(PATIENCE, pulls(target))
        }),
        sandboxed("G36", "bind the cell's folders and Docker's socket", |target| {
            run_within(PATIENCE, binds(target))
        }),
        quiet(
            "G37",
            "flip a link below a root that is the attacker's own",
            deploys,
            Stance::Plain,
            |target| run_within(PATIENCE, flips(target)),
        ),
        sandboxed("G39", "hundreds of manifests and deployments at once", |target| {
            run_within(PATIENCE, flood(target))
        }),
    ]
}

/// As `cell-api` in its sandbox.
fn sandboxed(id: &'static str, what: &'static str, attack: fn(&Target) -> Outcome) -> RpcCheck {
    quiet(id, what, deploys, Stance::Sandboxed, attack)
}

/// The service that is made: what the lines of other verbs take for the cell's own, too.
pub const SERVICE: &str = "files";
/// The value of a variable in its environment.
pub const SECRET: &str = "cell-redteam-container-secret";
/// What it logs: much, and full of bytes that no terminal should see.
const LOUD: &str = "i=0; while [ $i -lt 4000 ]; do printf \"line %d \\033[2J\\007\\377%0500d\\n\" $i 0; i=$((i+1)); done; \
                    exec /bin/busybox sleep 100000";

/// A manifest that this ceiling lets be made, with a folder of a registered root.
fn least() -> Value {
    json!({
        "schema_version": 3, "kind": "store", "id": SERVICE, "name": "Files", "version": "1.0",
        "flags": {"has_storage": true},
        "containers": [{
            "name": "main", "image": "local:cell-test", "user": "1000:1000", "command": ["/bin/busybox", "sh", "-c", LOUD],
            "environment": {"SECRET": SECRET},
            "mounts": [{"type": "bind", "root": "media", "path": "films", "target": "/media", "read_only": true}],
            "limits": {"memory_mib": 32, "cpu_milli": 500, "pids": 32}
        }]
    })
}

/// One with all that cases of the judge change.
fn rich() -> Value {
    let mut rich = least();
    rich["containers"][0]["mounts"] = json!([
        {"type": "tmpfs", "size_mib": 4, "target": "/tmp"},
        {"type": "bind", "root": "media", "path": "films", "target": "/media", "read_only": true}
    ]);
    rich["containers"][0]["ports"] =
        json!([{"port": 8080, "publish": {"address": "127.0.0.1", "port": 20001}}]);
    rich
}

/// One whose image comes from a registry, with cosign's payload for `digest`, signed by `by`.
fn from_registry(registry: &str, digest: &str, by: u8) -> PutManifestRequest {
    let image = format!("{registry}/store/files");
    let asked = changed(
        &least(),
        "/containers/0/image",
        &json!(format!("{image}@{DIGEST}")),
    );
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": image}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"
        },
        "optional": null
    });
    let payload = payload.to_string().into_bytes();
    let signature = sign(by, &payload).unwrap_or_default();
    PutManifestRequest {
        images: vec![ImageSignature { payload, signature }],
        ..signed(&asked)
    }
}

fn signed(manifest: &Value) -> PutManifestRequest {
    signed_text(manifest.to_string())
}

fn signed_text(manifest: String) -> PutManifestRequest {
    PutManifestRequest {
        signature: sign(MANIFESTS, manifest.as_bytes()).unwrap_or_default(),
        manifest: manifest.into_bytes(),
        images: Vec::new(),
    }
}

/// The attacker's end of the broker's socket.
#[derive(Clone)]
struct Broker(DeploymentServiceClient<Channel>);

impl Broker {
    fn of(target: &Target) -> Self {
        Broker(DeploymentServiceClient::new(connect(
            target.socket("broker/broker.sock"),
        )))
    }

    async fn put(&self, bundle: PutManifestRequest) -> Result<String, Status> {
        Ok(self.0.clone().put_manifest(bundle).await?.into_inner().digest)
    }

    async fn deploy(&self, digest: &str, parameters: &[(&str, &str)]) -> Result<(), Status> {
        let parameter = |(name, text): &(&str, &str)| Parameter {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        let request = DeployRequest {
            manifest_digest: digest.to_owned(),
            instance: String::new(),
            parameters: parameters.iter().map(parameter).collect(),
            place: Some(ServicePlace {
                number: 1,
                subnet: "172.21.0.16/28".to_owned(),
            }),
        };
        self.0.clone().deploy(request).await.map(drop)
    }

    async fn pull(&self, digest: &str) -> Result<(), Status> {
        let request = PullImagesRequest {
            manifest_digest: digest.to_owned(),
        };
        let mut told = self.0.clone().pull_images(request).await?.into_inner();
        while told.message().await?.is_some() {}
        Ok(())
    }

    /// Hands it in, and has it deployed.
    async fn make(&self, bundle: PutManifestRequest) -> Result<(), Status> {
        let digest = self.put(bundle).await?;
        self.deploy(&digest, &[]).await
    }

    /// The digest of the manifest that may be made.
    async fn known(&self) -> Result<String, Status> {
        self.put(signed(&least())).await
    }
}

/// Whether what may be made is made: the container is there afterwards.
pub fn deploys(target: &Target) -> Outcome {
    run_within(PATIENCE, async {
        match Broker::of(target).make(signed(&least())).await {
            Ok(()) => Outcome::Open,
            Err(status) if status.code() == Code::Unavailable => {
                Outcome::Void("the daemon is away".to_owned())
            }
            Err(status) => Outcome::Closed(told(&status)),
        }
    })
}

/// Refused, and with this reason, or with this code among the broker's rules and the judge's: anything else is no proof.
fn for_its(what: &str, answer: Result<(), Status>, code: &str) -> Outcome {
    let Err(status) = answer else {
        println!("     {what} was done");
        return Outcome::Open;
    };
    let metadata = fault::metadata(&status);
    let lists = ["rules", "codes"].map(|key| metadata.get(key).cloned().unwrap_or_default());
    let among = lists
        .iter()
        .flat_map(|list| list.split(','))
        .any(|given| given == code);
    // What is too long for a message is refused before it is one.
    let too_long = code == "J2" && status.code() == Code::OutOfRange;
    if among || too_long || fault::reason(&status).as_deref() == Some(code) {
        Outcome::Closed(code.to_owned())
    } else {
        Outcome::Void(format!("{what}: {} for {code}", told(&status)))
    }
}

/// The worst, or how many were refused.
fn all(outcomes: Vec<Outcome>) -> Outcome {
    let count = outcomes.len();
    match worst(outcomes) {
        Outcome::Closed(_) => Outcome::Closed(format!("{count} refused, each for its reason")),
        other => other,
    }
}

/// A manifest that asks for a case, what it is refused for, and the key that this is said of.
struct Asked {
    bundle: PutManifestRequest,
    code: &'static str,
    key: Option<String>,
}

/// Every manifest that asks for a case: where no manifest has a key for it, one for each of Docker's words in its body.
fn asked(case: &Case) -> Vec<Asked> {
    let one = |bundle: PutManifestRequest, code: &'static str| {
        let key = None;
        vec![Asked { bundle, code, key }]
    };
    let with = |at: &str, value: &Value, of: &Value| signed(&changed(of, at, value));
    match &case.attempt {
        NoSuchKey | Instead(..) => asking(case, &least())
            .into_iter()
            .map(|(key, manifest)| Asked {
                bundle: signed(&manifest),
                code: "S1",
                key: Some(key),
            })
            .collect(),
        Refused(at, value, code) => one(with(at, value, &least()), code),
        Rich(at, value, code) => one(with(at, value, &rich()), code),
        Text(from, to, code) => one(signed_text(least().to_string().replacen(from, to, 1)), code),
    }
}

/// Whether a refusal says that there is no such key.
fn names(answer: &Result<(), Status>, key: &str) -> bool {
    let words = format!("unknown field `{key}`");
    let named = |status: &Status| {
        let violations = fault::violations(status);
        violations
            .iter()
            .any(|violation| violation.description.starts_with(&words))
    };
    answer.as_ref().err().is_some_and(named)
}

async fn manifests(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let mut outcomes = Vec::new();
    for case in cases() {
        for Asked { bundle, code, key } in asked(&case) {
            let answer = broker.make(bundle).await;
            let unnamed = key.filter(|key| answer.is_err() && !names(&answer, key));
            outcomes.push(match unnamed {
                Some(key) => Outcome::Void(format!("{}: refused, and not for {key}", case.id)),
                None => for_its(&case.id, answer, code),
            });
        }
    }
    all(outcomes)
}

async fn parameters(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let known = match broker.known().await {
        Ok(known) => known,
        Err(status) => return Outcome::Void(told(&status)),
    };
    let mut outcomes = Vec::new();
    for case in cases() {
        let text: String = case.body.chars().take(4000).collect();
        let answer = broker.deploy(&known, &[("HostConfig", &text)]).await;
        outcomes.push(for_its(&case.id, answer, "S3_PARAMETER"));
    }
    all(outcomes)
}

async fn unsigned(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let another = changed(&least(), "/version", &json!("1.1"));
    let good = signed(&least());
    let by = |signature: String| PutManifestRequest {
        signature,
        ..good.clone()
    };
    let mut longer = good.clone();
    longer.manifest.push(b'\n');
    let bundles = [
        ("no signature", by(String::new())),
        ("no base64", by("!".to_owned())),
        ("another's signature", by(signed(&another).signature)),
        (
            "a stranger's key",
            by(sign(NOBODY, &good.manifest).unwrap_or_default()),
        ),
        (
            "the key of images",
            by(sign(IMAGES, &good.manifest).unwrap_or_default()),
        ),
        ("a byte more", longer),
    ];
    let mut outcomes = Vec::new();
    for (what, bundle) in bundles {
        outcomes.push(for_its(what, broker.make(bundle).await, "MANIFEST_UNSIGNED"));
    }
    let registry = "127.0.0.1:5000";
    let other = format!("sha256:{}", "1e".repeat(32));
    for (what, bundle) in [
        (
            "an image that a stranger signed",
            from_registry(registry, DIGEST, NOBODY),
        ),
        (
            "an image with another's signature",
            from_registry(registry, &other, IMAGES),
        ),
    ] {
        outcomes.push(for_its(what, broker.make(bundle).await, "I1_UNSIGNED"));
    }
    for (digest, reason) in [
        (DIGEST, "NO_MANIFEST"),
        ("latest", "INVALID_REQUEST"),
        ("../store", "INVALID_REQUEST"),
        ("", "INVALID_REQUEST"),
    ] {
        outcomes.push(for_its(digest, broker.deploy(digest, &[]).await, reason));
    }
    all(outcomes)
}

async fn pulls(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let unlisted = changed(&least(), "/containers/0/image", &json!("local:unlisted"));
    let bundles = [
        (from_registry("127.0.0.1:5000", DIGEST, NOBODY), "I1_UNSIGNED"),
        (from_registry("evil.example", DIGEST, IMAGES), "I1_REGISTRY"),
        (from_registry("127.0.0.1:50000", DIGEST, IMAGES), "I1_REGISTRY"),
        (signed(&unlisted), "I1_LOCAL"),
    ];
    let mut outcomes = Vec::new();
    for (bundle, code) in bundles {
        outcomes.push(match broker.put(bundle).await {
            Ok(digest) => for_its(code, broker.pull(&digest).await, code),
            Err(status) => Outcome::Void(told(&status)),
        });
    }
    for (digest, reason) in [(DIGEST, "NO_MANIFEST"), ("busybox:latest", "INVALID_REQUEST")] {
        outcomes.push(for_its(digest, broker.pull(digest).await, reason));
    }
    all(outcomes)
}

fn bind(root: &str, path: &str) -> Value {
    let mount = json!([{"type": "bind", "root": root, "path": path, "target": "/h", "read_only": true}]);
    changed(&least(), "/containers/0/mounts", &mount)
}

async fn binds(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let mut outcomes = Vec::new();
    for (root, path, code) in [
        // By their names.
        ("/run/cell", "", "M1"),
        ("/etc/cell", "", "M1"),
        ("/run/docker.sock", "", "M1"),
        ("media", "/run/cell", "M1"),
        ("media", "../../../run/cell", "M1"),
        ("media", "../../../run/docker.sock", "M1"),
        // Roots that the ceiling does not have, and one that is not for services.
        ("run", "cell", "M1_BIND_ROOT"),
        ("etc", "cell", "M1_BIND_ROOT"),
        ("docker", "", "M1_BIND_ROOT"),
        ("dns", "", "M1_CORE_ROOT"),
        // By links that lie in a registered root, and what lies behind them.
        ("media", "run", "BIND_ROOT"),
        ("media", "run/cell", "BIND_ROOT"),
        ("media", "etc", "BIND_ROOT"),
        ("media", "docker", "BIND_ROOT"),
        ("media", "absent", "BIND_ROOT"),
    ] {
        let what = format!("{root} {path}");
        outcomes.push(for_its(&what, broker.make(signed(&bind(root, path))).await, code));
    }
    all(outcomes)
}

/// Below a root that the attacker may write: a folder and a link to the machine's own, in turn, while it is asked for.
async fn flips(target: &Target) -> Outcome {
    let Some(stage) = target.stage.clone() else {
        return Outcome::Void("there is no stage".to_owned());
    };
    let theirs = stage.join("theirs");
    let (turned, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let flipping = {
        let (turned, ended) = (Arc::clone(&turned), Arc::clone(&ended));
        std::thread::spawn(move || {
            let done = (0..FLIPS).try_for_each(|_| flip(&theirs, &turned));
            ended.store(true, Ordering::Release);
            done
        })
    };
    let broker = Broker::of(target);
    let asked = match broker.put(signed(&bind("theirs", "x"))).await {
        Ok(digest) => digest,
        Err(status) => return Outcome::Void(told(&status)),
    };
    let mut outcomes = Vec::new();
    while outcomes.is_empty() || !ended.load(Ordering::Acquire) {
        outcomes.push(for_its("a flip", broker.deploy(&asked, &[]).await, "BIND_ROOT"));
    }
    match flipping.join() {
        Ok(Ok(())) if turned.load(Ordering::Relaxed) == FLIPS => all(outcomes),
        Ok(Ok(())) => Outcome::Void("it did not turn".to_owned()),
        Ok(Err(error)) => Outcome::Void(error.to_string()),
        Err(_) => Outcome::Void("the flipping ended".to_owned()),
    }
}

/// A folder, then a link, at the same name.
fn flip(theirs: &Path, turned: &AtomicUsize) -> std::io::Result<()> {
    let at = theirs.join("x");
    fs::create_dir(&at)?;
    fs::remove_dir(&at)?;
    symlink("/run", &at)?;
    let leads = fs::metadata(at.join("cell")).is_ok() || fs::metadata(&at).is_ok();
    fs::remove_file(&at)?;
    turned.fetch_add(usize::from(leads), Ordering::Relaxed);
    Ok(())
}

/// Each is answered, and none of the deployments is made; what is kept is counted afterwards (`ceiling::kept`).
async fn flood(target: &Target) -> Outcome {
    let broker = Broker::of(target);
    let known = match broker.known().await {
        Ok(known) => known,
        Err(status) => return Outcome::Void(told(&status)),
    };
    let deploys = (0..FLOOD).map(|_| {
        let (broker, known) = (broker.clone(), known.clone());
        async move { broker.deploy(&known, &[("HostConfig", "{}")]).await }
    });
    let puts = (0..FLOOD / 3).map(|n| {
        let manifest = changed(&least(), "/version", &json!(format!("2.{n}")));
        let broker = broker.clone();
        async move { broker.put(signed(&manifest)).await }
    });
    let (deployed, put) = futures_util::future::join(
        futures_util::future::join_all(deploys),
        futures_util::future::join_all(puts),
    )
    .await;
    let refused = deployed.into_iter().map(|answer| match &answer {
        Err(status) if status.code() == Code::ResourceExhausted => Outcome::Closed("BUSY".to_owned()),
        _ => for_its("a deployment of the flood", answer, "S3_PARAMETER"),
    });
    let kept = put.into_iter().filter_map(Result::err).map(|status| {
        if status.code() == Code::ResourceExhausted {
            Outcome::Closed("QUOTA".to_owned())
        } else {
            Outcome::Void(told(&status))
        }
    });
    all(refused.chain(kept).collect())
}
