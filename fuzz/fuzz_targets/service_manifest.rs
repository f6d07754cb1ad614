//! Manifests of services: whoever signs them, and whoever can put a file beside signed ones. What is taken names nothing that no
//! service may have, reads the same twice, and no value breaks out of its place.
#![no_main]

use std::collections::BTreeMap;

use cell_manifest::{MANIFEST_MAX_BYTES, Manifest, SECRETS_MAX, SECRETS_TARGET, Source, from_vault};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(faults) => {
            assert!(faults.iter().count() > 0);
            assert!(faults.iter().all(|fault| !fault.description.is_empty()));
            return;
        }
    };
    assert!(bytes.len() <= MANIFEST_MAX_BYTES);
    assert_eq!(Manifest::parse(bytes).as_ref(), Ok(&manifest));
    let instance = if manifest.instanceable { "a" } else { "" };
    let (Ok(service), values) = (manifest.service_name(instance), manifest.values(&BTreeMap::new())) else {
        return;
    };
    for container in &manifest.containers {
        assert!(container.user.uid >= 1000 && container.user.gid >= 1000);
        assert_ne!(container.image.registry().is_some(), container.image.local().is_some());
        for mount in &container.mounts {
            assert!(mount.target.as_str().starts_with('/') && !mount.target.as_str().contains(".."));
            if let Source::Bind { below, .. } = &mount.source {
                assert!(!below.as_str().starts_with('/') && !below.as_str().contains(".."));
            }
        }
        assert!(container.secrets.len() <= SECRETS_MAX);
        for secret in &container.secrets {
            let stored = secret.name.in_vault(&service);
            assert_eq!(from_vault(&service, &stored).as_ref(), Some(&secret.name));
            assert!(stored.len() <= 128 && !secret.name.as_str().contains(['/', '.']));
            let within = |path: &str| format!("{path}/").starts_with(&format!("{SECRETS_TARGET}/"));
            assert!(container.mounts.iter().all(|mount| !within(mount.target.as_str())));
        }
        let Ok(values) = &values else {
            continue;
        };
        for text in container.environment.values().map(|value| value.fill(&service, values)) {
            assert!(!text.contains(['\0', '\r', '\n']));
        }
    }
});
