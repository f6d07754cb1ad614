//! Accounts at a service that is not there.

use cell_proto::api::v1::account_service_server::AccountService;
use cell_proto::api::v1::*;
use tonic::{Code, Request, Response, Status};

use super::{Service, fault};

fn credential(service: &str, user: &str) -> AccountCredential {
    AccountCredential {
        service: service.to_owned(),
        user: user.to_owned(),
        password: "abcdefghijkmnpqrstuvwxyz".to_owned(),
        r#where: vec![format!("https://{service}.home.cell/")],
    }
}

#[tonic::async_trait]
impl AccountService for Service {
    async fn list_accounts(
        &self,
        _: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let users = self.0.lock().unwrap().accounts.clone().into_iter();
        let accounts = users.map(|(user, peer)| Account {
            user,
            peer,
            created_unix_ms: 1_800_000_000_000,
        });
        Ok(Response::new(ListAccountsResponse {
            accounts: accounts.collect(),
        }))
    }

    async fn create_accounts(
        &self,
        request: Request<CreateAccountsRequest>,
    ) -> Result<Response<CreateAccountsResponse>, Status> {
        let CreateAccountsRequest { peer, user, services } = request.into_inner();
        let user = if user.is_empty() {
            peer.to_lowercase()
        } else {
            user
        };
        let credentials = services.iter().map(|service| credential(service, &user));
        let credentials = credentials.collect();
        self.0.lock().unwrap().accounts.insert(user, peer);
        Ok(Response::new(CreateAccountsResponse { credentials }))
    }

    async fn reset_account_password(
        &self,
        request: Request<ResetAccountPasswordRequest>,
    ) -> Result<Response<ResetAccountPasswordResponse>, Status> {
        let ResetAccountPasswordRequest { service, user } = request.into_inner();
        Ok(Response::new(ResetAccountPasswordResponse {
            credential: Some(credential(&service, &user)),
        }))
    }

    async fn remove_account(
        &self,
        request: Request<RemoveAccountRequest>,
    ) -> Result<Response<RemoveAccountResponse>, Status> {
        let RemoveAccountRequest {
            service: _,
            user,
            validate_only,
        } = request.into_inner();
        let accounts = &mut self.0.lock().unwrap().accounts;
        if !accounts.contains_key(&user) {
            let words = "the service has no account of this name";
            return Err(fault(Code::NotFound, "NO_ACCOUNT", words));
        }
        let plan = if validate_only {
            vec!["The account is removed.".to_owned()]
        } else {
            accounts.remove(&user);
            Vec::new()
        };
        Ok(Response::new(RemoveAccountResponse {
            plan,
            waits: String::new(),
        }))
    }
}
