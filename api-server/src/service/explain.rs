//! Whether a device reaches something, and why.

use std::net::SocketAddr;

use cell_api_core::connection::health::Health;
use cell_api_core::connection::id::ConnectionId;
use cell_api_core::flow::FlowInput;
use cell_proto::netd::v1::ExplainFlowResponse;

use super::ServiceError;
use crate::app::App;
use crate::daemons::explain::Sender;
use crate::store::connections;

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
    /// The exit that carries it, or would.
    pub exit: Option<ExplainedExit>,
}

/// The exit that decides a packet's way.
#[derive(Debug, PartialEq, Eq)]
pub struct ExplainedExit {
    /// Its connection's id.
    pub connection_id: String,
    /// The connection's name; `None`: netd has an exit that is not known here any more.
    pub connection_name: Option<String>,
    /// By which its flows are known.
    pub mark: u32,
    /// Its routing table; `None`: no table routes what the relay carries.
    pub table: Option<u32>,
    /// Its interface; `None`: the relay carries it.
    pub iface: Option<String>,
    /// Its port of the relay; `None`: it has an interface.
    pub redirect_port: Option<u32>,
}

/// Asks netd about the first packet of a flow.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoPeer`], [`ServiceError::SetupRequired`], [`ServiceError::Unreachable`].
pub async fn explain(app: &App, name: &str, flow: &FlowInput) -> Result<Explanation, ServiceError> {
    let flow = flow.check()?;
    let peer = super::peers::known(app, name)?;
    answer(app, app.explain.ask(Sender::Peer(peer.as_str()), flow).await?)
}

/// The same of the first container of a service.
///
/// # Errors
/// [`ServiceError::Invalid`], [`ServiceError::NoServiceNetwork`], [`ServiceError::Unreachable`].
pub async fn explain_service(app: &App, name: &str, flow: &FlowInput) -> Result<Explanation, ServiceError> {
    let flow = flow.check()?;
    let service = super::service_networks::known(app, name)?;
    answer(
        app,
        app.explain.ask(Sender::Service(service.as_str()), flow).await?,
    )
}

fn answer(app: &App, answer: ExplainFlowResponse) -> Result<Explanation, ServiceError> {
    let ExplainFlowResponse {
        passes,
        reason,
        counter,
        target,
        source,
        translated_to,
        masqueraded,
        steps,
        exit_id,
        mark,
        table,
        interface,
        redirect_port,
    } = answer;
    let exit = match exit_id.as_str() {
        "" => None,
        id => Some(ExplainedExit {
            connection_name: name_of(app, id)?,
            mark,
            table: Some(table).filter(|table| *table != 0),
            iface: Some(interface).filter(|name| !name.is_empty()),
            redirect_port: Some(redirect_port).filter(|port| *port != 0),
            connection_id: exit_id,
        }),
    };
    let source = source.and_then(|address| std::net::IpAddr::try_from(&address).ok());
    let translated_to = translated_to.and_then(|endpoint| SocketAddr::try_from(&endpoint).ok());
    let down = exit.as_ref().filter(|_| passes).and_then(|exit| down(app, exit));
    Ok(Explanation {
        passes,
        reason: format!("{reason}{}", down.unwrap_or_default()),
        counter: Some(counter).filter(|counter| !counter.is_empty()),
        target,
        source: source.map(|address| address.to_string()).unwrap_or_default(),
        translated_to: translated_to.map(|endpoint| endpoint.to_string()),
        masqueraded,
        steps,
        exit,
    })
}

/// What the policy does not know: that nothing comes of what it lets through.
fn down(app: &App, exit: &ExplainedExit) -> Option<String> {
    let id = ConnectionId::parse(&exit.connection_id).ok()?;
    let judged = app.exits.judged(&id)?;
    let name = exit.connection_name.as_deref().unwrap_or("the exit");
    let detail = &judged.detail;
    match judged.health {
        Health::Working => None,
        Health::Down => Some(format!(
            "; but {name} does not work now ({detail}), so nothing answers by it"
        )),
        Health::Unknown => Some(format!("; whether {name} works is not known yet ({detail})")),
    }
}

fn name_of(app: &App, id: &str) -> Result<Option<String>, ServiceError> {
    let names = app.store.read(connections::names)?;
    let found = names.into_iter().find(|(one, _, _)| one.to_string() == id);
    Ok(found.map(|(_, name, _)| name))
}
