//! A change of the network that waits for its confirmation, as the cell sees it: netd has the timer, and what netd says
//! decides what becomes of the cell's own record of the change.

/// How long a change waits: 5-3600 seconds, as netd has it (`network_service.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window(u32);

impl Window {
    /// Of so many seconds.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn of_seconds(seconds: u64) -> Result<Self, &'static str> {
        match u32::try_from(seconds) {
            Ok(seconds @ 5..=3600) => Ok(Window(seconds)),
            Ok(0..=4 | 3601..) | Err(_) => Err("must be 5-3600 seconds"),
        }
    }

    /// Reads decimal digits.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let seconds = text.parse().ok().filter(|_| digits);
        seconds.map_or(Err("must be 5-3600 seconds"), Window::of_seconds)
    }

    /// Seconds.
    pub fn seconds(self) -> u32 {
        self.0
    }
}

/// What netd has accepted as a change that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// Of the state with the change. It moves when something is taken away meanwhile.
    pub etag: String,
    /// Of the state before it. It stays.
    pub previous_etag: String,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub deadline_unix_ms: i64,
}

/// What netd says at this moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Said {
    /// Of the accepted state; empty when there is none.
    pub etag: String,
    /// The change that waits.
    pub pending: Option<Sent>,
}

/// Where a change stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// netd has not heard of it.
    Unsent,
    /// It waits, as this.
    Waits(Sent),
    /// It is in force for good.
    Confirmed,
    /// It is not in force: netd took it back, or knows nothing of it.
    Over,
}

/// Where the change stands that was sent as `sent` (none: it was not, or the answer was lost).
pub fn standing(sent: Option<&Sent>, said: &Said) -> Standing {
    match (sent, &said.pending) {
        (None, None) => Standing::Unsent,
        // Sent, but the answer was lost: whoever made it was told of no success.
        (None, Some(_)) => Standing::Over,
        (Some(sent), Some(pending)) if pending.previous_etag == sent.previous_etag => {
            Standing::Waits(pending.clone())
        }
        (Some(_), Some(_)) => Standing::Over,
        (Some(sent), None) if sent.etag == said.etag => Standing::Confirmed,
        (Some(_), None) => Standing::Over,
    }
}

/// Whether a confirmation that comes by the VPN (`by_vpn`) from `remote` comes over the changed path: whoever made the
/// change by the VPN must show that their device still gets through, and whoever did not has no such path.
pub fn over_the_path(author: (bool, &str), confirmer: (bool, &str)) -> bool {
    let (by_vpn, _) = author;
    !by_vpn || author == confirmer
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn sent(etag: &str, previous: &str) -> Sent {
        Sent {
            etag: etag.to_owned(),
            previous_etag: previous.to_owned(),
            deadline_unix_ms: 0,
        }
    }

    fn said(etag: &str, pending: Option<Sent>) -> Said {
        Said {
            etag: etag.to_owned(),
            pending,
        }
    }

    #[test]
    fn a_window_is_of_five_seconds_to_an_hour() {
        assert_eq!(Window::parse("60").unwrap().seconds(), 60);
        for wrong in ["", "4", "3601", "-5", "+60", " 60", "1e2", "99999999999999999999"] {
            Window::parse(wrong).unwrap_err();
        }
    }

    #[test]
    fn what_netd_says_decides() {
        let mine = sent("new", "old");
        let cases = [
            (None, said("old", None), Standing::Unsent),
            (None, said("new", Some(mine.clone())), Standing::Over),
            (
                Some(&mine),
                said("new", Some(mine.clone())),
                Standing::Waits(mine.clone()),
            ),
            // Something was taken away meanwhile.
            (
                Some(&mine),
                said("newer", Some(sent("newer", "old"))),
                Standing::Waits(sent("newer", "old")),
            ),
            (Some(&mine), said("x", Some(sent("x", "y"))), Standing::Over),
            (Some(&mine), said("new", None), Standing::Confirmed),
            (Some(&mine), said("after", None), Standing::Over),
            (Some(&mine), said("", None), Standing::Over),
        ];
        for (sent, said, expected) in cases {
            assert_eq!(standing(sent, &said), expected, "{sent:?} {said:?}");
        }
    }

    #[test]
    fn who_came_by_the_vpn_confirms_by_the_vpn_from_the_same_device() {
        let laptop = (true, "10.86.0.2");
        assert!(over_the_path(laptop, laptop));
        assert!(!over_the_path(laptop, (true, "10.86.0.3")));
        assert!(!over_the_path(laptop, (false, "127.0.0.1")));
        assert!(!over_the_path(laptop, (false, "10.86.0.2")));
        for by in [(false, "127.0.0.1"), laptop, (false, "unix")] {
            assert!(over_the_path((false, "unix"), by));
        }
    }
}
