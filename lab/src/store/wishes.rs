//! What an administrator asks of the store, by REST, whoever is killed meanwhile.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::cell::Cell;
use crate::household::{PASSWORD, USER};
use crate::rest::{Answer, Rest};

/// A kill, a start of a daemon, and backoffs on a busy machine.
pub const CONVERGED: Duration = Duration::from_secs(180);
/// Between two questions.
const POLL: Duration = Duration::from_millis(100);

/// An account at a service, as it is shown once.
#[derive(Clone)]
pub struct Account {
    /// The service.
    pub service: String,
    /// Whose.
    pub user: String,
    /// Theirs.
    pub password: String,
}

/// An administrator's session, begun anew when the API no longer knows it.
pub struct Wishes<'a> {
    cell: &'a Cell,
    rest: RefCell<Option<Rest>>,
}

impl<'a> Wishes<'a> {
    /// Of a cell that is claimed.
    pub fn new(cell: &'a Cell) -> Self {
        let rest = RefCell::default();
        Wishes { cell, rest }
    }

    /// One request; None: nobody answered, or not for us.
    pub fn ask(&self, ask: impl Fn(&mut Rest) -> Result<Answer>) -> Result<Answer> {
        let mut held = self.rest.borrow_mut();
        if held.is_none() {
            let mut rest = self.cell.rest();
            rest.login(USER, PASSWORD)?;
            *held = Some(rest);
        }
        let answer = held.as_mut().context("no session").and_then(ask);
        if !matches!(&answer, Ok(answer) if answer.status != 401) {
            *held = None;
        }
        answer
    }

    /// The status and the body of a GET.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn get(&self, path: &str) -> Result<(u16, Value)> {
        let answer = self.ask(|rest| rest.get(path))?;
        Ok((answer.status, answer.json()))
    }

    /// A request that must be taken, and that is asked again as long as nobody answers: each of these can be asked twice.
    ///
    /// # Errors
    /// When it is refused otherwise than by `also`, a code that says that it has been done.
    pub fn wish(&self, also: &str, ask: impl Fn(&mut Rest) -> Result<Answer>) -> Result<Value> {
        let start = Instant::now();
        loop {
            match self.ask(&ask) {
                Ok(answer) if (200..300).contains(&answer.status) => return Ok(answer.json()),
                Ok(answer) if !also.is_empty() && answer.code() == also => return Ok(Value::Null),
                // Another step is under way, or a daemon is being started.
                Ok(answer)
                    if [401, 503].contains(&answer.status)
                        || ["SERVICE_NOT_NOW", "BROKER_REFUSES"].contains(&answer.code().as_str()) => {}
                Ok(answer) => bail!("{}: {}", answer.status, String::from_utf8_lossy(&answer.body)),
                Err(_) => {}
            }
            if start.elapsed() > CONVERGED {
                bail!("not taken within {CONVERGED:?}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// Asks for a service.
    ///
    /// # Errors
    /// When it is refused.
    pub fn install(&self, id: &str, body: &Value) -> Result<()> {
        let path = format!("/api/services/{id}/install");
        self.wish("SERVICE_INSTALLED", |rest| rest.post(&path, body))
            .with_context(|| format!("installing {id}"))
            .map(drop)
    }

    /// Asks that it goes, with its data.
    ///
    /// # Errors
    /// When it is refused.
    pub fn remove(&self, id: &str) -> Result<()> {
        let path = format!("/api/services/{id}?delete_volumes=true");
        self.wish("NO_SERVICE", |rest| rest.delete(&path))
            .with_context(|| format!("removing {id}"))
            .map(drop)
    }

    /// Says who may use it.
    ///
    /// # Errors
    /// When it is refused.
    pub fn allow(&self, id: &str, peers: &[&str]) -> Result<()> {
        let (path, body) = (
            format!("/api/services/{id}/access"),
            json!({"allowed_peers": peers}),
        );
        self.wish("", |rest| rest.put(&path, &body)).map(drop)
    }

    /// Waits until it is installed and all its containers run; its words.
    ///
    /// # Errors
    /// With what is said of it, when it is not, or when it has failed.
    pub fn installed(&self, id: &str) -> Result<Value> {
        let told = self.settled(id)?;
        if told["phase"] == "failed" {
            bail!("{id}: {told}");
        }
        Ok(told)
    }

    /// Waits until it is installed and all its containers run, or it has failed; its words.
    fn settled(&self, id: &str) -> Result<Value> {
        let (path, status) = (
            format!("/api/services/{id}"),
            format!("/api/services/{id}/status"),
        );
        self.until(&format!("{id} is installed"), || {
            let (code, told) = self.get(&path)?;
            let running = self.get(&status)?.1;
            let all = running["containers"].as_array().cloned().unwrap_or_default();
            // One of the store is not tried again by itself. One of the cell's own is, but later: whoever waits hears why it failed.
            if told["phase"] == "failed" {
                return Ok(told);
            }
            let run = !all.is_empty() && all.iter().all(|one| one["state"] == "running");
            if code == 200 && told["phase"] == "installed" && run {
                return Ok(told);
            }
            bail!("{code}: {told}\n{running}")
        })
    }

    /// Waits until all its containers that have a health check are healthy.
    ///
    /// # Errors
    /// As [`Wishes::installed`].
    pub fn healthy(&self, id: &str) -> Result<()> {
        let path = format!("/api/services/{id}/status");
        self.until(&format!("{id} is healthy"), || {
            let told = self.get(&path)?.1;
            let all = told["containers"].as_array().cloned().unwrap_or_default();
            let well = |one: &Value| {
                one["state"] == "running" && one["health"] != "starting" && one["health"] != "unhealthy"
            };
            if !all.is_empty() && all.iter().all(well) {
                return Ok(());
            }
            bail!("{told}")
        })
    }

    /// Waits until nothing is known of it.
    ///
    /// # Errors
    /// As [`Wishes::installed`].
    pub fn gone(&self, id: &str) -> Result<()> {
        let path = format!("/api/services/{id}");
        self.until(&format!("{id} is gone"), || match self.get(&path)? {
            (404, _) => Ok(()),
            (code, told) => bail!("{code}: {told}"),
        })
    }

    /// Asks again until it holds; the last reason otherwise.
    ///
    /// # Errors
    /// When it never does.
    pub fn until<T>(&self, what: &str, mut look: impl FnMut() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        loop {
            match look() {
                Ok(found) => return Ok(found),
                Err(error) if start.elapsed() > CONVERGED => {
                    return Err(error.context(format!("{what}: not within {CONVERGED:?}")));
                }
                Err(_) => std::thread::sleep(POLL),
            }
        }
    }
}
