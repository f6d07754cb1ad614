//! The domain of services. What has a token in it has no `Debug`.

use cell_api_core::domain::DomainFields;
use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::http::input::FromFields;
use crate::service::domain::{DomainInput, DomainView};

/// Under which domain services are found, beside the cell's own.
#[derive(Debug, Serialize, ToSchema)]
pub struct Domain {
    /// `lan`: the cell's own alone; `dns01`: a public one as well, proven in its DNS; `http01`: one that is proven by TCP 80 of this machine.
    pub mode: String,
    /// The public domain.
    #[schema(required)]
    pub domain: Option<String>,
    /// Where the authority may write to.
    #[schema(required)]
    pub email: Option<String>,
    /// `duckdns`, `cloudflare` or `generic`.
    #[schema(required)]
    pub provider: Option<String>,
    /// Of `generic`: the server that takes updates (RFC 2136).
    #[schema(required)]
    pub server: Option<String>,
    /// Of `generic`: the name of its key.
    #[schema(required)]
    pub tsig_name: Option<String>,
    /// Of `generic`: `hmac-sha256`, `hmac-sha384` or `hmac-sha512`.
    #[schema(required)]
    pub tsig_algorithm: Option<String>,
    /// The authority's ACME directory; null: Let's Encrypt's.
    #[schema(required)]
    pub acme_directory: Option<String>,
    /// Certificates that the directory's own is checked by, PEM; null: those of the web.
    #[schema(required)]
    pub acme_authority: Option<String>,
    /// Whether the vault has the provider's token; null while it is not reachable.
    #[schema(required)]
    pub token_is_set: Option<bool>,
}

/// The setting as a whole: what is absent or null is not set.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DomainUpdate {
    /// `lan`, `dns01` or `http01`.
    pub mode: String,
    /// The public domain: one of the cell's own, since all its names are answered by the cell for its devices.
    #[schema(example = "home.example.org")]
    pub domain: Option<String>,
    /// Where the authority may write to.
    pub email: Option<String>,
    /// Of `dns01`: `duckdns`, `cloudflare` or `generic`.
    pub provider: Option<String>,
    /// Of `generic`: an IPv4 address, with a port where it is not 53.
    pub server: Option<String>,
    /// Of `generic`: the name of its key.
    pub tsig_name: Option<String>,
    /// Of `generic`: `hmac-sha256` (where nothing is said), `hmac-sha384` or `hmac-sha512`.
    pub tsig_algorithm: Option<String>,
    /// The authority's ACME directory, https; null: Let's Encrypt's.
    pub acme_directory: Option<String>,
    /// Certificates that the directory's own is checked by, PEM, at most 16 KiB; null: those of the web.
    pub acme_authority: Option<String>,
    /// The provider's token, or the key's secret as base64. It goes to the vault, and nobody is shown it. Null: the one that is
    /// there, if it is this provider's.
    pub token: Option<String>,
}

impl From<DomainView> for Domain {
    fn from(view: DomainView) -> Self {
        let DomainFields {
            mode,
            domain,
            email,
            provider,
            server,
            tsig_name,
            tsig_algorithm,
            acme_directory,
            acme_authority,
        } = view.domain.fields();
        Domain {
            mode,
            domain,
            email,
            provider,
            server,
            tsig_name,
            tsig_algorithm,
            acme_directory,
            acme_authority,
            token_is_set: view.token_is_set,
        }
    }
}

impl From<DomainUpdate> for DomainInput {
    fn from(update: DomainUpdate) -> Self {
        let DomainUpdate {
            mode,
            domain,
            email,
            provider,
            server,
            tsig_name,
            tsig_algorithm,
            acme_directory,
            acme_authority,
            token,
        } = update;
        DomainInput {
            fields: DomainFields {
                mode,
                domain,
                email,
                provider,
                server,
                tsig_name,
                tsig_algorithm,
                acme_directory,
                acme_authority,
            },
            token: token.filter(|token| !token.is_empty()).map(Zeroizing::new),
        }
    }
}

impl FromFields for DomainUpdate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        DomainUpdate {
            mode: fields.string("mode", faults),
            domain: fields.optional_string("domain", faults),
            email: fields.optional_string("email", faults),
            provider: fields.optional_string("provider", faults),
            server: fields.optional_string("server", faults),
            tsig_name: fields.optional_string("tsig_name", faults),
            tsig_algorithm: fields.optional_string("tsig_algorithm", faults),
            acme_directory: fields.optional_string("acme_directory", faults),
            acme_authority: fields.optional_string("acme_authority", faults),
            token: fields.optional_string("token", faults),
        }
    }

    fn check(self) -> Faults {
        DomainInput::from(self).faults()
    }
}
