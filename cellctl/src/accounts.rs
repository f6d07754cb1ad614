//! `cellctl account`: accounts that devices' owners have at services. What has a password in it has no `Debug`.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::account_service_client::AccountServiceClient;
use serde::Serialize;
use tonic::transport::Channel;

use crate::cell::Cell;
use crate::cli::{Account, AccountAdd};
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, view};

#[derive(Serialize)]
struct Credentials {
    credentials: Vec<Credential>,
}

#[derive(Serialize)]
struct Credential {
    service: String,
    user: String,
    password: String,
    r#where: Vec<String>,
}

#[derive(Debug, Serialize)]
struct List {
    accounts: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    user: String,
    peer: Option<String>,
    created_at: Option<String>,
}

#[derive(Debug, Serialize)]
struct Removed {
    service: String,
    user: String,
    /// False: it is written down, and done when the service answers.
    removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
}

#[derive(Debug, Serialize)]
struct Plan {
    plan: Vec<String>,
}

type Client = AccountServiceClient<Channel>;

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: Account) -> Result<(), Failure> {
    let mut client = cell.accounts()?;
    match command {
        Account::Add(wanted) => add(&mut client, output, wanted).await,
        Account::List { service } => list(&mut client, output, service).await,
        Account::Password { service, user } => {
            let request = wire::ResetAccountPasswordRequest { service, user };
            let answer = client.reset_account_password(request).await?.into_inner();
            let credential = Credential::from(answer.credential.unwrap_or_default());
            output.result(&credential, || credential.described())
        }
        Account::Remove {
            service,
            user,
            validate_only,
        } => remove(&mut client, output, service, user, validate_only).await,
    }
}

async fn add(client: &mut Client, output: Output, wanted: AccountAdd) -> Result<(), Failure> {
    let AccountAdd { peer, services, user } = wanted;
    let request = wire::CreateAccountsRequest {
        user: user.unwrap_or_default(),
        peer,
        services,
    };
    let made = client.create_accounts(request).await?.into_inner().credentials;
    let made = Credentials {
        credentials: made.into_iter().map(Into::into).collect(),
    };
    output.result(&made, || {
        let each: Vec<String> = made.credentials.iter().map(Credential::described).collect();
        let last = "The passwords are shown this once, and kept nowhere by the cell. \
                    Another one: cellctl account password SERVICE USER\n";
        each.join("\n") + "\n" + last
    })
}

async fn list(client: &mut Client, output: Output, service: String) -> Result<(), Failure> {
    let request = wire::ListAccountsRequest { service };
    let told = client.list_accounts(request).await?.into_inner().accounts;
    let list = List {
        accounts: told.into_iter().map(Into::into).collect(),
    };
    output.result(&list, || {
        if list.accounts.is_empty() {
            return "It has no accounts. Make one: cellctl account add DEVICE --service NAME".to_owned();
        }
        let row = |one: &Row| {
            vec![
                one.user.clone(),
                one.peer.clone().unwrap_or_default(),
                one.created_at.clone().unwrap_or_default(),
            ]
        };
        human::table(&["USER", "DEVICE", "SINCE"], list.accounts.iter().map(row))
    })
}

async fn remove(
    client: &mut Client,
    output: Output,
    service: String,
    user: String,
    validate_only: bool,
) -> Result<(), Failure> {
    let request = wire::RemoveAccountRequest {
        service: service.clone(),
        user: user.clone(),
        validate_only,
    };
    let wire::RemoveAccountResponse { plan, waits } = client.remove_account(request).await?.into_inner();
    if validate_only {
        let plan = Plan { plan };
        return output.result(&plan, || plan.plan.join("\n"));
    }
    let waits = Some(waits).filter(|why| !why.is_empty());
    let removed = Removed {
        removed: waits.is_none(),
        waits,
        service,
        user,
    };
    output.result(&removed, || match &removed.waits {
        Some(why) => why.clone(),
        None => format!("The account {} at {} is removed.", removed.user, removed.service),
    })
}

impl Credential {
    fn described(&self) -> String {
        let mut rows = vec![
            ("Service", self.service.clone()),
            ("User", self.user.clone()),
            ("Password", self.password.clone()),
        ];
        if !self.r#where.is_empty() {
            rows.push(("Where", self.r#where.join(", ")));
        }
        human::pairs(rows)
    }
}

impl From<wire::AccountCredential> for Credential {
    fn from(told: wire::AccountCredential) -> Self {
        Credential {
            service: told.service,
            user: told.user,
            password: told.password,
            r#where: told.r#where,
        }
    }
}

impl From<wire::Account> for Row {
    fn from(told: wire::Account) -> Self {
        Row {
            user: told.user,
            peer: Some(told.peer).filter(|peer| !peer.is_empty()),
            created_at: view::rfc3339(told.created_unix_ms),
        }
    }
}
