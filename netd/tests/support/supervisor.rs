//! A cell-openvpn under test, with its sandbox and without a capability, and the vault that it asks.
#![allow(dead_code, clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use anyhow::{Context as _, Result};
use cell_lab::activation::{self, Listener};
use cell_lab::cell::program;
use cell_lab::netns::Namespace;
use cell_lab::process::{Process, until};
use cell_lab::tun;
use cell_proto::common::v1::Protocol;
use cell_proto::ipc::{self, CallerPolicy};
use cell_proto::openvpn::v1;
use cell_proto::openvpn::v1::openvpn_service_client::OpenvpnServiceClient;
use cell_proto::vault::v1::exit_secret_service_server::{ExitSecretService, ExitSecretServiceServer};
use cell_proto::vault::v1::{ReadExitSecretRequest, ReadExitSecretResponse};
use tokio::runtime::Runtime;
use tonic::service::Routes;
use tonic::{Request, Response, Status};

use super::openvpn::{OpenvpnServer, PASSWORD, USERNAME};
use super::support::PATIENCE;
use super::tunnel::{EXIT, LINK, USER};

type Secrets = Arc<Mutex<BTreeMap<String, String>>>;

struct Vault(Secrets);

#[tonic::async_trait]
impl ExitSecretService for Vault {
    async fn read_exit_secret(
        &self,
        request: Request<ReadExitSecretRequest>,
    ) -> Result<Response<ReadExitSecretResponse>, Status> {
        let value = self.0.lock().unwrap().get(&request.get_ref().name).cloned();
        let value = value.ok_or_else(|| Status::not_found("no secret"))?.into_bytes();
        Ok(Response::new(ReadExitSecretResponse { value, revision: 0 }))
    }
}

pub struct Supervisor {
    pub process: Process,
    runtime: Runtime,
    folder: tempfile::TempDir,
    listeners: [Listener; 2],
    secrets: Secrets,
}

