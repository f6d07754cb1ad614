//! Cases of verbs: Docker's request, and the broker's own verbs that come nearest to it (`verb_attempts.jsonl`).

use std::collections::{BTreeMap, BTreeSet};

use cell_broker_core::deploy::Bundle;
use serde::Deserialize;
use serde_json::Value;

/// As the reference has them, and what Docker 20.10.24 did where that was tried.
const REFERENCE: &str = include_str!("../../core/tests/testdata/verb_cases.jsonl");
/// How each is tried, and cases of our own.
const ATTEMPTS: &str = include_str!("../../core/tests/testdata/verb_attempts.jsonl");
/// Every service of the broker's.
const PROTOS: [&str; 3] = [
    include_str!("../../../proto/cell/broker/v1/container_service.proto"),
    include_str!("../../../proto/cell/broker/v1/backup_service.proto"),
    include_str!("../../../proto/cell/broker/v1/deployment_service.proto"),
];
const PACKAGE: &str = "cell.broker.v1";
/// Services that an attacker would look for besides.
const HOPED_FOR: [&str; 8] = [
    "ImageService",
    "VolumeService",
    "NetworkService",
    "ExecService",
    "SystemService",
    "SwarmService",
    "PluginService",
    "DockerService",
];

/// One case.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerbCase {
    /// Its number: `V…` of the reference, `OV…` of our own.
    pub id: String,
    /// Docker's name for what it is about; of the reference's cases it says that itself.
    #[serde(default)]
    pub operation: String,
    #[serde(default)]
    pub attack: String,
    #[serde(default, rename = "why")]
    _why: String,
    /// Docker's requests.
    pub raw: Vec<Raw>,
    /// Calls of the broker's.
    pub own: Vec<Own>,
}

/// A request of Docker's API.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Raw {
    pub method: String,
    pub target: String,
    /// A text as it is, anything else as JSON.
    pub body: Option<Value>,
    /// Files of a tar that is the body.
    pub tar: Option<BTreeMap<String, String>>,
    /// Whether the body is an image as Docker saves it.
    #[serde(default)]
    pub image: bool,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// All of it in HTTP/1.1, where it is no proper request.
    pub text: Option<String>,
    /// Whether Docker takes a quarter of a minute.
    #[serde(default)]
    pub slow: bool,
    /// What Docker 20.10.24 says.
    pub docker: Said,
}

/// What Docker says to a request.
#[derive(Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(untagged)]
pub enum Said {
    Status(u64),
    /// `silent`: it hangs.
    Word(String),
}

/// A call of the broker's that must be refused.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    /// `Service/Method` of the broker's, or a whole path.
    #[serde(default)]
    rpc: String,
    /// By the numbers of its fields.
    message: Option<Value>,
    /// The same as bytes, in hex.
    hex: Option<String>,
    /// With gRPC's frame, in hex.
    frame: Option<String>,
    /// A change of a manifest that is then well signed, and handed in.
    pub put: Option<Change>,
    /// The same, and then its images are to be fetched.
    pub pull: Option<Change>,
    /// Code, reason, and rules or codes.
    pub refused: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    pub at: String,
    pub value: Value,
}

/// All there are.
///
/// # Panics
/// Where a case of the reference is not tried, or is expected to do something else to Docker than the reference saw.
pub fn cases() -> Vec<VerbCase> {
    let mut reference: BTreeMap<String, Value> = lines(REFERENCE)
        .map(|case: Value| (case["id"].as_str().unwrap().to_owned(), case))
        .collect();
    let mut cases: Vec<VerbCase> = lines(ATTEMPTS).collect();
    for case in &mut cases {
        let Some(known) = reference.remove(&case.id) else {
            assert!(
                case.id.starts_with("OV") && !case.operation.is_empty(),
                "{}",
                case.id
            );
            continue;
        };
        known["operation"]
            .as_str()
            .unwrap()
            .clone_into(&mut case.operation);
        known["attack"].as_str().unwrap().clone_into(&mut case.attack);
        if let Some(status) = known["raw_docker_20_10_status"].as_u64() {
            assert_eq!(case.raw[0].docker, Said::Status(status), "{}", case.id);
        }
    }
    assert!(reference.is_empty(), "not tried: {:?}", reference.keys());
    cases
}

fn lines<T: for<'a> Deserialize<'a>>(text: &str) -> impl Iterator<Item = T> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

