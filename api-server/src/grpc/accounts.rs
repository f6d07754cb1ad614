//! Accounts at services.

use cell_proto::api::v1 as wire;
use cell_proto::api::v1::account_service_server::AccountService;
use tonic::{Request, Response, Status};

use super::{Automation, refused};
use crate::service::accounts::{self, Credential, NewAccounts, Removal};

#[tonic::async_trait]
impl AccountService for Automation {
    async fn list_accounts(
        &self,
        request: Request<wire::ListAccountsRequest>,
    ) -> Result<Response<wire::ListAccountsResponse>, Status> {
        self.set_up()?;
        let all = accounts::list(&self.app, &request.into_inner().service).await;
        let all = all.map_err(refused)?.into_iter().map(|one| wire::Account {
            user: one.user.to_string(),
            peer: one.peer.unwrap_or_default(),
            created_unix_ms: one.created_unix_ms,
        });
        Ok(Response::new(wire::ListAccountsResponse {
            accounts: all.collect(),
        }))
    }

    async fn create_accounts(
        &self,
        request: Request<wire::CreateAccountsRequest>,
    ) -> Result<Response<wire::CreateAccountsResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::CreateAccountsRequest { peer, user, services } = request.into_inner();
        let asked = NewAccounts {
            user: Some(user).filter(|user| !user.is_empty()),
            peer,
            services,
        };
        let made = accounts::create(&self.app, &actor, asked).await;
        Ok(Response::new(wire::CreateAccountsResponse {
            credentials: made.map_err(refused)?.into_iter().map(credential).collect(),
        }))
    }

    async fn reset_account_password(
        &self,
        request: Request<wire::ResetAccountPasswordRequest>,
    ) -> Result<Response<wire::ResetAccountPasswordResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::ResetAccountPasswordRequest { service, user } = request.into_inner();
        let made = accounts::reset_password(&self.app, &actor, &service, &user).await;
        Ok(Response::new(wire::ResetAccountPasswordResponse {
            credential: Some(credential(made.map_err(refused)?)),
        }))
    }

    async fn remove_account(
        &self,
        request: Request<wire::RemoveAccountRequest>,
    ) -> Result<Response<wire::RemoveAccountResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let wire::RemoveAccountRequest {
            service,
            user,
            validate_only,
        } = request.into_inner();
        if validate_only {
            let plan = accounts::plan_remove(&self.app, &actor, &service, &user).await;
            let plan = plan.map_err(refused)?;
            let only_planned = wire::RemoveAccountResponse {
                plan,
                waits: String::new(),
            };
            return Ok(Response::new(only_planned));
        }
        let removing = accounts::remove(&self.app, &actor, &service, &user).await;
        let waits = match removing.map_err(refused)? {
            Removal::Done => String::new(),
            Removal::Later(why) => why,
        };
        Ok(Response::new(wire::RemoveAccountResponse {
            plan: Vec::new(),
            waits,
        }))
    }
}

fn credential(made: Credential) -> wire::AccountCredential {
    wire::AccountCredential {
        service: made.service,
        user: made.user.to_string(),
        password: made.password.expose().to_owned(),
        r#where: made.places,
    }
}
