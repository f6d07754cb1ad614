//! A kernel that has no table owners (before Linux 6.9), where anybody may flush the policy or put it to sleep while netd
//! lives: how long a peer then reaches what it may not, counted by a prober, beside a peer that may.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../core/tests/support/mod.rs"]
mod core_support;
mod support;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, udp_echo};
use cell_lab::prober::Prober;
use cell_lab::process::until;
use cell_lab::stock::Client;
use cell_lab::topology::{CELL, Device, LAN_HOST, World};
use cell_netd::kept::Kept;
use cell_netd::kernel::Renderer;
use cell_netd::kernel::linux::{Choice, Linux};
use cell_netd::kernel::nft::Owners;
use cell_netd::keys::KeySource;
use cell_netd::proto::network_spec;
use cell_netd::reconciler::{Handle, Reconciler, Request};
use cell_netd::status::Status;
use cell_proto::common::v1::Protocol;
use cell_proto::netd::v1;
use support::{Keys, PATIENCE, PORT, Wg, access, address, client_file, decode, peer, serve_vault, spec};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

const EVERY: Duration = Duration::from_millis(2);
const ECHO: u16 = 80;

/// netd's parts in this process, in the cell's namespace, with a kernel that is not asked for owners.
struct Netd {
    handle: Option<Handle>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Netd {
    fn start(namespace: &Namespace, wg: &Wg, vault: std::path::PathBuf) -> Result<Self> {
        let choice = Choice::Userspace {
            wg_socket: wg.path("wg.sock"),
            device_socket: wg.path("device.sock"),
        };
        let state = wg.path(".");
        let (started, handle) = mpsc::channel();
        let (stop, stopped) = oneshot::channel::<()>();
        // A thread that a thread inside starts is inside too.
        let thread = namespace.inside(move || {
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let ceiling = core_support::ceiling();
                    let keys = KeySource::new(vault);
                    let kept = Kept::new(state);
                    let (linux, changed) =
                        Linux::open(&ceiling, Owners::Never, Renderer::Nftables, choice, keys).unwrap();
                    started
                        .send(Reconciler::spawn(linux, ceiling, kept, 7, changed))
                        .unwrap();
                    let _dropped = stopped.await;
                });
            })
        })?;
        Ok(Netd {
            handle: Some(handle.recv_timeout(PATIENCE)?),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    fn apply(&self, runtime: &Runtime, spec: v1::NetworkSpec) -> Result<()> {
        let handle = self.handle.as_ref().context("running")?;
        let ask = handle.ask(|reply| Request::Apply {
            spec: Box::new(network_spec(spec)),
            etag: String::new(),
            validate_only: false,
            window: None,
            reply,
        });
        runtime.block_on(ask)??;
        Ok(())
    }

    fn status(&self) -> Arc<Status> {
        self.handle.as_ref().unwrap().watch().borrow().clone()
    }
}

impl Drop for Netd {
    fn drop(&mut self) {
        drop((self.handle.take(), self.stop.take()));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

struct Setup {
    netd: Mutex<Option<Netd>>,
    wg: Wg,
    runtime: Runtime,
    folder: tempfile::TempDir,
    server: Keys,
    a: (Device, Keys),
    b: (Device, Keys),
    world: World,
}

impl Setup {
    /// Of two devices, a may speak to the host on the LAN and b may not.
    fn new() -> Result<Self> {
        let mut world = World::new()?;
        world.cell.set_sysctl("ipv4/ip_forward", "1")?;
        EchoServer::start(&world.lan, ECHO)?;
        let (a, b) = (world.device("a")?, world.device("b")?);
        let (runtime, folder, server) = (Runtime::new()?, tempfile::tempdir()?, Keys::make()?);
        let key = Arc::new(Mutex::new(decode(&server.private)?));
        serve_vault(&runtime, &folder.path().join("vault.sock"), key, 0)?;
        let setup = Setup {
            netd: Mutex::new(None),
            wg: Wg::start()?,
            runtime,
            folder,
            server,
            a: (a, Keys::make()?),
            b: (b, Keys::make()?),
            world,
        };
        setup.start()?;
        setup.apply()?;
        Ok(setup)
    }

    /// Ends the netd that there is.
    fn stop(&self) {
        *self.netd.lock().unwrap() = None;
    }

    fn start(&self) -> Result<()> {
        let vault = self.folder.path().join("vault.sock");
        *self.netd.lock().unwrap() = Some(Netd::start(&self.world.cell, &self.wg, vault)?);
        Ok(())
    }

    fn apply(&self) -> Result<()> {
        let mut allowed = access(false, false, &[]);
        allowed.services = vec![v1::Service {
            address: Some(address(&LAN_HOST.v4.to_string())),
            protocol: Protocol::Udp.into(),
            port: ECHO.into(),
        }];
        let denied = access(false, false, &[]);
        let peers = vec![
            peer(1, "a", &self.a.1.public_bytes, allowed),
            peer(2, "b", &self.b.1.public_bytes, denied),
        ];
        let netd = self.netd.lock().unwrap();
        netd.as_ref()
            .context("running")?
            .apply(&self.runtime, spec(peers))
    }

    fn client<'a>(&self, index: u8, device: &'a (Device, Keys)) -> Result<Client<'a>> {
        let endpoint = SocketAddr::new(IpAddr::V4(CELL.v4), PORT).to_string();
        let file = client_file(index, &device.1, &self.server, &endpoint);
        let client = Client::up(&device.0.namespace, &file)?;
        client.wait_for_handshake()?;
        Ok(client)
    }

    fn nft(&self, arguments: &str) -> Result<String> {
        let words: Vec<_> = arguments.split(' ').collect();
        self.world.cell.run("nft", &words)
    }

    fn status(&self) -> Arc<Status> {
        self.netd.lock().unwrap().as_ref().unwrap().status()
    }

    fn answered(&self, device: &(Device, Keys)) -> Result<u32> {
        udp_echo(&device.0.namespace, target(), 5, Duration::from_secs(1))
    }
}

fn target() -> SocketAddr {
    SocketAddr::new(LAN_HOST.v4.into(), ECHO)
}

#[test]
fn a_flushed_policy_is_back_before_a_peer_can_do_much() -> Result<()> {
    const ROUNDS: u32 = 20;
    const REST: Duration = Duration::from_millis(400);
    let setup = Setup::new()?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    assert!(setup.answered(&setup.a)? > 0, "a may");
    assert_eq!(setup.answered(&setup.b)?, 0, "b may not");
    let denied = Prober::start(&setup.b.0.namespace, target(), EVERY)?;
    let allowed = Prober::start(&setup.a.0.namespace, target(), EVERY)?;
    let before = setup.status().drift_repairs;
    for round in 1..=u64::from(ROUNDS) {
        // Put to sleep, emptied of its rules, or gone: each is found at once.
        let spoil = match round % 3 {
            0 => "add table inet cell { flags dormant; }",
            1 => "flush table inet cell",
            _ => "flush ruleset",
        };
        setup.nft(spoil)?;
        until(PATIENCE, "it is repaired and counted", || {
            (setup.status().drift_repairs >= before + round).then_some(())
        })?;
        std::thread::sleep(REST);
    }
    let (denied, allowed) = (denied.stop()?, allowed.stop()?);
    println!(
        "b was answered {} times in {ROUNDS} rounds",
        denied.answered.len()
    );
    assert!(allowed.answered.len() * 2 > allowed.sent.len(), "a goes on");
    // A look every 200 ms would have let through a hundred each time, and what the repair takes on top of it.
    assert!(
        denied.answered.len() < ROUNDS as usize * 100,
        "{} of {} passed",
        denied.answered.len(),
        denied.sent.len()
    );
    Ok(())
}

#[test]
fn a_netd_that_finds_no_policy_and_knows_none_takes_the_interface_down() -> Result<()> {
    let setup = Setup::new()?;
    let _clients = (setup.client(1, &setup.a)?, setup.client(2, &setup.b)?);
    for spoil in ["flush ruleset", "flush chain inet cell c_forward"] {
        assert_eq!(setup.answered(&setup.b)?, 0, "b may not");
        setup.stop();
        setup.nft(spoil)?;
        assert!(
            setup.answered(&setup.b)? > 0,
            "with nobody there, b passes: {spoil}"
        );
        setup.start()?;
        until(PATIENCE, "netd says so", || {
            let status = setup.status();
            let told = status.conditions.get("Converged")?;
            (told.reason == "UNGUARDED").then_some(())
        })?;
        assert!(setup.world.cell.ip("link show wg0")?.contains("state DOWN"));
        assert_eq!(setup.answered(&setup.b)?, 0, "{spoil}");
        setup.apply()?;
        until(PATIENCE, "a may again", || {
            setup.answered(&setup.a).ok().filter(|answered| *answered > 0)
        })?;
    }
    // A policy that stands is left alone, and so is the interface.
    setup.stop();
    setup.start()?;
    assert!(setup.answered(&setup.a)? > 0);
    assert_eq!(setup.answered(&setup.b)?, 0);
    Ok(())
}
