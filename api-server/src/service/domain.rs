//! Under which domain services are found, and by what Caddy proves it: a token of who answers for it, or a port that the internet reaches.
//!
//! A token is at vaultd before the setting that needs it is in the database, and goes after it is gone from there: what a crash leaves
//! behind is a token that nothing needs, and such are removed at the start.

use std::net::SocketAddrV4;
use std::sync::Arc;

use cell_api_core::derive::{self, caddy};
use cell_api_core::domain::{DnsProvider, Domain, DomainFields, PublicDomain, TOKEN};
use cell_api_core::fault::Faults;
use zeroize::Zeroizing;

use super::{Actor, ServiceError, cell};
use crate::app::App;
use crate::events::Topic;
use crate::store::setup as table;
use crate::store::transaction::{NetworkChange, Origin};

/// The service whose container has the token.
const PROXY: &str = "caddy";

/// The setting as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainView {
    /// As stored.
    pub domain: Domain,
    /// Whether vaultd has the provider's token; `None` while it is not reachable.
    pub token_is_set: Option<bool>,
}

/// A setting that is asked for.
#[derive(Clone)]
pub struct DomainInput {
    /// All of it; what is absent is not set.
    pub fields: DomainFields,
    /// The provider's token; `None`: the one that vaultd has.
    pub token: Option<Zeroizing<String>>,
}

impl DomainInput {
    /// Everything that is wrong with it by itself.
    pub fn faults(&self) -> Faults {
        self.check().err().unwrap_or_default()
    }

    fn check(&self) -> Result<Domain, Faults> {
        let (checked, mut faults) = match Domain::check(&self.fields) {
            Ok(domain) => (Some(domain), Faults::default()),
            Err(faults) => (None, faults),
        };
        if let (Some(domain), Some(token)) = (&checked, &self.token) {
            match provider(domain) {
                Some(provider) => {
                    faults.keep("token", provider.check_token(token));
                }
                None => faults.add("token", "is of the mode dns01: leave it out"),
            }
        }
        checked.filter(|_| faults.is_empty()).ok_or(faults)
    }
}

/// Who is asked to prove that the domain is the cell's.
fn provider(domain: &Domain) -> Option<&DnsProvider> {
    domain.public().and_then(|public| public.proof.provider())
}

/// The setting.
///
/// # Errors
/// [`ServiceError::SetupRequired`].
pub async fn view(app: &App) -> Result<DomainView, ServiceError> {
    let domain = cell::identity(app)?.domain.clone();
    let version = version(app).await.ok();
    Ok(DomainView {
        domain,
        token_is_set: version.map(|version| version > 0),
    })
}

/// Replaces the setting. The certificate comes later: what became of it is the condition `ProxyConfigured`.
///
/// # Errors
/// [`ServiceError::Invalid`] with every fault at once, [`ServiceError::SetupRequired`], [`ServiceError::Unreachable`] and
/// [`ServiceError::VaultRefuses`] where a token could not be kept: then nothing is changed. What netd's policy file does not let the internet
/// to is a fault of the mode, in netd's words.
pub async fn set(app: &Arc<App>, actor: &Actor, input: DomainInput) -> Result<DomainView, ServiceError> {
    let before = cell::identity(app)?;
    let domain = input.check()?;
    // Nothing may come between a token and the setting that it is of.
    let _gate = app.domain_changes.lock().await;
    if let Some(public) = domain.public().filter(|public| public.is_asked_by_http()) {
        netd_opens(app, &before, public).await?;
    }
    let has_new = match (provider(&domain), &input.token) {
        (Some(_), Some(token)) => {
            app.secrets
                .put(TOKEN.to_owned(), token, version(app).await?, 0)
                .await?;
            true
        }
        (Some(asked), None) => {
            needs_no_token(app, asked, provider(&before.domain)).await?;
            false
        }
        (None, _) => false,
    };
    write(app, actor, domain.clone(), has_new).await?;
    if has_new {
        // Its container is made again with it.
        app.services.lost(PROXY);
        app.services.wished();
    }
    if provider(&domain).is_none() {
        remove_token(app).await;
    }
    view(app).await
}

