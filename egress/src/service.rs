//! `cell.egress.v1.EgressService`: from the wire to the engine and the DNS relay, and back.

use std::sync::Arc;

use cell_egress_core::dns::request::DnsCeiling;
use cell_proto::egress::v1;
use cell_proto::egress::v1::egress_service_server::{EgressService, EgressServiceServer};
use cell_proto::fault::{Fault, Violation};
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::catalog::{self, CatalogCeiling, CatalogConnector};
use crate::connect::{self, Connector};
use crate::dns;
use crate::dns::relay::Relay;
use crate::engine::{Engine, Seen};
use crate::request;

pub(crate) const DOMAIN: &str = "egress.cell";
/// Largest message that is decoded, bytes: all names and peers that DNS may have fit.
const MESSAGE_MAX: usize = 16 * 1024 * 1024;

/// What is served on the listener `api`, and nothing beside it.
pub fn routes(
    engine: Arc<Engine>,
    dns: Option<(Arc<Relay>, DnsCeiling)>,
    connector: Connector,
    catalogs: CatalogCeiling,
) -> Routes {
    let relay = dns.as_ref().map(|(relay, _)| Arc::clone(relay));
    let catalogs = CatalogConnector::new(catalogs, Arc::clone(&engine), relay);
    let service = Service {
        engine,
        dns,
        connector,
        catalogs,
    };
    let service = EgressServiceServer::new(service).max_decoding_message_size(MESSAGE_MAX);
    Routes::new(service)
}

struct Service {
    engine: Arc<Engine>,
    /// None without a ceiling for it.
    dns: Option<(Arc<Relay>, DnsCeiling)>,
    connector: Connector,
    catalogs: CatalogConnector,
}

#[tonic::async_trait]
impl EgressService for Service {
    async fn apply_exits(
        &self,
        request: Request<v1::ApplyExitsRequest>,
    ) -> Result<Response<v1::ApplyExitsResponse>, Status> {
        let reach = &self.engine.rules().reach;
        let table = request::apply_exits(request.get_ref(), reach).map_err(invalid)?;
        let before = self.engine.status().await;
        let exits = self.engine.apply(table).await;
        if let Some((relay, _)) = &self.dns {
            // Whose counters begin anew is gone, or another exit now.
            let stays = |seen: &Seen| {
                let same = |exit: &Seen| exit.id == seen.id && Arc::ptr_eq(&exit.counters, &seen.counters);
                exits.iter().any(same)
            };
            let gone = before.iter().filter(|seen| !stays(seen));
            relay.forget(gone.map(|seen| &seen.id));
        }
        let exits = exits.into_iter().map(request::status).collect();
        Ok(Response::new(v1::ApplyExitsResponse { exits }))
    }

    async fn get_status(
        &self,
        _: Request<v1::GetStatusRequest>,
    ) -> Result<Response<v1::GetStatusResponse>, Status> {
        let exits = self
            .engine
            .status()
            .await
            .into_iter()
            .map(request::status)
            .collect();
        Ok(Response::new(v1::GetStatusResponse { exits }))
    }

    async fn apply_dns(
        &self,
        request: Request<v1::ApplyDnsRequest>,
    ) -> Result<Response<v1::ApplyDnsResponse>, Status> {
        let (relay, ceiling) = self.dns()?;
        let table = dns::request::apply_dns(request.get_ref(), ceiling).map_err(invalid)?;
        relay.apply(table, |table| self.engine.lead_by(table));
        let status = Some(dns::request::status(relay));
        Ok(Response::new(v1::ApplyDnsResponse { status }))
    }

    async fn lead_peers(
        &self,
        request: Request<v1::LeadPeersRequest>,
    ) -> Result<Response<v1::LeadPeersResponse>, Status> {
        let (relay, _) = self.dns()?;
        let request = request.get_ref();
        let led = relay.lead(
            request.revision,
            |table| dns::request::lead_peers(request, table),
            |table| self.engine.lead_by(table),
        );
        let revision = led.map_err(invalid)?.ok_or_else(|| {
            let message = "the DNS relay goes by another revision: ApplyDns tells it all";
            Status::from(Fault::new(Code::FailedPrecondition, DOMAIN, "OTHER_DNS", message))
        })?;
        Ok(Response::new(v1::LeadPeersResponse { revision }))
    }

    async fn get_dns_status(
        &self,
        _: Request<v1::GetDnsStatusRequest>,
    ) -> Result<Response<v1::GetDnsStatusResponse>, Status> {
        let (relay, _) = self.dns()?;
        let status = Some(dns::request::status(relay));
        Ok(Response::new(v1::GetDnsStatusResponse { status }))
    }

    type ConnectServiceStream = connect::Answer;

    async fn connect_service(
        &self,
        request: Request<Streaming<v1::ConnectServiceRequest>>,
    ) -> Result<Response<Self::ConnectServiceStream>, Status> {
        let answer = self.connector.connect(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    type ConnectCatalogStream = catalog::Answer;

    async fn connect_catalog(
        &self,
        request: Request<Streaming<v1::ConnectCatalogRequest>>,
    ) -> Result<Response<Self::ConnectCatalogStream>, Status> {
        let answer = self.catalogs.connect(request.into_inner()).await?;
        Ok(Response::new(answer))
    }

    async fn resolve(
        &self,
        request: Request<v1::ResolveRequest>,
    ) -> Result<Response<v1::ResolveResponse>, Status> {
        let (relay, _) = self.dns()?;
        let (names, by) = dns::request::resolve(request.get_ref()).map_err(invalid)?;
        let mut looking = tokio::task::JoinSet::new();
        for (index, name) in names.into_iter().enumerate() {
            let (relay, by) = (Arc::clone(relay), by.clone());
            looking.spawn(async move { (index, relay.resolve(&name, by.as_ref()).await) });
        }
        let mut found = looking.join_all().await;
        found.sort_by_key(|(index, _)| *index);
        let asked = request.get_ref().names.iter();
        let names = asked
            .zip(found)
            .map(|(name, (_, resolved))| dns::request::resolved(name, resolved))
            .collect();
        Ok(Response::new(v1::ResolveResponse { names }))
    }
}

impl Service {
    fn dns(&self) -> Result<&(Arc<Relay>, DnsCeiling), Status> {
        self.dns.as_ref().ok_or_else(|| {
            let message = "egress.toml has no [dns]: add it";
            Fault::new(Code::FailedPrecondition, DOMAIN, "NO_DNS", message).into()
        })
    }
}

fn invalid(violations: Vec<Violation>) -> Status {
    let message = format!("the request has {} fault(s)", violations.len());
    Fault::new(Code::InvalidArgument, DOMAIN, "INVALID_REQUEST", message)
        .violations(violations)
        .into()
}
