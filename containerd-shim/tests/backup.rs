//! Backups before a real Docker: what the manifest names and nothing else, for root's recipient and nobody else, whole or told.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use age::secrecy::ExposeSecret as _;
use age::x25519::Identity;
use cell_broker::Config;
use cell_broker::backup::{BackupPolicy, Restore, restore as restore_from};
use cell_proto::broker::v1::backup_service_client::BackupServiceClient;
use cell_proto::broker::v1::deployment_service_client::DeploymentServiceClient;
use cell_proto::broker::v1::{
    PullImagesRequest, ReadBackupRequest, ReadBackupResponse, StartContainerRequest, StopContainerRequest,
};
use cell_proto::fault;
use cell_proto::ipc::{CallerPolicy, connect};
use nix::unistd::{Uid, chown};
use serde_json::{Value, json};
use support::deployed::{Deployed, deploy_request, put_request};
use support::dockerd::Dockerd;
use support::program::{Program, USER};
use support::proxy::Proxy;
use support::registry;
use support::signed::{REGISTRY, bundle, ceiling, manifest};
use tar::EntryType;
use tonic::{Status, Streaming};

const PATIENCE: Duration = Duration::from_secs(60);

/// Two volumes, of which a backup holds one and a folder of another.
fn keeping(digest: &str) -> Value {
    let mut manifest = manifest(&format!("{REGISTRY}/store/files@{digest}"));
    manifest["containers"][0]["command"] = json!(["/bin/sleep", "1000"]);
    manifest["containers"][0]["mounts"] = json!([
        {"type": "volume", "volume": "data", "target": "/data"},
        {"type": "volume", "volume": "state", "target": "/srv/state"},
        {"type": "volume", "volume": "cache", "target": "/cache"}
    ]);
    manifest["flags"] = json!({"has_storage": true});
    manifest["backup"] = json!({"paths": [{"volume": "data"}, {"volume": "state", "path": "in/box"}]});
    manifest
}

struct World {
    dockerd: Dockerd,
    broker: Deployed,
    proxy: Proxy,
    manifest: String,
    id: String,
    state: tempfile::TempDir,
}

impl World {
    /// The service runs, and its volumes are empty.
    async fn start(backup: Option<BackupPolicy>) -> Self {
        let dockerd = Dockerd::start();
        let digest = registry::serve(&dockerd, &json!({"Env": ["PATH=/bin"]}));
        let proxy = Proxy::start(dockerd.dir().join("proxy.sock"), &dockerd.socket());
        let state = tempfile::tempdir().unwrap();
        let broker = Deployed::start_with(&proxy.path, state.path(), ceiling(), "this-boot", backup);
        let manifest = broker.put(bundle(&keeping(&digest))).await.unwrap();
        broker.pull(&manifest).await.unwrap();
        let made = broker.deploy(&manifest, &[]).await.unwrap().deployment.unwrap();
        World {
            id: made.containers[0].id.clone(),
            dockerd,
            broker,
            proxy,
            manifest,
            state,
        }
    }

    /// A volume, as root of the machine has it.
    fn volume(&self, name: &str) -> PathBuf {
        self.dockerd
            .dir()
            .join(format!("data/volumes/cell-files.{name}/_data"))
    }

    async fn read(&self) -> Result<Streaming<ReadBackupResponse>, Status> {
        let request = ReadBackupRequest {
            service: "files".to_owned(),
            validate_only: false,
        };
        Ok(self
            .broker
            .backups
            .clone()
            .read_backup(request)
            .await?
            .into_inner())
    }

    /// Whether there could be one; nothing is read.
    async fn could(&self) -> Result<(), Status> {
        let request = ReadBackupRequest {
            service: "files".to_owned(),
            validate_only: true,
        };
        let mut answer = self
            .broker
            .backups
            .clone()
            .read_backup(request)
            .await?
            .into_inner();
        assert!(answer.message().await?.is_none(), "bytes came");
        Ok(())
    }

    fn containers(&self) -> String {
        self.dockerd.say(&["ps", "--all", "--quiet", "--no-trunc"])
    }

