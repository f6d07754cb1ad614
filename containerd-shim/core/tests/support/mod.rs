//! What tests of deployments share: a key, a ceiling, a manifest, and bundles that are signed.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_broker_core::Role;
use cell_broker_core::deploy::{
    Approved, BindRoot, Bundle, Ceiling, CeilingLimits, Denied, Given, ImagePolicy, ImageSignature, Key,
    Order, Place, PublishedRange, SecretsPlace, Verified, judge,
};
use cell_broker_core::model::Ownership;
use cell_manifest::{Capability, Digest, Image, Name, Purpose};
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};

/// Where images of tests come from.
pub const REGISTRY: &str = "127.0.0.1:5000";

pub fn name(text: &str) -> Name {
    Name::try_from(text).unwrap()
}

/// What root has built on the machine of the tests.
pub fn local() -> BTreeMap<Name, Digest> {
    let id = Digest::try_from(DIGEST).unwrap();
    BTreeMap::from([(name("caddy"), id)])
}

/// The place that the n-th service of a test has; 1 and up.
pub fn place(n: u16) -> Place {
    let subnet = format!("172.21.{}.{}/28", n / 16, n % 16 * 16);
    Place {
        number: n,
        subnet: subnet.parse().unwrap(),
    }
}

/// A signer; different numbers are different keys.
pub fn signer(n: u8) -> SigningKey {
    SigningKey::from_slice(&[n; 32]).unwrap()
}

pub fn pem(signer: &SigningKey) -> String {
    p256::PublicKey::from(signer.verifying_key())
        .to_public_key_pem(LineEnding::LF)
        .unwrap()
}

pub fn sign(signer: &SigningKey, bytes: &[u8]) -> String {
    let signature: DerSignature = signer.sign(bytes);
    STANDARD.encode(signature.as_bytes())
}

pub fn ceiling() -> Ceiling {
    let ownership = Ownership::new(
        "cell.owner".try_into().unwrap(),
        "default".try_into().unwrap(),
        "cell.service".try_into().unwrap(),
    );
    let root = |path: &str, writable| BindRoot {
        path: path.to_owned(),
        writable,
        owner: None,
        core: false,
    };
    Ceiling {
        ownership: ownership.unwrap(),
        manifest_keys: vec![Key::from_pem(&pem(&signer(1))).unwrap()],
        image_keys: vec![Key::from_pem(&pem(&signer(2))).unwrap()],
        image_policy: ImagePolicy::Enforce,
        registries: vec![REGISTRY.to_owned()],
        local_images: Some("/etc/cell/images.toml".to_owned()),
        shipped: None,
        bind_roots: BTreeMap::from([
            (
                name("dns"),
                BindRoot {
                    path: "/var/lib/cell/core/dns".to_owned(),
                    writable: false,
                    owner: Some(1000),
                    core: true,
                },
            ),
            (name("media"), root("/srv/cell/data", false)),
            (name("inbox"), root("/srv/cell/inbox", true)),
        ]),
        capabilities: BTreeSet::from([
            Capability::Chown,
            Capability::NetBindService,
            Capability::NetAdmin,
        ]),
        gateways: BTreeSet::from([name("gateway")]),
        core: BTreeMap::from([(name("caddy"), Ipv4Addr::new(172, 20, 0, 2))]),
        published: vec![PublishedRange {
            address: Ipv4Addr::LOCALHOST.into(),
            first: 20_000,
            last: 20_099,
        }],
        limits: CeilingLimits {
            memory_mib: 512,
            cpu_milli: 1000,
            pids: 256,
            services: 8,
            total_memory_mib: 2048,
            manifests: 16,
        },
        cell_network: "172.20.0.0/24".parse().unwrap(),
        service_networks: "172.21.0.0/16".parse().unwrap(),
        bridge_prefix: "cellsvc".to_owned(),
        secrets: Some(SecretsPlace {
            vault_socket: "/run/cell/broker-keys/vault.sock".to_owned(),
            folder: "/run/cell/broker-secrets".to_owned(),
        }),
    }
}

pub const DIGEST: &str = "sha256:0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f";

/// The least that a container needs.
pub fn container(image: &str) -> Value {
    json!({
        "name": "main", "image": image, "user": "1000:1000", "command": ["/bin/true"],
        "limits": {"memory_mib": 32, "cpu_milli": 500, "pids": 32}
    })
}

/// The least that a manifest needs.
pub fn manifest(image: &str) -> Value {
    json!({
        "schema_version": 3, "kind": "store", "id": "files", "name": "Files", "version": "1.0",
        "containers": [container(image)]
    })
}

pub fn image() -> String {
    format!("{REGISTRY}/store/files@{DIGEST}")
}

