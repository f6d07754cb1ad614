//! Sessions and users.

use cell_api_core::fault::Faults;
use cell_api_core::fields::Fields;
use cell_api_core::password::Password;
use cell_api_core::setup;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::http::input::FromFields;
use crate::service::users;

/// What a user may be.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Runs the cell.
    Admin,
    /// Owns one device.
    Peer,
}

/// A name and a password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub username: String,
    /// The user's password.
    #[schema(format = Password)]
    pub password: String,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Me {
    /// The user's name.
    pub username: String,
    /// The user's role.
    pub role: Role,
    /// Whether nothing else is answered until the password is changed.
    pub must_change_password: bool,
    /// The peer that this request came from, through the VPN; null: by another way.
    pub device: Option<String>,
}

/// What to send as `X-CSRF-Token`.
#[derive(Debug, Serialize, ToSchema)]
pub struct CsrfToken {
    /// Bound to the session.
    pub csrf_token: String,
}

/// A change of one's own password.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password that holds now.
    #[schema(format = Password)]
    pub current_password: String,
    /// 10-1,024 characters.
    #[schema(format = Password)]
    pub new_password: String,
}

/// A new password for somebody else, who must change it at the next login.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ResetPassword {
    /// Whose.
    pub username: String,
    /// 10-1,024 characters.
    #[schema(format = Password)]
    pub new_password: String,
}

/// A new user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserCreate {
    /// 1-64 characters of A-Z, a-z, 0-9, _, . and -.
    pub username: String,
    /// 10-1,024 characters.
    #[schema(format = Password)]
    pub password: String,
    /// `admin` or `peer`.
    #[schema(example = "peer")]
    pub role: String,
}

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub struct User {
    /// The user's name.
    pub username: String,
    /// The user's role.
    pub role: Role,
    /// Whether the password must be changed at the next login.
    pub must_change_password: bool,
    /// RFC 3339; null when not locked.
    #[schema(required)]
    pub locked_until: Option<String>,
}

/// All users.
#[derive(Debug, Serialize, ToSchema)]
pub struct UserList {
    /// In the order of names.
    pub users: Vec<User>,
}

impl From<cell_api_core::role::Role> for Role {
    fn from(role: cell_api_core::role::Role) -> Self {
        match role {
            cell_api_core::role::Role::Admin => Role::Admin,
            cell_api_core::role::Role::Peer => Role::Peer,
        }
    }
}

impl FromFields for Login {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let username = fields.string("username", faults);
        Login {
            username,
            password: fields.string("password", faults),
        }
    }

    fn check(self) -> Faults {
        // Only whether it is right counts, and that is no fault of the request.
        Faults::default()
    }
}

impl FromFields for ChangePassword {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let current_password = fields.string("current_password", faults);
        ChangePassword {
            current_password,
            new_password: fields.string("new_password", faults),
        }
    }

    fn check(self) -> Faults {
        users::check_passwords(
            "",
            &Password::new(self.current_password),
            &Password::new(self.new_password),
        )
    }
}

impl FromFields for ResetPassword {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        let username = fields.string("username", faults);
        ResetPassword {
            username,
            new_password: fields.string("new_password", faults),
        }
    }

    fn check(self) -> Faults {
        let password = Password::new(self.new_password);
        setup::check_account(&self.username, "new_password", &password)
            .err()
            .unwrap_or_default()
    }
}

impl FromFields for UserCreate {
    fn read(fields: &mut Fields, faults: &mut Faults) -> Self {
        UserCreate {
            username: fields.string("username", faults),
            password: fields.string("password", faults),
            role: fields.string("role", faults),
        }
    }

    fn check(self) -> Faults {
        users::check(&self.username, &Password::new(self.password), &self.role)
            .err()
            .unwrap_or_default()
    }
}

impl Me {
    /// Of a session, with the peer that it is used from.
    pub fn of(user: &crate::sessions::SessionUser, device: Option<String>) -> Self {
        Me {
            username: user.username.to_string(),
            role: user.role.into(),
            must_change_password: user.must_change_password,
            device,
        }
    }
}

impl From<crate::service::users::UserView> for User {
    fn from(user: crate::service::users::UserView) -> Self {
        User {
            username: user.username.to_string(),
            role: user.role.into(),
            must_change_password: user.must_change_password,
            locked_until: user.locked_until.map(super::rfc3339),
        }
    }
}
