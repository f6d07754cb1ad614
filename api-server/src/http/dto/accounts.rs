//! Accounts at services. What has a password in it has no `Debug`.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::services::accounts;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::rfc3339;
use crate::http::input::FromFields;
use crate::service::accounts::{Credential, NewAccounts};
use crate::store::accounts::StoredAccount;

/// Accounts of one service.
#[derive(Debug, Serialize, ToSchema)]
pub struct Accounts {
    /// In the order of users.
    pub accounts: Vec<Account>,
}

/// An account.
#[derive(Debug, Serialize, ToSchema)]
pub struct Account {
    /// What it is called.
    pub user: String,
    /// The device whose owner has it; null: of none that is there.
    #[schema(required)]
    pub peer: Option<String>,
    /// RFC 3339.
    pub created_at: String,
}

/// Makes an account at each service, or at none.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateAccounts {
    /// The device whose owner they are for.
    pub peer: String,
    /// What they are called: 1-32 characters of a-z, 0-9 and . _ -; without it as the device, in lower case.
    pub user: Option<String>,
    /// Names of 1-16 services.
    pub services: Vec<String>,
}

/// What was made.
#[derive(Serialize, ToSchema)]
pub struct AccountCredentials {
    /// One for each service, in the order of their names.
    pub credentials: Vec<AccountCredential>,
}

/// What a client is set up with.
#[derive(Serialize, ToSchema)]
pub struct AccountCredential {
    /// At this service.
    pub service: String,
    /// What the account is called.
    pub user: String,
    /// 24 characters, shown this once.
    pub password: String,
    /// Pages and ports.
    pub r#where: Vec<String>,
}

/// What the removal of an account would do, or why it is not done yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct AccountRemoval {
    /// A sentence each.
    pub plan: Vec<String>,
}

impl From<StoredAccount> for Account {
    fn from(stored: StoredAccount) -> Self {
        Account {
            user: stored.user.to_string(),
            peer: stored.peer,
            created_at: rfc3339(stored.created_unix_ms),
        }
    }
}

impl From<Credential> for AccountCredential {
    fn from(made: Credential) -> Self {
        AccountCredential {
            service: made.service,
            user: made.user.to_string(),
            password: made.password.expose().to_owned(),
            r#where: made.places,
        }
    }
}

impl From<CreateAccounts> for NewAccounts {
    fn from(asked: CreateAccounts) -> Self {
        NewAccounts {
            peer: asked.peer,
            user: asked.user,
            services: asked.services,
        }
    }
}

impl FromFields for CreateAccounts {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        CreateAccounts {
            peer: fields.string("peer", faults),
            user: fields.optional_string("user", faults),
            services: fields.strings("services", faults),
        }
    }

    fn check(self) -> Faults {
        accounts::wanted(&self.peer, self.user.as_deref(), &self.services)
            .err()
            .unwrap_or_default()
    }
}
