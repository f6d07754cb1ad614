//! From a signed manifest to a request to Docker: verify, judge, render, look once more, compare. Construct, never filter: the
//! caller names a manifest by its digest and gives typed values; everything else stands in the manifest and in the
//! root-owned [`Ceiling`].
//!
//! The order is held by types: [`Verified`] comes of a signature alone, [`Approved`] of [`judge`] alone, [`Finished`] of an
//! approval that was rendered and passed [`recheck`].

mod bundle;
mod ceiling;
mod compare;
mod fields;
mod judge;
mod recheck;
mod render;
mod request;
mod rules;

pub use bundle::{Bundle, ImageSignature, Signer, Unverified, Verified};
pub use ceiling::{BindRoot, Ceiling, CeilingLimits, ImagePolicy, Place, PublishedRange, SecretsPlace};
pub use cell_manifest::{InvalidKey, Key};
pub use compare::{Difference, compare};
pub use fields::{FIELDS, FieldClass, field};
pub use judge::{
    Approved, ApprovedContainer, Denied, NetworkPlan, Order, Owner, Reason, judge, judge_images,
};
pub use recheck::{CREATE_MAX_BYTES, Violation, Violations, recheck};
pub use render::{Finished, Given, SECCOMP, Unfinished};
pub use request::{IMAGES_MAX, PARAMETER_MAX_BYTES, PARAMETER_NAME_MAX_BYTES, PARAMETERS_MAX, parameters};
