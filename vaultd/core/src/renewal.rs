//! When to renew: at two thirds of a certificate's life, as ACME's renewal information (RFC 9773) has it by custom.

use crate::profile::Validity;
use crate::timestamp::Timestamp;

/// From when on a new certificate should take the place of one that holds for `validity`.
pub fn due(validity: Validity) -> Timestamp {
    let life = validity.not_after.0.saturating_sub(validity.not_before.0);
    validity.not_before.plus(life / 3 * 2)
}

/// Whether it is time. Also when the certificate does not hold yet: then the clock was wrong when it was made.
pub fn is_due(validity: Validity, now: Timestamp) -> bool {
    now >= due(validity) || now < validity.not_before
}
