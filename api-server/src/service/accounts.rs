//! Accounts that devices' owners have at services. What is wished for is written down first and a password never: so accounts are made
//! while somebody waits, and what a crash leaves half done is taken back (`crate::accounts`).

use std::collections::BTreeSet;
use std::net::SocketAddrV4;
use std::sync::Arc;

use cell_api_core::fault::Faults;
use cell_api_core::services::accounts::{self, AccountPassword, MOST, PASSWORD_LENGTH, Stands, User, Wanted};
use cell_manifest::Manifest;
use zeroize::Zeroize as _;

use super::{Actor, ServiceError, cell};
use crate::app::App;
use crate::daemons::accounts::{AccountsAt, AccountsFault, Put};
use crate::events::Topic;
use crate::store::accounts::{self as table, StoredAccount};
use crate::store::services::{self, StoredService};
use crate::store::transaction::{Origin, Tx};

/// What its owner sets a client up with. It has no `Debug`.
pub struct Credential {
    /// At this service.
    pub service: String,
    /// What the account is called.
    pub user: User,
    /// Shown this once.
    pub password: AccountPassword,
    /// Pages and ports.
    pub places: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccounts {
    /// The device whose owner they are for.
    pub peer: String,
    /// What they are called; none: as the device.
    pub user: Option<String>,
    /// Where.
    pub services: Vec<String>,
}

/// Accounts of one service, in the order of users. What is half made, or on its way out, is none.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::NoAccounts`], [`ServiceError::Storage`].
pub async fn list(app: &App, service: &str) -> Result<Vec<StoredAccount>, ServiceError> {
    let sought = service.to_owned();
    app.store
        .read_much(move |connection| {
            let service = services::get(connection, &sought)?;
            has_accounts(
                &sought,
                &services::manifest(connection, &service.in_force().digest)?.manifest,
            )?;
            let mut all = table::of_service(connection, &sought)?;
            all.retain(|one| one.stands == Stands::Made);
            Ok(all)
        })
        .await
}

/// Makes an account at each service, or at none.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoService`], [`ServiceError::NoAccounts`], [`ServiceError::AccountExists`],
/// [`ServiceError::ServiceNotNow`], [`ServiceError::AccountsAway`], [`ServiceError::AccountsRefused`], [`ServiceError::AccountsBusy`].
pub async fn create(
    app: &Arc<App>,
    actor: &Actor,
    asked: NewAccounts,
) -> Result<Vec<Credential>, ServiceError> {
    let NewAccounts { peer, user, services } = asked;
    let wanted = accounts::wanted(&peer, user.as_deref(), &services)?;
    let (app, actor) = (Arc::clone(app), actor.clone());
    // Whoever asked may go: what was begun is brought to an end.
    on_its_own(async move { create_all(&app, &actor, &peer, wanted).await }).await
}

async fn create_all(
    app: &App,
    actor: &Actor,
    peer: &str,
    wanted: Wanted,
) -> Result<Vec<Credential>, ServiceError> {
    let Wanted { user, services } = wanted;
    let _turns = app.account_turns.take_all(&services).await?;
    let mut all = Vec::new();
    for service in &services {
        all.push(Place::of(app, service)?);
    }
    let (written, peer) = (user.clone(), peer.to_owned());
    let begin = move |tx: &mut Tx<'_>| begin(tx, &written, &peer, &services);
    let origin = Origin::new(actor, app.now());
    app.store.try_out(origin.clone(), begin.clone()).await?;
    // Before anything is written down, since what is written down as half made is taken back.
    are_free(app, &user, &all).await?;
    app.store.mutate(origin, begin).await?;
    let made = make(&user, &all).await;
    let names: Vec<String> = all.into_iter().map(|one| one.service).collect();
    let failed = match made {
        Ok(credentials) if end(app, user.clone(), names.clone()).await? => return Ok(credentials),
        // The device was removed with its accounts meanwhile.
        Ok(_) => Faults::one("peer", "it was removed meanwhile").into(),
        Err(error) => error,
    };
    // As after a crash; at once, since somebody may try again.
    for service in &names {
        crate::accounts::take_back(app, service, &user).await;
    }
    Err(failed)
}

/// Writes down what is being made.
fn begin(tx: &mut Tx<'_>, user: &User, peer: &str, services: &BTreeSet<String>) -> Result<(), ServiceError> {
    let sql = "SELECT EXISTS (SELECT 1 FROM peer WHERE name = ?1)";
    let is_known: bool = tx.prepare_cached(sql)?.query_row([peer], |row| row.get(0))?;
    if !is_known {
        return Err(Faults::one("peer", "there is no peer of this name").into());
    }
    let mut names = Vec::new();
    for service in services {
        if table::find(tx, service, user.as_str())?.is_some() {
            return Err(ServiceError::AccountExists(service.clone()));
        }
        let account = StoredAccount {
            service: service.clone(),
            user: user.clone(),
            peer: Some(peer.to_owned()),
            stands: Stands::Making,
            created_unix_ms: tx.now(),
        };
        table::insert(tx, &account)?;
        names.push(service.as_str());
    }
    if table::count(tx)? > MOST {
        return Err(ServiceError::TooManyAccounts);
    }
    tx.audit(
        "account.create",
        user,
        format!("for {peer} at {}", names.join(", ")),
    );
    Ok(())
}

/// Nobody's account is taken over: a service may have one that the cell does not know of.
async fn are_free(app: &App, user: &User, all: &[Place]) -> Result<(), ServiceError> {
    for place in all {
        if place.at.has(user).await.map_err(|fault| place.fault(fault))? {
            app.accounts_left.notify_one();
            return Err(ServiceError::AccountExists(place.service.clone()));
        }
    }
    Ok(())
}

/// All of them at their services.
async fn make(user: &User, all: &[Place]) -> Result<Vec<Credential>, ServiceError> {
    let mut credentials = Vec::new();
    for place in all {
        let password = password()?;
        let put = place.at.put(user, &password).await;
        match put.map_err(|fault| place.fault(fault))? {
            Put::Created | Put::Changed => {}
        }
        credentials.push(Credential {
            service: place.service.clone(),
            user: user.clone(),
            places: place.places.clone(),
            password,
        });
    }
    Ok(credentials)
}

/// False: one of them is not being made any more, and so none is made.
async fn end(app: &App, user: User, services: Vec<String>) -> Result<bool, ServiceError> {
    let is_whole = app
        .store
        .jot(move |connection| {
            for service in &services {
                let now = table::find(connection, service, user.as_str())?;
                if now.is_none_or(|one| one.stands != Stands::Making) {
                    return Ok(false);
                }
            }
            for service in &services {
                table::set_stands(connection, service, &user, Stands::Made)?;
            }
            Ok(true)
        })
        .await?;
    app.events.publish([Topic::Services]);
    Ok(is_whole)
}

/// Gives an account another password.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::NoAccount`], [`ServiceError::ServiceNotNow`], [`ServiceError::AccountsBusy`],
/// [`ServiceError::AccountsAway`]: it may have another password already, which nobody knows.
pub async fn reset_password(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    user: &str,
) -> Result<Credential, ServiceError> {
    let (app, actor) = (Arc::clone(app), actor.clone());
    let (service, user) = (service.to_owned(), user.to_owned());
    on_its_own(async move {
        let _turn = app.account_turns.take(&service).await?;
        let place = Place::of(&app, &service)?;
        let user = app
            .store
            .mutate(Origin::new(&actor, app.now()), move |tx| {
                let known = made(tx, &service, &user)?;
                tx.audit("account.password", &known.user, format!("at {service}"));
                Ok(known.user)
            })
            .await?;
        let password = password()?;
        match place.at.put(&user, &password).await {
            Ok(Put::Created | Put::Changed) => {}
            Err(fault) => return Err(place.fault(fault)),
        }
        Ok(Credential {
            service: place.service,
            places: place.places,
            user,
            password,
        })
    })
    .await
}

/// What became of a removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// The account is gone, with all that it had.
    Done,
    /// It is written down, and done when the service takes it: why it does not now, a sentence.
    Later(String),
}

