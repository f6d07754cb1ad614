//! Random manifests and values: whatever is approved and rendered, the field policy holds.
//!
//! 25,000 different pairs of a manifest and values here; `CELL_BROKER_CASES=1000000` for longer (`make brokertest`), on all processors.
//! The broker looks at each request once more before it is sent ([`Approved::finish`]); what is asked here is a second reader
//! (`core/tests/support/looked`, which `core/tests/looked.rs` holds to finding what is wrong).

#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "support/drawn/mod.rs"]
mod drawn;
#[path = "../core/tests/support/looked/mod.rs"]
mod looked;
#[path = "support/random.rs"]
mod random;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cell_broker_core::Role;
use cell_broker_core::deploy::{
    Approved, Bundle, CREATE_MAX_BYTES, Ceiling, ImagePolicy, Order, Place, Unverified, Verified, judge,
};
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::fault;
use drawn::Places;
use looked::Asked;
use random::Random;
use serde_json::{Value, json};
use support::deployed::put_request;
use support::report::holds;
use support::signed::{bundle, bundle_by, ceiling, given, local, place, rich, sign, signer};

/// Values that each manifest is asked for with: it is signed once and deployed often.
const VALUES: usize = 5;
/// Manifests of one batch: what is drawn in it follows from the seed and its number alone.
const BATCH: usize = 40;

/// What came of all that was tried.
#[derive(Default)]
struct Tally {
    /// Manifests, and pairs of a manifest with an instance and values: the hashes of those that differ from all others.
    manifests: BTreeSet<u64>,
    pairs: BTreeSet<u64>,
    /// Manifests that are none.
    unread: usize,
    /// Pairs that the judge refused, the codes by which it did, and pairs that it approved with a warning.
    denied: usize,
    codes: BTreeSet<&'static str>,
    warned: usize,
    /// Approved pairs by what the ceiling says of unsigned images: enforce, warn, off.
    approved: [usize; 3],
    /// Manifests that were approved at least once.
    rendered: BTreeSet<u64>,
    /// Requests, and the fields that were in them.
    requests: usize,
    sent: BTreeSet<&'static str>,
}

impl Tally {
    fn add(&mut self, other: Tally) {
        self.manifests.extend(other.manifests);
        self.pairs.extend(other.pairs);
        self.rendered.extend(other.rendered);
        self.codes.extend(other.codes);
        self.sent.extend(other.sent);
        self.unread += other.unread;
        self.denied += other.denied;
        self.warned += other.warned;
        self.requests += other.requests;
        for (all, more) in self.approved.iter_mut().zip(other.approved) {
            *all += more;
        }
    }
}

/// By nothing that changes from run to run.
fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// A manifest as it was handed in, below one of the three ceilings.
struct Handed {
    manifest: Value,
    verified: Verified,
    policy: usize,
    hash: u64,
}

