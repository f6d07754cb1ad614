//! What stands on both sides of `cell-api`: bodies that browsers send it, and what it may send the broker and vaultd once it is taken over;
//! and what the broker reads of backups and of containers' logs. The first byte says which.
#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use cell_api_core::fields::read_object;
use cell_broker_core::Request as Checked;
use cell_broker_core::backup::Head;
use cell_broker_core::deploy::{
    Bundle, IMAGES_MAX, ImageSignature, PARAMETER_MAX_BYTES, PARAMETER_NAME_MAX_BYTES, PARAMETERS_MAX, Place, Unverified, Verified,
    parameters,
};
use cell_broker_core::logs::{MAX_BYTES, Source, Tail};
use cell_broker_core::model::LogLines;
use cell_broker_core::restore::{Kind, Restorer};
use cell_fuzz::{again, chosen, request};
use cell_manifest::MANIFEST_MAX_BYTES;
use cell_proto::broker::v1 as broker;
use cell_proto::vault::v1::IssueServerCertificateRequest;
use cell_vaultd_core::policy::CallerSpec;
use cell_vaultd_core::{NameScope, Policy};
use cell_vaultd_core::request::{ADDRESSES_MAX, CheckedNames, NAMES_MAX, NamesRefused};
use libfuzzer_sys::fuzz_target;

/// What vaultd.toml lets it certify, as shipped, and what the root was made for.
static VAULT: LazyLock<(Policy, NameScope)> = LazyLock::new(|| {
    let scope = |text| NameScope::decode(text).expect("a scope");
    let nobody = || CallerSpec { users: Vec::new(), unit: None };
    let policy = Policy {
        state: "/".into(),
        scope: scope("dns cell\ndns home.arpa\nip 10.0.0.0/8\nip fc00::/7\n"),
        leaf_lifetime: 1,
        issuances_per_hour: 1,
        secrets_max: 1,
        api_secret_prefixes: Vec::new(),
        api_callers: nobody(),
        netd_callers: nobody(),
        egress_callers: None,
        openvpn_callers: None,
        broker_callers: None,
    };
    (policy, scope("dns home.arpa\nip 10.0.0.0/8\n"))
});

/// A body of HTTP, whoever sends it: read alike twice, and no fault has a character that a terminal acts on.
fn body(bytes: &[u8]) {
    let read = || {
        read_object(
            bytes,
            |fields, faults| {
                let name = fields.string("name", faults);
                let revision = fields.number("revision", faults);
                let is_open = fields.nullable_flag("open", faults);
                let names = fields.optional_strings("names", faults);
                let texts = fields.texts("texts", faults);
                let inner = fields.optional_object("access", faults, |fields, faults| {
                    let services = fields.objects("services", faults, |fields, faults| {
                        (fields.string("address", faults), fields.number("port", faults))
                    });
                    (fields.flag("internet", faults), services)
                });
                (name, revision, is_open, names, texts, inner)
            },
            |_| Default::default(),
        )
    };
    match (read(), read()) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => {
            assert_eq!(one.violations(), other.violations());
            assert!(!one.is_empty());
            for fault in one.violations() {
                assert!(!fault.field.chars().any(char::is_control) && !fault.description.is_empty());
            }
        }
        _ => panic!("read in two ways"),
    }
}

/// A manifest is handed in: within its bounds, and nothing of it counts without a key.
fn manifest(bytes: &[u8]) {
    let Some(message) = request::<broker::PutManifestRequest>(bytes) else { return };
    let broker::PutManifestRequest { manifest, signature, images } = again(&message);
    let image = |broker::ImageSignature { payload, signature }| ImageSignature { payload, signature };
    let bundle = match Bundle::handed_in(manifest, signature, images.into_iter().map(image).collect()) {
        Ok(bundle) => bundle,
        Err(faults) => return assert!(!faults.is_empty()),
    };
    assert!(bundle.manifest.len() <= MANIFEST_MAX_BYTES && bundle.images.len() <= IMAGES_MAX);
    assert_eq!((&bundle.manifest, &bundle.signature), (&message.manifest, &message.signature));
    assert_eq!(Verified::open(bundle.clone(), &[]), Err(Unverified::Signature));
    let Ok(verified) = Verified::shipped(bundle) else { return };
    let images = verified.manifest().containers.iter().filter_map(|container| container.image.registry());
    assert!(images.into_iter().all(|image| !verified.signs(image, &[])), "no key signs nothing");
}

