//! Remote catalogs.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_manifest::Key;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rfc3339;
use crate::http::input::FromFields;
use crate::service::remote_catalogs::{RemoteInput, RemoteView};

/// Remote catalogs.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemoteCatalogs {
    /// In the order in which they were added: of two that have a service of one id, the first is what counts.
    pub catalogs: Vec<RemoteCatalog>,
}

/// A remote catalog.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemoteCatalog {
    /// What it is called here.
    pub name: String,
    /// Where it lies.
    pub url: String,
    /// Public keys that may sign its index, PEM.
    pub keys: Vec<String>,
    /// Authorities that its server is known by, PEM; null: those that the system knows.
    #[schema(required)]
    pub ca: Option<String>,
    /// The connection that carries it; null: the cell's own way.
    #[schema(required)]
    pub connection_id: Option<String>,
    /// What that is called.
    #[schema(required)]
    pub connection_name: Option<String>,
    /// The number of the index that is kept; null: none was taken yet.
    #[schema(required)]
    pub serial: Option<u64>,
    /// When that was made, RFC 3339.
    #[schema(required)]
    pub issued_at: Option<String>,
    /// Until when it counts, RFC 3339.
    #[schema(required)]
    pub expires_at: Option<String>,
    /// Whether it has ended: what it has is shown all the same, with that word.
    pub expired: bool,
    /// Services that it has.
    pub services: u64,
    /// When it last answered soundly, RFC 3339; null: never.
    #[schema(required)]
    pub refreshed_at: Option<String>,
    /// Why the last look failed, or what of it was not right; null: nothing.
    #[schema(required)]
    pub error: Option<String>,
    /// Whether it is being fetched.
    pub refreshing: bool,
    /// How far that is: manifests that are there.
    pub fetched: u32,
    /// Of how many.
    pub to_fetch: u32,
    /// When it is looked at next, RFC 3339; null: at once.
    #[schema(required)]
    pub next_at: Option<String>,
}

/// A remote catalog that is to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddRemoteCatalog {
    /// A DNS label.
    pub name: String,
    /// `https://`, a host, an optional port and a folder.
    pub url: String,
    /// 1-8 public keys in PEM, as cosign.pub has them.
    pub keys: Vec<String>,
    /// Authorities of its server in PEM; without it those that the system knows.
    pub ca: Option<String>,
    /// The connection that carries it, by id, by name, or by type where one alone has it; without it, or null, the cell's own way.
    pub connection_id: Option<String>,
}

impl From<AddRemoteCatalog> for RemoteInput {
    fn from(add: AddRemoteCatalog) -> Self {
        RemoteInput {
            name: add.name,
            url: add.url,
            keys: add.keys,
            ca: add.ca.unwrap_or_default(),
            connection: add.connection_id.unwrap_or_default(),
        }
    }
}

impl FromFields for AddRemoteCatalog {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        AddRemoteCatalog {
            name: fields.string("name", faults),
            url: fields.string("url", faults),
            keys: fields.strings("keys", faults),
            ca: fields.nullable_string("ca", faults),
            connection_id: fields.nullable_string("connection_id", faults),
        }
    }

    fn check(self) -> Faults {
        RemoteInput::from(self).check().err().unwrap_or_default()
    }
}

impl From<RemoteView> for RemoteCatalog {
    fn from(view: RemoteView) -> Self {
        let RemoteView {
            stored,
            live,
            connection_name,
            expired,
        } = view;
        let index = stored.index.as_ref();
        RemoteCatalog {
            url: stored.url.to_string(),
            keys: stored.keys.iter().map(Key::to_pem).collect(),
            connection_id: stored.connection.map(|id| id.to_string()),
            connection_name,
            serial: index.map(|index| index.serial),
            issued_at: index.map(|index| rfc3339(index.issued_s.saturating_mul(1000))),
            expires_at: index.map(|index| rfc3339(index.expires_s.saturating_mul(1000))),
            expired,
            services: index.map_or(0, |index| index.lines.len() as u64),
            refreshed_at: Some(stored.refreshed).filter(|at| *at > 0).map(rfc3339),
            error: Some(stored.error).filter(|error| !error.is_empty()),
            ca: Some(stored.ca).filter(|ca| !ca.is_empty()),
            refreshing: live.refreshing,
            fetched: live.fetched,
            to_fetch: live.to_fetch,
            next_at: Some(live.next).filter(|at| *at > 0).map(rfc3339),
            name: stored.name,
        }
    }
}
