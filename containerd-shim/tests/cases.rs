//! Every case, of the reference and of our own, against the broker's socket and a real Docker: as the manifest that asks for it, as a
//! parameter, as raw bytes and as a call of a method that is not there. Each is refused for its own rule, Docker's socket gets no
//! byte and nothing is made, or what is made obeys the rule; beside it stands what the same does to Docker itself.
//! `target/reports/brokertest-cases.json` has a line for each.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/expected.rs"]
mod expected;
mod support;

use std::collections::BTreeMap;

use cell_broker_core::deploy::Bundle;
use cell_proto::fault;
use expected::Attempt::{Instead, NoSuchKey, Refused, Rich, Text};
use expected::{Case, cases, changed};
use serde_json::{Value, json};
use support::deployed::Deployed;
use support::dockerd::Dockerd;
use support::proxy::Proxy;
use support::registry;
use support::signed::{self, REGISTRY, bundle, bundle_by, ceiling, manifest, rewritten, rich, signer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tonic::Code;

const VERBS: &str = include_str!("../core/tests/testdata/verb_cases.jsonl");

fn lines(text: &str) -> Vec<Value> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Docker's request that a verb case is about, and whether Docker itself lets it through here where that is cheap to see.
/// `{id}` is a foreign container's.
#[allow(clippy::too_many_lines, reason = "a table")]
fn requests(case: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    match case {
        "V01" => vec![("GET", "/containers/{id}/json", "200")],
        "V02" => vec![("GET", "/containers/json?all=true", "200")],
        "V03" => vec![("GET", "/containers/{id}/logs?stdout=1", "200")],
        "V05" => vec![("GET", "/containers/{id}/export", "200")],
        "V06" => vec![("GET", "/containers/{id}/archive?path=/etc", "200")],
        "V07" => vec![("GET", "/containers/{id}/archive?path=../../", "200")],
        "V09" | "V10" | "V11" => vec![("POST", "/containers/{id}/exec", "")],
        "V13" => vec![
            ("POST", "/containers/{id}/attach?stdin=1", ""),
            ("GET", "/containers/{id}/attach/ws", ""),
        ],
        "V14" => vec![("POST", "/containers/{id}/update", "200")],
        "V15" => vec![("POST", "/containers/{id}/rename?name=trusted", "204")],
        "V17" => vec![
            ("POST", "/containers/{id}/stop?t=-1", ""),
            ("POST", "/containers/{id}/restart?t=999999", ""),
        ],
        "V18" => vec![
            ("DELETE", "/containers/{id}?force=1&v=1", ""),
            ("DELETE", "/containers/{id}?link=1", ""),
        ],
        "V19" => vec![
            ("POST", "/containers/prune", ""),
            ("POST", "/images/prune", ""),
            ("POST", "/volumes/prune", "200"),
            ("POST", "/networks/prune", "200"),
            ("POST", "/build/prune", ""),
        ],
        "V21" => vec![
            ("GET", "/containers/{id}/changes", "200"),
            ("GET", "/containers/{id}/stats?stream=1", ""),
        ],
        "V22" => vec![("POST", "/containers/{id}/checkpoints", "")],
        "V23" => vec![("POST", "/build?networkmode=host&remote=http://evil/", "")],
        "V25" => vec![("POST", "/images/create?fromSrc=http://evil/", "")],
        "V26" => vec![("POST", "/images/load", "")],
        "V27" => vec![("POST", "/images/cell-test:1/tag?repo=trusted&tag=1", "201")],
        "V29" => vec![("GET", "/images/cell-test:1/get", "200")],
        "V30" => vec![("DELETE", "/images/cell-test:1?force=1", "")],
        "V31" | "V33" => vec![("POST", "/volumes/create", "")],
        "V34" => vec![("DELETE", "/volumes/foreign?force=1", "204")],
        "V35" | "V37" | "V38" => vec![("POST", "/networks/create", "")],
        "V39" => vec![("POST", "/networks/bridge/connect", "")],
        "V41" => vec![
            ("POST", "/plugins/pull?remote=evil", ""),
            ("POST", "/plugins/create?name=evil", ""),
        ],
        "V42" => vec![("POST", "/swarm/init", ""), ("POST", "/swarm/join", "")],
        "V43" => vec![
            ("POST", "/services/create", ""),
            ("POST", "/services/x/update?version=1", ""),
        ],
        "V45" => vec![("POST", "/auth", "")],
        "V46" => vec![("GET", "/distribution/evil.example/x/json", "")],
        "V47" => vec![("POST", "/session", ""), ("POST", "/grpc", "")],
        "V49" => vec![("GET", "/events", "")],
        "V50" => vec![
            ("GET", "http://docker/containers/{id}/json", ""),
            ("GET", "/containers/../images/json", ""),
            ("GET", "/containers/%2e%2e/images/json", ""),
        ],
        "V51" => vec![("POST", "/containers/files/stop?t=1", "")],
        other => panic!("{other} is not mapped"),
    }
}

/// The status that a server gives to raw HTTP/1.1; empty: it ended the connection.
async fn raw(socket: &std::path::Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = vec![0; 64];
    let read = tokio::time::timeout(std::time::Duration::from_secs(5), stream.read(&mut answer)).await;
    let n = read.map_or(0, |read| read.unwrap_or(0));
    let text = String::from_utf8_lossy(&answer[..n]).into_owned();
    match text.strip_prefix("HTTP/1.1 ") {
        Some(rest) => rest.chars().take(3).collect(),
        None => String::new(),
    }
}

fn request(method: &str, target: &str, body: &str) -> String {
    format!(
        "{method} {target} HTTP/1.1\r\nHost: docker\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

struct World {
    dockerd: Dockerd,
    proxy: Proxy,
    broker: Deployed,
    foreign: String,
    digest: String,
    _state: tempfile::TempDir,
    _lists: tempfile::TempDir,
}

impl World {
    fn start() -> Self {
        let dockerd = Dockerd::start();
        let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
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
        let broker = Deployed::start(&proxy.path, state.path(), ceiling);
        dockerd.say(&["volume", "create", "foreign"]);
        let foreign = dockerd.create(&["--name=somebody"], &[], "sleep 1000");
        World {
            foreign: foreign.to_string(),
            dockerd,
            proxy,
            broker,
            digest,
            _state: state,
            _lists: lists,
        }
    }

    /// All that is at Docker.
    fn inventory(&self) -> String {
        let all = [
            self.dockerd.say(&["ps", "--all", "--quiet", "--no-trunc"]),
            self.dockerd.say(&["volume", "ls", "--quiet"]),
            self.dockerd.say(&["network", "ls", "--quiet", "--no-trunc"]),
            self.dockerd.say(&["images", "--quiet", "--no-trunc"]),
        ];
        all.join("\n--\n")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_is_refused_and_docker_hears_nothing_of_it() {
    let world = World::start();
    let before = world.inventory();
    let least = manifest(&format!("{REGISTRY}/store/files@{}", world.digest));
    let cases = cases();
    let mut told = BTreeMap::new();
    for case in &cases {
        let reason = refused(&world, &least, case).await;
        told.insert(case.id.as_str(), reason);
    }
    assert_eq!(world.inventory(), before);
    let made = made_instead(&world, &least, &cases).await;
    // Beside it: the same to Docker itself, of an image that it has.
    let (mut rows, mut accepted) = (Vec::new(), BTreeMap::from([("BC", 0), ("OC", 0)]));
    for case in &cases {
        let body = case.body.replacen("bb:1", "cell-test:1", 1);
        let status = raw(&world.dockerd.socket(), &request("POST", &case.path, &body)).await;
        *accepted.get_mut(&case.id[..2]).unwrap() += usize::from(status == "201");
        let mut value = told[case.id.as_str()].clone();
        if let Some(instead) = made.get(case.id.as_str()) {
            value = format!("{value}; made with {instead}");
        }
        let name = format!("{} {}", case.id, case.field);
        let docker = format!("Docker itself: {status}");
        rows.push(support::report::row(&name, &value, &docker, goal(case), true));
    }
    assert!(
        accepted["BC"] > 70 && accepted["OC"] > 40,
        "control: {accepted:?}"
    );
    support::report::write("brokertest-cases", &rows);
    let told = format!("{} refused, Docker itself makes {accepted:?}", cases.len());
    support::report::holds("create cases, no byte at Docker", told, "cases", "all refused");
}

/// The rule, or the judge's reason, for which a manifest with the case is refused.
fn goal(case: &Case) -> &'static str {
    match &case.attempt {
        NoSuchKey => "S1",
        Refused(_, _, code) | Rich(_, _, code) | Text(_, _, code) => code,
        Instead(..) => "obeys its rule",
    }
}

/// By each way; the reason that the broker gave to the case's manifest.
async fn refused(world: &World, least: &Value, case: &Case) -> String {
    let id = &case.id;
    // Raw, on the broker's socket: no path of Docker's is one of the broker's.
    let status = raw(&world.broker.socket(), &request("POST", &case.path, &case.body)).await;
    assert!(!status.starts_with('2'), "{id}: {status}");
    // As a manifest, well signed.
    let image = least["containers"][0]["image"].as_str().unwrap();
    let reason = match &case.attempt {
        // The case's own words are keys that no manifest has.
        NoSuchKey | Instead(..) => {
            let asked = changed(least, "/containers/0/body", &json!(case.body));
            reason(world, id, bundle(&asked), "S1").await
        }
        Refused(at, value, code) => reason(world, id, bundle(&changed(least, at, value)), code).await,
        Rich(at, value, code) => reason(world, id, bundle(&changed(&rich(image), at, value)), code).await,
        Text(from, to, code) => reason(world, id, rewritten(least, from, to), code).await,
    };
    // As a parameter of one that is right. The broker keeps so many and no more: handed in again, it is there.
    let known = world.broker.put(bundle(least)).await.unwrap();
    let text: String = case.body.chars().take(4000).collect();
    let told = world
        .broker
        .deploy(&known, &[("HostConfig", &text)])
        .await
        .unwrap_err();
    let denied = (told.code(), fault::reason(&told));
    assert_eq!(
        denied,
        (Code::PermissionDenied, Some("DENIED".to_owned())),
        "{id}"
    );
    assert_eq!(fault::metadata(&told)["codes"], "S3_PARAMETER", "{id}");
    assert_eq!(world.proxy.take(), (0, String::new()), "{id}");
    reason
}

/// What the broker says to a bundle, which must be `code`: at once where the manifest is wrong, else when it is to be deployed.
async fn reason(world: &World, id: &str, bundle: Bundle, code: &str) -> String {
    let (told, key) = match world.broker.put(bundle).await {
        Err(told) => (told, "rules"),
        Ok(digest) => (world.broker.deploy(&digest, &[]).await.expect_err(id), "codes"),
    };
    let reason = fault::reason(&told).unwrap_or_default();
    // Sizes are refused before there is a message: nothing reads that far.
    if code == "J2" {
        assert_eq!(told.code(), Code::OutOfRange, "{id}: {told:?}");
        return "OUT_OF_RANGE".to_owned();
    }
    let right = if key == "rules" {
        "MANIFEST_INVALID"
    } else {
        "DENIED"
    };
    assert_eq!(reason, right, "{id}: {told:?}");
    let codes = &fault::metadata(&told)[key];
    assert!(codes.split(',').any(|given| given == code), "{id}: {codes}");
    format!("{reason}/{code}")
}

/// What cannot be asked for and is there in another form: read from what Docker says of a container that was made.
async fn made_instead<'a>(world: &World, least: &Value, cases: &'a [Case]) -> BTreeMap<&'a str, String> {
    let command = json!(["/bin/sleep", "1000"]);
    let least = changed(least, "/containers/0/command", &command);
    let digest = world.broker.put(bundle(&least)).await.unwrap();
    world.broker.pull(&digest).await.unwrap();
    let made = world.broker.deploy(&digest, &[]).await.unwrap();
    let id = made.deployment.unwrap().containers[0].id.clone();
    let told: Value = serde_json::from_str(&world.dockerd.say(&["inspect", &id])).unwrap();
    let mut instead = BTreeMap::new();
    for case in cases {
        let Instead(at, value) = &case.attempt else {
            continue;
        };
        let of_config = format!("/0/Config{at}");
        let pointer = if at.starts_with("/HostConfig") {
            format!("/0{at}")
        } else {
            of_config
        };
        let found = told.pointer(&pointer).unwrap_or(&Value::Null);
        let right = if *at == "/Cmd" { &command } else { value };
        // Docker writes nothing where there is nothing.
        let none = found.is_null() && (*right == json!({}) || *right == json!([]));
        assert!(found == right || none, "{}: {found} for {right}", case.id);
        instead.insert(case.id.as_str(), found.to_string());
    }
    assert!(instead.len() >= 15, "{}", instead.len());
    world.broker.remove("files", true).await.unwrap();
    instead
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_of_dockers_is_one_of_the_brokers() {
    let world = World::start();
    let (mut tried, mut let_through) = (0, 0);
    for case in lines(VERBS) {
        let id = case["id"].as_str().unwrap();
        for (method, target, docker) in requests(id) {
            let target = target.replace("{id}", &world.foreign);
            let before = world.inventory();
            let status = raw(&world.broker.socket(), &request(method, &target, "{}")).await;
            assert!(
                !status.starts_with('2') && !status.starts_with('1'),
                "{id} {target}: {status}"
            );
            // By gRPC's own form: the table of methods has none of these.
            let unknown = call_unknown(&world.broker, case["operation"].as_str().unwrap()).await;
            assert_eq!(unknown, Code::Unimplemented, "{id}");
            // By the verbs that there are, with what is not the broker's.
            for service in [
                "somebody",
                world.foreign.as_str(),
                "foreign",
                "../images/json?",
                "%2e%2e",
                "a\0",
            ] {
                let refused = world.broker.remove(service, true).await.unwrap_err();
                let right = [
                    ("NOT_OWNED", Code::NotFound),
                    ("INVALID_REQUEST", Code::InvalidArgument),
                ];
                assert!(
                    right.contains(&(fault::reason(&refused).unwrap().as_str(), refused.code())),
                    "{id}: {refused:?}"
                );
            }
            assert_eq!(world.proxy.take(), (0, String::new()), "{id} {target}");
            assert_eq!(world.inventory(), before, "{id}");
            tried += 1;
            if !docker.is_empty() {
                let status = raw(&world.dockerd.socket(), &request(method, &target, "{}")).await;
                assert_eq!(status, docker, "control: {id} {method} {target}");
                let_through += 1;
            }
        }
    }
    assert!(let_through >= 14, "control: {let_through}");
    let told = format!(
        "{tried} requests of {} cases, Docker itself does {let_through} of them",
        lines(VERBS).len()
    );
    support::report::holds("verb cases, no byte at Docker", told, "", "all refused");
}

/// A call of a method that is named like Docker's operation.
async fn call_unknown(broker: &Deployed, operation: &str) -> Code {
    let name: String = operation.chars().filter(char::is_ascii_alphanumeric).collect();
    let channel = cell_proto::ipc::connect(broker.socket());
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let path = format!("/cell.broker.v1.DeploymentService/{name}")
        .parse()
        .unwrap();
    let codec = cell_proto::strict::StrictCodec::<
        cell_proto::broker::v1::ListDeploymentsRequest,
        cell_proto::broker::v1::ListDeploymentsResponse,
    >::default();
    let request = tonic::Request::new(cell_proto::broker::v1::ListDeploymentsRequest {});
    client.unary(request, path, codec).await.unwrap_err().code()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_or_not_known_or_above_the_ceiling_asks_docker_nothing() {
    let world = World::start();
    let before = world.inventory();
    let least = manifest(&format!("{REGISTRY}/store/files@{}", world.digest));
    let reason = |status: &tonic::Status| fault::reason(status).unwrap_or_default();
    let other = bundle_by(&least, &signer(9), &signer(2));
    assert_eq!(
        reason(&world.broker.put(other).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    let mut changed = bundle(&least);
    changed.manifest.push(b'\n');
    assert_eq!(
        reason(&world.broker.put(changed).await.unwrap_err()),
        "MANIFEST_UNSIGNED"
    );
    let absent = format!("sha256:{}", "0".repeat(64));
    assert_eq!(
        reason(&world.broker.deploy(&absent, &[]).await.unwrap_err()),
        "NO_MANIFEST"
    );
    assert_eq!(
        reason(&world.broker.pull(&absent).await.unwrap_err()),
        "NO_MANIFEST"
    );
    assert_eq!(
        reason(&world.broker.deploy("latest", &[]).await.unwrap_err()),
        "INVALID_REQUEST"
    );
    let unsigned_image = world
        .broker
        .put(bundle_by(&least, &signer(1), &signer(9)))
        .await
        .unwrap();
    let refused = world.broker.deploy(&unsigned_image, &[]).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "I1_UNSIGNED");
    let refused = world.broker.pull(&unsigned_image).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "I1_UNSIGNED");
    let mut elsewhere = least.clone();
    elsewhere["containers"][0]["image"] = json!(format!("evil.example/miner@{}", world.digest));
    let elsewhere = world.broker.put(bundle(&elsewhere)).await.unwrap();
    let refused = world.broker.pull(&elsewhere).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "I1_REGISTRY");
    assert_eq!(world.proxy.take(), (0, String::new()));
    assert_eq!(world.inventory(), before);
    // The control: what is signed and allowed is fetched and made.
    let mut least = least;
    least["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    let good = world.broker.put(bundle(&least)).await.unwrap();
    world.broker.pull(&good).await.unwrap();
    assert!(world.broker.deploy(&good, &[]).await.unwrap().changed);
    assert_ne!(world.inventory(), before);
}
