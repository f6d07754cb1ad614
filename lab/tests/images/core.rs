//! The containers of the cell itself: CoreDNS, Caddy, chrony.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;
use std::time::Duration;

use crate::service::{MACHINE, Service, eventually};

const ALICE: &str = "10.7.0.2";
const BOB: &str = "10.7.0.3";

fn zone(serial: u32, address: &str) -> String {
    format!(
        "$ORIGIN cell.example.\n@ 5 IN SOA ns hostmaster {serial} 60 60 60 5\n@ 5 IN NS ns\ncalendar 5 IN A {address}\n"
    )
}

fn write(dir: &std::path::Path, name: &str, text: &str) {
    std::fs::write(dir.join(name), text).unwrap();
    std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(0o644)).unwrap();
}

#[test]
fn coredns_answers_each_device_by_its_own_view_and_reloads() {
    let mut service = Service::new(&["coredns"]);
    let dns = service.dockerd.dir().join("dns");
    std::fs::create_dir(&dns).unwrap();
    std::fs::set_permissions(&dns, PermissionsExt::from_mode(0o755)).unwrap();
    let block = |name: &str, device: &str| {
        format!(
            "cell.example:53 {{\n  view {name} {{\n    expr client_ip() in ['{device}']\n  }}\n  errors\n  log\n  \
             file /etc/coredns/{name}.zone cell.example {{\n    reload 0\n  }}\n}}\n"
        )
    };
    write(&dns, "Corefile", &(block("alice", ALICE) + &block("bob", BOB)));
    write(&dns, "alice.zone", &zone(1, "10.7.255.254"));
    write(
        &dns,
        "bob.zone",
        "$ORIGIN cell.example.\n@ 5 IN SOA ns hostmaster 1 60 60 60 5\n@ 5 IN NS ns\n",
    );
    service.deploy("coredns", &BTreeMap::from([("dns", dns.clone())]));
    service.healthy("coredns");
    service.devices(&[ALICE, BOB]);
    let server = format!("@{}", service.address("cell-coredns-coredns"));
    let dig = |from: &str, more: &[&str]| {
        let mut args = vec![
            server.as_str(),
            "-b",
            from,
            "calendar.cell.example",
            "A",
            "+tries=1",
            "+time=2",
        ];
        args.extend(more);
        service.out("dig", &args)
    };
    assert_eq!(dig(ALICE, &["+short"]), "10.7.255.254");
    assert_eq!(dig(ALICE, &["+short", "+tcp"]), "10.7.255.254");
    assert!(dig(BOB, &[]).contains("status: NXDOMAIN"), "{}", dig(BOB, &[]));
    assert!(
        dig(MACHINE, &[]).contains("status: REFUSED"),
        "{}",
        dig(MACHINE, &[])
    );

    // A new zone is answered within a second of the signal that the manifest names, and the log says so.
    write(&dns, "alice.zone", &zone(2, "10.7.255.253"));
    service
        .dockerd
        .say(&["kill", "--signal", "SIGUSR1", "cell-coredns-coredns"]);
    eventually("the new zone", Duration::from_secs(1), || {
        let said = dig(ALICE, &["+short"]);
        (said == "10.7.255.253").then_some(()).ok_or(said)
    });
    // A configuration that it does not take leaves what is served.
    write(&dns, "Corefile", "cell.example {\n  nonsense\n}\n");
    service
        .dockerd
        .say(&["kill", "--signal", "SIGUSR1", "cell-coredns-coredns"]);
    eventually("the refusal in the log", Duration::from_secs(5), || {
        let logs = service.logs();
        logs.contains("Unknown directive 'nonsense'")
            .then_some(())
            .ok_or(logs)
    });
    assert_eq!(dig(ALICE, &["+short"]), "10.7.255.253");
    service.print_memory();
}

