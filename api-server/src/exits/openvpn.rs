//! Gives `cell-openvpn` its exits, and carries what their servers gave from there to netd.

use std::collections::BTreeMap;

use cell_api_core::connection::driven::AllPushed;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::derive::openvpn::OpenvpnSpec;

use crate::app::App;
use crate::daemons::openvpn::{OpenvpnClient, OpenvpnError, Seen};
use crate::events::Topic;

/// What `cell-openvpn` was told and says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Openvpn {
    /// Whether it answers.
    pub reachable: bool,
    /// Exits that it does not take, with its words.
    pub refused: BTreeMap<ConnectionId, String>,
    /// What the programs of the others do.
    pub seen: Seen,
    /// What servers gave, as far as that is known. While it does not answer, its programs run on, if they do.
    pub pushed: AllPushed,
}

/// What it was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// What it took.
    told: Option<Vec<OpenvpnSpec>>,
    /// What it did not take.
    refused: BTreeMap<ConnectionId, String>,
}

impl Told {
    /// One look: it is told what is `wanted`, and what it says is kept. netd is told anew where a server gave something else.
    pub(super) async fn look(&mut self, app: &App, client: &OpenvpnClient, wanted: Vec<OpenvpnSpec>) {
        let before = app.exits.openvpn();
        let seen = self.tell(client, wanted).await;
        let reachable = seen.is_some();
        let pushed = match &seen {
            Some(seen) => seen
                .iter()
                .map(|(id, driven)| (*id, driven.pushed.clone()))
                .collect(),
            None => before.pushed.clone(),
        };
        let moved = pushed != before.pushed;
        app.exits.see_openvpn(Openvpn {
            reachable,
            refused: self.refused.clone(),
            seen: seen.unwrap_or_default(),
            pushed,
        });
        if moved {
            app.network.again();
        }
        if reachable != before.reachable {
            app.events.publish([Topic::Status]);
        }
    }

    /// Tells it all of it after a change, when it was away, and when it has not what it was told; asks else.
    async fn tell(&mut self, client: &OpenvpnClient, wanted: Vec<OpenvpnSpec>) -> Option<Seen> {
        let asked = match &self.told {
            Some(told) if *told == wanted => client.status().await.ok(),
            Some(_) | None => None,
        };
        let has_all = |seen: &Seen| {
            let expected = wanted.iter().filter(|spec| !self.refused.contains_key(&spec.id));
            expected.clone().count() == seen.len() && expected.clone().all(|spec| seen.contains_key(&spec.id))
        };
        match asked.filter(has_all) {
            Some(seen) => Some(seen),
            None => self.apply(client, wanted).await,
        }
    }

    /// Whatever it says of one exit, the others are told.
    async fn apply(&mut self, client: &OpenvpnClient, wanted: Vec<OpenvpnSpec>) -> Option<Seen> {
        self.told = None;
        self.refused.clear();
        let mut left = wanted.clone();
        loop {
            match client.apply(&left).await {
                Ok(seen) => {
                    self.told = Some(wanted);
                    return Some(seen);
                }
                Err(OpenvpnError::Away) => return None,
                Err(OpenvpnError::Refuses(violations)) => {
                    let mut named = BTreeMap::new();
                    for violation in violations {
                        let index = violation
                            .field
                            .strip_prefix("exits[")
                            .and_then(|rest| rest.split_once(']'))
                            .and_then(|(index, _)| index.parse::<usize>().ok());
                        if let Some(spec) = index.and_then(|index| left.get(index)) {
                            let field = violation.field.split_once("].").map_or("", |(_, field)| field);
                            named.insert(spec.id, format!("{field} {}", violation.description));
                        }
                    }
                    // More than its policy allows: the last come last.
                    if named.is_empty()
                        && let Some(spec) = left.last()
                    {
                        named.insert(spec.id, "its policy allows no more exits".to_owned());
                    }
                    if named.is_empty() {
                        return None;
                    }
                    left.retain(|spec| !named.contains_key(&spec.id));
                    self.refused.extend(named);
                }
            }
        }
    }
}