    /// What it was read from is taken away soon after its end.
    fn reads_from_nothing(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.containers() != self.id {
            assert!(Instant::now() < deadline, "{}", self.containers());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

/// To its end: what came, and why it is not whole.
async fn rest(stream: &mut Streaming<ReadBackupResponse>) -> (Vec<u8>, Option<Status>) {
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, stream.message())
            .await
            .expect("it stands still")
        {
            Ok(Some(answer)) => bytes.extend(answer.chunk),
            Ok(None) => return (bytes, None),
            Err(status) => return (bytes, Some(status)),
        }
    }
}

fn reason(status: &Status) -> String {
    fault::reason(status).unwrap_or_default()
}

fn policy(identity: &Identity, most_bytes: u64) -> Option<BackupPolicy> {
    Some(BackupPolicy {
        recipients: vec![identity.to_public()],
        most_bytes,
    })
}

/// By name: kind, mode and content, or where it points.
type Entries = BTreeMap<String, (EntryType, u32, Vec<u8>)>;

fn opened(backup: &[u8], identity: &Identity) -> Result<Entries, String> {
    let decryptor = age::Decryptor::new(backup).map_err(|error| error.to_string())?;
    let plain = decryptor
        .decrypt(std::iter::once(identity as &dyn age::Identity))
        .map_err(|error| error.to_string())?;
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(plain).entries().map_err(|e| e.to_string())? {
        let mut entry = entry.map_err(|e| e.to_string())?;
        let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
        let mut content = entry
            .link_name_bytes()
            .map(|to| to.into_owned())
            .unwrap_or_default();
        entry.read_to_end(&mut content).map_err(|e| e.to_string())?;
        let header = entry.header();
        let one = (header.entry_type(), header.mode().unwrap() & 0o7777, content);
        assert!(entries.insert(name, one).is_none(), "no name comes twice");
    }
    Ok(entries)
}

/// Files, links, a long name, and 1 MiB that cannot be compressed.
fn fill(world: &World) -> Vec<u8> {
    let data = world.volume("data");
    let mut big = vec![0; 1 << 20];
    std::fs::File::open("/dev/urandom")
        .unwrap()
        .read_exact(&mut big)
        .unwrap();
    std::fs::create_dir(data.join("box")).unwrap();
    std::fs::write(data.join("box/letter"), "dear all").unwrap();
    std::fs::set_permissions(data.join("box/letter"), PermissionsExt::from_mode(0o640)).unwrap();
    std::fs::write(data.join("box").join("n".repeat(250)), "long").unwrap();
    std::fs::write(data.join("big"), &big).unwrap();
    symlink("/etc/passwd", data.join("away")).unwrap();
    std::fs::hard_link(data.join("box/letter"), data.join("same")).unwrap();
    let state = world.volume("state");
    std::fs::create_dir_all(state.join("in/box")).unwrap();
    std::fs::write(state.join("in/box/kept"), "kept").unwrap();
    std::fs::write(state.join("in/beside"), "beside the folder").unwrap();
    std::fs::write(world.volume("cache").join("never"), "not in backup.paths").unwrap();
    big
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_holds_what_the_manifest_names_for_roots_recipient_alone() {
    let identity = Identity::generate();
    let world = World::start(policy(&identity, 1 << 30)).await;
    // state/in/box is not there yet.
    let (backup, ended) = rest(&mut world.read().await.unwrap()).await;
    assert_eq!(
        ended.as_ref().map(reason).as_deref(),
        Some("NO_FOLDER"),
        "{ended:?}"
    );
    assert!(
        opened(&backup, &identity).is_err(),
        "what was told until then is nothing"
    );
    world.reads_from_nothing();

    let big = fill(&world);
    world.proxy.take();
    world.could().await.unwrap();
    assert_eq!(
        world.proxy.take(),
        (0, String::new()),
        "to say so Docker is not asked"
    );
    let (backup, ended) = rest(&mut world.read().await.unwrap()).await;
    assert!(ended.is_none(), "{ended:?}");
    world.reads_from_nothing();
    for word in [&b"dear all"[..], b"letter", b"cell-backup.json"] {
        assert!(
            !backup.windows(word.len()).any(|window| window == word),
            "it is not encrypted"
        );
    }
    let entries = opened(&backup, &identity).unwrap();
    all_of_it_is_there(&world, &entries, &big);
    assert!(
        opened(&backup, &Identity::generate()).is_err(),
        "another key does not open it"
    );
    for cut in [backup.len() - 1, backup.len() / 2, 300] {
        assert!(opened(&backup[..cut], &identity).is_err(), "cut at {cut}");
    }
    a_service_that_was_stopped_has_one_as_well(&world, &identity, &entries).await;
}

fn all_of_it_is_there(world: &World, entries: &Entries, big: &[u8]) {
    let head: Value = serde_json::from_slice(&entries["cell-backup.json"].2).unwrap();
    assert_eq!(head["service"], "files");
    assert_eq!(head["manifest_digest"], world.manifest.as_str());
    assert_eq!(head["parts"], json!(["data", "state/in/box"]));
    let long = format!("data/box/{}", "n".repeat(250));
    let names: Vec<&str> = entries.keys().map(|name| name.trim_end_matches('/')).collect();
    let expected = [
        "cell-backup.json",
        "data",
        "data/away",
        "data/big",
        "data/box",
        "data/box/letter",
        &long,
        "data/same",
        "state/in/box",
        "state/in/box/kept",
    ];
    assert_eq!(names, expected);
    assert_eq!(entries["data/big"].2, big);
    assert_eq!(entries["state/in/box/kept"].2, b"kept");
    assert_eq!(
        entries["data/away"].2, b"/etc/passwd",
        "a link is kept and not followed"
    );
    // Of two names of one file, one is the file and the other points to it.
    let (letter, same) = (&entries["data/box/letter"], &entries["data/same"]);
    let (file, link, at) = if letter.0.is_file() {
        (letter, same, &b"data/box/letter"[..])
    } else {
        (same, letter, &b"data/same"[..])
    };
    assert_eq!((file.1, file.2.as_slice()), (0o640, &b"dear all"[..]));
    assert_eq!((link.0, link.2.as_slice()), (EntryType::Link, at));
}

async fn a_service_that_was_stopped_has_one_as_well(world: &World, identity: &Identity, before: &Entries) {
    let stop = StopContainerRequest {
        service: "files".to_owned(),
        timeout_seconds: 1,
    };
    world.broker.acts.clone().stop_container(stop).await.unwrap();
    let (backup, ended) = rest(&mut world.read().await.unwrap()).await;
    assert!(ended.is_none(), "{ended:?}");
    let mut entries = opened(&backup, identity).unwrap();
    entries.insert("cell-backup.json".to_owned(), before["cell-backup.json"].clone());
    assert!(entries == *before, "the same but for the time");
    root_puts_it_back(world, identity, &backup, before).await;
}

/// Root's command, with this key and this file.
async fn put_back(world: &World, key: &Identity, backup: &[u8]) -> Result<String, String> {
    let dir = tempfile::tempdir().unwrap();
    let (identity, file) = (dir.path().join("key"), dir.path().join("backup"));
    std::fs::write(
        &identity,
        format!("# a key\n{}\n", key.to_string().expose_secret()),
    )
    .unwrap();
    std::fs::write(&file, backup).unwrap();
    let config = Config {
        docker_socket: world.dockerd.socket(),
        policy: support::policy(),
        max_concurrent: 1,
        docker_deadline: Duration::from_secs(25),
        ceiling: Some(ceiling()),
        backup: None,
        api: CallerPolicy {
            uids: Vec::new(),
            unit: None,
        },
    };
    let restore = Restore {
        state: world.state.path().to_owned(),
        service: "files".to_owned(),
        identity,
        backup: file,
    };
    restore_from(config, restore)
        .await
        .map_err(|error| format!("{error:#}"))
}

/// A backup that anybody could make who knows the public key: its second entry, with these bytes after its header, and what the header
/// says of their number.
fn made_by_hand(to: &Identity, before: &Entries, kind: EntryType, told: u64, really: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut add = |kind: EntryType, name: &str, told: u64, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(name).unwrap();
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(told);
        header.set_cksum();
        plain.extend_from_slice(header.as_bytes());
        plain.extend_from_slice(bytes);
        plain.resize(plain.len().next_multiple_of(512), 0);
    };
    let head = &before["cell-backup.json"].2;
    add(EntryType::Regular, "cell-backup.json", head.len() as u64, head);
    if told != really.len() as u64 {
        // pax(1): what it says of the size is gone by.
        let size = format!("size={}\n", really.len());
        let line = format!("{} {size}", size.len() + 3);
        add(EntryType::XHeader, "pax", line.len() as u64, line.as_bytes());
    }
    add(kind, "data/by-hand", told, really);
    plain.resize(plain.len() + 1024, 0);
    let public = to.to_public();
    let recipient = std::iter::once(&public as &dyn age::Recipient);
    let mut sealed = Vec::new();
    let mut sealing = age::Encryptor::with_recipients(recipient)
        .unwrap()
        .wrap_output(&mut sealed)
        .unwrap();
    sealing.write_all(&plain).unwrap();
    sealing.finish().unwrap();
    sealed
}

/// What is looked at is what Docker reads: in the bytes of an entry are others, that lead out of the volume.
async fn what_is_hidden_in_a_backup_stays_hidden(world: &World, identity: &Identity, before: &Entries) {
    let mut link = tar::Header::new_ustar();
    link.set_entry_type(EntryType::Symlink);
    link.set_path("hidden").unwrap();
    link.set_link_name("/etc").unwrap();
    link.set_size(0);
    link.set_cksum();
    let link = link.as_bytes().as_slice();
    let length = link.len() as u64;
    for (kind, told) in [(EntryType::Directory, length), (EntryType::Symlink, length)] {
        let backup = made_by_hand(identity, before, kind, told, link);
        let refused = put_back(world, identity, &backup).await.unwrap_err();
        assert!(refused.contains("nothing was written"), "{refused}");
    }
    // Names are kept in memory while they are read.
    let name = vec![b'n'; 1 << 20];
    for kind in [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader] {
        let backup = made_by_hand(identity, before, kind, name.len() as u64, &name);
        let refused = put_back(world, identity, &backup).await.unwrap_err();
        assert!(refused.contains("nothing was written"), "{refused}");
        assert!(refused.contains("longer than any of Linux's"), "{refused}");
    }
    for told in [0, length] {
        let backup = made_by_hand(identity, before, EntryType::Regular, told, link);
        put_back(world, identity, &backup).await.unwrap();
        let data = world.volume("data");
        assert_eq!(
            std::fs::read(data.join("by-hand")).unwrap(),
            link,
            "a file as any"
        );
        assert!(data.join("hidden").symlink_metadata().is_err());
        std::fs::remove_file(data.join("by-hand")).unwrap();
    }
}

async fn root_puts_it_back(world: &World, identity: &Identity, backup: &[u8], before: &Entries) {
    let data = world.volume("data");
    std::fs::remove_dir_all(data.join("box")).unwrap();
    std::fs::remove_file(data.join("away")).unwrap();
    std::fs::write(data.join("big"), "something else").unwrap();
    std::fs::write(data.join("later"), "came after it").unwrap();
    // What cannot be put back whole changes nothing.
    let cut = put_back(world, identity, &backup[..backup.len() - 40])
        .await
        .unwrap_err();
    assert!(
        cut.contains("nothing was written") && cut.contains("was cut"),
        "{cut}"
    );
    let other = put_back(world, &Identity::generate(), backup).await.unwrap_err();
    assert!(other.contains("not for this key"), "{other}");
    assert!(put_back(world, identity, b"age-encryption").await.is_err());
    assert_eq!(std::fs::read(data.join("big")).unwrap(), b"something else");

    what_is_hidden_in_a_backup_stays_hidden(world, identity, before).await;
    let told = put_back(world, identity, backup).await.unwrap();
    assert!(told.contains("data, state of files"), "{told}");
    assert_eq!(
        std::fs::read_to_string(data.join("later")).unwrap(),
        "came after it"
    );
    std::fs::remove_file(data.join("later")).unwrap();
    let (backup, ended) = rest(&mut world.read().await.unwrap()).await;
    assert!(ended.is_none(), "{ended:?}");
    let mut entries = opened(&backup, identity).unwrap();
    entries.insert("cell-backup.json".to_owned(), before["cell-backup.json"].clone());
    assert!(entries == *before, "all is as it was");
    let start = StartContainerRequest {
        service: "files".to_owned(),
    };
    world.broker.acts.clone().start_container(start).await.unwrap();
    let running = put_back(world, identity, &backup).await.unwrap_err();
    assert!(running.contains("cellctl service stop files"), "{running}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_recipient_docker_is_asked_nothing() {
    let nobody = BackupPolicy {
        recipients: Vec::new(),
        most_bytes: 1 << 30,
    };
    let world = World::start(Some(nobody)).await;
    world.proxy.take();
    let refused = world.read().await.unwrap_err();
    assert_eq!(reason(&refused), "NO_RECIPIENT");
    assert!(
        refused.message().contains("cell-broker backup-key"),
        "{refused:?}"
    );
    assert_eq!(world.proxy.take(), (0, String::new()));
    let refused = world.could().await.unwrap_err();
    assert_eq!(reason(&refused), "NO_RECIPIENT");
}

/// More than the sockets between hold.
fn fill_up(data: &Path) {
    let mut file = std::fs::File::create(data.join("big")).unwrap();
    for _ in 0..16 {
        file.write_all(&[7; 1 << 20]).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_not_whole_says_so() {
    let identity = Identity::generate();
    let world = World::start(policy(&identity, 1 << 30)).await;
    fill_up(&world.volume("data"));
    std::fs::create_dir_all(world.volume("state").join("in/box")).unwrap();
    let mut first = world.read().await.unwrap();
    first.message().await.unwrap().unwrap();
    assert_eq!(
        reason(&world.read().await.unwrap_err()),
        "BUSY",
        "one of a service at a time"
    );
    // Nobody reads on: the service can be looked at all the same, for it is not what is read.
    world.dockerd.say(&["inspect", &world.id]);
    drop(first);
    world.reads_from_nothing();

    // The service is taken away while it is read.
    let mut second = world.read().await.unwrap();
    second.message().await.unwrap().unwrap();
    world.broker.remove("files", false).await.unwrap();
    let (_, ended) = rest(&mut second).await;
    assert_eq!(reason(&ended.unwrap()), "SERVICE_CHANGED");
    assert_eq!(world.containers(), "");
    assert_eq!(reason(&world.read().await.unwrap_err()), "NOT_OWNED");

    // Docker dies while it is read.
    let mut world = world;
    world.broker.deploy(&world.manifest, &[]).await.unwrap();
    let mut third = world.read().await.unwrap();
    third.message().await.unwrap().unwrap();
    world.dockerd.kill();
    let (_, ended) = rest(&mut third).await;
    let ended = reason(&ended.unwrap());
    assert!(
        ["NO_DOCKER", "ARCHIVE_CUT", "DOCKER_ANSWER"].contains(&ended.as_str()),
        "{ended}"
    );
}

/// The program itself, behind its sandbox, with the service deployed.
async fn program(dockerd: &Dockerd, more: &str) -> Program {
    let digest = registry::serve(dockerd, &json!({"Env": ["PATH=/bin"]}));
    chown(&dockerd.socket(), Some(Uid::from_raw(USER)), None).unwrap();
    let program = Program::start_with(&dockerd.socket(), more);
    let mut all = DeploymentServiceClient::new(connect(program.socket()));
    let put = all.put_manifest(put_request(bundle(&keeping(&digest)))).await;
    let manifest_digest = put.unwrap().into_inner().digest;
    let pull = PullImagesRequest {
        manifest_digest: manifest_digest.clone(),
    };
    let mut pulling = all.pull_images(pull).await.unwrap().into_inner();
    while pulling.message().await.unwrap().is_some() {}
    all.deploy(deploy_request(&manifest_digest, &[])).await.unwrap();
    program
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_program_makes_them_up_to_its_ceiling_and_leaves_nothing_when_it_is_killed() {
    let identity = Identity::generate();
    let dockerd = Dockerd::start();
    let more = format!(
        "[backup]\nrecipients = [\"{}\"]\nmost_mib = 8\n",
        identity.to_public()
    );
    let mut program = program(&dockerd, &more).await;
    let client = BackupServiceClient::new(connect(program.socket()));
    let read = async |service: &str| {
        let request = ReadBackupRequest {
            service: service.to_owned(),
            validate_only: false,
        };
        client.clone().read_backup(request).await
    };
    let containers = || dockerd.say(&["ps", "--all", "--quiet", "--no-trunc"]);
    let own = containers();
    let volume = |name: &str| {
        dockerd
            .dir()
            .join(format!("data/volumes/cell-files.{name}/_data"))
    };
    std::fs::create_dir_all(volume("state").join("in/box")).unwrap();
    std::fs::write(volume("data").join("letter"), "dear all").unwrap();
    let (backup, ended) = rest(&mut read("files").await.unwrap().into_inner()).await;
    assert!(ended.is_none(), "{ended:?}: {}", program.log());
    assert_eq!(opened(&backup, &identity).unwrap()["data/letter"].2, b"dear all");

    fill_up(&volume("data"));
    let (backup, ended) = rest(&mut read("files").await.unwrap().into_inner()).await;
    assert_eq!(reason(&ended.unwrap()), "BACKUP_TOO_LARGE");
    assert!(backup.len() < 10 << 20);
    assert!(opened(&backup, &identity).is_err());
    let refused = read("Not/A/Name").await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_REQUEST");

    let mut cut = read("files").await.unwrap().into_inner();
    cut.message().await.unwrap().unwrap();
    assert_ne!(containers(), own, "it is read from another container");
    program.kill();
    assert!(rest(&mut cut).await.1.is_some(), "it ends as if it were whole");
    program.run();
    let deadline = Instant::now() + PATIENCE;
    while containers() != own {
        assert!(Instant::now() < deadline, "{}", containers());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