struct World {
    ceilings: [Ceiling; 3],
    places: Places,
    seed: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let ceilings =
            [ImagePolicy::Enforce, ImagePolicy::Warn, ImagePolicy::Off].map(|image_policy| Ceiling {
                image_policy,
                ..ceiling()
            });
        World {
            ceilings,
            places: Places::new(),
            seed,
        }
    }

    fn batch(&self, number: u64) -> Tally {
        let mut random = Random::new(self.seed.rotate_left(32) ^ number);
        let mut tally = Tally::default();
        for _ in 0..BATCH {
            let Some(handed) = self.hand_in(&mut random, &mut tally) else {
                continue;
            };
            for _ in 0..VALUES {
                self.ask(&mut random, &handed, &mut tally);
            }
        }
        tally
    }

    /// A manifest, changed or not, with images that are signed, by another key, or not at all.
    fn hand_in(&self, random: &mut Random, tally: &mut Tally) -> Option<Handed> {
        let mut manifest = drawn::manifest(random);
        drawn::spoil(random, &self.places, &mut manifest);
        // Images are signed and verified most where it counts; it takes most of the time.
        let policy = random.pick(&[0, 0, 1, 2]);
        let bundle = match policy {
            0 => bundle_by(
                &manifest,
                &signer(1),
                &signer(if random.chance(95) { 2 } else { 3 }),
            ),
            1 if random.chance(50) => bundle(&manifest),
            _ => unsigned(&manifest),
        };
        let hash = hash(&bundle.manifest);
        tally.manifests.insert(hash);
        match Verified::open(bundle, &self.ceilings[policy].manifest_keys) {
            Ok(verified) => Some(Handed {
                manifest,
                verified,
                policy,
                hash,
            }),
            Err(Unverified::Manifest(_)) => {
                // Nobody can ask for it: it is one pair, with no values.
                tally.pairs.insert(hash);
                tally.unread += 1;
                None
            }
            Err(Unverified::Signature) => panic!("it was signed: {manifest}"),
        }
    }

    /// Asks for it with values, and looks at what would be sent.
    fn ask(&self, random: &mut Random, handed: &Handed, tally: &mut Tally) {
        let parameters = drawn::parameters(random, &handed.manifest);
        let instanceable = handed.manifest["instanceable"] == true;
        let instance = if instanceable || random.chance(2) {
            random.pick(&[
                "a",
                "home",
                "b-2",
                "",
                "A",
                "../x",
                "longer-than-a-name-may-be-with-its-id",
            ])
        } else {
            ""
        };
        tally.pairs.insert(hash(&(handed.hash, instance, &parameters)));
        let is_core = handed.manifest["kind"] == "core";
        let place = (!is_core).then(|| place(u16::try_from(1 + random.below(1023)).unwrap()));
        let ceiling = &self.ceilings[handed.policy];
        let order = Order {
            instance,
            parameters: &parameters,
            place,
            places: &BTreeSet::new(),
            local: &local(),
            others: 0,
            others_memory_mib: 0,
            taken: &BTreeSet::new(),
            owner: None,
        };
        match judge(ceiling, Role::Api, &handed.verified, &order) {
            Err(reasons) => {
                tally.denied += 1;
                tally.codes.extend(reasons.iter().map(|reason| reason.code));
            }
            Ok(approved) => {
                tally.approved[handed.policy] += 1;
                tally.warned += usize::from(!approved.warnings().is_empty());
                tally.rendered.insert(handed.hash);
                self.looked_at(handed, &approved, instance, &parameters, place, tally);
            }
        }
    }

    fn looked_at(
        &self,
        handed: &Handed,
        approved: &Approved,
        instance: &str,
        parameters: &BTreeMap<String, String>,
        place: Option<Place>,
        tally: &mut Tally,
    ) {
        let ceiling = &self.ceilings[handed.policy];
        let given = given(ceiling, approved);
        let id = handed.manifest["id"].as_str().unwrap();
        let network = place.map_or(ceiling.cell_network, |place| place.subnet);
        let asked = Asked {
            manifest: &handed.manifest,
            digest: handed.verified.digest().as_str(),
            service: if instance.is_empty() {
                id.to_owned()
            } else {
                format!("{id}-{instance}")
            },
            parameters,
            ceiling,
            given: &given,
            network: network.network(),
        };
        let containers = handed.manifest["containers"].as_array().unwrap().len();
        assert_eq!(approved.containers().len(), containers);
        for n in 0..containers {
            // Its own last look has to let through what it rendered itself.
            let finished = approved.finish(ceiling, &given, n).unwrap();
            let found = looked::look(&asked, n, finished.body());
            if tally.requests.is_multiple_of(8) {
                // What is read of the bytes that would be sent is the same.
                let bytes = serde_json::to_vec(finished.body()).unwrap();
                let read: Value = serde_json::from_slice(&bytes).unwrap();
                assert!(bytes.len() <= CREATE_MAX_BYTES && read == *finished.body());
            }
            let (seed, manifest) = (self.seed, &handed.manifest);
            assert!(
                found.faults.is_empty(),
                "seed {seed}: {:?} of container {n} of {manifest} with {instance:?} {parameters:?}",
                found.faults
            );
            tally.sent.extend(found.sent);
            tally.requests += 1;
        }
    }
}

/// Signed as a manifest, and without a signature of its images.
fn unsigned(manifest: &Value) -> Bundle {
    let bytes = serde_json::to_vec(manifest).unwrap();
    Bundle {
        signature: sign(&signer(1), &bytes),
        manifest: bytes,
        images: Vec::new(),
    }
}

