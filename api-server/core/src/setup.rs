//! The first run: steps that can be answered in any order after the claim, and again until setup is complete.

use std::collections::BTreeSet;

use ipnet::{Ipv4Net, Ipv6Net};
use sha2::{Digest, Sha256};

use crate::fault::Faults;
use crate::name::{CellName, EndpointHost, Username};
use crate::password::Password;
use crate::range::{self, VpnRange};

/// Random bytes in a claim token: 160 bits.
pub const CLAIM_TOKEN_BYTES: usize = 20;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Shows the one-time token from the console.
    Claim,
    /// Names the cell.
    Identity,
    /// Chooses the VPN's addresses.
    Network,
    /// Makes the first administrator.
    Admin,
}

impl Step {
    /// All, in the order in which they are asked.
    pub const ALL: [Step; 4] = [Step::Claim, Step::Identity, Step::Network, Step::Admin];

    /// Reads a step's name.
    pub fn parse(text: &str) -> Option<Step> {
        Step::ALL.into_iter().find(|step| step.as_str() == text)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Claim => "claim",
            Step::Identity => "identity",
            Step::Network => "network",
            Step::Admin => "admin",
        }
    }
}

/// How the first run stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Whether it is over.
    pub complete: bool,
    /// What has been answered.
    pub answered: BTreeSet<Step>,
}

impl Progress {
    /// Whether somebody has shown the claim token.
    pub fn claimed(&self) -> bool {
        self.complete || self.answered.contains(&Step::Claim)
    }

    /// The step to answer next.
    pub fn next(&self) -> Option<Step> {
        self.missing().next().filter(|_| !self.complete)
    }

    /// What has not been answered.
    pub fn missing(&self) -> impl Iterator<Item = Step> {
        Step::ALL.into_iter().filter(|step| !self.answered.contains(step))
    }

    /// What may be answered now: the claim always, the others after it, nothing once complete.
    pub fn may_answer(&self, step: Step) -> bool {
        !self.complete && (step == Step::Claim || self.claimed())
    }
}

/// How devices find the cell by name. Other modes come with their own issue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DomainMode {
    /// The cell's own CA and a name that only the VPN knows.
    Lan,
}

impl DomainMode {
    /// Reads a mode.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text == "lan" {
            Ok(DomainMode::Lan)
        } else {
            Err("must be \"lan\", the only mode of this version")
        }
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            DomainMode::Lan => "lan",
        }
    }
}

/// Answer of [`Step::Identity`], checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The cell's name.
    pub cell_name: CellName,
    /// How devices find it.
    pub domain_mode: DomainMode,
}

impl Identity {
    /// Checks an answer.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(cell_name: &str, domain_mode: &str) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let cell_name = faults.keep("cell_name", CellName::parse(cell_name));
        let domain_mode = faults.keep("domain_mode", DomainMode::parse(domain_mode));
        match (cell_name, domain_mode) {
            (Some(cell_name), Some(domain_mode)) => Ok(Identity {
                cell_name,
                domain_mode,
            }),
            _ => Err(faults),
        }
    }
}

/// Answer of [`Step::Network`], checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// The VPN's addresses.
    pub range: VpnRange,
    /// Where devices connect to, if it is known yet.
    pub endpoint_host: Option<EndpointHost>,
}

impl Network {
    /// Checks an answer. `random` is used for the IPv6 range if none is given.
    ///
    /// # Errors
    /// Every fault at once.
    pub fn check(
        v4: &str,
        v6: Option<&str>,
        endpoint: Option<&str>,
        random: [u8; 7],
    ) -> Result<Self, Faults> {
        let mut faults = Faults::default();
        let v4: Option<Ipv4Net> = faults.keep("vpn_range_ipv4", range::parse_v4(v4));
        let v6: Option<Ipv6Net> = match v6.filter(|text| !text.is_empty()) {
            Some(text) => faults.keep("vpn_range_ipv6", range::parse_v6(text)),
            None => Some(range::unique_local(random)),
        };
        let endpoint_host = check_endpoint(endpoint, &mut faults);
        let range = v4
            .zip(v6)
            .and_then(|(v4, v6)| faults.keep("vpn_range_ipv6", VpnRange::new(v4, v6)));
        match range {
            Some(range) if faults.is_empty() => Ok(Network { range, endpoint_host }),
            _ => Err(faults),
        }
    }
}

