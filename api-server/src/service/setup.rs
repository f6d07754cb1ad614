//! The first run: the claim token, the steps, and the one transaction that makes the cell.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::derive;
use cell_api_core::derive::dns::Upstreams;
use cell_api_core::domain::Domain;
use cell_api_core::fault::Faults;
use cell_api_core::name::Username;
use cell_api_core::password::Password;
use cell_api_core::range::VpnRange;
use cell_api_core::role::Role;
use cell_api_core::setup::{self, DomainMode, Identity, Network, Progress, Step};

use super::cell::CellIdentity;
use super::{Actor, Remote, ServiceError, claim};
use crate::app::App;
use crate::events::Topic;
use crate::store::setup::{self as table, StoredAnswer};
use crate::store::transaction::{NetworkChange, Origin, Tx};
use crate::store::users::{self, StoredUser};

/// The answer of one step as received, unchecked.
pub enum StepInput {
    /// The token itself travels beside it.
    Claim,
    /// See [`Identity::check`].
    Identity {
        /// The cell's name.
        cell_name: String,
        /// How devices find it.
        domain_mode: String,
    },
    /// See [`Network::check`].
    Network {
        /// IPv4 prefix.
        vpn_range_ipv4: String,
        /// IPv6 prefix.
        vpn_range_ipv6: Option<String>,
        /// Where devices connect to.
        endpoint_host: Option<String>,
    },
    /// See [`setup::check_account`].
    Admin {
        /// The administrator's name.
        username: String,
        /// The administrator's password.
        password: Password,
    },
}

/// How the first run stands.
///
/// # Errors
/// [`ServiceError::Storage`].
pub fn progress(app: &App) -> Result<Progress, ServiceError> {
    app.store.read(table::progress)
}

/// The stored answer of a step, without secrets.
///
/// # Errors
/// [`ServiceError::ClaimToken`], [`ServiceError::Throttled`], [`ServiceError::SetupComplete`], [`ServiceError::NoStep`].
pub fn stored_answer(
    app: &App,
    remote: &Remote,
    claim_token: &str,
    step: &str,
) -> Result<Option<BTreeMap<String, String>>, ServiceError> {
    claim::check(app, remote, claim_token)?;
    let step = Step::parse(step).ok_or(ServiceError::NoStep)?;
    Ok(app
        .store
        .read(|connection| table::answer(connection, step))?
        .map(|answer| answer.values))
}

/// Stores the answer of one step.
///
/// # Errors
/// [`ServiceError::ClaimToken`], [`ServiceError::Throttled`], [`ServiceError::NotClaimed`],
/// [`ServiceError::SetupComplete`], [`ServiceError::Invalid`].
pub async fn submit(
    app: &App,
    remote: &Remote,
    claim_token: &str,
    input: StepInput,
) -> Result<Progress, ServiceError> {
    claim::check(app, remote, claim_token)?;
    let (step, answer) = check(app, input).await?;
    if step == Step::Network {
        netd_takes(app, &network_of(&answer)?.range).await?;
    }
    let origin = Origin::new(&Actor::setup(remote), app.now());
    app.store
        .mutate(origin, move |tx| {
            let progress = table::progress(tx)?;
            if progress.complete {
                return Err(ServiceError::SetupComplete);
            }
            if !progress.may_answer(step) {
                return Err(ServiceError::NotClaimed);
            }
            table::set_answer(tx, step, &answer)?;
            tx.audit("setup.step", step.as_str(), "");
            table::progress(tx)
        })
        .await
}

/// Makes the cell of the answers, in one transaction.
///
/// # Errors
/// [`ServiceError::ClaimToken`], [`ServiceError::Throttled`], [`ServiceError::SetupIncomplete`],
/// [`ServiceError::SetupComplete`].
pub async fn complete(app: &App, remote: &Remote, claim_token: &str) -> Result<Progress, ServiceError> {
    claim::check(app, remote, claim_token)?;
    // netd may have been away when the step was answered, and what is made now cannot be changed by the wizard.
    if let Some(answer) = app
        .store
        .read(|connection| table::answer(connection, Step::Network))?
    {
        netd_takes(app, &network_of(&answer)?.range).await?;
    }
    let origin = Origin::new(&Actor::setup(remote), app.now());
    let progress = app.store.mutate(origin, make_cell).await?;
    // The token opens nothing any more; the file goes so that nobody wonders.
    claim::remove_token_file(&app.config.state);
    Ok(progress)
}

fn make_cell(tx: &mut Tx<'_>) -> Result<Progress, ServiceError> {
    let progress = table::progress(tx)?;
    if progress.complete {
        return Err(ServiceError::SetupComplete);
    }
    let missing: Vec<Step> = progress.missing().collect();
    if !missing.is_empty() {
        return Err(ServiceError::SetupIncomplete(missing));
    }
    let cell = stored_cell(tx)?;
    make_admin(tx)?;
    table::insert_cell(tx, &cell, tx.now())?;
    tx.audit(
        "setup.complete",
        cell.cell_name.as_str(),
        format!("VPN {} and {}", cell.range.v4(), cell.range.v6()),
    );
    tx.network(NetworkChange::All);
    tx.effects.topics.insert(Topic::Config);
    tx.effects.identity = Some(Arc::new(cell));
    table::progress(tx)
}

