//! A manifest with its signature, and with those of its images.

use cell_manifest::{Digest, Image, MANIFEST_MAX_BYTES, Manifest, parse_json};
use sha2::{Digest as _, Sha256};

use cell_manifest::Key;

/// Largest payload of an image's signature, bytes.
pub(super) const PAYLOAD_MAX_BYTES: usize = 8 * 1024;

/// What a catalog hands out: bytes and signatures, nothing verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// The manifest, exactly as it was signed.
    pub manifest: Vec<u8>,
    /// Base64 of its signature.
    pub signature: String,
    /// Signatures of its images.
    pub images: Vec<ImageSignature>,
}

/// A signature of an image: cosign's "simple signing" payload and the signature over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageSignature {
    /// JSON that names the image by digest.
    pub payload: Vec<u8>,
    /// Base64 of the signature over exactly these bytes.
    pub signature: String,
}

/// Who vouches for a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Signer {
    /// Root, who shipped it.
    Root,
    /// The holder of this key of the ceiling, as PEM.
    Key(String),
}

/// A manifest whose signature was verified, or that root shipped. Only [`Verified::open`] and [`Verified::shipped`] make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    manifest: Manifest,
    digest: Digest,
    signer: Signer,
    images: Vec<ImageSignature>,
}

/// Why a bundle is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unverified {
    /// By no key of the ceiling.
    #[error("the manifest is not signed by a key of the broker's ceiling (manifest_keys in broker.toml)")]
    Signature,
    /// Signed, and wrong.
    #[error("{0}")]
    Manifest(#[from] cell_manifest::Faults),
}

impl Verified {
    /// Verifies the signature first, over exactly the bytes that are then parsed.
    ///
    /// # Errors
    /// [`Unverified`]. Of an unsigned manifest nothing is read.
    pub fn open(bundle: Bundle, keys: &[Key]) -> Result<Self, Unverified> {
        if bundle.manifest.len() > MANIFEST_MAX_BYTES {
            // Refused by its length, before anything is looked at.
            return Err(Manifest::parse(&bundle.manifest)
                .map_or_else(Unverified::Manifest, |_| Unverified::Signature));
        }
        let signer = keys
            .iter()
            .find(|key| key.verifies(&bundle.manifest, &bundle.signature))
            .ok_or(Unverified::Signature)?;
        Ok(Verified {
            signer: Signer::Key(signer.to_pem()),
            manifest: Manifest::parse(&bundle.manifest)?,
            digest: Digest::of_sha256(Sha256::digest(&bundle.manifest).into()),
            images: bundle.images,
        })
    }

    /// One that is, byte by byte, in the folder of shipped manifests, which is root's: whoever calls this has looked. Images of
    /// a registry still need their signatures.
    ///
    /// # Errors
    /// [`Unverified::Manifest`].
    pub fn shipped(bundle: Bundle) -> Result<Self, Unverified> {
        Ok(Verified {
            signer: Signer::Root,
            manifest: Manifest::parse(&bundle.manifest)?,
            digest: Digest::of_sha256(Sha256::digest(&bundle.manifest).into()),
            images: bundle.images,
        })
    }

    /// Who vouches for it.
    pub fn signer(&self) -> &Signer {
        &self.signer
    }

    /// What it says.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// SHA-256 of its bytes: its name.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Whether one of `keys` signed `image`, by its name and digest.
    pub fn signs(&self, image: &Image, keys: &[Key]) -> bool {
        self.images.iter().any(|signed| {
            names(&signed.payload, image)
                && keys
                    .iter()
                    .any(|key| key.verifies(&signed.payload, &signed.signature))
        })
    }
}

/// Whether a payload is about this image: cosign's format, its digest, and its name.
fn names(payload: &[u8], image: &Image) -> bool {
    let Ok(value) = parse_json(payload, PAYLOAD_MAX_BYTES) else {
        return false;
    };
    let at = |pointer: &str| value.pointer(pointer).and_then(serde_json::Value::as_str);
    at("/critical/type") == Some("cosign container image signature")
        && at("/critical/image/docker-manifest-digest") == Some(image.digest().as_str())
        && at("/critical/identity/docker-reference") == Some(image.name())
}
