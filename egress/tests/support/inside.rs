//! The engine by itself in the cell's namespace, with secrets that the test gives; the program knows vaultd alone.

use std::collections::BTreeMap;
use std::sync::{Arc, mpsc};
use std::thread;

use anyhow::{Context, Result};
use cell_egress::config::Config;
use cell_egress::engine::Engine;
use cell_egress::request;
use cell_egress::secrets::{NoSecret, Secret, Secrets};
use cell_egress_core::dns::table::Table;
use cell_egress_core::secret::Wanted;
use cell_lab::process::until;
use cell_proto::egress::v1;
use tokio::runtime::{Builder, Runtime};

use super::{Ceiling, Lab, PATIENCE, id};

/// Secrets by name, each with its revision.
#[derive(Clone, Default)]
pub struct Kept(pub BTreeMap<String, (Vec<u8>, u64)>);

impl Kept {
    /// Adds the secret of an exit.
    pub fn with(self, number: u16, field: &str, value: &str) -> Self {
        self.with_of(number, field, value, 0)
    }

    /// Adds the secret of an exit, of a revision.
    pub fn with_of(mut self, number: u16, field: &str, value: &str, revision: u64) -> Self {
        let name = format!("conn_{}_{field}", id(number).replace('-', ""));
        self.0.insert(name, (value.as_bytes().to_vec(), revision));
        self
    }
}

#[tonic::async_trait]
impl Secrets for Kept {
    async fn read(&self, wanted: &Wanted) -> Result<Secret, NoSecret> {
        match self.0.get(wanted.name()) {
            Some((value, revision)) if wanted.is_of(*revision) => Ok(Secret::new(value.clone())),
            Some(_) => Err(NoSecret::Other(wanted.to_string())),
            None => Err(NoSecret::Absent(wanted.to_string())),
        }
    }
}

pub struct Inside {
    engine: Arc<Engine>,
    apply: tokio::sync::mpsc::UnboundedSender<(v1::ApplyExitsRequest, mpsc::Sender<usize>)>,
    runtime: Runtime,
}

impl Inside {
    pub fn start(lab: &Lab, ceiling: &Ceiling, secrets: Kept) -> Result<Self> {
        let config = Config::parse(&ceiling.text(), |_| Some(0))?;
        let engine = Arc::new(Engine::new(config.rules, Box::new(secrets)));
        let (apply, mut applied) =
            tokio::sync::mpsc::unbounded_channel::<(v1::ApplyExitsRequest, mpsc::Sender<usize>)>();
        let file = std::fs::File::open(lab.cell.path())?;
        let served = Arc::clone(&engine);
        // Ends with its channel; sockets belong to the namespace of the thread that makes them.
        thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                while let Some((request, done)) = applied.recv().await {
                    let table = request::apply_exits(&request, &served.rules().reach).unwrap();
                    let seen = served.apply(table).await;
                    done.send(seen.into_iter().filter(|exit| exit.listening).count())
                        .unwrap();
                }
            });
        });
        let runtime = Builder::new_current_thread().build()?;
        Ok(Inside {
            engine,
            apply,
            runtime,
        })
    }

    /// Answers how many exits listen.
    pub fn apply(&self, exits: Vec<v1::Exit>) -> Result<usize> {
        let (done, answer) = mpsc::channel();
        self.apply
            .send((v1::ApplyExitsRequest { exits }, done))
            .ok()
            .context("the engine ended")?;
        Ok(answer.recv_timeout(PATIENCE)?)
    }

    /// As after `ApplyDns`.
    pub fn lead_by(&self, ways: Arc<Table>) {
        self.engine.lead_by(ways);
    }

    pub fn status(&self, number: u16) -> v1::ExitStatus {
        let seen = self.runtime.block_on(self.engine.status());
        let mut told = seen.into_iter().map(request::status);
        told.find(|exit| exit.id == id(number)).unwrap()
    }

    /// As `Daemon::settles`.
    pub fn settles(&self, number: u16, look: impl Fn(&v1::ExitStatus) -> bool) -> Result<v1::ExitStatus> {
        let settled = until(PATIENCE, "counters", || Some(self.status(number)).filter(&look));
        settled.with_context(|| format!("{:?}", self.status(number)))
    }
}
