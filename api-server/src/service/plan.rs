//! What a change would do, in words, and what netd says of it. Nothing is stored, and nothing is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::connection::choice::{self, ExitChoice, ExitFact, ExitFacts, Route};
use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::connection::moves::Moment;
use cell_api_core::derive;
use cell_api_core::peer::Peer;
use cell_api_core::plan::{self, Around, Change, KnownExit, Plan, Standing};

use super::{ServiceError, cell, peers};
use crate::app::App;
use crate::daemons::check::Verdict;
use crate::reconcile::granted;
use crate::store::{connections, transaction};

/// How whoever asks came here.
#[derive(Debug, Clone)]
pub enum Author {
    /// By the VPN, from this address.
    ByVpn(String),
    /// Some other way, which no change of peers can cut.
    Otherwise,
}

/// What a change would do.
#[derive(Debug)]
pub struct PlanView {
    /// In words.
    pub plan: Plan,
    /// What netd says; `None`: it is away, or has not taken what there is now.
    pub netd: Option<Verdict>,
}

/// What it means that a peer becomes another, or is removed.
///
/// # Errors
/// [`ServiceError::SetupRequired`], [`ServiceError::Storage`].
pub async fn of(
    app: &Arc<App>,
    before: Peer,
    after: Option<Peer>,
    author: Author,
) -> Result<PlanView, ServiceError> {
    let range = cell::identity(app)?.range;
    let device = match &author {
        Author::ByVpn(remote) => peers::at_address(app, remote)?,
        Author::Otherwise => None,
    };
    let netd = netd_says(app, &before, after.as_ref()).await?;
    let app = Arc::clone(app);
    // Ten thousand peers are looked through.
    let comparing = tokio::task::spawn_blocking(move || {
        let facts = Facts::now(&app)?;
        let all = app.peers.list();
        let others: Vec<Standing<'_>> = all
            .iter()
            .filter(|stored| stored.peer.name != before.name)
            .map(|stored| facts.standing(&stored.peer))
            .collect();
        let around = Around {
            range: &range,
            exits: &facts.known,
            others: &others,
        };
        let change = Change {
            before: Some(facts.standing(&before)),
            after: after.as_ref().map(|after| facts.standing(after)),
        };
        Ok(plan::plan(&[change], &around, device.as_deref()))
    });
    let cut_off = Err(ServiceError::Storage("a comparison was cut off"));
    Ok(PlanView {
        plan: comparing.await.unwrap_or(cut_off)?,
        netd,
    })
}

async fn netd_says(app: &App, before: &Peer, after: Option<&Peer>) -> Result<Option<Verdict>, ServiceError> {
    let Some(etag) = app.network.etag() else {
        return Ok(None);
    };
    let range = cell::identity(app)?.range;
    let facts = Facts::now(app)?;
    let spec = after.map(|after| derive::peer_spec(&range, after, facts.standing(after).route));
    let spec = spec.map(|spec| granted(app, spec)).transpose()?;
    let removed = spec.is_none().then(|| before.name.to_string());
    let generation = app
        .store
        .read(|connection| Ok(transaction::generation(connection)?))?;
    let is_current = app.network.holds(generation);
    let verdict = app.check.plan(etag, spec, removed).await;
    // Its no may be of what it has not heard of yet, as an exit that was made a moment ago.
    let is_known = |verdict: &Verdict| matches!(verdict, Verdict::Takes(_)) || is_current;
    Ok(verdict.filter(is_known))
}

/// What is known of connections at this moment.
pub(super) struct Facts {
    known: BTreeMap<ConnectionId, KnownExit>,
    facts: ExitFacts,
}

impl Facts {
    pub(super) fn now(app: &App) -> Result<Self, ServiceError> {
        let names = app.store.read(connections::names)?;
        let fact = |(id, _, kind): &(ConnectionId, String, _)| {
            let fact = ExitFact {
                kind: *kind,
                health: app.exits.health(id),
                carried: kind.is_carried() && app.exits.netd_refuses(id).is_none(),
            };
            (*id, fact)
        };
        Ok(Facts {
            facts: names.iter().map(fact).collect(),
            known: names
                .into_iter()
                .map(|(id, name, kind)| (id, KnownExit { name, kind }))
                .collect(),
        })
    }

    /// Which way a choice leads.
    pub(super) fn route(&self, exit: &ExitChoice) -> Route {
        choice::route(exit, &self.facts)
    }

    /// Which way a choice leads, as others see it.
    pub(super) fn moment(self, app: &App) -> Moment {
        let seen = self.facts.keys().map(|id| (*id, app.exits.seen(id)));
        let seen = seen.collect();
        Moment::new(self.facts, seen)
    }

    /// What a connection is called.
    pub(super) fn name(&self, id: &ConnectionId) -> Option<String> {
        self.known.get(id).map(|known| known.name.clone())
    }

    /// Whether a connection works.
    pub(super) fn health(&self, id: &ConnectionId) -> Health {
        self.facts.get(id).map_or(Health::Unknown, |fact| fact.health)
    }

    fn standing<'a>(&self, peer: &'a Peer) -> Standing<'a> {
        Standing {
            peer,
            route: self.route(&peer.exit),
        }
    }
}
