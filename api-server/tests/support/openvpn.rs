//! A `cell-openvpn` that keeps its exits in memory and starts nothing.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cell_proto::fault::{Fault, Violation};
use cell_proto::openvpn::v1::openvpn_service_server::{OpenvpnService, OpenvpnServiceServer};
use cell_proto::openvpn::v1::*;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Request, Response, Status};

#[derive(Default)]
pub struct Kept {
    pub exits: Vec<Exit>,
    pub statuses: Vec<ExitStatus>,
    /// Whether every exit is refused.
    pub refuses: bool,
}

pub struct FakeOpenvpn {
    path: PathBuf,
    pub state: Arc<Mutex<Kept>>,
    serving: CancellationToken,
}

impl FakeOpenvpn {
    pub fn start(path: PathBuf) -> FakeOpenvpn {
        let mut openvpn = FakeOpenvpn {
            path,
            state: Arc::default(),
            serving: CancellationToken::new(),
        };
        openvpn.resume();
        openvpn
    }

    /// Ends it as kill -9 would; it has forgotten everything when it is there again.
    pub fn kill(&mut self) {
        self.serving.cancel();
        std::fs::remove_file(&self.path).unwrap();
        *self.state.lock().unwrap() = Kept::default();
    }

    pub fn resume(&mut self) {
        let service = OpenvpnServiceServer::new(Service(Arc::clone(&self.state)));
        self.serving = super::serve(&self.path, Routes::new(service));
    }

    pub fn exits(&self) -> Vec<Exit> {
        self.state.lock().unwrap().exits.clone()
    }

    /// What becomes of the program of an exit.
    pub fn see(&self, id: &str, change: impl FnOnce(&mut ExitStatus)) {
        let mut state = self.state.lock().unwrap();
        change(state.statuses.iter_mut().find(|status| status.id == id).unwrap());
    }
}

struct Service(Arc<Mutex<Kept>>);

#[tonic::async_trait]
impl OpenvpnService for Service {
    async fn apply_exits(
        &self,
        request: Request<ApplyExitsRequest>,
    ) -> Result<Response<ApplyExitsResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        let exits = request.into_inner().exits;
        if state.refuses && !exits.is_empty() {
            let text = "the request has faults";
            let fault = Fault::new(Code::InvalidArgument, "openvpn.cell", "INVALID_REQUEST", text);
            let violation = Violation::new("exits[0].directives[3]", "is not one that an exit may have");
            return Err(fault.violations(vec![violation]).into());
        }
        let kept = std::mem::take(&mut state.statuses);
        let of = |exit: &Exit| {
            let before = kept.iter().find(|status| status.id == exit.id);
            before.cloned().unwrap_or(ExitStatus {
                id: exit.id.clone(),
                state: State::Connecting.into(),
                ..ExitStatus::default()
            })
        };
        state.statuses = exits.iter().map(of).collect();
        state.exits = exits;
        Ok(Response::new(ApplyExitsResponse {
            exits: state.statuses.clone(),
        }))
    }

    async fn get_status(&self, _: Request<GetStatusRequest>) -> Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse {
            exits: self.0.lock().unwrap().statuses.clone(),
        }))
    }
}
