//! Every case, of the reference and of our own, against the broker's socket and a real Docker: as the manifest that asks for it, as a
//! parameter, as raw bytes in HTTP/1.1 and HTTP/2, as the broker's own verb that comes nearest, and as a call of a method that is not
//! there. Each is refused for its own rule, Docker's socket gets no byte and nothing is made, or what is made obeys the rule; beside it
//! stands what the same does to Docker itself, which must be what the reference saw. `target/reports/brokertest-cases.json` has a line
//! for each create case, `brokertest-verbs.json` for each of a verb.

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "cases/attempts.rs"]
mod attempts;
#[path = "../core/tests/support/expected.rs"]
mod expected;
#[path = "../core/tests/support/rechecked.rs"]
mod rechecked;
mod support;
#[path = "cases/verbs.rs"]
mod verbs;
#[path = "cases/wire.rs"]
mod wire;
#[path = "cases/world.rs"]
mod world;

use std::collections::BTreeMap;

use attempts::{Docker, LOOKS, Names};
use cell_broker_core::deploy::Bundle;
use cell_proto::broker::v1::{ContainerState, GetContainerRequest};
use cell_proto::fault;
use expected::Attempt::{Instead, NoSuchKey, Refused, Rich, Text};
use expected::{Case, asking, cases, changed};
use rechecked::Sendable;
use serde_json::{Value, json};
use support::report::{self, row};
use support::signed::{self, bundle, bundle_by, rewritten, rich, signer};
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinHandle;
use wire::{Heard, Http2, PATIENCE, http1, request};
use world::{Line, World, reason};

/// What "no byte of HTTP/1.1" rests on: whoever hangs has refused nothing.
#[tokio::test]
async fn silence_is_no_end_of_a_connection() {
    let dir = tempfile::tempdir().unwrap();
    let soon = std::time::Duration::from_millis(200);
    for (name, answer, heard) in [
        ("silent", None, Heard::Silence),
        ("ends", Some(&b"\0\0\x06\x04\0"[..]), Heard::Ended),
        (
            "answers",
            Some(&b"..HTTP/1.1 404 Not Found\r\n"[..]),
            Heard::Status(404),
        ),
    ] {
        let path = dir.path().join(name);
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let server = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            match answer {
                Some(bytes) => stream.write_all(bytes).await.unwrap(),
                None => std::future::pending().await,
            }
        });
        assert_eq!(
            http1(&path, b"GET / HTTP/1.1\r\n\r\n", soon).await,
            heard,
            "{name}"
        );
        server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_is_refused_and_docker_hears_nothing_of_it() {
    let world = World::start();
    // What some bodies name: else Docker itself would refuse them for its absence.
    let other = world.with_foreign("othercontainer");
    world.with_root();
    let (http2, sendable) = (Http2::to(&world.broker.socket()).await, sendable());
    attempts::assert_known(&http2).await;
    let (before, cases) = (world.inventory(), cases());
    // Beside it: the same to Docker itself, of an image that it has.
    let docker = |case: &Case| {
        let body = case.body.replacen("bb:1", "cell-test:1", 1);
        let body = body.replace(&"ab".repeat(32), &other);
        let plain = request("POST", &case.path, &BTreeMap::new(), body.as_bytes());
        let socket = world.dockerd.socket();
        async move { http1(&socket, &plain, LOOKS).await }
    };
    // What takes long is begun first; it fails, so that there is nothing of it at any time.
    let slow = |case: &Case| case.body.contains("evilplugin") && case.body.contains("VolumeOptions");
    let begun: Vec<(&Case, JoinHandle<Heard>)> = cases
        .iter()
        .filter(|case| slow(case))
        .map(|case| (case, tokio::spawn(docker(case))))
        .collect();
    let mut lines = BTreeMap::new();
    for case in &cases {
        let line = refused(&world, &http2, &sendable, case).await;
        lines.insert(case.id.as_str(), line);
    }
    world.assert_untouched(&before);
    made_instead(&world, &cases, &mut lines).await;
    let mut heard = BTreeMap::new();
    for case in cases.iter().filter(|case| !slow(case)) {
        heard.insert(case.id.as_str(), docker(case).await);
    }
    for (case, answer) in begun {
        heard.insert(case.id.as_str(), answer.await.unwrap());
    }
    told(&world, &cases, lines, &heard);
}