#[test]
fn caddy_takes_its_configuration_by_the_socket_and_serves_https() {
    let mut service = Service::new(&["caddy"]);
    let run = service.dockerd.dir().join("caddy");
    std::fs::create_dir(&run).unwrap();
    chown(&run, Some(20002), Some(20002)).unwrap();
    std::fs::set_permissions(&run, PermissionsExt::from_mode(0o2750)).unwrap();
    service.deploy("caddy", &BTreeMap::from([("caddy", run.clone())]));
    service.healthy("caddy");
    let socket = run.join("admin.sock");
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "the group may ask, nobody else");
    let post = |config: &str| {
        let socket = socket.to_str().unwrap();
        let args = [
            "-sS",
            "--max-time",
            "10",
            "--unix-socket",
            socket,
            "-H",
            "Content-Type: application/json",
            "-w",
            "%{http_code}",
            "--data",
            config,
            "http://127.0.0.1/load",
        ];
        service.out("curl", &args)
    };
    let config = |words: &str| {
        format!(
            r#"{{"admin": {{"listen": "unix//run/cell/caddy/admin.sock|0660", "config": {{"persist": false}}}},
            "apps": {{"http": {{"servers": {{"cell": {{"listen": [":8443"], "routes": [{{"match": [{{"host": ["calendar.cell.example"]}}],
            "handle": [{{"handler": "static_response", "body": "{words}"}}]}}], "tls_connection_policies": [{{}}]}}}}}},
            "tls": {{"automation": {{"policies": [{{"issuers": [{{"module": "internal"}}]}}]}}}}}}}}"#
        )
    };
    assert_eq!(post(&config("first")), "200");
    let address = service.address("cell-caddy-caddy");
    let resolve = format!("calendar.cell.example:8443:{address}");
    let authority = service.dockerd.dir().join("root.crt");
    let get = || {
        // The CA is Caddy's own here; the cell's is loaded by `cell-api`.
        let inside = "cell-caddy-caddy:/data/caddy/pki/authorities/local/root.crt";
        service
            .dockerd
            .docker(&["cp", inside, authority.to_str().unwrap()]);
        let args = [
            "-sS",
            "--max-time",
            "5",
            "--cacert",
            authority.to_str().unwrap(),
            "--resolve",
            &resolve,
            "https://calendar.cell.example:8443/",
        ];
        let output = service.outside("curl", &args);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(said)
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    };
    assert_eq!(eventually("HTTPS", Duration::from_secs(10), get), "first");
    assert_eq!(post(&config("second")), "200");
    assert_eq!(get(), Ok("second".to_owned()));
    // All or nothing.
    let refused = post(&config("third").replace("static_response", "nonsense"));
    assert!(refused.ends_with("400"), "{refused}");
    assert_eq!(get(), Ok("second".to_owned()));
    service.print_memory();
}

#[test]
fn chrony_tells_the_machines_time() {
    let mut service = Service::new(&["chrony"]);
    service.deploy("chrony", &BTreeMap::<&str, PathBuf>::new());
    service.healthy("chrony");
    // Started again, as after a crash.
    service.dockerd.say(&["restart", "cell-chrony-chrony"]);
    service.healthy("chrony");
    // A second chronyd asks as a device would, and does not set anything.
    let server = format!(
        "server {} iburst maxsamples 4",
        service.address("cell-chrony-chrony")
    );
    let args = [
        "run",
        "--rm",
        "--network=own",
        "--cap-drop=ALL",
        "--user=20004:20004",
        "--tmpfs=/run/chrony:mode=1777",
        "--entrypoint=/usr/sbin/chronyd",
        "cell/chrony:local",
        "-Q",
        "-x",
        "-U",
        "-u",
        "cell",
        "-t",
        "20",
        &server,
    ];
    let output = service.dockerd.docker(&args);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && said.contains("System clock wrong by"),
        "{said}{}",
        service.logs()
    );
    let offset: f64 = said
        .split("wrong by ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!(offset.abs() < 0.1, "{said}");
    service.print_memory();
}