fn deployment(bytes: &[u8]) {
    if let Some(message) = request::<broker::DeployRequest>(bytes) {
        let count = message.parameters.len();
        if let Ok(parameters) = parameters(message.parameters.into_iter().map(|one| (one.name, one.text))) {
            assert!(parameters.len() == count && count <= PARAMETERS_MAX, "each once");
            let fits = |name: &str, text: &str| name.len() <= PARAMETER_NAME_MAX_BYTES && text.len() <= PARAMETER_MAX_BYTES;
            assert!(parameters.iter().all(|(name, text)| fits(name, text)));
        }
        if let Some(sent) = message.place
            && let Ok(place) = Place::asked_for(sent.number, &sent.subnet)
        {
            assert_eq!((u32::from(place.number), place.subnet), (sent.number, sent.subnet.parse().expect("a network")));
        }
    }
    if let Some(broker::StopContainerRequest { service, timeout_seconds }) = request(bytes) {
        match Checked::stop(&service, timeout_seconds) {
            Ok(stop) => {
                assert_eq!(stop.service().as_str(), service);
                assert!((1..=60).contains(&stop.act().timeout.seconds()));
            }
            Err(faults) => assert!(!faults.is_empty()),
        }
    }
}

/// Names that are certified are those that were asked for, each once, and lie in both scopes.
fn certificate(bytes: &[u8]) {
    let Some(message) = request::<IssueServerCertificateRequest>(bytes) else { return };
    let (policy, root) = &*VAULT;
    match CheckedNames::check(&message.names, &message.addresses, policy, root) {
        Ok(checked) => {
            let (names, addresses) = (checked.names(), checked.addresses());
            assert_eq!((names.len(), addresses.len()), (message.names.len(), message.addresses.len()));
            assert!(names.len() <= NAMES_MAX && addresses.len() <= ADDRESSES_MAX && names.len() + addresses.len() > 0);
            assert!(names.iter().all(|name| policy.scope.has_name(name) && root.has_name(name)));
            assert!(addresses.iter().all(|address| policy.scope.has_address(*address) && root.has_address(*address)));
        }
        Err(NamesRefused::Invalid(faults)) => assert!(!faults.is_empty()),
        Err(NamesRefused::NotAllowed(outside)) => assert!(!outside.is_empty()),
    }
}

/// The head of a backup, and names of entries, a line each: `s` links, and `h` are other names of the entry after a tab. Whoever knows a
/// public key makes such a file: nothing of it leads out of its volume, or through a link.
fn backup(bytes: &[u8]) {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let Ok(head) = serde_json::from_slice::<Head>(lines.next().unwrap_or_default()) else { return };
    let volumes: BTreeSet<String> = ["data", "mail"].map(str::to_owned).into();
    let Ok(mut restorer) = Restorer::new(&head, "files", volumes.clone()) else { return };
    let mut links: BTreeSet<Vec<u8>> = BTreeSet::new();
    for line in lines {
        let (name, kind) = match line.split_first() {
            Some((b's', name)) => (name, Kind::Symbolic),
            Some((b'h', both)) => {
                let tab = both.iter().position(|byte| *byte == b'\t').unwrap_or(both.len());
                (&both[..tab], Kind::Hard(both.get(tab + 1..).unwrap_or_default()))
            }
            _ => (line, Kind::Plain),
        };
        let Ok((volume, rest, file)) = restorer.place(name, kind) else { continue };
        assert!(volumes.contains(volume));
        for path in [Some(rest), file].into_iter().flatten().filter(|path| !path.is_empty()) {
            let is_plain = |part: &[u8]| !part.is_empty() && part != b"." && part != b".." && !part.contains(&0);
            assert!(path.split(|byte| *byte == b'/').all(is_plain), "it stays in its volume");
            let whole = [volume.as_bytes(), b"/", path].concat();
            let above = (0..whole.len()).filter(|at| whole[*at] == b'/').map(|at| &whole[..at]);
            assert!(above.into_iter().all(|above| !links.contains(above)), "no link leads it elsewhere");
        }
        if kind == Kind::Symbolic {
            links.insert([volume.as_bytes(), b"/", rest].concat());
        }
    }
}

/// What a container says, in pieces: the first byte says how long they are, and its last bit who speaks first.
fn log(bytes: &[u8]) {
    let Some((size, said)) = chosen(bytes) else { return };
    let mut tail = Tail::new(LogLines::from_wire(u32::from(size)).unwrap_or(LogLines::MOST));
    for (number, piece) in said.chunks(usize::from(size).max(1)).enumerate() {
        let source = if (number + usize::from(size)) % 3 == 0 { Source::Error } else { Source::Output };
        tail.push(source, piece);
    }
    let shown = tail.finish();
    assert!(shown.lines.len() <= LogLines::MOST.get());
    assert!(shown.lines.iter().map(String::len).sum::<usize>() <= MAX_BYTES);
    let obeyed = |c: char| (c.is_control() && c != '\t') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!shown.lines.iter().any(|line| line.chars().any(obeyed)), "nothing that a terminal obeys");
}

fuzz_target!(|input: &[u8]| {
    match chosen(input) {
        Some((b'b', bytes)) => body(bytes),
        Some((b'm', bytes)) => manifest(bytes),
        Some((b'd', bytes)) => deployment(bytes),
        Some((b'c', bytes)) => certificate(bytes),
        Some((b'k', bytes)) => backup(bytes),
        Some((b'l', bytes)) => log(bytes),
        _ => {}
    }
});