/// Writes the report: each case is right where the broker refuses it as it must, and Docker itself does what is known of it.
fn told(world: &World, cases: &[Case], mut lines: BTreeMap<&str, Line>, heard: &BTreeMap<&str, Heard>) {
    let mut rows = vec![asked_by(world)];
    let (mut wrong, mut made) = (Vec::new(), 0);
    for case in cases {
        let mut line = lines.remove(case.id.as_str()).unwrap();
        let (answer, known) = (heard[case.id.as_str()], Heard::Status(case.docker));
        line.must(answer == known, || {
            format!("control: Docker itself says {answer} for {known}")
        });
        made += usize::from(answer == Heard::Status(201));
        let name = format!("{} {}", case.id, case.field);
        let docker = format!("Docker itself: {answer}");
        let goal = format!("{}; Docker itself: {known}", goal(case));
        rows.push(row(&name, &line.told(), &docker, &goal, line.holds()));
        wrong.extend((!line.holds()).then(|| format!("{name}: {}", line.told())));
    }
    report::write("brokertest-cases", &rows);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let told = format!("{} refused, Docker itself makes {made} of them", cases.len());
    report::holds("create cases, no byte at Docker", told, "cases", "all refused");
}

/// Who the broker takes the attacker for, and whose statuses stand beside.
fn asked_by(world: &World) -> Value {
    let uid = nix::unistd::geteuid();
    let value = format!(
        "uid {uid}, whom alone the listener serves; as cell-api in its sandbox: make redteam, G29-G39"
    );
    let docker = format!("Docker itself: {}", world.version());
    row("asked by", &value, &docker, "a caller that is let in", true)
}

/// The rule, or the judge's reason, for which a manifest with the case is refused.
fn goal(case: &Case) -> String {
    match &case.attempt {
        NoSuchKey => "S1".to_owned(),
        Refused(_, _, code) | Rich(_, _, code) | Text(_, _, code) => (*code).to_owned(),
        Instead(..) => "S1; what is made obeys its rule".to_owned(),
    }
}

fn sendable() -> Sendable {
    let (ceiling, least) = (signed::ceiling(), signed::manifest(&signed::image()));
    let approved = signed::judged(&ceiling, &least, &[]).unwrap();
    let given = signed::given(&ceiling, &approved);
    Sendable::of(ceiling, &approved, given)
}

/// By each way.
async fn refused(world: &World, http2: &Http2, sendable: &Sendable, case: &Case) -> Line {
    let mut line = Line::default();
    raw(world, http2, case, &mut line).await;
    by_manifest(world, case, &mut line).await;
    by_parameter(world, case, &mut line).await;
    let rules = sendable.broken(case);
    let right = match case.rule {
        "" => rules.is_empty(),
        rule => rules.iter().any(|broken| broken.code() == rule),
    };
    let rules: Vec<&str> = rules.iter().map(|rule| rule.code()).collect();
    line.must(right, || {
        format!("the last check says {rules:?} for {}", case.rule)
    });
    line.say(format!(
        "as a request: {}",
        if rules.is_empty() {
            "no rule".to_owned()
        } else {
            rules.join(",")
        }
    ));
    let heard = world.proxy.take();
    line.must(heard == (0, String::new()), || format!("Docker heard {heard:?}"));
    line
}

/// On the broker's socket: it speaks no HTTP/1.1, and in HTTP/2 no path of Docker's is a method.
async fn raw(world: &World, http2: &Http2, case: &Case, line: &mut Line) {
    let plain = request("POST", &case.path, &BTreeMap::new(), case.body.as_bytes());
    let heard = http1(&world.broker.socket(), &plain, PATIENCE).await;
    line.must(heard == Heard::Ended, || format!("raw: {heard}"));
    let answer = http2
        .ask("POST", &case.path, "application/json", case.body.as_bytes())
        .await;
    let answer = answer.unwrap_or_else(|| Err("no such path".to_owned()));
    let answer = answer.as_ref().map(wire::told);
    line.must(answer == Ok("Unimplemented".to_owned()), || {
        format!("raw in HTTP/2: {answer:?}")
    });
    line.say("raw: no HTTP/1.1, no method");
}

