//! Cases of verbs, tried: at the broker, where each is refused and Docker hears nothing, and at Docker itself.

use std::time::Duration;

use serde_json::Value;

use super::expected::changed;
use super::support::dockerd::IMAGE;
use super::support::signed::bundle;
use super::verbs::{self, Change, Own, Raw, Said, VerbCase};
use super::wire::{self, Heard, Http2, PATIENCE, framed, http1, request, told};
use super::world::{Line, World};

/// How long Docker is listened to where it hangs.
const HANGS: Duration = Duration::from_secs(1);
/// How long it may look for a plugin.
pub const LOOKS: Duration = Duration::from_secs(60);

/// What the words in braces of a case stand for.
pub struct Names {
    /// A container that is not the cell's, and runs.
    pub foreign: String,
    /// The broker's own.
    pub ours: String,
    /// Its name at Docker.
    pub ours_name: String,
    /// Its manifest.
    pub manifest: String,
    /// Its image.
    pub image: String,
}

impl Names {
    /// Whatever a request would do, it is to do to what is foreign.
    fn fill(&self, text: &str) -> String {
        let mut filled = text
            .replace("{ours}", &self.ours)
            .replace("{ours-name}", &self.ours_name)
            .replace("{manifest}", &self.manifest)
            .replace("{image}", &self.image)
            .replace("{short}", &self.foreign[..12])
            .replace("{volume}", "foreign");
        for word in ["{foreign}", "{victim}", "{runner}", "{exec}"] {
            filled = filled.replace(word, &self.foreign);
        }
        filled
    }
}

/// What is sent as the body.
fn body(world: &World, raw: &Raw, fill: impl FnOnce(&str) -> String) -> Vec<u8> {
    if let Some(files) = &raw.tar {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_mode(0o755);
            header.set_size(content.len().try_into().unwrap());
            archive
                .append_data(&mut header, path, content.as_bytes())
                .unwrap();
        }
        return archive.into_inner().unwrap();
    }
    if raw.image {
        return world.dockerd.docker(&["save", IMAGE]).stdout;
    }
    match &raw.body {
        None => Vec::new(),
        Some(Value::String(text)) => text.clone().into_bytes(),
        Some(json) => fill(&json.to_string()).into_bytes(),
    }
}

/// The case at the broker, by each way.
pub async fn refused(world: &World, http2: &Http2, names: &Names, case: &VerbCase) -> Line {
    let mut line = Line::default();
    for raw in &case.raw {
        of_dockers(world, http2, names, raw, &mut line).await;
    }
    line.say(format!(
        "{} of Docker's requests: no HTTP/1.1, no method",
        case.raw.len()
    ));
    no_method(http2, &case.operation, &mut line).await;
    for own in &case.own {
        let answer = by_own(world, http2, names, own).await;
        line.must(answer == own.refused, || {
            format!("{}: {answer} for {}", own.name(), own.refused)
        });
        line.say(format!("{}: {answer}", own.name()));
    }
    let heard = world.proxy.take();
    line.must(heard == (0, String::new()), || format!("Docker heard {heard:?}"));
    line
}

/// Docker's own request, as it is and in HTTP/2.
async fn of_dockers(world: &World, http2: &Http2, names: &Names, raw: &Raw, line: &mut Line) {
    let target = names.fill(&raw.target);
    let body = body(world, raw, |text| names.fill(text));
    let plain = match &raw.text {
        Some(text) => names.fill(text).into_bytes(),
        None => request(&raw.method, &target, &raw.headers, &body),
    };
    let heard = http1(&world.broker.socket(), &plain, PATIENCE).await;
    line.must(heard == Heard::Ended, || format!("{target}: {heard}"));
    match http2.ask(&raw.method, &target, "application/json", &body).await {
        Some(answer) => {
            let answer = answer.as_ref().map(told);
            line.must(answer == Ok("Unimplemented".to_owned()), || {
                format!("{target} in HTTP/2: {answer:?}")
            });
        }
        None => line.must(target.contains('\0'), || {
            format!("{target} is not tried in HTTP/2")
        }),
    }
}

/// No service has a method that is called so, but for what the broker has.
async fn no_method(http2: &Http2, operation: &str, line: &mut Line) {
    let known = verbs::known();
    let spellings = verbs::spellings(operation);
    for service in verbs::services() {
        for method in &spellings {
            let is_known = known.contains(&(service.clone(), method.clone()));
            let answer = probe(http2, &service, method).await;
            line.must(is_known || answer == "Unimplemented", || {
                format!("{service}/{method}: {answer}")
            });
        }
    }
}

/// What becomes of a message of the method that no method takes.
async fn probe(http2: &Http2, service: &str, method: &str) -> String {
    let frame = framed(&verbs::unknown_field());
    let answer = http2.call(&verbs::path(service, method), &frame).await;
    answer.map_or_else(|error| error, |status| told(&status))
}

/// The control of [`no_method`]: what the broker has is found, all of it.
pub async fn assert_known(http2: &Http2) {
    let known = verbs::known();
    assert!(known.len() >= 18, "{known:?}");
    for (service, method) in known {
        let answer = probe(http2, &service, &method).await;
        assert_eq!(
            answer, "InvalidArgument/UNKNOWN_FIELD",
            "control: {service}/{method}"
        );
    }
}

