//! The ceiling: what the root-owned policy file `vaultd.toml` allows, whoever asks.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::Deserialize;

use crate::dns::DnsName;
use crate::scope::NameScope;
use crate::secret_name::SecretPrefix;
use crate::timestamp::HOUR;
use crate::violation::Violation;

/// The policy file as it is written (docs/runtime.md).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// The state folder, absolute.
    pub state: PathBuf,
    /// Names that may be certified are these or lie below them.
    pub dns_suffixes: Vec<String>,
    /// Addresses that may be certified lie in these.
    pub address_prefixes: Vec<String>,
    /// Longest life of a leaf certificate, 1 to 168 hours.
    pub leaf_lifetime_hours: u32,
    /// Most certificates in any hour, 1 to 10,000.
    pub issuances_per_hour: u32,
    /// Most secrets, 1 to 10,000.
    pub secrets_max: u32,
    /// The API may put, rotate and delete secrets whose names start so.
    pub api_secret_prefixes: Vec<String>,
    /// Who may use each listener.
    pub callers: CallersSpec,
}

/// Who may use each listener.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallersSpec {
    /// The listener `api`.
    pub api: CallerSpec,
    /// The listener `netd`.
    pub netd: CallerSpec,
    /// The listener `egress`; absent: nobody.
    #[serde(default)]
    pub egress: Option<CallerSpec>,
    /// The listener `openvpn`; absent: nobody.
    #[serde(default)]
    pub openvpn: Option<CallerSpec>,
    /// The listener `broker`; absent: nobody.
    #[serde(default)]
    pub broker: Option<CallerSpec>,
}

/// Who may use one listener.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallerSpec {
    /// Users by name, at least one.
    pub users: Vec<String>,
    /// The systemd unit that the caller must run in, checked where the kernel can tell.
    pub unit: Option<String>,
}

/// The policy, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// The state folder, absolute.
    pub state: PathBuf,
    /// What may be certified.
    pub scope: NameScope,
    /// Longest life of a leaf certificate, milliseconds.
    pub leaf_lifetime: i64,
    /// Most certificates in any hour.
    pub issuances_per_hour: u32,
    /// Most secrets.
    pub secrets_max: u32,
    /// What the API may put, rotate and delete.
    pub api_secret_prefixes: Vec<SecretPrefix>,
    /// Who may use the listener `api`.
    pub api_callers: CallerSpec,
    /// Who may use the listener `netd`.
    pub netd_callers: CallerSpec,
    /// Who may use the listener `egress`; none: nobody.
    pub egress_callers: Option<CallerSpec>,
    /// Who may use the listener `openvpn`; none: nobody.
    pub openvpn_callers: Option<CallerSpec>,
    /// Who may use the listener `broker`; none: nobody.
    pub broker_callers: Option<CallerSpec>,
}

impl TryFrom<PolicySpec> for Policy {
    type Error = Vec<Violation>;

    /// Names every fault at once.
    fn try_from(spec: PolicySpec) -> Result<Self, Vec<Violation>> {
        let PolicySpec {
            state,
            dns_suffixes,
            address_prefixes,
            leaf_lifetime_hours,
            issuances_per_hour,
            secrets_max,
            api_secret_prefixes,
            callers:
                CallersSpec {
                    api,
                    netd,
                    egress,
                    openvpn,
                    broker,
                },
        } = spec;
        let mut faults = Vec::new();
        if !state.is_absolute() {
            faults.push(Violation::new("state", "must be an absolute path"));
        }
        let scope = certifiable(&dns_suffixes, &address_prefixes, &mut faults);
        let prefixes = parse_each::<SecretPrefix>("api_secret_prefixes", &api_secret_prefixes, &mut faults);
        within("leaf_lifetime_hours", leaf_lifetime_hours, 1, 168, &mut faults);
        within("issuances_per_hour", issuances_per_hour, 1, 10_000, &mut faults);
        within("secrets_max", secrets_max, 1, 10_000, &mut faults);
        named(
            [
                ("callers.api.users", Some(&api)),
                ("callers.netd.users", Some(&netd)),
                ("callers.egress.users", egress.as_ref()),
                ("callers.openvpn.users", openvpn.as_ref()),
                ("callers.broker.users", broker.as_ref()),
            ],
            &mut faults,
        );
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Policy {
            state,
            scope,
            leaf_lifetime: i64::from(leaf_lifetime_hours) * HOUR,
            issuances_per_hour,
            secrets_max,
            api_secret_prefixes: prefixes,
            api_callers: api,
            netd_callers: netd,
            egress_callers: egress,
            openvpn_callers: openvpn,
            broker_callers: broker,
        })
    }
}

/// Something is.
fn certifiable(suffixes: &[String], prefixes: &[String], faults: &mut Vec<Violation>) -> NameScope {
    let scope = NameScope {
        dns_suffixes: parse_each::<DnsName>("dns_suffixes", suffixes, faults),
        address_prefixes: parse_each::<IpNet>("address_prefixes", prefixes, faults)
            .into_iter()
            .map(|prefix| prefix.trunc())
            .collect(),
    };
    if scope.dns_suffixes.is_empty() && scope.address_prefixes.is_empty() && faults.is_empty() {
        faults.push(Violation::new(
            "dns_suffixes",
            "nothing could be certified; name a suffix or a prefix",
        ));
    }
    scope
}

/// A listener that is there has users.
fn named<const N: usize>(listeners: [(&str, Option<&CallerSpec>); N], faults: &mut Vec<Violation>) {
    for (field, caller) in listeners {
        if caller.is_some_and(|caller| caller.users.is_empty()) {
            faults.push(Violation::new(field, "must name at least one user"));
        }
    }
}

fn parse_each<T>(field: &str, texts: &[String], faults: &mut Vec<Violation>) -> Vec<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let mut parsed = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        match text.parse() {
            Ok(value) => parsed.push(value),
            Err(fault) => faults.push(Violation::new(format!("{field}[{index}]"), fault)),
        }
    }
    parsed
}

fn within(field: &str, value: u32, least: u32, most: u32, faults: &mut Vec<Violation>) {
    if !(least..=most).contains(&value) {
        faults.push(Violation::new(field, format!("must be {least} to {most}")));
    }
}
