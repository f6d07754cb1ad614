//! What the first version kept of exits.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::migrate;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use crate::http::input::FromFields;
use crate::service::connections::{Carried, FirstVersion, Outcome};

/// The first version's files, each as text. What is secret in them goes to the vault and is never answered.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConnectivityImport {
    /// `cell_config.json`, or its section `connectivity` alone.
    pub config: String,
    /// The file of peers: which exit each uses.
    pub peers: Option<String>,
    /// What the first version's vault held: an object of texts, by the names that `config` refers to.
    pub secrets: Option<String>,
}

/// An exit of the files.
#[derive(Debug, Serialize, ToSchema)]
pub struct ImportedExit {
    /// `wireguard_ext`, `openvpn`, `tor`, `sshuttle` or `proxy`.
    pub r#type: String,
    /// The name of the connection that carries it.
    pub name: String,
    /// Its id; null where it is only planned.
    #[schema(required)]
    pub id: Option<String>,
    /// Whether it was there before.
    pub was_there: bool,
    /// The names that its secrets have at the vault; only the last parts of them where it is only planned.
    pub vault_names: Vec<String>,
}

/// What becomes of the files.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectivityImported {
    /// Whether it is done, or only planned.
    pub applied: bool,
    /// Whether it waits for its confirmation that the devices are bound; the connections are made either way.
    pub waits: bool,
    /// The exits that were in use, by type.
    pub exits: Vec<ImportedExit>,
    /// The names of the devices that are bound, or get their own word on failing open.
    pub peers: Vec<String>,
    /// What is done, a sentence each.
    pub plan: Vec<String>,
    /// What is not carried and why.
    pub notes: Vec<String>,
}

impl ConnectivityImported {
    /// What is told of an outcome.
    pub fn of(outcome: Outcome, applied: bool) -> Self {
        let Outcome {
            exits,
            peers,
            waits,
            words,
            notes,
        } = outcome;
        ConnectivityImported {
            applied,
            waits,
            exits: exits.into_iter().map(ImportedExit::from).collect(),
            peers,
            plan: words,
            notes,
        }
    }
}

impl From<Carried> for ImportedExit {
    fn from(carried: Carried) -> Self {
        ImportedExit {
            r#type: carried.kind.to_string(),
            name: carried.name,
            id: carried.id.map(|id| id.to_string()),
            was_there: carried.was_there,
            vault_names: carried.secrets,
        }
    }
}

impl From<ConnectivityImport> for FirstVersion {
    fn from(import: ConnectivityImport) -> Self {
        FirstVersion {
            config: Zeroizing::new(import.config),
            peers: import.peers.map(Zeroizing::new),
            secrets: import.secrets.map(Zeroizing::new),
        }
    }
}

impl FromFields for ConnectivityImport {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        ConnectivityImport {
            config: fields.string("config", faults),
            peers: fields.optional_string("peers", faults),
            secrets: fields.optional_string("secrets", faults),
        }
    }

    fn check(self) -> Faults {
        migrate::read(FirstVersion::from(self).texts())
            .err()
            .unwrap_or_default()
    }
}
