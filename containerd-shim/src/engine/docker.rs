//! Docker over its Unix socket, through bollard's types and our own transport.

use std::collections::HashMap;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::{
    DownloadFromContainerOptions, KillContainerOptions, ListContainersOptions, LogsOptions,
    RestartContainerOptions, StatsOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use bytes::Bytes;
use cell_broker_core::logs::{LogTail, MAX_BYTES, Source, Tail};
use cell_broker_core::model::{ContainerId, LogLines, Observed, Ownership, ServiceName, Stats};
use cell_broker_core::{ApiVersion, OLDEST_API, Permit, Unreachable, act};
use cell_manifest::ReloadSignal;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use super::{Engine, EngineError, LISTED_MAX, Version, observe, transport};

/// Bollard's own limit is out of the way: [`DockerEngine::within`] has the deadline of each call.
const NO_LIMIT_SECONDS: u64 = 3600;

/// How long Docker may be silent in the middle of an archive.
const ARCHIVE_SILENT: Duration = Duration::from_secs(60);
/// How long a log is followed.
const FOLLOW_LONGEST: Duration = Duration::from_secs(600);
/// How often what was written is told.
const FOLLOW_EVERY: Duration = Duration::from_millis(250);
/// How much is read between two times, bytes: as much as is told of it at most.
const FOLLOW_READ: usize = MAX_BYTES;

/// Docker. Making one opens nothing; a call fails with [`Unreachable`] while Docker is away and works when it is back.
pub struct DockerEngine {
    docker: Docker,
    deadline: Duration,
    /// Whether the API's version was found good since Docker was last away.
    version_checked: AtomicBool,
}

impl DockerEngine {
    /// The Docker that listens on `socket`; each answer is to come within `deadline`.
    pub fn new(socket: PathBuf, deadline: Duration) -> Result<Self, EngineError> {
        let kept = Arc::new(transport::Kept::new(socket));
        let docker = Docker::connect_with_custom_transport(
            move |request| transport::send(Arc::clone(&kept), request),
            Some("docker://docker"),
            NO_LIMIT_SECONDS,
            API_DEFAULT_VERSION,
        );
        let docker = docker.map_err(|error| observe::error(&error))?;
        Ok(DockerEngine {
            docker,
            deadline,
            version_checked: AtomicBool::new(false),
        })
    }

    /// One call, after the version was checked.
    async fn call<T>(
        &self,
        extra: Duration,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, EngineError> {
        if !self.version_checked.load(Ordering::Acquire) {
            self.version().await?;
        }
        self.within(self.deadline + extra, call).await
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        call: impl Future<Output = Result<T, Error>> + Send,
    ) -> Result<T, EngineError> {
        let outcome = match tokio::time::timeout(deadline, call).await {
            Ok(outcome) => outcome.map_err(|error| observe::error(&error)),
            Err(_) => Err(EngineError::Slow),
        };
        if matches!(outcome, Err(EngineError::Unreachable(_))) {
            self.version_checked.store(false, Ordering::Release);
        }
        outcome
    }
}

impl Engine for DockerEngine {
    async fn version(&self) -> Result<Version, EngineError> {
        let answer = self.within(self.deadline, self.docker.version()).await?;
        let api = answer.api_version.unwrap_or_default();
        if ApiVersion::parse(&api).is_none_or(|version| version < OLDEST_API) {
            self.version_checked.store(false, Ordering::Release);
            return Err(Unreachable::TooOld.into());
        }
        self.version_checked.store(true, Ordering::Release);
        Ok(Version {
            docker: answer.version.unwrap_or_default(),
            api,
        })
    }

    async fn list(
        &self,
        ownership: &Ownership,
        service: Option<&ServiceName>,
    ) -> Result<Vec<ContainerId>, EngineError> {
        let labels = vec![ownership.owner_filter(), ownership.service_filter(service)];
        let options = ListContainersOptions {
            all: true,
            limit: i32::try_from(LISTED_MAX + 1).ok(),
            filters: Some(HashMap::from([("label".to_owned(), labels)])),
            ..ListContainersOptions::default()
        };
        let answer = self
            .call(Duration::ZERO, self.docker.list_containers(Some(options)))
            .await?;
        let id = |id: Option<String>| ContainerId::try_from(id.as_deref().unwrap_or_default());
        let ids = answer
            .into_iter()
            .map(|container| id(container.id))
            .collect::<Result<_, _>>();
        ids.map_err(|_| EngineError::Unusable("no full id"))
    }

    async fn inspect(&self, id: &ContainerId) -> Result<Observed, EngineError> {
        let answer = self
            .call(Duration::ZERO, self.docker.inspect_container(id.as_str(), None))
            .await?;
        observe::observed(answer)
    }

    async fn start(&self, permit: &Permit<act::Start>) -> Result<(), EngineError> {
        self.call(
            Duration::ZERO,
            self.docker.start_container(permit.id().as_str(), None),
        )
        .await
    }

    async fn stop(&self, permit: &Permit<act::Stop>) -> Result<(), EngineError> {
        let timeout = permit.act().timeout;
        let options = StopContainerOptions {
            t: Some(timeout.seconds().into()),
            signal: None,
        };
        self.call(
            timeout.into(),
            self.docker.stop_container(permit.id().as_str(), Some(options)),
        )
        .await
    }

    async fn restart(&self, permit: &Permit<act::Restart>) -> Result<(), EngineError> {
        let timeout = permit.act().timeout;
        let options = RestartContainerOptions {
            t: Some(timeout.seconds().into()),
            signal: None,
        };
        self.call(
            timeout.into(),
            self.docker.restart_container(permit.id().as_str(), Some(options)),
        )
        .await
    }

    async fn reload(&self, permit: &Permit<act::Reload>, signal: ReloadSignal) -> Result<(), EngineError> {
        let options = KillContainerOptions {
            signal: signal.word().to_owned(),
        };
        self.call(
            Duration::ZERO,
            self.docker.kill_container(permit.id().as_str(), Some(options)),
        )
        .await
    }

    async fn logs(&self, permit: &Permit<act::Logs>) -> Result<LogTail, EngineError> {
        let lines = permit.act().lines;
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            // One more than is shown, to know whether there is more.
            tail: (lines.get() + 1).to_string(),
            ..LogsOptions::default()
        };
        let mut pieces = pin!(self.docker.logs(permit.id().as_str(), Some(options)));
        let read = async move {
            let mut tail = Tail::new(lines);
            while let Some(piece) = pieces.next().await {
                push(&mut tail, piece?);
            }
            Ok(tail.finish())
        };
        self.call(Duration::ZERO, read).await
    }

    async fn follow(
        &self,
        permit: &Permit<act::Logs>,
        told: mpsc::Sender<LogTail>,
    ) -> Result<(), EngineError> {
        if !self.version_checked.load(Ordering::Acquire) {
            self.version().await?;
        }
        let options = LogsOptions {
            stdout: true,
            stderr: true,
            follow: true,
            tail: permit.act().lines.get().to_string(),
            ..LogsOptions::default()
        };
        let pieces = self.docker.logs(permit.id().as_str(), Some(options));
        match tokio::time::timeout(FOLLOW_LONGEST, followed(pieces, told)).await {
            // As many bytes as one connection gives: whoever wants more asks again.
            Err(_) | Ok(Err(EngineError::Unusable(_))) => Ok(()),
            Ok(ended) => ended,
        }
    }

    async fn archive(
        &self,
        permit: &Permit<act::Backup>,
        path: &str,
        told: mpsc::Sender<Bytes>,
    ) -> Result<(), EngineError> {
        if !self.version_checked.load(Ordering::Acquire) {
            self.version().await?;
        }
        let options = DownloadFromContainerOptions {
            path: path.to_owned(),
        };
        let id = permit.id().as_str();
        let mut pieces = pin!(self.docker.download_from_container(id, Some(options)));
        loop {
            let piece = tokio::time::timeout(ARCHIVE_SILENT, pieces.next()).await;
            let Some(piece) = piece.map_err(|_| EngineError::Slow)? else {
                return Ok(());
            };
            let piece = piece.map_err(|error| observe::error(&error))?;
            if told.send(piece).await.is_err() {
                return Ok(());
            }
        }
    }

    async fn stats(&self, permit: &Permit<act::Stats>) -> Result<Stats, EngineError> {
        let options = StatsOptions {
            stream: false,
            one_shot: true,
        };
        let mut readings = pin!(self.docker.stats(permit.id().as_str(), Some(options)));
        let reading = self
            .call(Duration::ZERO, async move { readings.next().await.transpose() })
            .await?;
        let reading = reading.ok_or(EngineError::Unusable("no reading"))?;
        Ok(observe::stats(reading, permit.container().memory_limit_bytes))
    }
}

/// Notes a piece; its length in bytes.
fn push(tail: &mut Tail, piece: LogOutput) -> usize {
    match piece {
        LogOutput::StdErr { message } => {
            tail.push(Source::Error, &message);
            message.len()
        }
        LogOutput::StdOut { message } | LogOutput::StdIn { message } | LogOutput::Console { message } => {
            tail.push(Source::Output, &message);
            message.len()
        }
    }
}

/// Tells the pieces of a log, at a bounded rate: a container that writes without end waits for its reader.
async fn followed(
    pieces: impl Stream<Item = Result<LogOutput, Error>> + Send,
    told: mpsc::Sender<LogTail>,
) -> Result<(), EngineError> {
    let (mut pieces, mut tail, mut read) = (pin!(pieces), Tail::new(LogLines::MOST), 0);
    let mut times = tokio::time::interval(FOLLOW_EVERY);
    times.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = told.closed() => return Ok(()),
            piece = pieces.next(), if read < FOLLOW_READ => match piece {
                Some(piece) => read += push(&mut tail, piece.map_err(|error| observe::error(&error))?),
                None => break,
            },
            _ = times.tick() => {
                read = 0;
                if let Some(lines) = tail.take()
                    && told.send(lines).await.is_err()
                {
                    return Ok(());
                }
            }
        }
    }
    let rest = tail.finish();
    if !rest.lines.is_empty() {
        let _ = told.send(rest).await;
    }
    Ok(())
}