/// One that uses every part.
pub fn rich(image: &str) -> Value {
    json!({
        "schema_version": 3, "kind": "store", "id": "gateway", "name": "Gateway", "version": "1.0",
        "flags": {"has_admin_config": true, "has_storage": true},
        "config_schema": {
            "quota": {"type": "integer", "min": 1, "max": 100, "default": 10},
            "greeting": {"type": "string", "pattern": "printable", "max_length": 200, "default": ""},
            "domain": {"type": "string", "pattern": "hostname", "max_length": 200, "default": "a.example"}
        },
        "containers": [{
            "name": "main", "image": image, "user": "1000:1000", "entrypoint": ["/bin/sh"],
            "command": ["-c", "exec sleep ${config.quota}", "${config.domain}"], "working_dir": "/srv",
            "environment": {"GREETING": "${config.greeting}", "WHO": "${instance}"},
            "gateway": true, "capabilities": ["NET_ADMIN", "CHOWN"],
            "mounts": [
                {"type": "volume", "volume": "data", "target": "/data"},
                {"type": "bind", "root": "media", "path": "films", "target": "/media", "read_only": true},
                {"type": "bind", "root": "inbox", "target": "/inbox"},
                {"type": "tmpfs", "size_mib": 16, "mode": "1777", "target": "/tmp"}
            ],
            "limits": {"memory_mib": 64, "cpu_milli": 500, "pids": 64, "shm_mib": 8, "files": 256},
            "health": {"command": ["/bin/true"], "interval_seconds": 5, "timeout_seconds": 2, "retries": 3},
            "restart": {"policy": "on-failure", "retries": 3},
            "ports": [{"port": 8080, "publish": {"address": "127.0.0.1", "port": 20001}}, {"port": 8081}]
        }, container(image).as_object().map(|map| {
            let mut map = map.clone();
            map.insert("name".to_owned(), json!("side"));
            Value::Object(map)
        }).unwrap()]
    })
}

/// Cosign's payload for an image.
pub fn payload(name: &str, digest: &str) -> Vec<u8> {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": name}, "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"
        },
        "optional": null
    });
    serde_json::to_vec(&payload).unwrap()
}

/// A bundle as a catalog would hand it out: signed, with signatures of all images that can be read.
pub fn bundle(manifest: &Value) -> Bundle {
    bundle_by(manifest, &signer(1), &signer(2))
}

/// The manifest as text, with one text replaced by another, and signed as it is then.
pub fn rewritten(manifest: &Value, from: &str, to: &str) -> Bundle {
    let mut bundle = bundle(manifest);
    let text = String::from_utf8(bundle.manifest).unwrap();
    assert!(text.contains(from), "{from}");
    bundle.manifest = text.replacen(from, to, 1).into_bytes();
    bundle.signature = sign(&signer(1), &bundle.manifest);
    bundle
}

pub fn bundle_by(manifest: &Value, manifests: &SigningKey, images: &SigningKey) -> Bundle {
    let bytes = serde_json::to_vec(manifest).unwrap();
    let named = manifest["containers"].as_array().into_iter().flatten();
    let image = |container: &Value| {
        let image = Image::try_from(container["image"].as_str()?).ok()?;
        let payload = payload(image.name(), image.digest().as_str());
        let signature = sign(images, &payload);
        Some(ImageSignature { payload, signature })
    };
    Bundle {
        signature: sign(manifests, &bytes),
        manifest: bytes,
        images: named.filter_map(image).collect(),
    }
}

pub fn verified(manifest: &Value) -> Verified {
    Verified::open(bundle(manifest), &ceiling().manifest_keys).unwrap()
}

/// What the judge says of a manifest with these values, alone on the machine.
pub fn judged(ceiling: &Ceiling, manifest: &Value, parameters: &[(&str, &str)]) -> Result<Approved, Denied> {
    judged_as(ceiling, &verified(manifest), parameters)
}

pub fn judged_as(
    ceiling: &Ceiling,
    verified: &Verified,
    parameters: &[(&str, &str)],
) -> Result<Approved, Denied> {
    let parameters = parameters
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let order = Order {
        instance: "",
        parameters: &parameters,
        place: (verified.manifest().purpose == Purpose::Store).then(|| place(1)),
        places: &BTreeSet::new(),
        local: &local(),
        others: 0,
        others_memory_mib: 0,
        taken: &BTreeSet::new(),
        owner: None,
    };
    judge(ceiling, Role::Api, verified, &order)
}

/// What the broker would have made and looked up.
pub fn given(ceiling: &Ceiling, approved: &Approved) -> Given {
    let walked = |(root, below): (Name, cell_manifest::BelowRoot)| {
        let path = ceiling.bind_roots[&root].join(&below);
        ((root, below), path)
    };
    Given {
        network: "ab".repeat(32),
        binds: approved.binds().into_iter().map(walked).collect(),
        images: approved.local_images(),
        attempt: "attempt".to_owned(),
        gateway: ceiling.gateways.contains(&approved.owner().id),
    }
}
