//! Login, logout, one's own password.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cell_api_core::name::Username;
use cell_api_core::password::Password;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::users::check_passwords;
use super::{Actor, Remote, ServiceError};
use crate::app::App;
use crate::sessions::{Session, SessionUser};
use crate::store::sessions as table;
use crate::store::transaction::{Origin, SessionChange, Tx};
use crate::store::users::{self, StoredUser};

/// Checks name and password and opens a session; the answer's second half is the cookie.
///
/// # Errors
/// [`ServiceError::Login`] whether the name or the password is wrong, [`ServiceError::Locked`],
/// [`ServiceError::Throttled`], [`ServiceError::Busy`].
pub async fn login(
    app: &App,
    remote: &Remote,
    username: &str,
    password: Password,
) -> Result<(Arc<Session>, Zeroizing<String>), ServiceError> {
    let now = app.now();
    let paid = remote
        .source
        .map(|source| app.login_throttle.pay(source, now))
        .transpose()
        .map_err(ServiceError::Throttled)?;
    let opened = log_in(app, remote, username, password).await;
    // Only what tells something about a password is paid for: not that the cell is busy.
    if let Some(paid) = paid
        && !matches!(opened, Err(ServiceError::Login | ServiceError::Locked(_)))
    {
        paid.refund(now);
    }
    opened
}

async fn log_in(
    app: &App,
    remote: &Remote,
    username: &str,
    password: Password,
) -> Result<(Arc<Session>, Zeroizing<String>), ServiceError> {
    // Nobody bears a name that breaks the rule, so there is nothing to hash, to lock or to write down.
    let username = Username::parse(username).map_err(|_| ServiceError::Login)?;
    if password.is_impossible() {
        return Err(ServiceError::Login);
    }
    let user = verify(app, &Actor::unknown(remote), &username, password).await?;
    let actor = Actor {
        name: user.username.to_string(),
        role: Some(user.role),
        remote: remote.shown.clone(),
    };
    let (token, token_hash) = new_token()?;
    let session = app
        .store
        .mutate(Origin::new(&actor, app.now()), move |tx| {
            open(tx, &user, token_hash)
        })
        .await?;
    Ok((session, token))
}

/// Ends a session.
///
/// # Errors
/// [`ServiceError::Storage`].
pub async fn logout(app: &App, actor: &Actor, session: &Session) -> Result<(), ServiceError> {
    let token_hash = session.token_hash;
    let origin = Origin::new(actor, app.now());
    app.store
        .mutate(origin, move |tx| {
            table::delete(tx, &token_hash)?;
            tx.audit("auth.logout", "", "");
            tx.effects.sessions.push(SessionChange::Closed(token_hash));
            Ok(())
        })
        .await
}

/// Changes one's own password; the user's other sessions end, and this one goes on under another cookie, which is
/// answered.
///
/// # Errors
/// [`ServiceError::WrongPassword`], [`ServiceError::Invalid`], [`ServiceError::Locked`], [`ServiceError::SessionEnded`]
/// when it ended, or an administrator set another password, while this one was looked at.
pub async fn change_password(
    app: &App,
    actor: &Actor,
    session: &Session,
    current: Password,
    new: Password,
) -> Result<Zeroizing<String>, ServiceError> {
    let username = &session.user.username;
    let faults = check_passwords(username.as_str(), &current, &new);
    if !faults.is_empty() {
        return Err(faults.into());
    }
    let verified = verify(app, actor, username, current)
        .await
        .map_err(|error| match error {
            ServiceError::Login => ServiceError::WrongPassword,
            other => other,
        })?;
    let hash = app.hasher.hash(new).await?;
    let (token, token_hash) = new_token()?;
    let before = session.token_hash;
    let origin = Origin::new(actor, app.now());
    app.store
        .mutate(origin, move |tx| {
            // A reset or a logout may have come first: what was verified must still be so.
            let now = users::get(tx, verified.username.as_str())?;
            let now = now.filter(|now| now.password_hash == verified.password_hash);
            let Some(user) = now.filter(|_| table::exists(tx, &before).unwrap_or(false)) else {
                return Err(ServiceError::SessionEnded);
            };
            let name = user.username.to_string();
            users::set_password(tx, &name, &hash, false)?;
            close_all(tx, &name)?;
            let user = SessionUser {
                must_change_password: false,
                ..user_of(&user)
            };
            let kept = Arc::new(Session::new(token_hash, user, tx.now(), tx.now()));
            table::insert(tx, &kept)?;
            tx.audit("auth.change-password", &name, "");
            tx.effects.sessions.push(SessionChange::Opened(kept));
            Ok(())
        })
        .await?;
    Ok(token)
}

/// Ends all sessions of a user.
pub(super) fn close_all(tx: &mut Tx<'_>, username: &str) -> Result<(), ServiceError> {
    table::delete_of(tx, username)?;
    let username = username.to_owned();
    tx.effects.sessions.push(SessionChange::UserClosed(username));
    Ok(())
}

/// Who asked for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// A person did: the session is in use.
    Person,
    /// A page did by itself, to stay up to date: whether somebody sits before it, nobody knows.
    Background,
}