/// Removes an account with all that it has at the service.
///
/// # Errors
/// [`ServiceError::NoService`], [`ServiceError::NoAccount`], [`ServiceError::AccountsBusy`]; nothing is written down then.
pub async fn remove(
    app: &Arc<App>,
    actor: &Actor,
    service: &str,
    user: &str,
) -> Result<Removal, ServiceError> {
    let (app, actor) = (Arc::clone(app), actor.clone());
    let (service, user) = (service.to_owned(), user.to_owned());
    on_its_own(async move {
        let _turn = app.account_turns.take(&service).await?;
        let sought = service.clone();
        let known = app
            .store
            .mutate(Origin::new(&actor, app.now()), move |tx| {
                begin_removal(tx, &sought, &user)
            })
            .await?;
        let Err(error) = crate::accounts::remove(&app, &service, &known.user).await else {
            return Ok(Removal::Done);
        };
        app.accounts_left.notify_one();
        match error {
            error @ (ServiceError::AccountsAway { .. } | ServiceError::AccountsRefused { .. }) => {
                Ok(Removal::Later(later(&known.user, &service, &error)))
            }
            error => Err(error),
        }
    })
    .await
}

fn later(user: &User, service: &str, why: &ServiceError) -> String {
    format!(
        "The account {user} at {service} is no account any more, and is removed there when the service takes it: {why}."
    )
}

