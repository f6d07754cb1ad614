//! A service from the catalog to its end, with a real dockerd, broker, netd, vaultd and cell-api and a stock WireGuard client: it
//! runs on its own bridge, netd has its network, and whoever is killed meanwhile, it ends installed or gone. Needs root and the built programs.
#![allow(
    clippy::unwrap_used,
    clippy::too_many_lines,
    reason = "tests: a case is one story"
)]

#[path = "support/registry.rs"]
mod registry;

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cell_lab::cell::{Cell, Edit};
use cell_lab::docker::Docker;
use cell_lab::household::{PASSWORD, USER, claimed, join};
use cell_lab::netns::Namespace;
use cell_lab::probe::{EchoServer, tcp_echo};
use cell_lab::process::{run, until};
use cell_lab::topology::{CELL, FAR_HOST, LAN_HOST, World};
use cell_launch::house::Daemon;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{DerSignature, SigningKey};
use p256::pkcs8::{EncodePublicKey as _, LineEnding};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// A kill, a start of the daemon, and backoffs on a busy machine.
const CONVERGED: Duration = Duration::from_secs(120);

fn key() -> SigningKey {
    SigningKey::from_slice(&[7; 32]).unwrap()
}

/// Puts `notes` on the shelf, signed.
fn shelve(shelf: &Path, image: &str) -> Result<()> {
    shelve_as(shelf, image, &json!({}))
}

/// The same with these fields instead of its own; `health` is its container's.
fn shelve_as(shelf: &Path, image: &str, change: &Value) -> Result<()> {
    let mut manifest = json!({
        "schema_version": 3, "kind": "store", "id": "notes", "name": "Notes", "version": "1.0.0",
        "flags": {"has_storage": true},
        "containers": [{
            "name": "notes", "image": format!("127.0.0.1:5000/store/notes@{image}"), "user": "1000:1000",
            "command": ["/bin/busybox", "httpd", "-f", "-vv", "-p", "8080", "-h", "/srv"],
            "mounts": [{"type": "volume", "volume": "data", "target": "/data"}],
            "limits": {"memory_mib": 32, "cpu_milli": 500, "pids": 16}, "ports": [{"port": 8080}]
        }]
    });
    for (key, value) in change.as_object().into_iter().flatten() {
        match key.as_str() {
            "health" => manifest["containers"][0]["health"] = value.clone(),
            _ => manifest[key] = value.clone(),
        }
    }
    // What devices open at it would give it a default route.
    if manifest["egress"].is_object() || change["flags"].is_object() {
        manifest["containers"][0]["ports"] = json!([]);
    }
    let bytes = serde_json::to_vec(&manifest)?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let signature: DerSignature = key().sign(&bytes);
    std::fs::create_dir_all(shelf.join("notes"))?;
    std::fs::write(shelf.join("notes/manifest.json"), &bytes)?;
    std::fs::write(
        shelf.join("notes/manifest.json.sig"),
        STANDARD.encode(signature.as_bytes()),
    )?;
    let index = json!({"schema_version": 1, "services": [{"id": "notes", "title": "Notes", "description": "",
        "version": manifest["version"], "manifest": "notes/manifest.json", "digest": format!("sha256:{digest}")}]});
    std::fs::write(shelf.join("index.json"), serde_json::to_vec(&index)?)?;
    run(std::process::Command::new("chmod")
        .args(["-R", "a+rX"])
        .arg(shelf))
    .map(drop)
}

