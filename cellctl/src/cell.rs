//! The way to the cell. The socket is tried first, so that a person is told why it cannot be reached.

use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use cell_proto::api::v1::account_service_client::AccountServiceClient;
use cell_proto::api::v1::cell_service_client::CellServiceClient;
use cell_proto::api::v1::connection_service_client::ConnectionServiceClient;
use cell_proto::api::v1::manager_service_client::ManagerServiceClient;
use cell_proto::api::v1::network_change_service_client::NetworkChangeServiceClient;
use cell_proto::api::v1::peer_service_client::PeerServiceClient;
use cell_proto::api::v1::remote_catalog_service_client::RemoteCatalogServiceClient;
use cell_proto::api::v1::service_network_service_client::ServiceNetworkServiceClient;
use cell_proto::api::v1::setup_service_client::SetupServiceClient;
use cell_proto::api::v1::store_service_client::StoreServiceClient;
use cell_proto::api::v1::user_service_client::UserServiceClient;
use cell_proto::ipc::connect;
use tonic::transport::Channel;

use crate::failure::Failure;

/// The cell that listens on a socket.
pub(crate) struct Cell {
    socket: PathBuf,
}

impl Cell {
    /// Opens nothing yet.
    pub(crate) fn at(socket: PathBuf) -> Self {
        Cell { socket }
    }

    pub(crate) fn setup(&self) -> Result<SetupServiceClient<Channel>, Failure> {
        self.channel().map(SetupServiceClient::new)
    }

    pub(crate) fn status(&self) -> Result<CellServiceClient<Channel>, Failure> {
        self.channel().map(CellServiceClient::new)
    }

    pub(crate) fn peers(&self) -> Result<PeerServiceClient<Channel>, Failure> {
        self.channel().map(PeerServiceClient::new)
    }

    pub(crate) fn changes(&self) -> Result<NetworkChangeServiceClient<Channel>, Failure> {
        self.channel().map(NetworkChangeServiceClient::new)
    }

    pub(crate) fn connections(&self) -> Result<ConnectionServiceClient<Channel>, Failure> {
        self.channel().map(ConnectionServiceClient::new)
    }

    pub(crate) fn services(&self) -> Result<ServiceNetworkServiceClient<Channel>, Failure> {
        self.channel().map(ServiceNetworkServiceClient::new)
    }

    pub(crate) fn store(&self) -> Result<StoreServiceClient<Channel>, Failure> {
        self.channel().map(StoreServiceClient::new)
    }

    pub(crate) fn catalogs(&self) -> Result<RemoteCatalogServiceClient<Channel>, Failure> {
        self.channel().map(RemoteCatalogServiceClient::new)
    }

    pub(crate) fn accounts(&self) -> Result<AccountServiceClient<Channel>, Failure> {
        self.channel().map(AccountServiceClient::new)
    }

    pub(crate) fn managers(&self) -> Result<ManagerServiceClient<Channel>, Failure> {
        self.channel().map(ManagerServiceClient::new)
    }

    pub(crate) fn users(&self) -> Result<UserServiceClient<Channel>, Failure> {
        self.channel().map(UserServiceClient::new)
    }

    fn channel(&self) -> Result<Channel, Failure> {
        UnixStream::connect(&self.socket).map_err(|error| self.unreachable(&error))?;
        Ok(connect(self.socket.clone()))
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let advice = match error.kind() {
            ErrorKind::NotFound => {
                "Is the cell running? Start it: systemctl start cell.target, or make run. \
                                    A cell in another place is found by --socket, CELL_SOCKET or CELL_HOME."
            }
            ErrorKind::PermissionDenied => "Run it as root, or as a member of the group cell-admin.",
            _ => "Is the cell running? See: systemctl status cell-api",
        };
        Failure::Unreachable {
            socket: self.socket.clone(),
            cause: error.to_string(),
            advice,
        }
    }
}
