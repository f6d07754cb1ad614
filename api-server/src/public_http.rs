//! The port of the machine that the internet reaches in the mode `http01`, and what netd says of it.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cell_api_core::derive::caddy::CHALLENGE_PORT;
use cell_api_core::domain::PublicDomain;
use cell_proto::fault::Violation;

const PATH: &str = "spec.public_http";

/// Why netd does not open it, if it does not.
#[derive(Debug, Default)]
pub struct PublicHttp(Mutex<Option<String>>);

impl PublicHttp {
    fn state(&self) -> MutexGuard<'_, Option<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it is to lead: to the proxy while names are proven by HTTP, unless netd refuses that.
    pub(crate) fn allowed(
        &self,
        domain: Option<&PublicDomain>,
        proxy: Option<Ipv4Addr>,
    ) -> Option<SocketAddrV4> {
        let is_wanted = domain.is_some_and(PublicDomain::is_asked_by_http) && self.state().is_none();
        let proxy = proxy.filter(|_| is_wanted)?;
        Some(SocketAddrV4::new(proxy, CHALLENGE_PORT))
    }

    /// Why netd does not open it.
    pub(crate) fn refused(&self) -> Option<String> {
        self.state().clone()
    }

    /// Whether netd speaks of it, and that is news: then it is told without it.
    pub(crate) fn note_refusal(&self, violations: &[Violation]) -> bool {
        let said = violations.iter().find(|violation| violation.field == PATH);
        let mut state = self.state();
        match said {
            Some(said) if state.is_none() => {
                tracing::warn!(
                    why = said.description,
                    "netd does not open TCP 80 to the internet"
                );
                *state = Some(said.description.clone());
                true
            }
            Some(_) | None => false,
        }
    }

    /// netd may open it now.
    pub(crate) fn forget_refusal(&self) {
        *self.state() = None;
    }
}
