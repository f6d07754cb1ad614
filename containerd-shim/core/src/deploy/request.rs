//! What a caller hands in and asks to be deployed, within its bounds: plain values, so that no message is known here. Whether it is signed,
//! and whether the ceiling lets it be, others say.

use std::collections::BTreeMap;

use cell_manifest::MANIFEST_MAX_BYTES;

use super::bundle::{Bundle, ImageSignature, PAYLOAD_MAX_BYTES};
use super::ceiling::Place;
use crate::request::Fault;

/// Most signatures of images with one manifest.
pub const IMAGES_MAX: usize = 16;
/// Longest signature in base64.
const SIGNATURE_MAX_BYTES: usize = 256;
/// Most parameters.
pub const PARAMETERS_MAX: usize = 32;
/// Longest name of one, bytes.
pub const PARAMETER_NAME_MAX_BYTES: usize = 32;
/// Longest text of one, bytes.
pub const PARAMETER_MAX_BYTES: usize = 4096;

fn fault(field: &'static str, words: &str) -> Fault {
    Fault {
        field,
        description: words.to_owned(),
    }
}

impl Bundle {
    /// Of what was handed in; nothing of it is verified.
    ///
    /// # Errors
    /// Every fault.
    pub fn handed_in(
        manifest: Vec<u8>,
        signature: String,
        images: Vec<ImageSignature>,
    ) -> Result<Self, Vec<Fault>> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, field, words| {
            if !holds {
                faults.push(fault(field, words));
            }
        };
        let fits = manifest.len() <= MANIFEST_MAX_BYTES;
        must(fits, "manifest", "has at most 64 KiB");
        let fits = signature.len() <= SIGNATURE_MAX_BYTES;
        must(fits, "signature", "has at most 256 characters");
        must(images.len() <= IMAGES_MAX, "images", "are at most 16");
        let short = |image: &ImageSignature| {
            image.payload.len() <= PAYLOAD_MAX_BYTES && image.signature.len() <= SIGNATURE_MAX_BYTES
        };
        must(
            images.iter().all(short),
            "images",
            "have payloads of at most 8 KiB and signatures of at most 256 characters",
        );
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Bundle {
            manifest,
            signature,
            images,
        })
    }
}

/// Values of a deployment, by the names of their fields.
///
/// # Errors
/// Too many, one that is too long, or two of one name.
pub fn parameters(
    given: impl ExactSizeIterator<Item = (String, String)>,
) -> Result<BTreeMap<String, String>, Fault> {
    let words = "are at most 32, with names of at most 32 and texts of at most 4096 bytes";
    let count = given.len();
    if count > PARAMETERS_MAX {
        return Err(fault("parameters", words));
    }
    let parameters: BTreeMap<String, String> = given.collect();
    let fits = |(name, text): (&String, &String)| {
        name.len() <= PARAMETER_NAME_MAX_BYTES && text.len() <= PARAMETER_MAX_BYTES
    };
    if !parameters.iter().all(fits) {
        return Err(fault("parameters", words));
    }
    if parameters.len() == count {
        Ok(parameters)
    } else {
        Err(fault("parameters", "name each field once"))
    }
}

impl Place {
    /// Whether the ceiling lets it lie there is the judge's to say.
    ///
    /// # Errors
    /// The first fault.
    pub fn asked_for(number: u32, subnet: &str) -> Result<Self, Fault> {
        let number = u16::try_from(number).map_err(|_| fault("place.number", "is 1-1023"))?;
        let subnet = subnet
            .parse()
            .map_err(|_| fault("place.subnet", "is an IPv4 network, e.g. 172.21.0.0/28"))?;
        Ok(Place { number, subnet })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_fault_of_what_is_handed_in_is_named() {
        let image = |payload: usize| ImageSignature {
            payload: vec![0; payload],
            signature: String::new(),
        };
        let most = vec![image(PAYLOAD_MAX_BYTES); IMAGES_MAX];
        assert!(Bundle::handed_in(vec![0; MANIFEST_MAX_BYTES], "a".repeat(256), most).is_ok());
        let over = vec![image(PAYLOAD_MAX_BYTES + 1); IMAGES_MAX + 1];
        let faults = Bundle::handed_in(vec![0; MANIFEST_MAX_BYTES + 1], "a".repeat(257), over).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field).collect();
        assert_eq!(fields, ["manifest", "signature", "images", "images"]);
    }

    #[test]
    fn each_parameter_is_given_once_and_is_short() {
        let given = |name: &str, length| (name.to_owned(), "x".repeat(length));
        assert_eq!(
            parameters([given("a", 4096), given("b", 0)].into_iter())
                .unwrap()
                .len(),
            2
        );
        for bad in [
            vec![given("a", 1), given("a", 1)],
            vec![given("a", 4097)],
            vec![given(&"a".repeat(33), 1)],
            (0..33).map(|number| given(&number.to_string(), 1)).collect(),
        ] {
            assert!(parameters(bad.into_iter()).is_err());
        }
    }

    #[test]
    fn a_place_is_a_number_and_a_network() {
        assert_eq!(Place::asked_for(7, "172.21.0.0/28").unwrap().number, 7);
        assert_eq!(
            Place::asked_for(65_536, "172.21.0.0/28").unwrap_err().field,
            "place.number"
        );
        assert_eq!(
            Place::asked_for(7, "fd00::/64").unwrap_err().field,
            "place.subnet"
        );
    }
}
