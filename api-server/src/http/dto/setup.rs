//! The first run.

use std::collections::BTreeMap;

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::password::Password;
use cell_api_core::setup;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::input::FromFields;

/// How the first run stands.
#[derive(Debug, Serialize, ToSchema)]
pub struct SetupStatus {
    /// Whether it is over.
    pub complete: bool,
    /// Whether somebody has shown the claim token.
    pub claimed: bool,
    /// Steps that have been answered, in their order.
    #[schema(example = json!(["claim", "identity"]))]
    pub answered_steps: Vec<String>,
    /// The step to answer next; null when all are answered.
    #[schema(required, example = "network")]
    pub next_step: Option<String>,
}

/// The stored answer of one step.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepAnswer {
    /// Which step.
    pub step: String,
    /// Whether it has been answered.
    pub answered: bool,
    /// The answer's fields, without secrets.
    pub values: BTreeMap<String, String>,
}

/// Shows the claim token.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ClaimStep {
    /// As printed on the console; dashes and case do not count.
    pub claim_token: String,
}

/// Names the cell.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct IdentityStep {
    /// A DNS label: 1-63 characters of a-z, 0-9 and -.
    #[schema(example = "home")]
    pub cell_name: String,
    /// `lan`, the only mode of this version.
    #[schema(example = "lan")]
    pub domain_mode: String,
}

/// Chooses the VPN's addresses.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkStep {
    /// Private (RFC 1918) or shared (RFC 6598) prefix, length 8-29.
    #[schema(example = "10.86.0.0/24")]
    pub vpn_range_ipv4: String,
    /// Unique local prefix (RFC 4193), length 48-120; absent: one is chosen at random.
    #[schema(example = "fd12:3456:789a::/64")]
    pub vpn_range_ipv6: Option<String>,
    /// Host name or address that devices connect to; absent: not known yet.
    #[schema(example = "vpn.example.org")]
    pub endpoint_host: Option<String>,
}

/// Makes the first administrator.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdminStep {
    /// 1-64 characters of A-Z, a-z, 0-9, _, . and -.
    pub username: String,
    /// 10-1,024 characters.
    #[schema(format = Password)]
    pub password: String,
}

/// No fields.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Empty {}

impl FromFields for ClaimStep {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ClaimStep {
            claim_token: fields.string("claim_token", faults),
        }
    }

    fn check(self) -> Faults {
        // Only whether it is right counts, and that is no fault of the request.
        Faults::default()
    }
}

impl FromFields for IdentityStep {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let cell_name = fields.string("cell_name", faults);
        IdentityStep {
            cell_name,
            domain_mode: fields.string("domain_mode", faults),
        }
    }

    fn check(self) -> Faults {
        setup::Identity::check(&self.cell_name, &self.domain_mode)
            .err()
            .unwrap_or_default()
    }
}

impl FromFields for NetworkStep {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        NetworkStep {
            vpn_range_ipv4: fields.string("vpn_range_ipv4", faults),
            vpn_range_ipv6: fields.optional_string("vpn_range_ipv6", faults),
            endpoint_host: fields.optional_string("endpoint_host", faults),
        }
    }

    fn check(self) -> Faults {
        let (v6, host) = (self.vpn_range_ipv6.as_deref(), self.endpoint_host.as_deref());
        // Which range would be chosen at random makes no difference to the faults.
        setup::Network::check(&self.vpn_range_ipv4, v6, host, [0; 7])
            .err()
            .unwrap_or_default()
    }
}

impl FromFields for AdminStep {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let username = fields.string("username", faults);
        AdminStep {
            username,
            password: fields.string("password", faults),
        }
    }

    fn check(self) -> Faults {
        setup::check_account(&self.username, "password", &Password::new(self.password))
            .err()
            .unwrap_or_default()
    }
}

impl FromFields for Empty {
    fn read(_: &mut Fields, _: &mut Faults) -> Self {
        Empty {}
    }

    fn check(self) -> Faults {
        Faults::default()
    }
}

impl From<cell_api_core::setup::Progress> for SetupStatus {
    fn from(progress: cell_api_core::setup::Progress) -> Self {
        SetupStatus {
            complete: progress.complete,
            claimed: progress.claimed(),
            next_step: progress.next().map(|step| step.as_str().to_owned()),
            answered_steps: progress
                .answered
                .into_iter()
                .map(|step| step.as_str().to_owned())
                .collect(),
        }
    }
}