fn policies(docker: &Docker<'_>, shelf: &Path) -> Vec<(Daemon, Edit)> {
    let socket = docker.socket().display().to_string();
    let pem = p256::PublicKey::from(key().verifying_key())
        .to_public_key_pem(LineEnding::LF)
        .unwrap();
    let broker = move |shipped: String| {
        let shipped = shipped.replace("\"/run/docker.sock\"", &format!("{socket:?}"));
        format!(
            "{shipped}\n[deploy]\nmanifest_keys = [{pem:?}]\nimage_policy = \"off\"\nregistries = [\"127.0.0.1:5000\"]\n\
             cell_network = \"172.20.0.0/24\"\nservice_networks = \"172.21.0.0/16\"\nbridge_prefix = \"cellsvc\"\n\
             [deploy.limits]\nmemory_mib = 64\ncpu_milli = 1000\npids = 64\nservices = 8\ntotal_memory_mib = 512\nmanifests = 8\n"
        )
    };
    let catalog = format!("catalog = {:?}\n", shelf.display().to_string());
    let api = move |shipped: String| {
        let others = shipped.lines().filter(|line| !line.starts_with("catalog ="));
        catalog + &others.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    vec![(Daemon::Broker, Box::new(broker)), (Daemon::Api, Box::new(api))]
}

/// As somebody who logs in anew: it may have been started anew.
fn asked(cell: &Cell, path: &str) -> Option<(u16, Value)> {
    let mut rest = cell.rest();
    rest.login(USER, PASSWORD).ok()?;
    let answer = rest.get(path).ok()?;
    Some((answer.status, answer.json()))
}

fn installed(cell: &Cell) -> Result<Value> {
    until(CONVERGED, "it is installed", || {
        let (status, told) = asked(cell, "/api/services/notes")?;
        (status == 200 && told["phase"] == "installed").then_some(told)
    })
    .with_context(|| format!("{:?}\n{}", asked(cell, "/api/services/notes"), cell.output()))
}

fn gone(cell: &Cell) -> Result<()> {
    until(CONVERGED, "it is gone", || {
        (asked(cell, "/api/services/notes")?.0 == 404).then_some(())
    })
    .with_context(|| format!("{:?}\n{}", asked(cell, "/api/services/notes"), cell.output()))
}

/// What is at Docker of the cell.
fn left(docker: &Docker<'_>) -> Result<String> {
    let own = ["--filter", "label=cell.owner=default"];
    Ok([
        docker.say(&["ps", "--all", "--quiet"])?,
        docker.say(&["volume", "ls", "--quiet"])?,
        docker.say(&["network", "ls", "--quiet", own[0], own[1]])?,
    ]
    .join("|"))
}

fn post(cell: &Cell, path: &str, body: &Value) -> Result<()> {
    let mut rest = cell.rest();
    rest.login(USER, PASSWORD)?;
    rest.post(path, body)?.expect(202).map(drop)
}

fn delete(cell: &Cell) -> Result<()> {
    let mut rest = cell.rest();
    rest.login(USER, PASSWORD)?;
    rest.delete("/api/services/notes?delete_volumes=true")?
        .expect(202)
        .map(drop)
}

/// What a web server answers, if it does.
fn page(from: &Namespace, at: SocketAddr) -> Option<String> {
    let asked = from.inside(|| -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&at, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    });
    asked.ok()?.ok()
}

/// A device that may reaches the port of the container at the service's address in the VPN, as itself, and nobody else does.
fn devices_are_answered(
    docker: &Docker<'_>,
    world: &World,
    id: &str,
    devices: [(&Namespace, IpAddr); 2],
) -> Result<()> {
    let at: SocketAddr = "10.67.0.254:8080".parse()?;
    let [(phone, its), (tablet, _)] = devices;
    let answer = until(CONVERGED, "the phone is answered", || page(phone, at))?;
    ensure!(answer.ends_with("notes of the house\n"), "{answer}");
    let socket = docker.socket().display().to_string();
    let both = format!("docker --host unix://{socket} logs {id} 2>&1");
    let seen = run(std::process::Command::new("sh").args(["-c", &both]))?;
    ensure!(seen.contains(&format!("{its}")), "it sees the device: {seen}");
    // The tablet speaks with the cell, and not with the service.
    ensure!(page(tablet, at).is_none(), "a device without a grant is answered");
    let own = SocketAddr::new("10.67.0.1".parse()?, 443);
    let connects = tablet.inside(|| TcpStream::connect_timeout(&own, Duration::from_secs(3)))?;
    ensure!(connects.is_ok(), "control: {connects:?}");
    ensure!(page(&world.lan, at).is_none() && page(&world.internet, at).is_none());
    Ok(())
}

/// Its default route leads to netd, which lets nothing out.
fn it_reaches_nobody(docker: &Docker<'_>, world: &World, id: &str) -> Result<()> {
    const ECHO: u16 = 7000;
    for namespace in [&world.lan, &world.internet, &world.cell] {
        EchoServer::start(namespace, ECHO)?;
    }
    let route = docker.say(&["exec", id, "/bin/busybox", "ip", "route"])?;
    ensure!(route.contains("default via 172.21.0.1"), "{route}");
    let bridge: IpAddr = "172.21.0.1".parse()?;
    for to in [LAN_HOST.v4.into(), FAR_HOST.v4.into(), CELL.v4.into(), bridge] {
        let at = SocketAddr::new(to, ECHO);
        ensure!(
            tcp_echo(&world.cell, at, Duration::from_secs(3))?,
            "control: {to}"
        );
        let script = format!("nc -w 2 {to} {ECHO} </dev/null");
        let reached = docker.say(&["exec", id, "/bin/busybox", "sh", "-c", &script]);
        ensure!(reached.is_err(), "the container reaches {to}");
    }
    Ok(())
}

