//! `GET /api/peers/{name}` through every guard of `cell-api`, against a bare axum handler and a Flask one that answer the
//! same body, each in a process of its own, asked the same requests by the same client.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use cell_lab::process::{self, Process};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use cell_lab::measure::{Bench, Goal};

const CONNECTIONS: usize = 8;
const ROUND: Duration = Duration::from_secs(1);
const ROUNDS: usize = 6;
/// Debian's, which has Debian's Flask (python3-flask).
const PYTHON: &str = "/usr/bin/python3";

/// Where to ask, and with which headers.
#[derive(Clone)]
pub struct Target {
    /// Address of the server.
    pub server: SocketAddr,
    /// Request targets, asked for in turn.
    pub paths: Vec<String>,
    /// Headers beyond Host.
    pub headers: Vec<(String, String)>,
}

impl Target {
    /// The same questions to another server.
    fn at(&self, server: SocketAddr) -> Self {
        Target {
            server,
            ..self.clone()
        }
    }
}

/// Adds the rows. `cell` is a running cell's resources of peers with a session, and what the first of them answers.
pub fn run(bench: &mut Bench, dir: &Path, (cell, body): &(Target, Vec<u8>), peers: u32) -> Result<()> {
    let body_file = dir.join("body.json");
    std::fs::write(&body_file, body)?;
    let (_bare, bare) = start_bare(&body_file, cell)?;
    let (_flask, flask) = start_flask(dir, &body_file, cell)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let mut best = [0.0_f64; 3];
    for _ in 0..ROUNDS {
        for (best, target) in best.iter_mut().zip([cell, &bare, &flask]) {
            *best = best.max(runtime.block_on(requests_per_second(target))?);
        }
    }
    let [ours, bare, flask] = best;
    let unit = "requests/s";
    bench.number(
        format!("GET /api/peers/{{name}} of {peers} peers, all guards"),
        ours,
        unit,
    );
    bench.number("bare axum, same body", bare, unit);
    bench.number("Flask (as the original serves), same body", flask, unit);
    bench.judge(
        format!("cell-api / bare axum, {peers} peers"),
        ours / bare,
        "ratio",
        Goal::AtLeast(0.7),
    );
    bench.judge(
        format!("cell-api / Flask, {peers} peers"),
        ours / flask,
        "ratio",
        Goal::AtLeast(20.0),
    );
    Ok(())
}

/// `bench serve-bare FILE`: a bare axum handler; prints its address.
pub async fn serve_bare(body: Bytes) -> Result<()> {
    let handler = move || {
        let body = body.clone();
        async move { ([(http::header::CONTENT_TYPE, "application/json")], body) }
    };
    let router = axum::Router::new().route("/api/peers/{name}", axum::routing::get(handler));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, router).await?;
    Ok(())
}

fn start_bare(body: &Path, like: &Target) -> Result<(Process, Target)> {
    let mut command = Command::new(std::env::current_exe()?);
    let mut server = Process::spawn("bare axum", command.arg("serve-bare").arg(body))?;
    let found = |output: &str| {
        output
            .lines()
            .find_map(|l| l.strip_prefix("listening on ")?.parse().ok())
    };
    let address = server.wait_for(Duration::from_secs(10), "its address", found)?;
    Ok((server, like.at(address)))
}

fn start_flask(dir: &Path, body: &Path, like: &Target) -> Result<(Process, Target)> {
    let script = format!(
        "import logging\nfrom flask import Flask, Response\nlogging.getLogger('werkzeug').disabled = True\nbody = open({body:?}, 'rb').read()\n\
         app = Flask('original')\n@app.get('/api/peers/<name>')\ndef peer(name):\n    return Response(body, mimetype='application/json')\n\
         app.run(host='127.0.0.1', port=FLASK_PORT, threaded=True)\n",
    );
    let port = free_port()?;
    let file = dir.join("flask_peer.py");
    std::fs::write(&file, script.replace("FLASK_PORT", &port.to_string()))?;
    let server = Process::spawn("flask", Command::new(PYTHON).arg(&file))?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    process::until(Duration::from_secs(20), "Flask to listen", || {
        std::net::TcpStream::connect(address).ok()
    })?;
    Ok((server, like.at(address)))
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn requests_per_second(target: &Target) -> Result<f64> {
    let start = Instant::now();
    let end = start + ROUND;
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(ask_until(target.clone(), end)))
        .collect();
    let mut requests = 0;
    for task in tasks {
        requests += task.await??;
    }
    Ok(f64::from(requests) / start.elapsed().as_secs_f64())
}

async fn ask_until(target: Target, end: Instant) -> Result<u32> {
    let mut connection = open(&target).await?;
    let mut requests = 0;
    while Instant::now() < end {
        // Flask's server closes after each answer; a client then opens the next connection, as a browser would.
        if connection.ready().await.is_err() {
            connection = open(&target).await?;
        }
        let path = &target.paths[requests as usize % target.paths.len()];
        let mut request = Request::get(path).header("host", target.server.to_string());
        for (name, value) in &target.headers {
            request = request.header(name, value);
        }
        let answer = connection
            .send_request(request.body(Empty::<Bytes>::new())?)
            .await?;
        ensure!(
            answer.status().is_success(),
            "{} answered {}",
            target.server,
            answer.status()
        );
        answer.into_body().collect().await.context("reading the body")?;
        requests += 1;
    }
    Ok(requests)
}

async fn open(target: &Target) -> Result<SendRequest<Empty<Bytes>>> {
    let stream = TcpStream::connect(target.server).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
