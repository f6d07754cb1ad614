//! Who may call what: the one table that the guards obey.

/// What a user may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs the cell.
    Admin,
    /// Owns one device.
    Peer,
}

impl Role {
    /// Reads `admin` or `peer`.
    ///
    /// # Errors
    /// A sentence for the caller.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "admin" => Ok(Role::Admin),
            "peer" => Ok(Role::Peer),
            _ => Err("must be \"admin\" or \"peer\""),
        }
    }

    /// `admin` or `peer`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Admin => "admin",
            Role::Peer => "peer",
        }
    }
}

/// What a route asks of its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requirement {
    /// Open before setup is complete; the claim token guards it.
    Setup,
    /// Nothing but a complete setup.
    Public,
    /// Any user, even one who must change the password first.
    OwnSession,
    /// Any user.
    User,
    /// A user of this role.
    Role(Role),
}

/// The requirement of a path below `/api`. What the table does not name is for administrators, so that a new route,
/// a misspelt one and one that does not exist are closed until somebody opens them here.
pub fn requirement(path: &str) -> Requirement {
    match path {
        "/api/openapi.json" | "/api/auth/login" | "/api/trust/root.pem" => Requirement::Public,
        "/api/auth/logout" | "/api/auth/me" | "/api/auth/csrf-token" | "/api/auth/change-password" => {
            Requirement::OwnSession
        }
        "/api/services/active" => Requirement::User,
        "/api/peer/me" => Requirement::Role(Role::Peer),
        _ if path.starts_with("/api/setup/") => Requirement::Setup,
        _ => Requirement::Role(Role::Admin),
    }
}

/// Whether a path belongs to the API and therefore to its guards.
pub fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_is_for_administrators() {
        for path in [
            "/api",
            "/api/",
            "/api/peers",
            "/api/auth/users",
            "/api/nothing",
            "/api/setup",
            "/api/auth/login/",
            "/api/auth/LOGIN",
            "/api/%61uth/login",
            "/api/peer/me/x",
        ] {
            assert_eq!(requirement(path), Requirement::Role(Role::Admin), "{path}");
        }
    }
}