/// A SOCKS5 server that connects to whatever IPv4 address it is asked for, and counts.
fn socks_server(namespace: &Namespace, port: u16) -> Result<Arc<AtomicUsize>> {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    // Threads are in the namespace of the one that starts them.
    namespace.inside(|| -> Result<()> {
        let listener = TcpListener::bind(("0.0.0.0", port))?;
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let count = Arc::clone(&count);
                std::thread::spawn(move || carry(client, &count).ok());
            }
        });
        Ok(())
    })??;
    Ok(asked)
}

fn carry(mut client: TcpStream, count: &AtomicUsize) -> Result<()> {
    let mut head = [0; 2];
    client.read_exact(&mut head)?;
    client.read_exact(&mut vec![0; usize::from(head[1])])?;
    client.write_all(&[5, 0])?;
    let mut request = [0; 10];
    client.read_exact(&mut request)?;
    ensure!(request[..4] == [5, 1, 0, 1], "another request: {request:?}");
    let [_, _, _, _, a, b, c, d, high, low] = request;
    let to = SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low])));
    count.fetch_add(1, Ordering::SeqCst);
    let mut far = TcpStream::connect(to)?;
    client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
    let (mut from_far, mut to_client) = (far.try_clone()?, client.try_clone()?);
    // Each end is passed on: the container's program waits for it.
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_far, &mut to_client);
        to_client.shutdown(Shutdown::Write)
    });
    std::io::copy(&mut client, &mut far)?;
    far.shutdown(Shutdown::Write)?;
    Ok(())
}

/// What a container reads back of what it says to an echo.
fn echoed(docker: &Docker<'_>, id: &str, to: IpAddr, port: u16) -> bool {
    let script = format!("echo here | timeout 20 nc -w 5 {to} {port}");
    let said = docker.say(&["exec", id, "/bin/busybox", "sh", "-c", &script]);
    said.is_ok_and(|said| said.contains("here"))
}

/// What the broker made goes out by the exit that its manifest allows, and by nothing else; without `egress` there is no way, and the
/// cell says so.
#[test]
fn a_container_goes_out_by_its_exit_alone() -> Result<()> {
    const ECHO: u16 = 7000;
    const SOCKS: u16 = 1080;
    let world = World::new()?;
    let docker = Docker::start(&world.cell)?;
    let image = registry::serve(&world.cell, "notes")?;
    let shelf = tempfile::tempdir()?;
    let flags = json!({"has_storage": true, "has_egress": true});
    let egress = json!({"allowed": ["proxy"], "default": "proxy"});
    shelve_as(shelf.path(), &image, &json!({"flags": flags, "egress": egress}))?;
    let cell = Cell::start_edited(&world.cell, policies(&docker, shelf.path()))?;
    let mut rest = claimed(&cell)?;
    for namespace in [&world.lan, &world.internet] {
        EchoServer::start(namespace, ECHO)?;
    }
    let through = socks_server(&world.internet, SOCKS)?;
    let url = format!("socks5://{}:{SOCKS}", FAR_HOST.v4);
    let exit = json!({"name": "work", "type": "proxy", "import": {"url": url}});
    rest.post("/api/connectivity/connections", &exit)?.expect(201)?;

    // Nobody chose: its manifest has one for it.
    post(&cell, "/api/services/notes/install", &json!({}))?;
    installed(&cell)?;
    let networks = rest.get("/api/connectivity/services")?.expect(200)?;
    ensure!(
        networks["services"][0]["connection_name"] == "work" && networks["services"][0]["way"] == "exit",
        "{networks}"
    );
    let id = docker.say(&["ps", "--quiet", "--no-trunc"])?;
    let far: IpAddr = FAR_HOST.v4.into();
    until(CONVERGED, "it reaches the internet", || {
        echoed(&docker, &id, far, ECHO).then_some(())
    })?;
    let carried = through.load(Ordering::SeqCst);
    ensure!(carried > 0, "it went by another way than its exit");
    let path = "/api/connectivity/services/notes/exit";
    rest.put(path, &json!({"connection_id": null}))?.expect(200)?;
    until(CONVERGED, "it reaches nothing", || {
        (!echoed(&docker, &id, far, ECHO)).then_some(())
    })?;
    rest.put(path, &json!({"connection_id": "work"}))?.expect(200)?;
    until(CONVERGED, "it is carried again", || {
        echoed(&docker, &id, far, ECHO).then_some(())
    })?;
    ensure!(through.load(Ordering::SeqCst) > carried, "by its exit, as before");

    // The same without a word of exits.
    delete(&cell)?;
    gone(&cell)?;
    shelve_as(shelf.path(), &image, &json!({"flags": {"has_storage": true}}))?;
    post(&cell, "/api/services/notes/install", &json!({}))?;
    installed(&cell)?;
    for way in ["work", "direct"] {
        let refused = rest.put(path, &json!({"connection_id": way}))?;
        ensure!(
            refused.status == 409 && refused.code() == "NO_WAY_OUT",
            "{}",
            refused.json()
        );
    }
    let id = docker.say(&["ps", "--quiet", "--no-trunc"])?;
    // Docker 20.10 gives it a route to the bridge all the same, and lets nothing pass there.
    let is_internal = docker.say(&[
        "network",
        "inspect",
        "--format",
        "{{.Internal}}",
        "cell-service-notes",
    ])?;
    ensure!(is_internal == "true", "{is_internal}");
    ensure!(!echoed(&docker, &id, far, ECHO), "it goes out without a way out");
    cell.stop()
}

