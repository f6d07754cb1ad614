//! `clean-host` takes back what a cell left, and only that. The "host" here is a namespace of the test.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fs;
use std::process::Command;

use support::{Cell, run};

/// What netd leaves, made with the machine's own tools; and neighbours that are not the cell's.
const LEFT: &str = "
ip link add wg0 type bridge
ip address add 169.254.67.1/32 dev wg0
ip link set wg0 up
nft add table inet cell
nft add table inet mine
nft add table ip filter
nft add chain ip filter DOCKER-USER
nft add rule ip filter DOCKER-USER meta mark and 0x2000 == 0x2000 counter accept comment cell
nft add rule ip filter DOCKER-USER ip saddr 10.0.0.0/8 counter accept
ip link add other type bridge
ip link add wgext_1 type bridge
ip link add wgext_2 type bridge
ip link add wgext_3 type bridge
ip -4 rule add pref 10033 fwmark 0x1000/0x1ff0 lookup 1000 proto 206
ip -6 rule add pref 10033 fwmark 0x1000/0x1ff0 lookup 1000 proto 206
ip -4 route add unreachable default table 1000 metric 20000 proto 206
ip -6 route add unreachable default table 1000 metric 20000 proto 206
ip -4 rule add pref 10034 fwmark 0x1010/0x1ff0 lookup 1001
ip -6 route add unreachable default table 1001 metric 20000
";

#[test]
fn a_host_is_as_it_was() {
    let cell = used("used-host\nsysctl net/ipv4/ip_forward 0\n");
    for line in LEFT.lines().filter(|line| !line.is_empty()) {
        inside(&cell, &line.split(' ').collect::<Vec<_>>());
    }
    inside(&cell, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    for (link, alias) in [
        (
            "wgext_1",
            "made by cell-netd for table cell, secrets 3 of exit0 with KEY=",
        ),
        ("wgext_3", "made by cell-netd for table cellar"),
    ] {
        inside(&cell, &["ip", "link", "set", link, "alias", alias]);
    }

    let said = run(&mut cell.command(&["clean-host"]));
    for words in [
        "interface wg0",
        "interface wgext_1",
        "table inet cell",
        "ip filter DOCKER-USER",
        "rules of the cell's exits (-4)",
        "routes of the cell's exits (-6)",
        "net/ipv4/ip_forward back to 0",
    ] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    let links = inside(&cell, &["ip", "-o", "link"]);
    assert!(!links.contains("wg0") && links.contains("other"), "{links}");
    assert!(!links.contains("wgext_1"), "{links}");
    assert!(
        links.contains("wgext_2") && links.contains("wgext_3"),
        "others': {links}"
    );
    for (family, kept) in [("-4", "lookup 1001"), ("-6", "table 1001")] {
        let rules = inside(&cell, &["ip", family, "rule"]);
        let routes = inside(&cell, &["ip", family, "route", "show", "table", "all"]);
        let all = format!("{rules}{routes}");
        assert!(!all.contains("1000 ") && all.contains(kept), "{all}");
    }
    let rules = inside(&cell, &["nft", "list", "ruleset"]);
    assert!(
        !rules.contains("inet cell") && !rules.contains("0x00002000"),
        "{rules}"
    );
    assert!(
        rules.contains("inet mine") && rules.contains("10.0.0.0/8"),
        "{rules}"
    );
    assert_eq!(
        inside(&cell, &["sysctl", "-n", "net.ipv4.ip_forward"]).trim(),
        "0"
    );

    assert!(
        !run(&mut cell.command(&["clean-host"])).contains("removing"),
        "a second time there is nothing to do"
    );
}

#[test]
fn names_are_those_of_the_policy() {
    let cell = used("used-host\n");
    let shipped = include_str!("../../systemd/etc/netd.toml");
    let policy = shipped
        .replace("[\"wg0\"]", "[\"wg7\"]")
        .replace("table = \"cell\"", "table = \"mine\"");
    fs::create_dir(cell.home.join("etc")).unwrap();
    fs::write(cell.home.join("etc/netd.toml"), policy).unwrap();
    for line in [
        "ip link add wg7 type bridge",
        "ip link add wg0 type bridge",
        "ip address add 169.254.67.1/32 dev wg0",
        "nft add table inet mine",
        "nft add table inet cell",
    ] {
        inside(&cell, &line.split(' ').collect::<Vec<_>>());
    }
    // As netd leaves it when it is killed before it gives addresses.
    inside(&cell, &["ip", "link", "set", "wg7", "alias", "made by cell-netd"]);
    run(&mut cell.command(&["clean-host"]));
    let links = inside(&cell, &["ip", "-o", "link"]);
    assert!(!links.contains("wg7") && links.contains("wg0"), "{links}");
    assert_eq!(
        inside(&cell, &["nft", "list", "tables"]).trim(),
        "table inet cell"
    );
}

#[test]
fn forwarding_that_others_need_stays_on() {
    let cell = used("used-host\nsysctl net/ipv4/ip_forward 0\n");
    for line in [
        "sysctl -qw net.ipv4.ip_forward=1",
        "nft add table ip filter",
        "nft add chain ip filter FORWARD { type filter hook forward priority 0 ; policy drop ; }",
    ] {
        inside(&cell, &line.split(' ').collect::<Vec<_>>());
    }
    let said = run(&mut cell.command(&["clean-host"]));
    assert!(said.contains("net/ipv4/ip_forward stays on"), "{said}");
    assert_eq!(
        inside(&cell, &["sysctl", "-n", "net.ipv4.ip_forward"]).trim(),
        "1"
    );
}

/// The home of a cell that ran on the "host" and noted these changes.
fn used(changes: &str) -> Cell {
    let cell = Cell::new("cell", 0o755);
    fs::create_dir_all(&cell.home).unwrap();
    fs::write(cell.home.join(".cell-home"), "").unwrap();
    fs::write(cell.home.join("host-changes"), changes).unwrap();
    cell
}

#[test]
fn a_wg0_of_somebody_else_stays() {
    let cell = used("used-host\n");
    inside(&cell, &["ip", "link", "add", "wg0", "type", "bridge"]);
    inside(&cell, &["ip", "address", "add", "10.9.0.1/24", "dev", "wg0"]);
    assert!(run(&mut cell.command(&["clean-host"])).contains("wg0 is not the cell's"));
    assert!(inside(&cell, &["ip", "-o", "link"]).contains("wg0"));
}

fn inside(cell: &Cell, command: &[&str]) -> String {
    run(Command::new("ip")
        .args(["netns", "exec", &cell.outside])
        .args(command))
}

#[test]
fn without_its_folder_a_cells_things_are_named_and_stay() {
    let cell = Cell::new("cell", 0o755);
    let nothing = run(&mut cell.command(&["clean-host"]));
    assert!(nothing.contains("no interface and no table"), "{nothing}");
    for line in [
        "ip link add wg0 type bridge",
        "ip link add other type bridge",
        "nft add table inet cell",
    ] {
        inside(&cell, &line.split(' ').collect::<Vec<_>>());
    }
    let alias = "made by cell-netd for table cell";
    inside(&cell, &["ip", "link", "set", "wg0", "alias", alias]);
    let said = run(&mut cell.command(&["clean-host"]));
    for words in ["ip link delete wg0", "nft delete table inet cell"] {
        assert!(said.contains(words), "{words}\n{said}");
    }
    assert!(!said.contains("other"), "{said}");
    assert!(inside(&cell, &["ip", "-o", "link"]).contains("wg0"));
}