/// By a verb of the broker's.
async fn by_own(world: &World, http2: &Http2, names: &Names, own: &Own) -> String {
    let signed = |change: &Change| bundle(&changed(&world.least(), &change.at, &change.value));
    let put = verbs::path("DeploymentService", "PutManifest");
    let answer = match (&own.put, &own.pull) {
        (Some(change), _) => http2.call(&put, &framed(&verbs::put(&signed(change)))).await,
        (None, Some(change)) => match world.broker.put(signed(change)).await {
            Ok(digest) => Err(world.broker.pull(&digest).await.map_or_else(
                |status| told(&status),
                |words| format!("{} words of a fetch", words.len()),
            )),
            Err(status) => Err(format!("not handed in: {}", told(&status))),
        },
        (None, None) => {
            http2
                .call(&own.path(), &own.frame(&|text| names.fill(text)))
                .await
        }
    };
    answer.map_or_else(|error| error, |status| told(&status))
}

/// Docker itself, with what is foreign and with things to lose.
pub struct Docker<'a> {
    world: &'a World,
    names: &'a Names,
    runner: Option<String>,
    made: u32,
}

impl<'a> Docker<'a> {
    pub fn new(world: &'a World, names: &'a Names) -> Self {
        Docker {
            world,
            names,
            runner: None,
            made: 0,
        }
    }

    /// What each of the case's requests does to it, which must be what is known of it. Those that take long are asked elsewhere.
    pub async fn answers(&mut self, case: &VerbCase, line: &mut Line) -> Vec<String> {
        let mut answers = Vec::new();
        for raw in case.raw.iter().filter(|raw| !raw.slow) {
            let heard = self.answer(raw).await;
            answers.push(judged(raw, heard, line));
        }
        let hangs = case.raw.iter().any(|raw| said(&raw.docker) == Heard::Silence);
        if let Some(runner) = self.runner.take_if(|_| hangs) {
            self.world.dockerd.say(&["rm", "--force", &runner]);
        }
        answers
    }

    async fn answer(&mut self, raw: &Raw) -> Heard {
        let target = self.fill(&raw.target).await;
        let victims = match &raw.body {
            Some(json @ (Value::Object(_) | Value::Array(_))) => self.fill(&json.to_string()).await,
            _ => String::new(),
        };
        let body = body(self.world, raw, |_| victims);
        let plain = match &raw.text {
            Some(text) => self.fill(text).await.into_bytes(),
            None => request(&raw.method, &target, &raw.headers, &body),
        };
        let patience = if said(&raw.docker) == Heard::Silence {
            HANGS
        } else {
            PATIENCE
        };
        http1(&self.world.dockerd.socket(), &plain, patience).await
    }

    /// Things to lose are made for each request.
    async fn fill(&mut self, text: &str) -> String {
        let mut filled = text.to_owned();
        let docker = &self.world.dockerd;
        if filled.contains("{victim}") {
            let victim = docker.say(&["create", IMAGE, "/bin/busybox", "sleep", "1000"]);
            filled = filled.replace("{victim}", &victim);
        }
        if filled.contains("{volume}") {
            self.made += 1;
            let volume = docker.say(&["volume", "create", &format!("lost-{}", self.made)]);
            filled = filled.replace("{volume}", &volume);
        }
        if filled.contains("{runner}") {
            // As the first process of its namespace it does not heed SIGTERM.
            let args = [
                "run",
                "--detach",
                "--network=none",
                IMAGE,
                "/bin/busybox",
                "sleep",
                "1000",
            ];
            let runner = self.runner.get_or_insert_with(|| docker.say(&args));
            filled = filled.replace("{runner}", runner);
        }
        if filled.contains("{exec}") {
            filled = filled.replace("{exec}", &self.exec().await);
        }
        self.names.fill(&filled)
    }

    /// What somebody is about to run in the foreign container.
    async fn exec(&self) -> String {
        let target = format!("/containers/{}/exec", self.names.foreign);
        let body = br#"{"Cmd":["/bin/busybox","id"]}"#;
        let asked = request("POST", &target, &std::collections::BTreeMap::new(), body);
        let answer = wire::whole(&self.world.dockerd.socket(), &asked).await;
        let (_, json) = answer.split_once("\r\n\r\n").unwrap();
        let made: Value = serde_json::from_str(json).unwrap();
        made["Id"].as_str().unwrap().to_owned()
    }
}

/// What Docker takes a quarter of a minute for: asked at once, beside all else.
pub fn slow(world: &World, cases: &[VerbCase]) -> Vec<tokio::task::JoinHandle<Heard>> {
    let slow = cases.iter().flat_map(|case| &case.raw).filter(|raw| raw.slow);
    slow.map(|raw| {
        let body = body(world, raw, str::to_owned);
        let plain = request(&raw.method, &raw.target, &raw.headers, &body);
        let socket = world.dockerd.socket();
        tokio::spawn(async move { http1(&socket, &plain, LOOKS).await })
    })
    .collect()
}

fn said(said: &Said) -> Heard {
    match said {
        Said::Status(status) => Heard::Status(*status),
        Said::Word(word) => {
            assert_eq!(word, "silent");
            Heard::Silence
        }
    }
}

/// What Docker said, and whether that is what is known.
pub fn judged(raw: &Raw, heard: Heard, line: &mut Line) -> String {
    let known = said(&raw.docker);
    line.must(heard == known, || {
        format!(
            "control: Docker itself says {heard} for {known} to {} {}",
            raw.method, raw.target
        )
    });
    heard.to_string()
}