/// As a manifest, well signed.
async fn by_manifest(world: &World, case: &Case, line: &mut Line) {
    let least = world.least();
    let image = least["containers"][0]["image"].as_str().unwrap();
    let (bundle, code) = match &case.attempt {
        NoSuchKey | Instead(..) => return by_words(world, case, line).await,
        Refused(at, value, code) => (bundle(&changed(&least, at, value)), code),
        Rich(at, value, code) => (bundle(&changed(&rich(image), at, value)), code),
        Text(from, to, code) => (rewritten(&least, from, to), code),
    };
    let answer = answered(world, bundle).await;
    // Sizes are refused before there is a message: nothing reads that far.
    let too_long = *code == "J2" && answer.starts_with("OutOfRange");
    let (_, codes) = answer.rsplit_once('/').unwrap_or_default();
    let among = codes.split(',').any(|given| given == *code);
    line.must(too_long || among, || format!("manifest: {answer} for {code}"));
    line.say(format!("manifest: {answer}"));
}

/// Each of Docker's words in the case's body, as a key that no manifest has, is refused by its name.
async fn by_words(world: &World, case: &Case, line: &mut Line) {
    let mut words = Vec::new();
    for (key, asked) in asking(case, &world.least()) {
        let told = world.broker.put(bundle(&asked)).await;
        let named = format!("unknown field `{key}`");
        let right = told.as_ref().is_err_and(|status| {
            let violations = fault::violations(status);
            wire::told(status) == "InvalidArgument/MANIFEST_INVALID/S1"
                && violations.iter().any(|it| it.description.starts_with(&named))
        });
        line.must(right, || format!("manifest with {key}: {told:?}"));
        if !words.contains(&key) {
            words.push(key);
        }
    }
    let words = words.join(", ");
    line.say(format!(
        "manifest: InvalidArgument/MANIFEST_INVALID/S1 for each of {words}"
    ));
}

/// As a parameter of a manifest that is right. The broker keeps so many and no more: handed in again, it is there.
async fn by_parameter(world: &World, case: &Case, line: &mut Line) {
    let known = world.broker.put(bundle(&world.least())).await.unwrap();
    let text: String = case.body.chars().take(4000).collect();
    let told = world.broker.deploy(&known, &[("HostConfig", &text)]).await;
    let answer = told.map_or_else(|status| wire::told(&status), |_| "made".to_owned());
    line.must(answer == "PermissionDenied/DENIED/S3_PARAMETER", || {
        format!("parameter: {answer}")
    });
    line.say(format!("parameter: {answer}"));
}

/// What the broker says to a bundle: at once where the manifest is wrong, else when it is to be deployed.
async fn answered(world: &World, bundle: Bundle) -> String {
    let told = match world.broker.put(bundle).await {
        Ok(digest) => world.broker.deploy(&digest, &[]).await.map(drop),
        Err(told) => Err(told),
    };
    told.map_or_else(|status| wire::told(&status), |()| "made".to_owned())
}

