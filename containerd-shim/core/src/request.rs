//! A caller's words become a request, or the list of all their faults.

use crate::model::{LogLines, ServiceName, StopTimeout};
use crate::verb::act;

/// A checked request to do `A` with the container of one service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request<A> {
    service: ServiceName,
    act: A,
}

/// One fault of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong and what would be right; nothing of what was sent.
    pub description: String,
}

impl<A> Request<A> {
    /// Of which service.
    pub fn service(&self) -> &ServiceName {
        &self.service
    }

    /// What is asked.
    pub fn act(&self) -> &A {
        &self.act
    }
}

impl Request<act::Show> {
    /// To show `service`.
    pub fn show(service: &str) -> Result<Self, Vec<Fault>> {
        only(service, act::Show)
    }

    /// To show a service whose name is known to be one.
    pub fn show_known(service: ServiceName) -> Self {
        Request {
            service,
            act: act::Show,
        }
    }
}

impl Request<act::Logs> {
    /// For the last `lines` (1-1,000; 0: 100) of the log of `service`.
    pub fn logs(service: &str, lines: u32) -> Result<Self, Vec<Fault>> {
        both(
            service,
            "lines",
            LogLines::from_wire(lines).map(|lines| act::Logs { lines }),
        )
    }
}

impl Request<act::Stats> {
    /// For a reading of `service`.
    pub fn stats(service: &str) -> Result<Self, Vec<Fault>> {
        only(service, act::Stats)
    }
}

impl Request<act::Backup> {
    /// To read what a backup of `service` holds; its name is known to be one.
    pub fn backup_known(service: ServiceName) -> Self {
        Request {
            service,
            act: act::Backup,
        }
    }
}

impl Request<act::Start> {
    /// To start `service`.
    pub fn start(service: &str) -> Result<Self, Vec<Fault>> {
        only(service, act::Start)
    }
}

impl Request<act::Reload> {
    /// To have `service` read its configuration again.
    pub fn reload(service: &str) -> Result<Self, Vec<Fault>> {
        only(service, act::Reload)
    }
}

impl Request<act::Stop> {
    /// To stop `service`, with `timeout` seconds (1-60; 0: 10) to do so by itself.
    pub fn stop(service: &str, timeout: u32) -> Result<Self, Vec<Fault>> {
        both(
            service,
            "timeout_seconds",
            StopTimeout::from_wire(timeout).map(|timeout| act::Stop { timeout }),
        )
    }
}

impl Request<act::Restart> {
    /// To stop `service` as [`Request::stop`] and start it again.
    pub fn restart(service: &str, timeout: u32) -> Result<Self, Vec<Fault>> {
        both(
            service,
            "timeout_seconds",
            StopTimeout::from_wire(timeout).map(|timeout| act::Restart { timeout }),
        )
    }
}

fn only<A>(service: &str, act: A) -> Result<Request<A>, Vec<Fault>> {
    match service.try_into() {
        Ok(service) => Ok(Request { service, act }),
        Err(invalid) => Err(vec![fault("service", invalid)]),
    }
}

fn both<A>(
    service: &str,
    field: &'static str,
    act: Result<A, impl ToString>,
) -> Result<Request<A>, Vec<Fault>> {
    match (ServiceName::try_from(service), act) {
        (Ok(service), Ok(act)) => Ok(Request { service, act }),
        (service, act) => {
            let of_service = service.err().map(|invalid| fault("service", invalid));
            let of_act = act.err().map(|invalid| fault(field, invalid));
            Err(of_service.into_iter().chain(of_act).collect())
        }
    }
}

fn fault(field: &'static str, invalid: impl ToString) -> Fault {
    Fault {
        field,
        description: invalid.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_fault_is_named_at_once_and_nothing_sent_is_repeated() {
        let faults = Request::stop("Evil/../name", 3600).unwrap_err();
        assert_eq!(
            faults.iter().map(|f| f.field).collect::<Vec<_>>(),
            ["service", "timeout_seconds"]
        );
        assert!(faults.iter().all(|f| !f.description.contains("Evil")));
        let faults = Request::logs("", 1001).unwrap_err();
        assert_eq!(
            faults.iter().map(|f| f.field).collect::<Vec<_>>(),
            ["service", "lines"]
        );
    }

    #[test]
    fn zero_means_the_default() {
        assert_eq!(Request::stop("files", 0).unwrap().act().timeout.seconds(), 10);
        assert_eq!(Request::logs("files", 0).unwrap().act().lines.get(), 100);
    }
}
