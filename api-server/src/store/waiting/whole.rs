//! Changes that wait and that netd hears of as the whole: what carries a service, and what an import bound.

use std::collections::BTreeMap;
use std::sync::Arc;

use cell_api_core::connection::choice::ExitChoice;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::range::VpnRange;
use cell_api_core::service_network::{Egress, ServiceName};
use serde::{Deserialize, Serialize};

use super::{Action, CORRUPT, Wait, write};
use crate::service::{ServiceError, way_out};
use crate::store::peers::{self, StoredPeer};
use crate::store::service_networks;
use crate::store::transaction::Tx;

/// What an import is called where a peer or a service is named.
const FIRST_VERSION: &str = "first version";

/// What comes back if the change is taken back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Before {
    /// What carried peers, by their names.
    pub peers: BTreeMap<String, ExitChoice>,
    /// What carried services.
    pub services: BTreeMap<ServiceName, Egress>,
}

/// Notes that another way of a service's to the internet waits.
///
/// # Errors
/// [`ServiceError::ChangePending`] when one waits already.
pub fn begin_service(
    tx: &mut Tx<'_>,
    service: &ServiceName,
    before: &Egress,
    wait: &Wait,
) -> Result<(), ServiceError> {
    let written = Written {
        peers: BTreeMap::new(),
        services: BTreeMap::from([(service.to_string(), Way::from(before))]),
    };
    write(tx, (service.as_str(), Action::ServiceExit), &written, wait)
}

/// Notes that other exits of peers wait, with what carried each before.
///
/// # Errors
/// [`ServiceError::ChangePending`] when one waits already.
pub fn begin_import(
    tx: &mut Tx<'_>,
    before: &BTreeMap<String, ExitChoice>,
    wait: &Wait,
) -> Result<(), ServiceError> {
    let written = Written {
        peers: before
            .iter()
            .map(|(name, exit)| (name.clone(), Choice::from(exit)))
            .collect(),
        services: BTreeMap::new(),
    };
    write(tx, (FIRST_VERSION, Action::Import), &written, wait)
}

impl Before {
    pub(super) fn read(json: &str) -> Result<Self, ServiceError> {
        let Written { peers, services } = serde_json::from_str(json).map_err(|_| CORRUPT)?;
        let peers = peers.into_iter().map(|(name, choice)| Ok((name, choice.read()?)));
        let services = services.into_iter().map(|(name, way)| {
            let name = ServiceName::parse(&name).map_err(|_| CORRUPT)?;
            Ok((name, way.read()?))
        });
        Ok(Before {
            peers: peers.collect::<Result<_, ServiceError>>()?,
            services: services.collect::<Result<_, ServiceError>>()?,
        })
    }

    /// Puts all of it back. What was removed meanwhile stays so, and of a peer nothing but its exit was changed.
    pub(super) fn restore(self, tx: &mut Tx<'_>, range: &VpnRange) -> Result<(), ServiceError> {
        for (name, exit) in self.peers {
            let Some(mut stored) = peers::get(tx, range, &name)? else {
                continue;
            };
            stored.peer.exit = exit;
            peers::update(tx, &Arc::<StoredPeer>::new(stored))?;
        }
        for (service, egress) in self.services {
            match service_networks::get(tx, &service) {
                Ok(_) => {
                    // An update meanwhile may have taken that way from it.
                    let way_out = way_out::of(tx, &service)?;
                    let egress = match way_out::judge(tx, service.as_str(), "its manifest", &way_out, &egress)
                    {
                        Ok(()) => egress,
                        Err(ServiceError::NoWayOut { .. } | ServiceError::ExitNotAllowed { .. }) => {
                            Egress::Nowhere
                        }
                        Err(error) => return Err(error),
                    };
                    service_networks::set_egress(tx, &service, &egress)?;
                }
                Err(ServiceError::NoServiceNetwork) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// As it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    peers: BTreeMap<String, Choice>,
    services: BTreeMap<String, Way>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    exit: Option<String>,
    fail_open: Option<bool>,
    fallbacks: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    None,
    Direct,
    Exit(Choice),
}

impl From<&ExitChoice> for Choice {
    fn from(choice: &ExitChoice) -> Self {
        Choice {
            exit: choice.bound().map(|id| id.to_string()),
            fail_open: choice.fail_open(),
            fallbacks: choice.fallbacks().iter().map(ConnectionId::to_string).collect(),
        }
    }
}

impl Choice {
    fn read(self) -> Result<ExitChoice, ServiceError> {
        let connection = |id: &String| ConnectionId::parse(id).map_err(|_| CORRUPT);
        let bound = self.exit.as_ref().map(connection).transpose()?;
        let fallbacks = self.fallbacks.iter().map(connection).collect::<Result<_, _>>()?;
        ExitChoice::try_new(bound, self.fail_open, fallbacks).map_err(|_| CORRUPT)
    }
}

impl From<&Egress> for Way {
    fn from(egress: &Egress) -> Self {
        match egress {
            Egress::Nowhere => Way::None,
            Egress::Direct => Way::Direct,
            Egress::Exit(choice) => Way::Exit(choice.into()),
        }
    }
}

impl Way {
    fn read(self) -> Result<Egress, ServiceError> {
        Ok(match self {
            Way::None => Egress::Nowhere,
            Way::Direct => Egress::Direct,
            Way::Exit(choice) => Egress::Exit(choice.read()?),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_written_down_is_read_back() {
        let id =
            |last: u8| ConnectionId::parse(&format!("00000000-0000-4000-8000-0000000000{last:02}")).unwrap();
        let choice = ExitChoice::try_new(Some(id(1)), Some(false), vec![id(3), id(2)]).unwrap();
        for egress in [Egress::Nowhere, Egress::Direct, Egress::Exit(choice.clone())] {
            assert_eq!(Way::from(&egress).read().unwrap(), egress);
        }
        let json = serde_json::to_string(&Written {
            peers: BTreeMap::from([("laptop".to_owned(), Choice::from(&choice))]),
            services: BTreeMap::new(),
        });
        let before = Before::read(&json.unwrap()).unwrap();
        assert_eq!(before.peers, BTreeMap::from([("laptop".to_owned(), choice)]));
        assert!(Before::read("{}").is_err() && Before::read("x").is_err());
    }
}
