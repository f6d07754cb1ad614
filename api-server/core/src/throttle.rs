//! How often one address may fail: the generic cell rate algorithm (ITU-T I.371), one number per bucket.
//!
//! Own, because a login is to be paid for before it is known whether it fails, and paid back when it succeeds, so that
//! a household behind one address is never slowed by its own good logins; the crates at hand have no refund.

use std::net::IpAddr;

/// What a bucket holds and how fast it fills.
#[derive(Debug, Clone, Copy)]
pub struct Quota {
    /// Failures at once.
    pub burst: i64,
    /// Milliseconds until one more is allowed.
    pub interval_ms: i64,
}

/// One bucket. A new one is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bucket {
    /// When the bucket will be full again, milliseconds since 1970-01-01T00:00:00Z.
    full_at: i64,
}

impl Bucket {
    /// A full bucket.
    pub const FULL: Bucket = Bucket { full_at: i64::MIN };

    /// Takes one.
    ///
    /// # Errors
    /// Milliseconds until there is one.
    pub fn take(&mut self, quota: Quota, now: i64) -> Result<(), i64> {
        let full_at = self.full_at.max(now).saturating_add(quota.interval_ms);
        let wait = full_at
            .saturating_sub(now)
            .saturating_sub(quota.burst.saturating_mul(quota.interval_ms));
        if wait > 0 {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Gives one back.
    pub fn give_back(&mut self, quota: Quota) {
        self.full_at = self.full_at.saturating_sub(quota.interval_ms);
    }

    /// Whether forgetting it changes nothing.
    pub fn is_full(&self, now: i64) -> bool {
        self.full_at <= now
    }
}

/// Who shares a bucket: an IPv4 /24 or an IPv6 /64, which is what one household or host can choose addresses from; or
/// one peer of the VPN, whose addresses WireGuard holds it to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The first 24 bits.
    V4([u8; 3]),
    /// The first 64 bits.
    V6([u8; 8]),
    /// A peer of the VPN, by the whole address: its neighbours are other people.
    Peer(IpAddr),
}

impl Source {
    /// The source of a connection by the VPN.
    pub fn peer(address: IpAddr) -> Self {
        Source::Peer(address.to_canonical())
    }

    /// The source of any other connection.
    pub fn household(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(v4) => {
                let [a, b, c, _] = v4.octets();
                Source::V4([a, b, c])
            }
            IpAddr::V6(v6) => {
                let mut prefix = [0; 8];
                prefix.copy_from_slice(&v6.octets()[..8]);
                Source::V6(prefix)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const QUOTA: Quota = Quota {
        burst: 3,
        interval_ms: 1_000,
    };

    #[test]
    fn a_burst_then_one_each_interval() {
        let mut bucket = Bucket::FULL;
        for _ in 0..3 {
            assert_eq!(bucket.take(QUOTA, 5_000), Ok(()));
        }
        assert_eq!(bucket.take(QUOTA, 5_000), Err(1_000));
        assert_eq!(bucket.take(QUOTA, 5_999), Err(1));
        assert_eq!(bucket.take(QUOTA, 6_000), Ok(()));
        assert_eq!(bucket.take(QUOTA, 6_000), Err(1_000));
        bucket.give_back(QUOTA);
        assert_eq!(bucket.take(QUOTA, 6_000), Ok(()));
        assert!(!bucket.is_full(8_999) && bucket.is_full(9_000));
    }

    #[test]
    fn neighbours_share_a_bucket() {
        let source = |text: &str| Source::household(text.parse().unwrap());
        assert_eq!(source("192.0.2.1"), source("192.0.2.254"));
        assert_eq!(source("192.0.2.1"), source("::ffff:192.0.2.9"));
        assert_ne!(source("192.0.2.1"), source("192.0.3.1"));
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
    }

    #[test]
    fn peers_of_the_vpn_do_not() {
        let peer = |text: &str| Source::peer(text.parse().unwrap());
        assert_eq!(peer("10.86.0.2"), peer("::ffff:10.86.0.2"));
        assert_ne!(peer("10.86.0.2"), peer("10.86.0.3"));
        assert_ne!(peer("fd86::2"), peer("fd86::3"));
    }
}
