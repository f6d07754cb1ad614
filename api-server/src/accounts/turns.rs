//! Whose turn it is at a service's accounts: one at a time, so that the service and the database change together. A service that hangs
//! keeps nobody from another, and only so many wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OwnedMutexGuard;

use crate::service::ServiceError;

/// Most that are at one service's accounts or wait for their turn: what hangs is given up after less than half a minute, so that the last
/// waits for minutes at most.
const MOST_AT_ONE: usize = 5;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Turns(Arc<Mutex<BTreeMap<String, Queue>>>);

#[derive(Debug, Default)]
struct Queue {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Who has it, and who waits.
    count: usize,
}

/// Held while a service's accounts are changed.
#[derive(Debug)]
pub struct Turn {
    // Before the place in the queue is given up.
    _held: OwnedMutexGuard<()>,
    _ticket: Ticket,
}

/// A place in the queue.
#[derive(Debug)]
struct Ticket {
    turns: Turns,
    service: String,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut queues = self.turns.queues();
        let Some(queue) = queues.get_mut(&self.service) else {
            return;
        };
        queue.count -= 1;
        if queue.count == 0 {
            queues.remove(&self.service);
        }
    }
}

impl Turns {
    /// Waits for a turn.
    ///
    /// # Errors
    /// [`ServiceError::AccountsBusy`], at once, when as many wait as may.
    pub async fn take(&self, service: &str) -> Result<Turn, ServiceError> {
        let (turn, ticket) = self.queue_up(service)?;
        Ok(Turn {
            _held: turn.lock_owned().await,
            _ticket: ticket,
        })
    }

    /// Waits for a turn at each. Everybody takes them in the order of names, so that no two wait for each other.
    ///
    /// # Errors
    /// As [`Turns::take`]; then none is held.
    pub async fn take_all(&self, services: &BTreeSet<String>) -> Result<Vec<Turn>, ServiceError> {
        let mut all = Vec::with_capacity(services.len());
        for service in services {
            all.push(self.take(service).await?);
        }
        Ok(all)
    }

    fn queue_up(&self, service: &str) -> Result<(Arc<tokio::sync::Mutex<()>>, Ticket), ServiceError> {
        let mut queues = self.queues();
        let queue = queues.entry(service.to_owned()).or_default();
        if queue.count >= MOST_AT_ONE {
            return Err(ServiceError::AccountsBusy(service.to_owned()));
        }
        queue.count += 1;
        let ticket = Ticket {
            turns: self.clone(),
            service: service.to_owned(),
        };
        Ok((Arc::clone(&queue.turn), ticket))
    }

    fn queues(&self) -> MutexGuard<'_, BTreeMap<String, Queue>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_at_a_time_of_one_service_and_not_more_than_so_many() {
        let turns = Turns::default();
        let first = turns.take("email").await.unwrap();
        // Another service is none of its business.
        drop(turns.take("calendar").await.unwrap());
        let waiting: Vec<_> = (1..MOST_AT_ONE)
            .map(|_| {
                let turns = turns.clone();
                tokio::spawn(async move { turns.take("email").await.map(drop) })
            })
            .collect();
        while turns.queues()["email"].count < MOST_AT_ONE {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let refused = turns.take("email").await.unwrap_err();
        assert_eq!(refused.kind().1, "ACCOUNTS_BUSY");
        assert!(waiting.iter().all(|one| !one.is_finished()));
        drop(first);
        for one in waiting {
            one.await.unwrap().unwrap();
        }
        assert!(turns.queues().is_empty(), "nothing is kept of what is over");
    }

    #[tokio::test]
    async fn who_goes_away_leaves_the_queue() {
        let turns = Turns::default();
        let held = turns.take("email").await.unwrap();
        let gone = tokio::time::timeout(Duration::from_millis(10), turns.take("email")).await;
        assert!(gone.is_err());
        assert_eq!(turns.queues()["email"].count, 1);
        drop(held);
        let both = BTreeSet::from(["calendar".to_owned(), "email".to_owned()]);
        assert_eq!(turns.take_all(&both).await.unwrap().len(), 2);
        assert!(turns.queues().is_empty());
    }
}
