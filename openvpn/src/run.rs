//! One exit at work: its program is started, answered, watched, and started anew after a pause when it ended.

use std::fs::File;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use cell_openvpn_core::backoff::Backoff;
use cell_openvpn_core::exit::Exit;
use cell_openvpn_core::management::LINE_MAX;
use cell_openvpn_core::profile::render;
use cell_openvpn_core::pushed::Pushed;
use cell_openvpn_core::session::{Answer, Phase, Session, Trouble};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::lines;
use crate::management::{Expected, Started};
use crate::vault::Vault;

/// How long a program may take to read its profile and connect: it does so at once.
const CONNECTS: Duration = Duration::from_secs(20);
/// How long one that was hung up on may take to say farewell to its server.
const FAREWELL: Duration = Duration::from_secs(2);
/// Whom it asks for a name and a password.
const REALM: &str = "Auth";

/// What all exits share.
#[derive(Debug)]
pub struct Shared {
    /// Where secrets are.
    pub vault: Vault,
    /// Who is awaited on the management socket.
    pub expected: Expected,
    /// The management socket's path.
    pub management: PathBuf,
    /// OpenVPN.
    pub program: PathBuf,
    /// `/dev/null`, opened before the sandbox: what a program says beside the management socket goes there.
    pub null: File,
}

/// What is known of an exit.
#[derive(Debug, Clone)]
pub struct Known {
    /// What its program does.
    pub phase: Phase,
    /// When it last came into that.
    pub since: SystemTime,
    /// What its server gave last.
    pub pushed: Pushed,
    /// What is amiss.
    pub trouble: Option<Trouble>,
    /// How often it was started.
    pub starts: u32,
}

impl Default for Known {
    fn default() -> Self {
        Known {
            phase: Phase::Waiting,
            since: UNIX_EPOCH,
            pushed: Pushed::default(),
            trouble: None,
            starts: 0,
        }
    }
}

/// An exit and what is known of it.
#[derive(Debug)]
pub struct Driven {
    /// What all share.
    pub shared: Arc<Shared>,
    /// It.
    pub exit: Exit,
    /// What is known of it, for all.
    pub known: Arc<Mutex<Known>>,
}

