//! Whether a device reaches something, and why.

use std::net::SocketAddr;

use cell_api_core::flow::FlowInput;
use cell_proto::netd::v1::ExplainFlowResponse;

use super::ServiceError;
use crate::app::App;
use crate::daemons::explain::Sender;

/// The answer, as netd gave it.
#[derive(Debug)]
pub struct Explanation {
    /// Whether the packet passes.
    pub passes: bool,
    /// Why, in words.
    pub reason: String,
    /// Name of the counter that it is dropped under, where it is.
    pub counter: Option<String>,
    /// `cell`, `peers`, `service`, `out` or `exit`.
    pub target: String,
    /// The address that the device sends from.
    pub source: String,
    /// Where its destination is translated to.
    pub translated_to: Option<String>,
    /// Whether it leaves with the machine's own address.
    pub masqueraded: bool,
    /// The rules that it meets, in order.
    pub steps: Vec<String>,
}

/// Asks netd about the first packet of a flow.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::SetupRequired`], [`ServiceError::Unreachable`].
pub async fn explain(app: &App, name: &str, flow: &FlowInput) -> Result<Explanation, ServiceError> {
    let flow = flow.check()?;
    let peer = super::peers::known(app, name)?;
    answer(app.explain.ask(Sender::Peer(peer.as_str()), flow).await?)
}

/// The same of the first container of a service.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoServiceNetwork`], [`ServiceError::Unreachable`].
pub async fn explain_service(app: &App, name: &str, flow: &FlowInput) -> Result<Explanation, ServiceError> {
    let flow = flow.check()?;
    let service = super::service_networks::known(app, name)?;
    answer(app.explain.ask(Sender::Service(service.as_str()), flow).await?)
}

fn answer(answer: ExplainFlowResponse) -> Result<Explanation, ServiceError> {
    let ExplainFlowResponse {
        passes,
        reason,
        counter,
        target,
        source,
        translated_to,
        masqueraded,
        steps,
    } = answer;
    let source = source.and_then(|address| std::net::IpAddr::try_from(&address).ok());
    let translated_to = translated_to.and_then(|endpoint| SocketAddr::try_from(&endpoint).ok());
    Ok(Explanation {
        passes,
        reason,
        counter: Some(counter).filter(|counter| !counter.is_empty()),
        target,
        source: source.map(|address| address.to_string()).unwrap_or_default(),
        translated_to: translated_to.map(|endpoint| endpoint.to_string()),
        masqueraded,
        steps,
    })
}