#[test]
fn a_service_comes_runs_and_goes_whoever_is_killed() -> Result<()> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let other = world.device("tablet")?;
    let docker = Docker::start(&world.cell)?;
    let image = registry::serve(&world.cell, "notes")?;
    let shelf = tempfile::tempdir()?;
    shelve(shelf.path(), &image)?;
    let cell = Cell::start_edited(&world.cell, policies(&docker, shelf.path()))?;
    let mut rest = claimed(&cell)?;
    let phone = join(&mut rest, &device, json!({"name": "phone", "tunnel": "split"}))?;
    let tablet = join(&mut rest, &other, json!({"name": "tablet", "tunnel": "split"}))?;

    let body = json!({"allowed_peers": ["phone"]});
    post(&cell, "/api/services/notes/install", &body)?;
    let told = installed(&cell)?;
    ensure!(
        told["bridge"] == "cellsvc1" && told["address"] == "10.67.0.254",
        "{told}"
    );
    // It runs, on its bridge.
    ensure!(world.cell.ip("link show cellsvc1")?.contains("cellsvc1"));
    let id = docker.say(&["ps", "--quiet", "--no-trunc"])?;
    ensure!(id.len() == 64, "one container runs: {id}");
    let page = docker.say(&["exec", &id, "/bin/busybox", "cat", "/srv/index.html"])?;
    ensure!(page == "notes of the house", "{page}");
    let devices = [
        (&device.namespace, phone.address(false)?),
        (&other.namespace, tablet.address(false)?),
    ];
    devices_are_answered(&docker, &world, &id, devices)?;
    it_reaches_nobody(&docker, &world, &id)?;
    let status = asked(&cell, "/api/services/notes/status").context("no status")?.1;
    ensure!(status["containers"][0]["state"] == "running", "{status}");
    let logs = asked(&cell, "/api/services/notes/logs").context("no logs")?;
    ensure!(logs.0 == 200, "{logs:?}");
    // netd has its network, and no way out for it.
    let networks = asked(&cell, "/api/connectivity/services")
        .context("no networks")?
        .1;
    ensure!(networks["services"][0]["service"] == "notes", "{networks}");
    ensure!(networks["services"][0]["way"] == "nowhere", "{networks}");
    let project = cell.home().join("lib/api/services/notes/docker-compose.yml");
    ensure!(std::fs::read_to_string(project)?.contains("cellsvc1"));
    delete(&cell)?;
    gone(&cell)?;
    ensure!(left(&docker)? == "||", "{}", left(&docker)?);
    ensure!(world.cell.ip("link show cellsvc1").is_err(), "its bridge is left");

    for (daemon, after) in [("api", 0), ("broker", 40), ("broker", 250), ("api", 600)] {
        let after = Duration::from_millis(after);
        post(&cell, "/api/services/notes/install", &body)?;
        std::thread::sleep(after);
        cell.crash(daemon)?;
        let told = installed(&cell)?;
        ensure!(told["error"].is_null(), "{told}");
        delete(&cell)?;
        std::thread::sleep(after);
        cell.crash(daemon)?;
        gone(&cell)?;
        ensure!(left(&docker)? == "||", "after {daemon}: {}", left(&docker)?);
    }
    let networks = asked(&cell, "/api/connectivity/services")
        .context("no networks")?
        .1;
    ensure!(networks["services"] == json!([]), "{networks}");
    cell.stop()
}