impl Driven {
    /// Drives it until it is told to end; then no program of it is left.
    pub async fn drive(self, mut ended: watch::Receiver<()>) {
        let mut backoff = Backoff::default();
        loop {
            let (trouble, connected) = match self.run(&mut ended).await {
                Run::Stopped => return,
                Run::Over(trouble, connected) => (trouble, connected),
            };
            let pause = backoff.ended(connected);
            tracing::info!(id = %self.exit.id, reason = trouble.reason(), %trouble, ?pause, "OpenVPN is started anew after a pause");
            self.tell(|known| {
                known.phase = Phase::Waiting;
                known.trouble = Some(trouble);
            });
            tokio::select! {
                // Nothing is ever sent: it ends with its sender.
                _ = ended.changed() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// One run of the program.
    async fn run(&self, ended: &mut watch::Receiver<()>) -> Run {
        let failed = |trouble| Run::Over(trouble, Duration::ZERO);
        let profile = tokio::select! {
            _ = ended.changed() => return Run::Stopped,
            profile = self.profile() => profile,
        };
        let profile = match profile {
            Ok(profile) => profile,
            Err(trouble) => return failed(trouble),
        };
        let started = match self.start() {
            Ok(started) => started,
            Err(error) => return failed(not_started(&error)),
        };
        let Started { mut child, connected } = started;
        let pid = child.id();
        let mut session = Session::new(self.exit.has_login, self.lock().pushed.clone());
        let mut has_session = None;
        let stopped = {
            let input = child.stdin.take();
            let talk = async {
                // It cannot be asked for anything before it has read all of it.
                let written = write(input, &profile).await;
                drop(profile);
                let stream = tokio::time::timeout(CONNECTS, connected).await;
                match (written, stream) {
                    (Ok(()), Ok(Ok(stream))) => self.talk(stream, &mut session, &mut has_session).await,
                    _ => None,
                }
            };
            tokio::select! {
                _ = ended.changed() => None,
                trouble = talk => Some(trouble),
            }
        };
        // The connection is closed by now, which ends the program.
        let status = end(&mut child).await;
        pid.into_iter().for_each(|pid| self.shared.expected.forget(pid));
        let Some(trouble) = stopped else {
            return Run::Stopped;
        };
        let trouble = trouble
            .or_else(|| session.trouble().cloned())
            .unwrap_or_else(|| Trouble::Ended(described(status)));
        Run::Over(
            trouble,
            has_session.map_or(Duration::ZERO, |since: Instant| since.elapsed()),
        )
    }

    async fn profile(&self) -> Result<Zeroizing<String>, Trouble> {
        let sealed = self.shared.vault.sealed(&self.exit).await;
        let sealed = sealed.map_err(|error| Trouble::NoSecret(error.to_string()))?;
        let management = self.shared.management.to_string_lossy();
        render(&self.exit, &sealed, &management).map_err(|error| Trouble::NoSecret(error.to_string()))
    }

    /// Starts the program: no argument but where its profile comes from, and no environment.
    fn start(&self) -> std::io::Result<Started> {
        let null = || self.shared.null.try_clone().map(Stdio::from);
        let mut command = Command::new(&self.shared.program);
        command
            .args(["--config", "stdin"])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(null()?)
            .stderr(null()?)
            .kill_on_drop(true);
        let started = self.shared.expected.start(&mut command)?;
        self.tell(|known| {
            known.phase = Phase::Connecting;
            known.starts = known.starts.saturating_add(1);
        });
        Ok(started)
    }

    /// Until the program hangs up, or there is a reason to. `has_session` is when it first had one.
    async fn talk(
        &self,
        stream: UnixStream,
        session: &mut Session,
        has_session: &mut Option<Instant>,
    ) -> Option<Trouble> {
        let (reader, mut writer) = stream.into_split();
        let mut reader = BufReader::new(reader);
        while let Ok(Some(line)) = lines::next(&mut reader, LINE_MAX).await {
            let said = match session.hear(&line) {
                Answer::None => Ok(()),
                Answer::Say(words) => writer.write_all(words.as_bytes()).await,
                Answer::Login => match self.shared.vault.login(&self.exit, REALM).await {
                    Ok(answer) => writer.write_all(answer.as_bytes()).await,
                    Err(error) => return Some(Trouble::NoSecret(error.to_string())),
                },
                Answer::End => return session.trouble().cloned(),
            };
            if session.phase() == Phase::Connected {
                has_session.get_or_insert_with(Instant::now);
            }
            self.tell(|known| {
                known.phase = session.phase();
                known.pushed = session.pushed().clone();
                known.trouble = session.trouble().cloned();
            });
            if said.is_err() {
                break;
            }
        }
        None
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.lock();
        let before = known.phase;
        change(&mut known);
        if known.phase != before {
            known.since = SystemTime::now();
            if known.phase == Phase::Connected {
                tracing::info!(id = %self.exit.id, "OpenVPN has a session");
            }
        }
    }
}

/// What became of a run.
enum Run {
    /// It was to end.
    Stopped,
    /// It is over, why, and how long ago it first had a session.
    Over(Trouble, Duration),
}

async fn write(input: Option<tokio::process::ChildStdin>, profile: &str) -> std::io::Result<()> {
    let mut input = input.ok_or_else(|| std::io::Error::other("the program has no input"))?;
    input.write_all(profile.as_bytes()).await?;
    input.shutdown().await
}

/// Waits for its farewell, and for its end in any case.
async fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Ok(status) = tokio::time::timeout(FAREWELL, child.wait()).await {
        return status.ok();
    }
    if let Err(error) = child.start_kill() {
        tracing::error!(%error, "OpenVPN cannot be killed");
    }
    child.wait().await.ok()
}

fn not_started(error: &std::io::Error) -> Trouble {
    Trouble::Spawn(match error.kind() {
        std::io::ErrorKind::NotFound => "it is not installed: apt install openvpn".to_owned(),
        // The sandbox knows the program by the file that was there.
        std::io::ErrorKind::PermissionDenied => {
            "if it was installed or upgraded meanwhile, start cell-openvpn anew".to_owned()
        }
        _ => error.to_string(),
    })
}

fn described(status: Option<ExitStatus>) -> String {
    status.map_or_else(|| "nobody knows how".to_owned(), |status| status.to_string())
}
