//! `cellctl service secrets`, `set-secret`: secrets of services. Values go in, and never come out.

use std::path::Path;

use cell_proto::api::v1 as wire;
use serde::Serialize;

use crate::failure::Failure;
use crate::human;
use crate::installed::Client;
use crate::output::Output;
use crate::secret;

/// A secret, as the REST API has it.
#[derive(Debug, Serialize)]
struct Secret {
    name: String,
    label: String,
    help: String,
    optional: bool,
    generated: bool,
    can_be_set: bool,
    is_set: bool,
}

#[derive(Debug, Serialize)]
struct Secrets {
    secrets: Vec<Secret>,
}

/// Shows a service's secrets.
pub(crate) async fn list(client: &mut Client, output: Output, service: String) -> Result<(), Failure> {
    let request = wire::ListServiceSecretsRequest { service };
    let told = client.list_service_secrets(request).await?.into_inner().secrets;
    let all = Secrets {
        secrets: told.into_iter().map(Secret::from).collect(),
    };
    output.result(&all, || text(&all.secrets))
}

/// Sets one, by the first line of a file.
pub(crate) async fn set(
    client: &mut Client,
    service: String,
    secret: String,
    from: &Path,
) -> Result<Option<wire::InstalledService>, Failure> {
    let value = secret::from_file(from)?;
    let request = wire::SetServiceSecretRequest {
        service,
        secret,
        value: value.to_string(),
    };
    Ok(client.set_service_secret(request).await?.into_inner().service)
}

fn text(secrets: &[Secret]) -> String {
    if secrets.is_empty() {
        return "The service has no secrets.".to_owned();
    }
    let row = |one: &Secret| {
        let state = match (one.is_set, one.optional, one.generated) {
            (true, _, _) => "set",
            (false, _, true) => "is made by the vault",
            (false, true, _) => "not set",
            (false, false, _) => "has to be set",
        };
        vec![
            one.name.clone(),
            one.label.clone(),
            one.help.clone(),
            state.to_owned(),
        ]
    };
    human::table(&["SECRET", "", "TAKES", ""], secrets.iter().map(row))
}

impl From<wire::ServiceSecret> for Secret {
    fn from(told: wire::ServiceSecret) -> Self {
        let wire::ServiceSecret {
            name,
            label,
            help,
            optional,
            generated,
            can_be_set,
            is_set,
        } = told;
        Secret {
            name,
            label,
            help,
            optional,
            generated,
            can_be_set,
            is_set,
        }
    }
}