/// What [`remove`] would do.
///
/// # Errors
/// As it, but for what the service says.
pub async fn plan_remove(
    app: &App,
    actor: &Actor,
    service: &str,
    user: &str,
) -> Result<Vec<String>, ServiceError> {
    let (sought, user) = (service.to_owned(), user.to_owned());
    let known = app
        .store
        .try_out(Origin::new(actor, app.now()), move |tx| {
            begin_removal(tx, &sought, &user)
        })
        .await?;
    Ok(vec![
        format!(
            "The account {} at {service} is removed: nobody logs in with it any more.",
            known.user
        ),
        "All that it has there is deleted with it, for good.".to_owned(),
    ])
}

fn begin_removal(tx: &mut Tx<'_>, service: &str, user: &str) -> Result<StoredAccount, ServiceError> {
    let known = made(tx, service, user)?;
    table::set_stands(tx, service, &known.user, Stands::Removing)?;
    tx.audit("account.remove", &known.user, format!("at {service}"));
    tx.effects.topics.insert(Topic::Services);
    Ok(known)
}

fn made(tx: &Tx<'_>, service: &str, user: &str) -> Result<StoredAccount, ServiceError> {
    let found = services::get(tx, service)?;
    has_accounts(
        service,
        &services::manifest(tx, &found.in_force().digest)?.manifest,
    )?;
    table::find(tx, service, user)?
        .filter(|one| one.stands == Stands::Made)
        .ok_or(ServiceError::NoAccount)
}

fn has_accounts(service: &str, manifest: &Manifest) -> Result<(), ServiceError> {
    match manifest.accounts {
        Some(_) => Ok(()),
        None => Err(ServiceError::NoAccounts(service.to_owned())),
    }
}

/// Where a service's accounts are made.
pub struct Place {
    /// What it is called.
    pub service: String,
    /// Who answers.
    pub at: AccountsAt,
    places: Vec<String>,
}

impl Place {
    /// Of a service whose containers are there.
    ///
    /// # Errors
    /// [`ServiceError::NoService`], [`ServiceError::NoAccounts`], [`ServiceError::AccountsAway`].
    pub fn of(app: &App, name: &str) -> Result<Self, ServiceError> {
        let (service, kept) = app.store.read(|connection| {
            let service = services::get(connection, name)?;
            let kept = services::manifest(connection, &service.in_force().digest)?;
            Ok((service, kept))
        })?;
        has_accounts(name, &kept.manifest)?;
        let away = || ServiceError::AccountsAway {
            service: name.to_owned(),
            why: "the service does not run".to_owned(),
        };
        let at = interface(app, &service, &kept.manifest).ok_or_else(away)?;
        let identity = cell::identity(app)?;
        let address = service.host.map(|host| identity.range.v4_of(host));
        let domain = identity.cell_name.domain();
        Ok(Place {
            places: accounts::where_to(&kept.manifest, &service.instance, &domain, address),
            service: name.to_owned(),
            at,
        })
    }

    /// A fault of its interface.
    pub fn fault(&self, fault: AccountsFault) -> ServiceError {
        let service = self.service.clone();
        match fault {
            AccountsFault::Away(why) => ServiceError::AccountsAway { service, why },
            AccountsFault::Refused(why) => ServiceError::AccountsRefused { service, why },
        }
    }
}

/// Where its interface is, if it is to answer now.
pub fn interface(app: &App, service: &StoredService, manifest: &Manifest) -> Option<AccountsAt> {
    let accounts = manifest.accounts.as_ref()?;
    if service.stopped || !service.phase.is_there() {
        return None;
    }
    let mut all = service.containers.iter();
    let made = all.find(|made| made.name == accounts.backend.container.as_str())?;
    Some(AccountsAt {
        by: app.egress.clone(),
        at: SocketAddrV4::new(made.address, accounts.backend.port),
        path: accounts.path.clone(),
    })
}

fn password() -> Result<AccountPassword, ServiceError> {
    let mut random = [0; PASSWORD_LENGTH];
    getrandom::fill(&mut random).map_err(|_| ServiceError::Random)?;
    let password = AccountPassword::from_random(&random);
    random.zeroize();
    Ok(password)
}

async fn on_its_own<T: Send + 'static>(
    work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::spawn(work)
        .await
        .unwrap_or(Err(ServiceError::Storage("the change was cut off")))
}
