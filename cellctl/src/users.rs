//! `cellctl user`: people who log in.

use cell_proto::api::v1::{ListUsersRequest, ResetPasswordRequest};

use crate::cell::Cell;
use crate::cli::{Password, User};
use crate::failure::Failure;
use crate::output::Output;
use crate::{human, secret, view};

/// Carries out one of the commands.
pub(crate) async fn run(cell: &Cell, output: Output, command: User) -> Result<(), Failure> {
    match command {
        User::List => list(cell, output).await,
        User::ResetPassword { username, password } => reset_password(cell, output, username, &password).await,
    }
}

async fn list(cell: &Cell, output: Output) -> Result<(), Failure> {
    let users = cell.users()?.list_users(ListUsersRequest {}).await?;
    let list = view::UserList {
        users: users
            .into_inner()
            .users
            .into_iter()
            .map(view::User::from)
            .collect(),
    };
    output.result(&list, || {
        human::table(&["NAME", "ROLE", "ATTENTION"], list.users.iter().map(row))
    })
}

fn row(user: &view::User) -> Vec<String> {
    let locked = user
        .locked_until
        .as_ref()
        .map(|until| format!("locked until {until}"));
    let must_change = user
        .must_change_password
        .then(|| "must change the password".to_owned());
    let attention: Vec<String> = locked.into_iter().chain(must_change).collect();
    vec![user.username.clone(), user.role.clone(), attention.join(", ")]
}

async fn reset_password(
    cell: &Cell,
    output: Output,
    username: String,
    password: &Password,
) -> Result<(), Failure> {
    // Before the password is asked for: nobody types one for a cell that is not there.
    let mut client = cell.users()?;
    let new_password = secret::new_password(password)?;
    let request = ResetPasswordRequest {
        username: username.clone(),
        new_password: new_password.to_string(),
    };
    client.reset_password(request).await?;
    output.result(&view::ResetPassword { reset: &username }, || {
        format!("{username} can log in with the new password, and is asked to change it then.")
    })
}
