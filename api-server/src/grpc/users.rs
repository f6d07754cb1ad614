//! Users: who there is, and the way back in for one who forgot the password.

use cell_api_core::password::Password;
use cell_proto::api::v1::user_service_server::UserService;
use cell_proto::api::v1::{
    ListUsersRequest, ListUsersResponse, ResetPasswordRequest, ResetPasswordResponse, User,
};
use tonic::{Request, Response, Status};

use super::{Automation, refused};
use crate::service::users::{self, UserView};

#[tonic::async_trait]
impl UserService for Automation {
    async fn list_users(&self, _: Request<ListUsersRequest>) -> Result<Response<ListUsersResponse>, Status> {
        self.set_up()?;
        let users = users::list(&self.app).map_err(refused)?;
        Ok(Response::new(ListUsersResponse {
            users: users.into_iter().map(user).collect(),
        }))
    }

    async fn reset_password(
        &self,
        request: Request<ResetPasswordRequest>,
    ) -> Result<Response<ResetPasswordResponse>, Status> {
        let actor = self.actor(&request)?;
        self.set_up()?;
        let ResetPasswordRequest {
            username,
            new_password,
        } = request.into_inner();
        users::reset_password(&self.app, &actor, &username, Password::new(new_password))
            .await
            .map_err(refused)?;
        Ok(Response::new(ResetPasswordResponse {}))
    }
}

fn user(view: UserView) -> User {
    User {
        username: view.username.to_string(),
        role: view.role.as_str().to_owned(),
        must_change_password: view.must_change_password,
        locked_until_unix_ms: view.locked_until.unwrap_or(0),
    }
}
