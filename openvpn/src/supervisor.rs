//! The exits that are driven: each by a task of its own, so that what one does touches no other.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use cell_openvpn_core::exit::{Exit, ExitId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::run::{Driven, Known, Shared};

/// All exits.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    /// One change at a time.
    running: tokio::sync::Mutex<BTreeMap<ExitId, Running>>,
}

#[derive(Debug)]
struct Running {
    exit: Exit,
    known: Arc<Mutex<Known>>,
    /// Dropped to end it.
    ends: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl Supervisor {
    /// Without an exit.
    pub fn new(shared: Arc<Shared>) -> Self {
        Supervisor {
            shared,
            running: tokio::sync::Mutex::default(),
        }
    }

    /// Makes the exits those of `wanted`. What stays as it is runs on.
    pub async fn apply(&self, wanted: BTreeMap<ExitId, Exit>) -> Vec<(ExitId, Known)> {
        let mut running = self.running.lock().await;
        let stays = |id: &ExitId, one: &Running| wanted.get(id) == Some(&one.exit);
        let gone: Vec<ExitId> = running
            .iter()
            .filter(|(id, one)| !stays(id, one))
            .map(|(id, _)| id.clone())
            .collect();
        // All are told before any is waited for. A TUN has one reader: the old one ends before the new one begins.
        let ending: Vec<JoinHandle<()>> = gone
            .iter()
            .filter_map(|id| running.remove(id))
            .map(|Running { ends, task, .. }| {
                drop(ends);
                task
            })
            .collect();
        for task in ending {
            if task.await.is_err_and(|error| error.is_panic()) {
                tracing::error!("an exit's task panicked");
            }
        }
        for (id, exit) in wanted {
            running.entry(id).or_insert_with(|| self.begin(exit));
        }
        told(&running)
    }

    /// The exits as they are.
    pub async fn status(&self) -> Vec<(ExitId, Known)> {
        told(&*self.running.lock().await)
    }

    fn begin(&self, exit: Exit) -> Running {
        let known = Arc::<Mutex<Known>>::default();
        let (ends, ended) = watch::channel(());
        let driven = Driven {
            shared: Arc::clone(&self.shared),
            exit: exit.clone(),
            known: Arc::clone(&known),
        };
        Running {
            exit,
            known,
            ends,
            task: tokio::spawn(driven.drive(ended)),
        }
    }
}

fn told(running: &BTreeMap<ExitId, Running>) -> Vec<(ExitId, Known)> {
    let one = |(id, running): (&ExitId, &Running)| {
        let known = running.known.lock().unwrap_or_else(PoisonError::into_inner);
        (id.clone(), known.clone())
    };
    running.iter().map(one).collect()
}