/// Batches, one after the other, until there are so many pairs; in the long form on all processors.
fn tried(world: &World, wanted: usize, threads: usize) -> Tally {
    let (next, all) = (AtomicU64::new(0), Mutex::new(Tally::default()));
    let work = || loop {
        let tally = world.batch(next.fetch_add(1, Ordering::Relaxed));
        let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
        all.add(tally);
        if all.pairs.len() >= wanted {
            return;
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    all.into_inner().unwrap()
}

/// What a run has to have met, or it would have shown nothing.
fn is_varied(tally: &Tally, wanted: usize) {
    assert!(tally.pairs.len() >= wanted);
    assert!(
        tally.manifests.len() >= wanted / VALUES,
        "{}",
        tally.manifests.len()
    );
    assert_eq!(tally.sent, looked::fields(), "every field was sent");
    let counts = [tally.unread * 10, tally.denied * 10, tally.requests];
    assert!(counts.iter().all(|count| *count > wanted / 2), "{counts:?}");
    assert!(
        tally.approved.iter().all(|count| *count > wanted / 40),
        "{:?}",
        tally.approved
    );
    assert!(tally.warned > 0);
    let codes = [
        "I1_LOCAL",
        "I1_REGISTRY",
        "I1_UNSIGNED",
        "M1_BIND_ROOT",
        "M1_CORE_ROOT",
        "M2_BIND_READ_ONLY",
        "N2_CORE",
        "N6_PUBLISHED",
        "P2_CAPABILITY",
        "P5_GATEWAY",
        "R1_LIMIT",
        "S2_INSTANCE",
        "S3_PARAMETER",
    ];
    let missed: Vec<&str> = codes
        .into_iter()
        .filter(|code| !tally.codes.contains(code))
        .collect();
    assert!(missed.is_empty(), "nothing was refused by {missed:?}");
}

#[test]
fn no_request_that_is_rendered_breaks_the_policy() {
    let long = random::number("CELL_BROKER_CASES");
    let wanted = usize::try_from(long.unwrap_or(25_000)).unwrap();
    // Beside another program of tests it has one processor.
    let all = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = if long.is_some() { all } else { 1 };
    let world = World::new(random::seed());
    let tally = tried(&world, wanted, threads);
    let [enforce, warn, off] = tally.approved;
    let said = format!(
        "{} manifests not read, {} pairs denied, {} approved (images: {enforce} enforce, {warn} warn, {off} off), of {} manifests",
        tally.unread,
        tally.denied,
        enforce + warn + off,
        tally.rendered.len()
    );
    println!("{said}; {} requests; {:?}", tally.requests, tally.codes);
    is_varied(&tally, wanted);
    let least = |n: usize| format!("at least {n}");
    let (pairs, manifests) = (tally.pairs.len(), tally.manifests.len());
    holds(
        "different pairs of a random manifest and values",
        pairs,
        "pairs",
        &least(wanted),
    );
    holds(
        "different random manifests in them",
        manifests,
        "manifests",
        &least(wanted / VALUES),
    );
    holds("what the broker said of them", said, "", "all of it");
    holds(
        "requests rendered of them",
        tally.requests,
        "requests",
        &least(wanted / 2),
    );
    let told = format!("0 of {}, at all depths, seed {}", tally.requests, world.seed);
    holds(
        "requests that break the field policy by a second reader",
        told,
        "",
        "0",
    );
}

/// Of a hundred that are handed in at once each is kept for a while, and never more than the ceiling allows: Docker is not there. Who
/// is told that others are before it says it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn manifests_that_come_at_once_are_all_taken_and_the_last_are_kept() {
    let state = tempfile::tempdir().unwrap();
    let docker = state.path().join("no.sock");
    let broker = support::deployed::Deployed::start(&docker, state.path(), ceiling());
    let puts = (0..100).map(|n| {
        let mut asked = rich(&support::signed::image());
        asked["version"] = json!(format!("2.{n}"));
        let mut client = DeploymentServiceClient::new(cell_proto::ipc::connect(broker.socket()));
        async move {
            loop {
                let put = client.put_manifest(put_request(bundle(&asked))).await;
                match put {
                    Err(status) if fault::reason(&status).as_deref() == Some("BUSY") => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    answer => return answer.map(drop),
                }
            }
        }
    });
    let answers = tokio::time::timeout(Duration::from_secs(60), futures_util::future::join_all(puts)).await;
    for answer in answers.unwrap() {
        assert!(answer.is_ok(), "{answer:?}");
    }
    let kept = std::fs::read_dir(state.path().join("manifests")).unwrap().count();
    assert_eq!(kept, usize::from(ceiling().limits.manifests));
}