const LOST: ServiceError = ServiceError::Storage("a stored answer is missing");

fn stored_cell(tx: &Tx<'_>) -> Result<CellIdentity, ServiceError> {
    let identity = table::answer(tx, Step::Identity)?.ok_or(LOST)?.values;
    let network = table::answer(tx, Step::Network)?.ok_or(LOST)?;
    let text = |values: &BTreeMap<String, String>, name: &str| values.get(name).cloned().unwrap_or_default();
    let Identity {
        cell_name,
        domain_mode: DomainMode::Lan,
    } = Identity::check(&text(&identity, "cell_name"), &text(&identity, "domain_mode"))?;
    let Network { range, endpoint_host } = network_of(&network)?;
    Ok(CellIdentity {
        cell_name,
        domain: Domain::Lan,
        range,
        endpoint_host,
        dns_upstreams: Upstreams::default(),
    })
}

/// The network of a stored answer. It has its IPv6 range; the random bytes are not used.
fn network_of(answer: &StoredAnswer) -> Result<Network, Faults> {
    let text = |name: &str| answer.values.get(name).map(String::as_str).unwrap_or_default();
    Network::check(
        text("vpn_range_ipv4"),
        Some(text("vpn_range_ipv6")),
        Some(text("endpoint_host")),
        [0; 7],
    )
}

/// Asks netd whether its policy file allows this network, before it is chosen for good.
async fn netd_takes(app: &App, range: &VpnRange) -> Result<(), ServiceError> {
    let spec = derive::network_spec(&app.config.network, Some(range), [], Vec::new(), None);
    let Err(violations) = app.check.whole(spec).await else {
        return Ok(());
    };
    let mut faults = Faults::default();
    for violation in violations {
        let field = match violation.field.as_str() {
            "spec.wireguard.addresses[0]" => "vpn_range_ipv4",
            "spec.wireguard.addresses[1]" => "vpn_range_ipv6",
            // Of a port or a name: api.toml has it, and this step does not.
            _ => "",
        };
        faults.add(
            field,
            format!("netd's policy file forbids it: {}", violation.description),
        );
    }
    Err(faults.into())
}

fn make_admin(tx: &Tx<'_>) -> Result<(), ServiceError> {
    let admin = table::answer(tx, Step::Admin)?.ok_or(LOST)?;
    let username = admin.values.get("username").ok_or(LOST)?;
    let user = StoredUser {
        username: Username::parse(username).map_err(|_| LOST)?,
        role: Role::Admin,
        password_hash: admin.password_hash.ok_or(LOST)?,
        must_change_password: false,
    };
    users::insert(tx, &user, tx.now())
}

async fn check(app: &App, input: StepInput) -> Result<(Step, StoredAnswer), ServiceError> {
    let plain = |step, values: &[(&str, String)]| {
        let values = values
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect();
        (
            step,
            StoredAnswer {
                values,
                password_hash: None,
            },
        )
    };
    Ok(match input {
        StepInput::Claim => plain(Step::Claim, &[]),
        StepInput::Identity {
            cell_name,
            domain_mode,
        } => {
            let identity = Identity::check(&cell_name, &domain_mode)?;
            let mode = identity.domain_mode.as_str().to_owned();
            plain(
                Step::Identity,
                &[
                    ("cell_name", identity.cell_name.as_str().to_owned()),
                    ("domain_mode", mode),
                ],
            )
        }
        StepInput::Network {
            vpn_range_ipv4,
            vpn_range_ipv6,
            endpoint_host,
        } => {
            let (v6, host) = (vpn_range_ipv6.as_deref(), endpoint_host.as_deref());
            let network = Network::check(&vpn_range_ipv4, v6, host, random()?)?;
            let host = network
                .endpoint_host
                .map(|host| host.to_string())
                .unwrap_or_default();
            let (v4, v6) = (network.range.v4().to_string(), network.range.v6().to_string());
            plain(
                Step::Network,
                &[
                    ("vpn_range_ipv4", v4),
                    ("vpn_range_ipv6", v6),
                    ("endpoint_host", host),
                ],
            )
        }
        StepInput::Admin { username, password } => {
            let name = setup::check_account(&username, "password", &password)?;
            let (step, mut answer) = plain(Step::Admin, &[("username", name.to_string())]);
            answer.password_hash = Some(app.hasher.hash(password).await?);
            (step, answer)
        }
    })
}

/// Random bytes of the kernel.
pub(super) fn random<const N: usize>() -> Result<[u8; N], ServiceError> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|_| ServiceError::Random)?;
    Ok(bytes)
}