/// The session of a cookie, which counts as seen now if a person used it.
pub fn session_of(app: &App, token: &str, by: Use) -> Option<Arc<Session>> {
    let token_hash = hash_of(token);
    match by {
        Use::Person => app.sessions.seen(&token_hash, app.now()),
        Use::Background => app.sessions.find(&token_hash, app.now()),
    }
}

/// Whether a session has not ended meanwhile. Does not count as use.
pub fn still_open(app: &App, session: &Session) -> bool {
    app.sessions.find(&session.token_hash, app.now()).is_some()
}

/// The CSRF token of a session: an HMAC under the cookie itself, so that there is no other key to keep, and one that
/// leaks does not give the cookie away.
pub fn csrf_token(cookie: &str) -> String {
    URL_SAFE_NO_PAD.encode(csrf_mac(cookie).finalize().into_bytes())
}

/// Whether `sent` is the CSRF token of the session; in constant time.
pub fn csrf_matches(cookie: &str, sent: &str) -> bool {
    URL_SAFE_NO_PAD
        .decode(sent)
        .is_ok_and(|sent| csrf_mac(cookie).verify_slice(&sent).is_ok())
}

fn csrf_mac(cookie: &str) -> Hmac<Sha256> {
    // HMAC takes a key of any length; the error cannot happen.
    let mut mac =
        Hmac::<Sha256>::new_from_slice(cookie.as_bytes()).unwrap_or_else(|_| Hmac::new(&Default::default()));
    mac.update(b"cell-csrf-v1");
    mac
}

/// Checks a password, counts the failure, locks the account after the fifth.
async fn verify(
    app: &App,
    actor: &Actor,
    username: &Username,
    password: Password,
) -> Result<StoredUser, ServiceError> {
    not_locked(app, username)?;
    let user = app
        .store
        .read(|connection| users::get(connection, username.as_str()))?;
    let stored = user.as_ref().map(|user| user.password_hash.clone());
    let good = app
        .hasher
        .verify(password, stored, || not_locked(app, username))
        .await?;
    match user {
        Some(user) if good => Ok(user),
        _ => {
            count_failure(app, actor, username).await?;
            Err(ServiceError::Login)
        }
    }
}

fn not_locked(app: &App, username: &Username) -> Result<(), ServiceError> {
    let attempts = app
        .store
        .read(|connection| Ok(users::attempts(connection, username.as_str())?))?;
    locked(attempts.locked_for(app.now()))
}

fn locked(left_ms: Option<i64>) -> Result<(), ServiceError> {
    match left_ms {
        Some(left) => Err(ServiceError::Locked(
            u64::try_from(left).unwrap_or(0).div_ceil(1000),
        )),
        None => Ok(()),
    }
}

async fn count_failure(app: &App, actor: &Actor, username: &Username) -> Result<(), ServiceError> {
    let (username, origin) = (username.to_string(), Origin::new(actor, app.now()));
    app.login_failures.note();
    app.store
        .mutate(origin, move |tx| {
            let now = tx.now();
            let attempts = users::attempts(tx, &username)?;
            if attempts.locked_for(now).is_none() {
                let attempts = attempts.after_failure(now);
                users::set_attempts(tx, &username, &attempts, now)?;
                let detail = if attempts.locked_until.is_some() {
                    "the account is locked for 15 minutes"
                } else {
                    ""
                };
                tx.audit("auth.login-failed", &username, detail);
            } else {
                tx.audit("auth.login-failed", &username, "while locked");
            }
            Ok(())
        })
        .await
}

/// Opens a session for whom `verified` is now: the password may have been reset, the role changed or the user removed
/// while it was checked.
fn open(tx: &mut Tx<'_>, verified: &StoredUser, token_hash: [u8; 32]) -> Result<Arc<Session>, ServiceError> {
    let username = verified.username.as_str();
    // Attempts that ran beside this one may have locked the account: then the right password comes too late.
    locked(users::attempts(tx, username)?.locked_for(tx.now()))?;
    let now = users::get(tx, username)?;
    let user = now
        .filter(|now| now.password_hash == verified.password_hash)
        .ok_or(ServiceError::Login)?;
    users::clear_attempts(tx, username)?;
    let session = Arc::new(Session::new(token_hash, user_of(&user), tx.now(), tx.now()));
    for ended in table::insert(tx, &session)? {
        tx.effects.sessions.push(SessionChange::Closed(ended));
    }
    tx.effects
        .sessions
        .push(SessionChange::Opened(Arc::clone(&session)));
    tx.audit("auth.login", username, "");
    Ok(session)
}

fn user_of(user: &StoredUser) -> SessionUser {
    SessionUser {
        username: user.username.clone(),
        role: user.role,
        must_change_password: user.must_change_password,
    }
}

fn new_token() -> Result<(Zeroizing<String>, [u8; 32]), ServiceError> {
    let mut random = Zeroizing::new([0u8; 32]);
    getrandom::fill(random.as_mut()).map_err(|_| ServiceError::Random)?;
    let token = Zeroizing::new(URL_SAFE_NO_PAD.encode(random.as_ref()));
    let hash = hash_of(&token);
    Ok((token, hash))
}

fn hash_of(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}
