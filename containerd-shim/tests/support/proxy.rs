//! Stands before Docker's socket and writes down every byte that is sent to it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{UnixListener, UnixStream};

pub struct Proxy {
    pub path: PathBuf,
    recorded: Arc<Mutex<Vec<u8>>>,
    connections: Arc<Mutex<usize>>,
}

impl Proxy {
    pub fn start(path: PathBuf, docker: &Path) -> Self {
        let listener = UnixListener::bind(&path).unwrap();
        let proxy = Proxy {
            path,
            recorded: Arc::default(),
            connections: Arc::default(),
        };
        let (recorded, connections) = (Arc::clone(&proxy.recorded), Arc::clone(&proxy.connections));
        let docker = docker.to_owned();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                *connections.lock().unwrap() += 1;
                tokio::spawn(pass(client, docker.clone(), Arc::clone(&recorded)));
            }
        });
        proxy
    }

    /// What was sent since the last time.
    pub fn take(&self) -> (usize, String) {
        let bytes = std::mem::take(&mut *self.recorded.lock().unwrap());
        let connections = std::mem::take(&mut *self.connections.lock().unwrap());
        (connections, String::from_utf8_lossy(&bytes).into_owned())
    }
}

async fn pass(client: UnixStream, docker: PathBuf, recorded: Arc<Mutex<Vec<u8>>>) {
    let Ok(server) = UnixStream::connect(docker).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(async move {
        let _ = copy(&mut from_server, &mut to_client).await;
    });
    let mut piece = [0; 4096];
    while let Ok(n @ 1..) = from_client.read(&mut piece).await {
        recorded.lock().unwrap().extend(&piece[..n]);
        if to_server.write_all(&piece[..n]).await.is_err() {
            break;
        }
    }
    drop(to_server);
    let _ = back.await;
}
