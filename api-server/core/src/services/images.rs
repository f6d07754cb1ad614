//! Signatures of images, as a catalog's index brings them: the broker alone verifies them, with keys of its ceiling.

use serde::{Deserialize, Serialize};

/// Most signatures of one service.
pub const MOST: usize = 16;
/// Longest payload, bytes.
pub const PAYLOAD_MAX_BYTES: usize = 8 * 1024;

/// One signature, as `cosign generate` and `cosign sign` make it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageSignature {
    /// Cosign's "simple signing" payload, exactly as it was signed.
    pub payload: String,
    /// Base64 of the signature over it.
    pub signature: String,
}

/// Holds what an index says to what the broker takes.
///
/// # Errors
/// What is wrong, for people.
pub fn check(signatures: &[ImageSignature]) -> Result<(), String> {
    if signatures.len() > MOST {
        return Err(format!("images must be at most {MOST} signatures"));
    }
    for (place, one) in signatures.iter().enumerate() {
        if !(1..=PAYLOAD_MAX_BYTES).contains(&one.payload.len()) {
            return Err(format!(
                "images[{place}].payload must be 1 to {PAYLOAD_MAX_BYTES} bytes"
            ));
        }
        let read = super::catalog::signature_of(one.signature.as_bytes());
        if one.signature.is_empty() || read.as_ref() != Ok(&one.signature) {
            return Err(format!("images[{place}].signature must be a line of base64"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(payload: &str, signature: &str) -> ImageSignature {
        ImageSignature {
            payload: payload.to_owned(),
            signature: signature.to_owned(),
        }
    }

    #[test]
    fn what_the_broker_would_not_take_is_said_of_the_index() {
        assert_eq!(check(&[]), Ok(()));
        assert_eq!(check(&[one("{}", "MEUCIQ==")]), Ok(()));
        let long = "x".repeat(PAYLOAD_MAX_BYTES + 1);
        for (bad, word) in [
            (vec![one("{}", "MEUCIQ=="); MOST + 1], "at most 16"),
            (vec![one("", "MEUCIQ==")], "images[0].payload"),
            (
                vec![one("{}", "MEUCIQ=="), one(&long, "MEUCIQ==")],
                "images[1].payload",
            ),
            (vec![one("{}", "")], "images[0].signature"),
            (vec![one("{}", "a b")], "images[0].signature"),
            (vec![one("{}", " MEUCIQ==")], "images[0].signature"),
        ] {
            let told = check(&bad);
            assert!(told.as_ref().is_err_and(|told| told.contains(word)), "{told:?}");
        }
    }
}