/// Asks netd whether its policy file lets the internet to the proxy, before anybody relies on it. It is asked for no more than that: what
/// else it is told is told later, and judged then. One that is away is told of it when it is back, and what it says is shown at the proxy.
async fn netd_opens(app: &App, cell: &cell::CellIdentity, public: &PublicDomain) -> Result<(), ServiceError> {
    let mut spec = derive::network_spec(&app.config.network, Some(&cell.range), [], Vec::new(), None);
    let domain = Domain::Public(Box::new(public.clone()));
    spec.services = vec![derive::services::core_network(app.config.core_network, &domain)];
    // Whichever it is: the file knows the network and the port.
    let any = app.config.core_network.subnet().hosts().nth(1);
    spec.public_http = any.map(|host| SocketAddrV4::new(host, caddy::CHALLENGE_PORT));
    let Err(violations) = app.check.whole(spec).await else {
        return Ok(());
    };
    let said = violations.into_iter().find(|one| one.field == "spec.public_http");
    match said {
        Some(said) => Err(Faults::one("mode", format!("http01: {}", said.description)).into()),
        // Of anything else it complains with any mode.
        None => Ok(()),
    }
}

/// Whether the token that is there is of this provider.
async fn needs_no_token(
    app: &App,
    asked: &DnsProvider,
    before: Option<&DnsProvider>,
) -> Result<(), ServiceError> {
    let is_same = before.is_some_and(|before| before.as_str() == asked.as_str());
    if is_same && version(app).await? > 0 {
        return Ok(());
    }
    let words = "is required: the token of this provider, or the secret of its key";
    Err(Faults::one("token", words).into())
}

async fn write(app: &Arc<App>, actor: &Actor, domain: Domain, has_new: bool) -> Result<(), ServiceError> {
    app.store
        .mutate(Origin::new(actor, app.now()), move |tx| {
            let mut cell = table::cell(tx)?.ok_or(ServiceError::SetupRequired)?;
            if cell.domain == domain && !has_new {
                return Ok(());
            }
            table::set_domain(tx, &domain)?;
            tx.audit("domain.update", domain.mode(), detail(&domain, has_new));
            tx.effects
                .topics
                .extend([Topic::Config, Topic::Services, Topic::Status]);
            if cell.domain != domain {
                // The proxy reaches something else now.
                tx.network(NetworkChange::All);
            }
            cell.domain = domain;
            tx.effects.identity = Some(Arc::new(cell));
            Ok(())
        })
        .await
}

fn detail(domain: &Domain, has_new: bool) -> String {
    let Some(public) = domain.public() else {
        return "the cell's own domain alone".to_owned();
    };
    let token = if has_new { ", with a new token" } else { "" };
    let by = match public.proof.provider() {
        Some(provider) => format!(" at {}", provider.as_str()),
        None => " by http01".to_owned(),
    };
    let authority = public.directory.as_ref().map_or("", |directory| directory.url());
    let authority = if authority.is_empty() {
        String::new()
    } else {
        format!(", certified by {authority}")
    };
    format!("{}{by}{authority}{token}", public.domain)
}

/// The version of the token; 0: there is none.
async fn version(app: &App) -> Result<u64, ServiceError> {
    let listed = app.secrets.list(TOKEN.to_owned()).await?;
    Ok(listed.get(TOKEN).copied().unwrap_or(0))
}

/// What fails is tried again later.
async fn remove_token(app: &App) {
    if let Err(error) = remove_unneeded(app).await {
        tracing::warn!(%error, "the token of a DNS provider was not removed; it will be later");
        app.secrets_left.notify_one();
    }
}

async fn remove_unneeded(app: &App) -> Result<(), ServiceError> {
    match version(app).await? {
        0 => Ok(()),
        version => app.secrets.delete(TOKEN.to_owned(), version).await,
    }
}

/// Removes a token that no setting needs.
///
/// # Errors
/// [`ServiceError::Unreachable`] without vaultd; [`ServiceError::SetupRequired`].
pub async fn tidy(app: &App) -> Result<(), ServiceError> {
    let _gate = app.domain_changes.lock().await;
    match provider(&cell::identity(app)?.domain) {
        None => remove_unneeded(app).await,
        Some(_) => Ok(()),
    }
}
