"""Services as they are shipped: the catalog, the folders of the cell's own containers, and a machine without Docker."""

import grp
import json
import os
import pwd
import subprocess

from machine import run, until

SHIPPED = {"caddy", "calendar", "chrony", "coredns", "email", "files"}
CORE = {"caddy", "chrony", "coredns"}


def folder(path):
    """Mode, owner and group."""
    found = os.stat(path)
    return oct(found.st_mode & 0o7777), found.st_uid, found.st_gid


def answered(*words):
    """What cellctl says, as JSON."""
    return json.loads(run("cellctl", "--json", *words))


def listed(answer, key):
    """The entries of an answer, whether it is a list or has one."""
    return answer if isinstance(answer, list) else answer[key]


def look(rows):
    """For a cell that is set up."""
    catalog = {entry["id"]: entry for entry in listed(answered("store", "list"), "services")}
    rows.equal("cellctl store list: the catalog of the package", sorted(set(catalog) & SHIPPED), sorted(SHIPPED))
    api = pwd.getpwnam("cell-api")
    rows.equal("/var/lib/cell/core", folder("/var/lib/cell/core"), ("0o755", 0, 0))
    rows.equal("/var/lib/cell/core/dns", folder("/var/lib/cell/core/dns"), ("0o755", api.pw_uid, api.pw_gid))
    edge = grp.getgrnam("cell-edge-caddy").gr_gid
    rows.equal("/run/cell/caddy", folder("/run/cell/caddy"), ("0o2750", 20002, edge))
    until("CoreDNS' configuration is written", 20, lambda: os.path.exists("/var/lib/cell/core/dns/Corefile"))
    rows.add("CoreDNS' configuration is written by cell-api, under its unit", "Corefile")
    rows.equal("broker.toml as shipped has a ceiling", "ceiling: Some(" in run("/usr/lib/cell/cell-broker", "--check"), True)
    without_docker(rows)
    images(rows)


def reason(one):
    """Why a service waits, or was refused."""
    return next((one[key]["code"] for key in ("error", "waiting") if one.get(key)), None)


def without_docker(rows):
    """The cell's own containers wait with a reason, the rest is well, and nobody fills the log."""
    def core():
        return {one["id"]: one for one in listed(answered("service", "list"), "services") if one["id"] in CORE}
    until("the cell wishes its own services", 20, core)
    until("it says why they are not there", 20, lambda: all(reason(one) for one in core().values()))
    states = {name: reason(one) for name, one in core().items()}
    rows.add("without Docker: why the cell's own services are not there", json.dumps(states), ok=bool(states))
    broken = {condition["type"] for daemon in answered("status")["daemons"] for condition in daemon["conditions"] or []
              if condition["status"] == "false"}
    rows.equal("without Docker: of names and the proxy nothing is broken", broken & {"DnsServed", "ProxyConfigured"}, set())
    rows.equal("control: that there is no Docker is seen", "DockerReachable" in broken, True)
    for name in ("cell-broker", "cell-api"):
        said = run("journalctl", "-b", "-o", "cat", "-u", name + ".service").splitlines()
        complaints = [line for line in said if " WARN " in line or " ERROR " in line]
        rows.add(f"without Docker: complaints in the log of {name}", len(complaints), "lines", "5 at most", len(complaints) <= 5)


def images(rows):
    """Without its tools the command says all that is missing, and changes nothing."""
    done = subprocess.run(["cell-images", "all"], text=True, capture_output=True, check=False)
    words = done.stderr
    named = [word for word in ("docker", "Go 1.", "mmdebstrap", "cell-images") if word.lower() not in words.lower()]
    rows.equal("cell-images without its tools: status, and what it does not name", (done.returncode, named), (1, []))
    rows.equal("and it lists no image", os.path.exists("/etc/cell/images.toml"), False)