/// What cannot be asked for and is there in another form: read from what Docker says of a container that was made.
async fn made_instead(world: &World, cases: &[Case], lines: &mut BTreeMap<&str, Line>) {
    let (_, id) = world.deployed().await;
    world.assert_recorded("POST /containers/create");
    let told: Value = serde_json::from_str(&world.dockerd.say(&["inspect", &id])).unwrap();
    let mut count = 0;
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
        let command = json!(["/bin/sleep", "1000"]);
        let right = if *at == "/Cmd" { &command } else { value };
        // Docker writes nothing where there is nothing.
        let none = found.is_null() && (*right == json!({}) || *right == json!([]));
        let line = lines.get_mut(case.id.as_str()).unwrap();
        line.must(found == right || none, || format!("{found} for {right}"));
        line.say(format!("made with {found}"));
        count += 1;
    }
    assert!(count >= 15, "{count}");
    world.broker.remove("files", true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_of_dockers_is_one_of_the_brokers() {
    let world = World::start();
    let foreign = world.with_foreign("somebody");
    world.dockerd.say(&["start", &foreign]);
    let (manifest, ours) = world.deployed().await;
    world.assert_recorded("POST /containers/create");
    let ours_name = world.dockerd.say(&["inspect", "--format", "{{.Name}}", &ours]);
    let names = Names {
        foreign,
        ours,
        ours_name: ours_name.trim_start_matches('/').to_owned(),
        manifest,
        image: world.image.clone(),
    };
    let http2 = Http2::to(&world.broker.socket()).await;
    attempts::assert_known(&http2).await;
    let (before, cases) = (world.inventory(), verbs::cases());
    // It fails, so that there is nothing of it at any time.
    let mut slow = attempts::slow(&world, &cases).into_iter();
    let mut lines = Vec::new();
    for case in &cases {
        lines.push(attempts::refused(&world, &http2, &names, case).await);
    }
    world.assert_untouched(&before);
    let mut docker = Docker::new(&world, &names);
    let mut answers = Vec::new();
    for (case, line) in cases.iter().zip(&mut lines) {
        answers.push(docker.answers(case, line).await);
    }
    let who = cases.iter().zip(lines.iter_mut().zip(&mut answers));
    for (case, (line, answers)) in who {
        for raw in case.raw.iter().filter(|raw| raw.slow) {
            let heard = slow.next().unwrap().await.unwrap();
            answers.push(attempts::judged(raw, heard, line));
        }
    }
    acts_by_id(&world, &names).await;
    verbs_told(&world, &cases, &lines, &answers);
}

/// Docker's cases have left the foreign container with the name of the broker's own, and stopped it by that name: the broker still acts
/// on what it made.
async fn acts_by_id(world: &World, names: &Names) {
    let named = |format: &str| {
        world
            .dockerd
            .say(&["inspect", "--format", format, &names.ours_name])
    };
    assert_eq!(
        named("{{.Id}} {{.State.Running}}"),
        format!("{} false", names.foreign)
    );
    let request = GetContainerRequest {
        service: "files".to_owned(),
    };
    let found = world.broker.reads.clone().get_container(request).await.unwrap();
    let found = found.into_inner().container.unwrap();
    assert_eq!((&found.id, found.state()), (&names.ours, ContainerState::Running));
    world.assert_recorded(&names.ours);
}

fn verbs_told(world: &World, cases: &[verbs::VerbCase], lines: &[Line], answers: &[Vec<String>]) {
    let mut rows = vec![asked_by(world)];
    let (mut wrong, mut tried) = (Vec::new(), 0);
    for ((case, line), answers) in cases.iter().zip(lines).zip(answers) {
        let name = format!("{} {}: {}", case.id, case.operation, case.attack);
        let docker = format!("Docker itself: {}", answers.join(", "));
        rows.push(row(
            &name,
            &line.told(),
            &docker,
            "refused; no byte at Docker",
            line.holds(),
        ));
        wrong.extend((!line.holds()).then(|| format!("{name}: {}", line.told())));
        tried += answers.len();
    }
    report::write("brokertest-verbs", &rows);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
    let told = format!(
        "{tried} requests of {} cases, Docker itself does with each what is known",
        cases.len()
    );
    report::holds("verb cases, no byte at Docker", told, "", "all refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_signed_or_not_known_or_above_the_ceiling_asks_docker_nothing() {
    let world = World::start();
    let before = world.inventory();
    let least = world.least();
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
    elsewhere["containers"][0]["image"] = json!(format!("evil.example/miner@{}", world.image));
    let elsewhere = world.broker.put(bundle(&elsewhere)).await.unwrap();
    let refused = world.broker.pull(&elsewhere).await.unwrap_err();
    assert_eq!(fault::metadata(&refused)["codes"], "I1_REGISTRY");
    world.assert_untouched(&before);
    // The control: what is signed and allowed is fetched and made.
    let mut least = least;
    least["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    let good = world.broker.put(bundle(&least)).await.unwrap();
    world.broker.pull(&good).await.unwrap();
    assert!(world.broker.deploy(&good, &[]).await.unwrap().changed);
    assert_ne!(world.inventory(), before);
    world.assert_recorded("POST /containers/create");
}