impl Supervisor {
    /// With the secrets that the server's profile has.
    pub fn start(namespace: &Namespace, server: &OpenvpnServer) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let open = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
        open(folder.path(), 0o755)?;
        let runtime = Runtime::new()?;
        let vault = folder.path().join("vault.sock");
        let listener = runtime.block_on(async { tokio::net::UnixListener::bind(&vault) })?;
        open(&vault, 0o666)?;
        let secrets = Secrets::default();
        for (field, value) in [
            ("key", server.file("client.key")),
            ("tls_crypt", server.file("ta.key")),
            ("openvpn_username", USERNAME.to_owned()),
            ("openvpn_password", PASSWORD.to_owned()),
        ] {
            secrets.lock().unwrap().insert(secret(field), value);
        }
        let policy = CallerPolicy {
            uids: vec![USER],
            unit: None,
        };
        let routes = Routes::new(ExitSecretServiceServer::new(Vault(Arc::clone(&secrets))));
        runtime.spawn(ipc::serve(listener, policy, routes, std::future::pending()));
        let management = folder.path().join("management.sock");
        std::fs::write(
            folder.path().join("openvpn.toml"),
            format!(
                "vault_socket = \"{}\"\nmanagement_socket = \"{}\"\nprogram = \"/usr/sbin/openvpn\"\n\
                 interface_prefix = \"ovpn_\"\nmax_exits = 4\n[callers.api]\nusers = [\"root\"]\n",
                vault.display(),
                management.display()
            ),
        )?;
        let listeners = [
            Listener::stream("api", &folder.path().join("openvpn.sock"))?,
            Listener::stream("management", &management)?,
        ];
        open(&management, 0o666)?;
        let process = spawn(namespace, folder.path(), &listeners)?;
        Ok(Supervisor {
            process,
            runtime,
            folder,
            listeners,
            secrets,
        })
    }

    /// Gives the vault another secret.
    pub fn put(&self, field: &str, value: &str) {
        self.secrets
            .lock()
            .unwrap()
            .insert(secret(field), value.to_owned());
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        self.process.signal(nix::sys::signal::Signal::SIGKILL)?;
        self.process.wait(PATIENCE).map(drop)
    }

    /// Starts it anew, and tells it what cell-api would.
    pub fn restart(&mut self, namespace: &Namespace) -> Result<()> {
        self.process = spawn(namespace, self.folder.path(), &self.listeners)?;
        Ok(())
    }

    pub fn apply(&self, exits: Vec<v1::Exit>) -> Result<Vec<v1::ExitStatus>, Status> {
        self.runtime.block_on(async {
            let mut client = OpenvpnServiceClient::new(ipc::connect(self.folder.path().join("openvpn.sock")));
            let answer = client.apply_exits(v1::ApplyExitsRequest { exits }).await?;
            Ok(answer.into_inner().exits)
        })
    }

    /// Of the one exit.
    pub fn status(&self) -> Result<v1::ExitStatus> {
        let exits = self.runtime.block_on(async {
            let mut client = OpenvpnServiceClient::new(ipc::connect(self.folder.path().join("openvpn.sock")));
            client.get_status(v1::GetStatusRequest {}).await
        })?;
        exits
            .into_inner()
            .exits
            .into_iter()
            .next()
            .context("there is no exit")
    }

    /// Waits for a session, and answers the addresses that its server gave.
    pub fn connected(&self) -> Result<Vec<IpAddr>> {
        let status = until(PATIENCE, "OpenVPN has a session", || {
            let status = self.status().ok()?;
            (status.state() == v1::State::Connected).then_some(status)
        })
        .with_context(|| format!("{:?}\n{}", self.status(), self.process.output()))?;
        let addresses = status.addresses.iter().map(IpAddr::try_from);
        Ok(addresses.collect::<Result<_, _>>()?)
    }

    /// Process ids of the programs that it started.
    pub fn programs(&self) -> Vec<i32> {
        let parent = self.process.id().to_string();
        let children = std::process::Command::new("pgrep")
            .args(["-x", "openvpn", "-u", &USER.to_string()])
            .output()
            .unwrap();
        let all = String::from_utf8(children.stdout).unwrap();
        let of_ours = |pid: &i32| {
            std::fs::read_to_string(format!("/proc/{pid}/stat"))
                .is_ok_and(|stat| stat.rsplit(' ').count() > 40 && stat.contains(&format!(" {parent} ")))
        };
        all.lines()
            .filter_map(|line| line.parse().ok())
            .filter(of_ours)
            .collect()
    }
}

/// The exit, as cell-api tells it.
pub fn exit(server: &OpenvpnServer, revision: u64) -> v1::Exit {
    let words = |line: &str| v1::Directive {
        words: line.split(' ').map(str::to_owned).collect(),
    };
    let certificate = |block: &str, file: &str| v1::Certificate {
        block: block.to_owned(),
        pem: server.file(file),
    };
    let protocol = match server.offer().tcp {
        true => Protocol::Tcp,
        false => Protocol::Udp,
    };
    v1::Exit {
        id: EXIT.to_owned(),
        interface: LINK.to_owned(),
        remotes: vec![v1::Remote {
            server: Some(server.at().into()),
            protocol: protocol.into(),
        }],
        directives: ["remote-cert-tls server", "nobind"].map(words).into(),
        certificates: vec![certificate("ca", "ca.crt"), certificate("cert", "client.crt")],
        sealed_blocks: ["key", "tls-crypt"].map(str::to_owned).into(),
        has_login: true,
        revision,
        secret_revision: 0,
    }
}

fn secret(field: &str) -> String {
    format!("conn_{}_{field}", EXIT.replace('-', ""))
}

fn spawn(namespace: &Namespace, folder: &Path, listeners: &[Listener]) -> Result<Process> {
    let config = folder.join("openvpn.toml");
    let arguments = ["--config", config.to_str().context("path")?];
    let command = activation::command(&program("cell-openvpn")?, &arguments, USER, listeners)?;
    namespace.spawn("cell-openvpn", &mut tun::with_node(&command, folder)?)
}
