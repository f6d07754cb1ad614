//! Users.

use cell_api_core::fault::Faults;
use cell_api_core::lockout::Attempts;
use cell_api_core::name::Username;
use cell_api_core::password::Password;
use cell_api_core::role::Role;
use cell_api_core::setup;
use subtle::ConstantTimeEq;

use super::auth::close_all;
use super::{Actor, ServiceError};
use crate::app::App;
use crate::store::transaction::Origin;
use crate::store::users::{self as table, StoredUser};

/// A user as others see it.
#[derive(Debug, Clone)]
pub struct UserView {
    /// The user's name.
    pub username: Username,
    /// The user's role.
    pub role: Role,
    /// Whether the password must be changed at the next login.
    pub must_change_password: bool,
    /// When the lock ends, milliseconds since 1970-01-01T00:00:00Z; `None` when not locked.
    pub locked_until: Option<i64>,
}

/// All users, in the order of names.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn list(app: &App) -> Result<Vec<UserView>, ServiceError> {
    let now = app.now();
    let users = app.store.read(table::list)?;
    Ok(users
        .into_iter()
        .map(|(user, attempts)| view(user, attempts, now))
        .collect())
}

/// Checks a new user.
///
/// # Errors
/// Every fault at once.
pub fn check(username: &str, password: &Password, role: &str) -> Result<(Username, Role), Faults> {
    let mut faults = Faults::default();
    let role = faults.keep("role", Role::parse(role));
    match (setup::check_account(username, "password", password), role) {
        (Ok(username), Some(role)) => Ok((username, role)),
        (account, _) => {
            faults.merge(account.err().unwrap_or_default());
            Err(faults)
        }
    }
}

/// Checks a change of one's own password; whether the current one is right is another question.
pub fn check_passwords(username: &str, current: &Password, new: &Password) -> Faults {
    let mut faults = Faults::default();
    faults.keep("new_password", new.check_new(username));
    if bool::from(current.expose().ct_eq(new.expose())) {
        faults.add("new_password", "must not be the current password");
    }
    faults
}

/// Adds a user.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::UserExists`].
pub async fn create(
    app: &App,
    actor: &Actor,
    username: &str,
    password: Password,
    role: &str,
) -> Result<UserView, ServiceError> {
    let (username, role) = check(username, &password, role)?;
    let password_hash = app.hasher.hash(password).await?;
    let user = StoredUser {
        username,
        role,
        password_hash,
        must_change_password: false,
    };
    let (origin, now) = (Origin::new(actor, app.now()), app.now());
    app.store
        .mutate(origin, move |tx| {
            table::insert(tx, &user, tx.now())?;
            tx.audit(
                "user.create",
                &user.username,
                format!("role {}", user.role.as_str()),
            );
            Ok(view(user, Attempts::default(), now))
        })
        .await
}

/// Sets somebody's password, to be changed at the next login; their sessions end and their lock is lifted.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoUser`].
pub async fn reset_password(
    app: &App,
    actor: &Actor,
    username: &str,
    password: Password,
) -> Result<(), ServiceError> {
    let username = setup::check_account(username, "new_password", &password)?.to_string();
    let hash = app.hasher.hash(password).await?;
    let origin = Origin::new(actor, app.now());
    app.store
        .mutate(origin, move |tx| {
            if !table::set_password(tx, &username, &hash, true)? {
                return Err(ServiceError::NoUser);
            }
            table::clear_attempts(tx, &username)?;
            close_all(tx, &username)?;
            tx.audit("user.reset-password", &username, "");
            Ok(())
        })
        .await
}

/// Removes a user; the user's sessions end.
///
/// # Errors
/// [`ServiceError::NoUser`], [`ServiceError::LastAdmin`].
pub async fn delete(app: &App, actor: &Actor, username: &str) -> Result<(), ServiceError> {
    let username = Username::parse(username)
        .map_err(|_| ServiceError::NoUser)?
        .to_string();
    let origin = Origin::new(actor, app.now());
    app.store
        .mutate(origin, move |tx| {
            table::delete(tx, &username)?;
            close_all(tx, &username)?;
            tx.audit("user.delete", &username, "");
            Ok(())
        })
        .await
}

fn view(user: StoredUser, attempts: Attempts, now: i64) -> UserView {
    let locked_until = attempts.locked_for(now).and(attempts.locked_until);
    let StoredUser {
        username,
        role,
        must_change_password,
        ..
    } = user;
    UserView {
        username,
        role,
        must_change_password,
        locked_until,
    }
}
