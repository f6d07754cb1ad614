//! A registry that hands out one image, busybox from Debian's package, in the network namespace of a Docker of the tests.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::Arc;

use nix::sched::{CloneFlags, setns};
use serde_json::json;
use sha2::{Digest, Sha256};

use super::dockerd::Dockerd;

/// Path, then type and bytes.
type Files = BTreeMap<String, (&'static str, Vec<u8>)>;

/// Serves `127.0.0.1:5000/store/files` there; the image's digest. `config` goes into the image's own configuration.
pub fn serve(dockerd: &Dockerd, config: &serde_json::Value) -> String {
    serve_at(dockerd, "files", 5000, config)
}

/// The same under another name and port.
pub fn serve_at(dockerd: &Dockerd, name: &str, port: u16, config: &serde_json::Value) -> String {
    let (files, digest) = image(dockerd, name, config);
    let files = Arc::new(files);
    let namespace = std::fs::File::open(format!("/proc/{}/ns/net", dockerd.inner())).unwrap();
    let (bound, ready) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // This thread alone; a socket stays in the namespace that it was made in.
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        bound.send(()).unwrap();
        for stream in listener.incoming().flatten() {
            let files = Arc::clone(&files);
            std::thread::spawn(move || answer(stream, &files));
        }
    });
    ready.recv().unwrap();
    digest
}

fn digest(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(bytes)
        .iter()
        .fold("sha256:".to_owned(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

fn image(dockerd: &Dockerd, name: &str, config: &serde_json::Value) -> (Files, String) {
    let root = dockerd.dir().join("rootfs");
    for folder in ["etc", "tmp", "data", "media", "srv"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    let sh = root.join("bin/sh");
    if !sh.exists() {
        std::os::unix::fs::symlink("busybox", sh).unwrap();
    }
    let tar = Command::new("tar")
        .args(["--sort=name", "--mtime=@0", "--owner=0", "--group=0", "-C"])
        .arg(&root)
        .args(["-cf", "-", "."])
        .output()
        .unwrap();
    assert!(tar.status.success());
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": [digest(&tar.stdout)]},
        "history": [{"created": "2020-01-01T00:00:00Z"}]
    });
    let config = serde_json::to_vec(&config).unwrap();
    let kind = "application/vnd.docker.distribution.manifest.v2+json";
    let manifest = json!({
        "schemaVersion": 2, "mediaType": kind,
        "config": {
            "mediaType": "application/vnd.docker.container.image.v1+json", "size": config.len(), "digest": digest(&config)
        },
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.diff.tar", "size": tar.stdout.len(), "digest": digest(&tar.stdout)
        }]
    });
    let manifest = serde_json::to_vec(&manifest).unwrap();
    let whole = digest(&manifest);
    let blob = "application/octet-stream";
    let at = |digest: &str, what: &str| format!("/v2/store/{name}/{what}/{digest}");
    let files = BTreeMap::from([
        ("/v2/".to_owned(), ("application/json", b"{}".to_vec())),
        (at(&digest(&config), "blobs"), (blob, config)),
        (at(&digest(&tar.stdout), "blobs"), (blob, tar.stdout)),
        (at(&whole, "manifests"), (kind, manifest)),
    ]);
    (files, whole)
}

fn answer(mut stream: TcpStream, files: &Files) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let Some(Ok(first)) = lines.next() else {
        return;
    };
    for line in lines.map_while(Result::ok) {
        if line.is_empty() {
            break;
        }
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let (status, (kind, bytes)) = match files.get(path) {
        Some(file) => ("200 OK", file.clone()),
        None => ("404 Not Found", ("application/json", Vec::new())),
    };
    let digest = digest(&bytes);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nDocker-Content-Digest: {digest}\r\n\
         Docker-Distribution-Api-Version: registry/2.0\r\nConnection: close\r\n\r\n",
        bytes.len()
    );
    let _ = stream.write_all(head.as_bytes());
    if method != "HEAD" {
        let _ = stream.write_all(&bytes);
    }
}
