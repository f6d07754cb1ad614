//! What the broker makes of a Docker that was away, or that is still at what was asked of it before.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cell_broker::engine::{EngineError, Maker};
use cell_broker_core::model::ContainerId;
use support::signed::ceiling;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixListener;

/// A Docker that is removing a container, and has it for so many more looks; the count of looks.
fn docker(path: &Path, looks: usize) -> Arc<AtomicUsize> {
    let listener = UnixListener::bind(path).unwrap();
    let looked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&looked);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = vec![0; 4096];
            let length = stream.read(&mut head).await.unwrap();
            let (status, body) = if head[..length].starts_with(b"DELETE ") {
                (
                    "409 Conflict",
                    r#"{"message":"removal of container is already in progress"}"#,
                )
            } else if counted.fetch_add(1, Ordering::Relaxed) < looks {
                ("200 OK", r#"{"Id":"x"}"#)
            } else {
                ("404 Not Found", r#"{"message":"No such container"}"#)
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    looked
}

#[tokio::test]
async fn what_docker_removes_already_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let looked = docker(&path, 3);
    let maker = Maker::new(path, Duration::from_secs(5), ceiling());
    let id = ContainerId::try_from("0f".repeat(32).as_str()).unwrap();
    maker.remove_container(&id).await.unwrap();
    assert_eq!(looked.load(Ordering::Relaxed), 4);

    // One that never ends is no success.
    let path = folder.path().join("slow.sock");
    docker(&path, usize::MAX);
    let maker = Maker::new(path, Duration::from_millis(500), ceiling());
    let failed = maker.remove_container(&id).await.unwrap_err();
    assert!(matches!(failed, EngineError::Slow), "{failed}");
}

#[tokio::test]
async fn what_happened_before_events_are_told_is_looked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // A Docker that is back, and to whose containers nothing happens.
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = vec![0; 4096];
        let length = stream.read(&mut head).await.unwrap();
        assert!(head[..length].starts_with(b"GET /events?"));
        let answer =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.unwrap();
        std::future::pending::<()>().await;
    });
    let maker = Maker::new(path, Duration::from_secs(5), ceiling());
    let ring = tokio::sync::Notify::new();
    tokio::select! {
        ended = maker.follow(&ring) => panic!("it ended: {ended:?}"),
        rung = tokio::time::timeout(Duration::from_secs(3), ring.notified()) => rung.unwrap(),
    }
}
