//! What root put on the machine for the broker: manifests that were shipped, and the list of images that were built here.

use std::collections::BTreeMap;
use std::path::Path;

use cell_broker_core::deploy::{Bundle, Unverified, Verified};
use cell_manifest::{Digest, MANIFEST_MAX_BYTES, Name};
use serde::Deserialize;

use super::store::Record;
use super::{DeployRefusal, Deployments};
use crate::binds;

/// Most folders of manifests that are looked through.
const SHIPPED_MAX: usize = 256;
/// Longest list of images, bytes.
const IMAGES_MAX_BYTES: u64 = 64 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Images {
    #[serde(default)]
    images: BTreeMap<String, String>,
}

impl Deployments {
    /// Verifies a bundle: by a signature, or, where it has none, as one that root shipped. `known`: the broker has let these very
    /// bytes through already and something runs of them.
    pub(super) fn opened(&self, bundle: Bundle, known: bool) -> Result<Verified, Unverified> {
        if !bundle.signature.is_empty() {
            return Verified::open(bundle, &self.ceiling().manifest_keys);
        }
        // Nothing is read of what nobody vouches for: bytes are compared.
        if bundle.manifest.len() <= MANIFEST_MAX_BYTES && (known || self.is_shipped(&bundle.manifest)) {
            Verified::shipped(bundle)
        } else {
            Err(Unverified::Signature)
        }
    }

    fn is_shipped(&self, manifest: &[u8]) -> bool {
        let Some(folder) = &self.ceiling().shipped else {
            return false;
        };
        let Ok(entries) = std::fs::read_dir(folder) else {
            tracing::warn!(folder, "the folder of shipped manifests cannot be read");
            return false;
        };
        let names = entries.take(SHIPPED_MAX).filter_map(|entry| {
            let name = entry.ok()?.file_name();
            Name::try_from(name.to_str()?).ok()
        });
        for name in names {
            let path = format!("{folder}/{name}/manifest.json");
            let most = u64::try_from(MANIFEST_MAX_BYTES).unwrap_or(u64::MAX);
            match binds::read(Path::new(&path), most) {
                Ok(bytes) if bytes == manifest => return true,
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "a shipped manifest is left out"),
            }
        }
        false
    }

    /// The same, but for the way back of `record`: what ran before runs with the images that it ran with, though root has built others.
    pub(super) fn images_of(
        &self,
        verified: &Verified,
        record: Option<&Record>,
    ) -> Result<BTreeMap<Name, Digest>, DeployRefusal> {
        let mut images = self.local_images(verified)?;
        let back = record.filter(|record| record.is_former(verified.digest()));
        if let Some(former) = back.and_then(|record| record.former.as_ref()) {
            let named = former.local_images.iter();
            let ran = named.filter_map(|(name, id)| {
                Some((
                    Name::try_from(name.as_str()).ok()?,
                    Digest::try_from(id.as_str()).ok()?,
                ))
            });
            images.extend(ran);
        }
        Ok(images)
    }

    /// The images that root built on the machine, where the manifest names one: read anew each time.
    pub(super) fn local_images(&self, verified: &Verified) -> Result<BTreeMap<Name, Digest>, DeployRefusal> {
        let mut containers = verified.manifest().containers.iter();
        let wanted = containers.any(|container| container.image.local().is_some());
        let Some(file) = self.ceiling().local_images.as_ref().filter(|_| wanted) else {
            return Ok(BTreeMap::new());
        };
        let bytes = binds::read(Path::new(file), IMAGES_MAX_BYTES)
            .map_err(|error| DeployRefusal::LocalImages(error.to_string()))?;
        listed(&bytes).map_err(|words| DeployRefusal::LocalImages(format!("{file}: {words}")))
    }
}

fn listed(bytes: &[u8]) -> Result<BTreeMap<Name, Digest>, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "is not text".to_owned())?;
    let written: Images = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    let one = |(name, id): (String, String)| {
        let name = Name::try_from(name.as_str()).map_err(|words| format!("a name {words}"))?;
        let id = Digest::try_from(id.as_str()).map_err(|words| format!("{name}: {words}"))?;
        Ok((name, id))
    };
    written.images.into_iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_list_has_names_and_ids_and_nothing_else() {
        let id = format!("sha256:{}", "0f".repeat(32));
        let good = format!("[images]\ncaddy = \"{id}\"\n");
        assert_eq!(listed(good.as_bytes()).unwrap().len(), 1, "control");
        for bad in [
            "[images]\ncaddy = \"caddy:1\"\n".to_owned(),
            format!("[images]\nCaddy = \"{id}\"\n"),
            format!("[images]\ncaddy = \"{}\"\n", id.to_uppercase()),
            format!("{good}[more]\nx = 1\n"),
            "[images".to_owned(),
        ] {
            assert!(listed(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(listed(&[0xff]).is_err());
    }
}