/// Reads an endpoint host; absent and empty mean "not known yet".
pub fn check_endpoint(text: Option<&str>, faults: &mut Faults) -> Option<EndpointHost> {
    let text = text.filter(|text| !text.is_empty())?;
    faults.keep("endpoint_host", EndpointHost::parse(text))
}

/// Checks a user name and a new password together.
///
/// # Errors
/// Every fault at once.
pub fn check_account(username: &str, field: &str, password: &Password) -> Result<Username, Faults> {
    let mut faults = Faults::default();
    let name = faults.keep("username", Username::parse(username));
    faults.keep(field, password.check_new(username));
    name.filter(|_| faults.is_empty()).ok_or(faults)
}

/// Renders a claim token as it is printed: base32 (RFC 4648) in groups of four.
pub fn render_claim_token(bytes: &[u8; CLAIM_TOKEN_BYTES]) -> String {
    const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let (mut text, mut buffer, mut bits) = (String::with_capacity(39), 0u32, 0u32);
    let mut symbols = 0;
    for byte in bytes {
        buffer = (buffer << 8) | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            if symbols > 0 && symbols % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(ALPHABET[((buffer >> bits) & 31) as usize]));
            symbols += 1;
        }
    }
    text
}

/// SHA-256 of a claim token as somebody typed it: dashes, spaces and case do not count. What the database keeps.
pub fn claim_token_hash(typed: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    for byte in typed
        .bytes()
        .filter(|b| !matches!(b, b'-' | b' ' | b'\t' | b'\r' | b'\n'))
    {
        hash.update([byte.to_ascii_uppercase()]);
    }
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_claim_token_is_printed_in_eight_groups_and_typed_in_any_way() {
        let token = render_claim_token(b"12345678901234567890");
        assert_eq!(
            token, "GEZD-GNBV-GY3T-QOJQ-GEZD-GNBV-GY3T-QOJQ",
            "RFC 4648 base32"
        );
        let typed = " gezdgnbvgy3tqojq-gezdgnbvgy3tqojq\n";
        assert_eq!(claim_token_hash(&token), claim_token_hash(typed));
        assert_ne!(claim_token_hash(&token), claim_token_hash("GEZD"));
    }

    #[test]
    fn steps_wait_for_the_claim_and_end_with_completion() {
        let mut progress = Progress::default();
        assert_eq!(progress.next(), Some(Step::Claim));
        assert!(progress.may_answer(Step::Claim) && !progress.may_answer(Step::Admin));
        progress.answered.insert(Step::Claim);
        progress.answered.insert(Step::Admin);
        assert!(
            Step::ALL.into_iter().all(|step| progress.may_answer(step)),
            "again until complete"
        );
        assert_eq!(
            progress.missing().collect::<Vec<_>>(),
            [Step::Identity, Step::Network]
        );
        assert_eq!(progress.next(), Some(Step::Identity));
        progress.complete = true;
        assert!(!Step::ALL.into_iter().any(|step| progress.may_answer(step)));
        assert_eq!(progress.next(), None);
    }

    #[test]
    fn a_network_names_every_fault() {
        let fields = |result: Result<Network, Faults>| -> Vec<String> {
            result
                .unwrap_err()
                .into_violations()
                .into_iter()
                .map(|v| v.field)
                .collect()
        };
        let bad = Network::check("10.0.0.1/24", Some("2001:db8::/64"), Some("a b"), [0; 7]);
        assert_eq!(fields(bad), ["vpn_range_ipv4", "vpn_range_ipv6", "endpoint_host"]);
        let small = Network::check("10.0.0.0/8", Some("fd00::/120"), None, [0; 7]);
        assert_eq!(fields(small), ["vpn_range_ipv6"]);
        let good = Network::check("10.86.0.0/24", None, Some(""), [1, 2, 3, 4, 5, 6, 7]).unwrap();
        assert_eq!(good.range.v6().to_string(), "fd01:203:405:607::/64");
        assert_eq!(good.endpoint_host, None);
    }
}
