//! The broker's verbs beside bollard at Docker's own socket, in turn, at the same container.

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bollard::query_parameters::{
    InspectContainerOptions, ListContainersOptions, StartContainerOptions, StopContainerOptions,
};
use bollard::{API_DEFAULT_VERSION, Docker};
use cell_lab::measure::{Goal, median};
use cell_proto::broker::v1::container_service_client::ContainerServiceClient;
use cell_proto::broker::v1::container_status_service_client::ContainerStatusServiceClient;
use cell_proto::broker::v1::{
    GetContainerRequest, ListContainersRequest, StartContainerRequest, StopContainerRequest,
};
use cell_proto::ipc::connect;
use tonic::transport::Channel;

use crate::Lab;

/// One container, which starts and ends at once.
const SERVICE: &str = "chrony";
/// Seconds that an answer of Docker may take.
const PATIENCE: u64 = 60;
/// Reads are short and many.
const READS: usize = 40;
const MOST: f64 = 1.2;

/// Adds the rows.
pub fn run(lab: &mut Lab<'_>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(all(lab))
}

struct Both {
    acts: ContainerServiceClient<Channel>,
    reads: ContainerStatusServiceClient<Channel>,
    docker: Docker,
    id: String,
}

async fn all(lab: &mut Lab<'_>) -> Result<()> {
    let socket = lab.cell.home().join("run/broker/broker.sock");
    let channel = connect(socket);
    let path = lab.docker.socket().display().to_string();
    let filter = format!("name={SERVICE}");
    let both = Both {
        acts: ContainerServiceClient::new(channel.clone()),
        reads: ContainerStatusServiceClient::new(channel),
        docker: Docker::connect_with_unix(&path, PATIENCE, API_DEFAULT_VERSION)?
            .negotiate_version()
            .await?,
        id: lab
            .docker
            .say(&["ps", "--quiet", "--no-trunc", "--filter", &filter])?,
    };
    ensure!(both.id.len() == 64, "one container of {SERVICE}: {}", both.id);
    let reads = lab.size.rounds * READS;
    let (mut listed, mut inspected) = (Times::default(), Times::default());
    for _ in 0..reads {
        timed(&mut listed.raw, both.list_raw()).await?;
        timed(&mut listed.broker, both.list()).await?;
        timed(&mut inspected.raw, both.inspect_raw()).await?;
        timed(&mut inspected.broker, both.inspect()).await?;
    }
    let (mut started, mut stopped) = (Times::default(), Times::default());
    // What was stopped by a verb stays so, whoever else starts and stops it.
    both.stop().await?;
    for _ in 0..lab.size.rounds {
        timed(&mut started.raw, both.start_raw()).await?;
        timed(&mut stopped.raw, both.stop_raw()).await?;
        timed(&mut started.broker, both.start()).await?;
        timed(&mut stopped.broker, both.stop()).await?;
    }
    both.start().await?;
    for (name, times) in [
        ("list with health", listed),
        ("inspect", inspected),
        ("start", started),
        ("stop", stopped),
    ] {
        let (raw, broker) = times.medians()?;
        lab.bench.time(format!("{name} by bollard"), raw);
        lab.bench.time(format!("{name} by the broker"), broker);
        lab.bench.ratio(
            format!("{name}: the broker's share"),
            broker,
            raw,
            Goal::AtMost(MOST),
        );
    }
    Ok(())
}

#[derive(Default)]
struct Times {
    raw: Vec<Duration>,
    broker: Vec<Duration>,
}

impl Times {
    fn medians(self) -> Result<(Duration, Duration)> {
        let raw = median(self.raw).context("nothing was measured")?;
        Ok((raw, median(self.broker).context("nothing was measured")?))
    }
}

async fn timed(times: &mut Vec<Duration>, call: impl Future<Output = Result<()>>) -> Result<()> {
    let start = Instant::now();
    call.await?;
    times.push(start.elapsed());
    Ok(())
}

impl Both {
    async fn list_raw(&self) -> Result<()> {
        let filters = HashMap::from([("label".to_owned(), vec!["cell.owner=default".to_owned()])]);
        let options = ListContainersOptions {
            all: true,
            filters: Some(filters),
            ..ListContainersOptions::default()
        };
        let all = self.docker.list_containers(Some(options)).await?;
        ensure!(all.len() >= 4, "{} containers", all.len());
        // Docker's list has neither health nor starts, which the broker's has.
        for one in all {
            let id = one.id.context("a container without an id")?;
            let looked = self
                .docker
                .inspect_container(&id, None::<InspectContainerOptions>);
            ensure!(looked.await?.state.is_some(), "its state");
        }
        Ok(())
    }

    async fn list(&self) -> Result<()> {
        let all = self
            .reads
            .clone()
            .list_containers(ListContainersRequest {})
            .await?;
        ensure!(all.into_inner().containers.len() >= 4, "all containers");
        Ok(())
    }

    async fn inspect_raw(&self) -> Result<()> {
        let one = self
            .docker
            .inspect_container(&self.id, None::<InspectContainerOptions>);
        ensure!(one.await?.state.is_some(), "its state");
        Ok(())
    }

    async fn inspect(&self) -> Result<()> {
        let request = GetContainerRequest {
            service: SERVICE.to_owned(),
        };
        let one = self.reads.clone().get_container(request).await?.into_inner();
        ensure!(one.container.is_some(), "its state");
        Ok(())
    }

    async fn start_raw(&self) -> Result<()> {
        let started = self
            .docker
            .start_container(&self.id, None::<StartContainerOptions>);
        Ok(started.await?)
    }

    async fn start(&self) -> Result<()> {
        let request = StartContainerRequest {
            service: SERVICE.to_owned(),
        };
        self.acts.clone().start_container(request).await?;
        Ok(())
    }

    async fn stop_raw(&self) -> Result<()> {
        let options = StopContainerOptions {
            t: Some(10),
            ..StopContainerOptions::default()
        };
        Ok(self.docker.stop_container(&self.id, Some(options)).await?)
    }

    async fn stop(&self) -> Result<()> {
        let request = StopContainerRequest {
            service: SERVICE.to_owned(),
            timeout_seconds: 10,
        };
        self.acts.clone().stop_container(request).await?;
        Ok(())
    }
}