/// `notes` of this version, whose check is this applet of busybox.
fn shelve_checked(shelf: &Path, image: &str, version: &str, check: &str) -> Result<()> {
    let health = json!({"command": ["/bin/busybox", check], "interval_seconds": 15, "timeout_seconds": 5, "retries": 1});
    shelve_as(shelf, image, &json!({"version": version, "health": health}))
}

/// Docker asks the new container, which says that it does not work, and the former one answers again, whoever is killed meanwhile; one
/// that works stays.
#[test]
fn an_update_to_what_does_not_work_ends_at_what_does() -> Result<()> {
    let mut world = World::new()?;
    let device = world.device("phone")?;
    let docker = Docker::start(&world.cell)?;
    let image = registry::serve(&world.cell, "notes")?;
    let shelf = tempfile::tempdir()?;
    shelve_checked(shelf.path(), &image, "1.0.0", "true")?;
    let cell = Cell::start_edited(&world.cell, policies(&docker, shelf.path()))?;
    let mut rest = claimed(&cell)?;
    let _phone = join(&mut rest, &device, json!({"name": "phone", "tunnel": "split"}))?;
    post(&cell, "/api/services/notes/install", &json!({"everyone": true}))?;
    installed(&cell)?;
    let at: SocketAddr = "10.67.0.254:8080".parse()?;
    let answers = |what: &str| until(CONVERGED, what, || page(&device.namespace, at));
    answers("it answers")?;

    for (version, killed) in [("2.0.0", None), ("2.0.1", Some("api")), ("2.0.2", Some("broker"))] {
        shelve_checked(shelf.path(), &image, version, "false")?;
        post(&cell, "/api/services/notes/update", &json!({}))?;
        until(CONVERGED, "it is on trial", || {
            let told = asked(&cell, "/api/services/notes")?.1;
            (told["step"] == "health" && told["waiting"]["code"] == "HEALTH").then_some(())
        })?;
        if let Some(daemon) = killed {
            cell.crash(daemon)?;
        }
        let told = installed(&cell)?;
        ensure!(told["version"] == "1.0.0", "{told}");
        ensure!(told["error"]["code"] == "UPDATE_TAKEN_BACK", "{told}");
        let why = told["error"]["message"].as_str().unwrap_or_default();
        ensure!(
            why.contains("container notes") && why.contains("UNHEALTHY"),
            "{told}"
        );
        let answer = answers("the former one answers")?;
        ensure!(answer.ends_with("notes of the house\n"), "{answer}");
        let running = docker.say(&["ps", "--all", "--quiet"])?;
        ensure!(running.lines().count() == 1, "one container is there: {running}");
    }
    shelve_checked(shelf.path(), &image, "3.0.0", "true")?;
    post(&cell, "/api/services/notes/update", &json!({}))?;
    let told = installed(&cell)?;
    ensure!(told["version"] == "3.0.0" && told["error"].is_null(), "{told}");
    answers("the new one answers")?;
    cell.stop()
}

/// Nothing of it is Docker's doing: in a house that lets it write no rules, netd's stand alone.
#[test]
fn devices_are_answered_and_nobody_else_also_where_docker_writes_no_rules() -> Result<()> {
    let mut world = World::new()?;
    let (device, other) = (world.device("phone")?, world.device("tablet")?);
    let docker = Docker::start_without_iptables(&world.cell)?;
    let image = registry::serve(&world.cell, "notes")?;
    let shelf = tempfile::tempdir()?;
    shelve(shelf.path(), &image)?;
    let cell = Cell::start_edited(&world.cell, policies(&docker, shelf.path()))?;
    let mut rest = claimed(&cell)?;
    let phone = join(&mut rest, &device, json!({"name": "phone", "tunnel": "split"}))?;
    let tablet = join(&mut rest, &other, json!({"name": "tablet", "tunnel": "split"}))?;
    post(
        &cell,
        "/api/services/notes/install",
        &json!({"allowed_peers": ["phone"]}),
    )?;
    installed(&cell)?;
    let rules = world.cell.run("iptables-save", &[])?;
    ensure!(!rules.contains("DOCKER"), "{rules}");
    let id = docker.say(&["ps", "--quiet", "--no-trunc"])?;
    let devices = [
        (&device.namespace, phone.address(false)?),
        (&other.namespace, tablet.address(false)?),
    ];
    devices_are_answered(&docker, &world, &id, devices)?;
    it_reaches_nobody(&docker, &world, &id)?;
    cell.stop()
}