/// What the broker has, all of it, as its protos say: service and method.
pub fn known() -> BTreeSet<(String, String)> {
    let (mut known, mut service) = (BTreeSet::new(), "");
    for line in PROTOS.iter().flat_map(|proto| proto.lines()) {
        if let Some(name) = line.strip_prefix("service ") {
            service = name.trim_end_matches(" {");
        }
        if let Some((method, _)) = line
            .trim()
            .strip_prefix("rpc ")
            .and_then(|rpc| rpc.split_once('('))
        {
            known.insert((service.to_owned(), method.to_owned()));
        }
    }
    known
}

/// Services that the broker has, and those that an attacker would look for.
pub fn services() -> BTreeSet<String> {
    let known = known().into_iter().map(|(service, _)| service);
    known.chain(HOPED_FOR.map(str::to_owned)).collect()
}

pub fn path(service: &str, method: &str) -> String {
    format!("/{PACKAGE}.{service}/{method}")
}

/// Docker's names in an operation, and as the broker would spell them: the verb first.
pub fn spellings(operation: &str) -> BTreeSet<String> {
    let is_name = |word: &&str| {
        let mut letters = word.chars();
        let capital = letters.next().is_some_and(|c| c.is_ascii_uppercase());
        capital && letters.next().is_some_and(|c| c.is_ascii_lowercase())
    };
    let names = operation
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(is_name);
    let mut spellings = BTreeSet::new();
    for name in names {
        spellings.insert(name.to_owned());
        if let Some(at) = name[1..].find(|c: char| c.is_ascii_uppercase()) {
            let (noun, verb) = name.split_at(at + 1);
            spellings.insert(format!("{verb}{noun}"));
        }
    }
    spellings
}

impl Own {
    /// For people: the method, and what is changed.
    pub fn name(&self) -> String {
        match (&self.put, &self.pull) {
            (Some(change), _) => format!("PutManifest with {}", change.at),
            (None, Some(change)) => format!("PullImages with {}", change.at),
            (None, None) => self
                .rpc
                .rsplit_once("Service/")
                .map_or(&*self.rpc, |rpc| rpc.1)
                .to_owned(),
        }
    }

    /// Where it goes.
    pub fn path(&self) -> String {
        if self.rpc.starts_with('/') {
            self.rpc.clone()
        } else {
            format!("/{PACKAGE}.{}", self.rpc)
        }
    }

    /// What is sent.
    pub fn frame(&self, fill: &impl Fn(&str) -> String) -> Vec<u8> {
        if let Some(frame) = &self.frame {
            return bytes(frame);
        }
        let message = match (&self.hex, &self.message) {
            (Some(hex), _) => bytes(hex),
            (None, message) => encoded(message.as_ref().unwrap(), fill),
        };
        super::wire::framed(&message)
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2);
    digits
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// A message by the numbers of its fields: truths, numbers, texts, messages, and lists of these.
fn encoded(message: &Value, fill: &impl Fn(&str) -> String) -> Vec<u8> {
    let mut whole = Vec::new();
    for (number, value) in message.as_object().unwrap() {
        let number: u64 = number.parse().unwrap();
        let one = std::slice::from_ref(value);
        for value in value.as_array().map_or(one, Vec::as_slice) {
            match value {
                Value::String(text) => piece(&mut whole, number, fill(text).as_bytes()),
                Value::Object(_) => piece(&mut whole, number, &encoded(value, fill)),
                value => {
                    // A negative number is sent as its complement, in ten bytes.
                    let negative = value.as_i64().map(i64::cast_unsigned);
                    let truth = value.as_bool().map(u64::from);
                    varint(&mut whole, number << 3);
                    varint(&mut whole, value.as_u64().or(negative).or(truth).unwrap());
                }
            }
        }
    }
    whole
}

fn piece(whole: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    varint(whole, (number << 3) | 2);
    varint(whole, u64::try_from(bytes.len()).unwrap());
    whole.extend(bytes);
}

fn varint(whole: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        whole.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    whole.push(u8::try_from(value).unwrap());
}

/// What `PutManifest` takes.
pub fn put(bundle: &Bundle) -> Vec<u8> {
    let mut whole = Vec::new();
    piece(&mut whole, 1, &bundle.manifest);
    piece(&mut whole, 2, bundle.signature.as_bytes());
    for image in &bundle.images {
        let mut signed = Vec::new();
        piece(&mut signed, 1, &image.payload);
        piece(&mut signed, 2, image.signature.as_bytes());
        piece(&mut whole, 3, &signed);
    }
    whole
}

/// A message with a field that no message has.
pub fn unknown_field() -> Vec<u8> {
    let mut whole = Vec::new();
    varint(&mut whole, 1000 << 3);
    varint(&mut whole, 1);
    whole
}
