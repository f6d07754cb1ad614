#!/usr/bin/env python3
"""The cell in containers: started as its README says, used by a device, killed, taken down; and its split looked at from outside, by
what Docker says of each container and by what the kernel says of each process.

Usage: check.py CACHE REPORT     (run.sh starts it beside a Docker of its own)"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "lab/systemd"))

from machine import Rows, run, until  # noqa: E402
from rest import Rest  # noqa: E402
from stock import CELL, CELL6, Device  # noqa: E402

HOME = "/srv/cell"
ENV = "/srv/cell.env"
COMPOSE = ["docker-compose", "--project-name", "cell", "--file", str(ROOT / "compose/docker-compose.yml"), "--env-file", ENV]
PASSWORD = "a long enough pass phrase 7"
VPN = "10.77.0.1"
SOCKET = "/run/docker.sock"
# Bits of include/uapi/linux/capability.h.
BITS = {"CHOWN": 0, "SETGID": 6, "SETUID": 7, "SETPCAP": 8, "NET_ADMIN": 12}
# What each container may, as docs/runtime.md has it: network, capabilities of the container and of the daemon, user.
SPLIT = {
    "sockets": ("host", {"CHOWN"}, {"CHOWN"}, "root"),
    "vaultd": ("none", set(), set(), "cell-vaultd"),
    "wg": ("none", set(), set(), "cell-wg"),
    "netd": ("host", {"NET_ADMIN", "SETUID", "SETGID", "SETPCAP"}, {"NET_ADMIN"}, "cell-netd"),
    "openvpn": ("host", set(), set(), "cell-openvpn"),
    "tor": ("host", set(), set(), "cell-tor"),
    "egress": ("host", set(), set(), "cell-egress"),
    "broker": ("none", set(), set(), "cell-broker"),
    "api": ("none", set(), set(), "cell-api"),
}
CORE = ("caddy", "chrony", "coredns")
# What a service of the store is made of, beside them.
IMAGES = ("accounts", "radicale")


def numbers():
    """Users and their numbers in containers."""
    lines = (ROOT / "compose/images/cell/ids").read_text(encoding="utf-8").splitlines()
    return {"root": 0, **{line.split()[0]: int(line.split()[1]) for line in lines if not line.startswith("#")}}


def containers():
    """What Docker says of each container of the project, by its service. The image is the same for all."""
    ids = run("docker", "ps", "--quiet", "--filter", "label=com.docker.compose.project=cell").split()
    found = json.loads(run("docker", "inspect", *ids)) if ids else []
    return {one["Config"]["Labels"]["com.docker.compose.service"]: one for one in found}


def status(pid):
    """The fields of /proc/PID/status."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        return dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line)


def daemon(service):
    """The process of a service's daemon; None when it does not run."""
    one = containers().get(service)
    if not one or not one["State"]["Running"]:
        return None
    first = one["State"]["Pid"]
    if service == "sockets":
        return first
    try:
        children = pathlib.Path(f"/proc/{first}/task/{first}/children").read_text(encoding="utf-8").split()
        name = "tor" if service == "tor" else f"cell-{service}"
        found = [int(child) for child in children if status(child)["Name"] == name]
    except OSError:
        return None
    return found[0] if found else None


def names_of(mask):
    """The capabilities of a mask, by name; others by number."""
    known = {bit: name for name, bit in BITS.items()}
    return {known.get(bit, str(bit)) for bit in range(64) if int(mask, 16) >> bit & 1}


def host_settings(rows, found):
    """What Docker says that no container has, and that each has."""
    def whose(test):
        return sorted(name for name, one in found.items() if test(one, one["HostConfig"]))
    rows.equal("containers of the cell", sorted(found), sorted(SPLIT))
    rows.equal("have Docker's socket", whose(lambda one, _: any(m["Source"] == SOCKET for m in one["Mounts"])), ["broker"])
    rows.equal("are given a folder in which Docker's socket is",
               whose(lambda one, _: any(SOCKET.startswith(m["Source"].rstrip("/") + "/") for m in one["Mounts"])), [])
    rows.equal("have CAP_NET_ADMIN", whose(lambda _, h: "NET_ADMIN" in added(h)), ["netd"])
    rows.equal("are privileged", whose(lambda _, h: h["Privileged"]), [])
    rows.equal("have the machine's processes, shared memory, names or users", whose(
        lambda _, h: h["PidMode"] or h["IpcMode"] not in ("private", "none") or h["UTSMode"] or h["UsernsMode"]), [])
    rows.equal("publish a port", whose(lambda _, h: h["PortBindings"]), [])
    rows.equal("keep a capability of Docker's own", whose(lambda _, h: (h["CapDrop"] or []) != ["ALL"]), [])
    rows.equal("may write their root", whose(lambda _, h: not h["ReadonlyRootfs"]), [])
    rows.equal("may gain privileges, or have no list of system calls", whose(
        lambda _, h: h["SecurityOpt"] != ["no-new-privileges:true"]), [])
    rows.equal("have no limit of memory or of processes", whose(lambda _, h: not h["Memory"] or (h["PidsLimit"] or 0) <= 0), [])
    rows.equal("have a device beside TUNs", whose(
        lambda _, h: h["Devices"] or (h["DeviceCgroupRules"] or []) not in ([], ["c 10:200 rw"])), [])
    rows.equal("have TUNs", whose(lambda _, h: h["DeviceCgroupRules"]), ["netd", "openvpn"])
    rows.equal("see the cell's key or all policies", whose(lambda one, _: any(
        (HOME + "/etc/vault.kek").startswith(m["Source"].rstrip("/")) for m in one["Mounts"])), [])
    rows.equal("are given the machine's own folders", whose(lambda one, _: any(
        not m["Source"].startswith(HOME + "/") and m["Source"] != SOCKET for m in one["Mounts"])), [])


def added(settings):
    """Capabilities, without the prefix that some versions of Docker write."""
    return {name.removeprefix("CAP_") for name in settings["CapAdd"] or []}


def split(rows, found):
    """Each container by what Docker was told, and its daemon by what the kernel says."""
    users, machine = numbers(), os.readlink("/proc/self/ns/net")
    for service, (network, given, kept, user) in SPLIT.items():
        settings = found[service]["HostConfig"]
        told = (settings["NetworkMode"], sorted(added(settings)), found[service]["Config"]["User"] or "root")
        # Docker gives a user no capability, so netd's container starts as root and becomes its user.
        rows.equal(f"{service}: network, capabilities and user as told", told,
                   (network, sorted(given), "root" if service == "netd" else user))
        first, pid = found[service]["State"]["Pid"], daemon(service)
        for what, process in (("first process", first), ("daemon", pid)):
            fields = status(process)
            sets = {name: sorted(names_of(fields[name])) for name in ("CapPrm", "CapEff", "CapBnd")}
            rows.equal(f"{service}: capabilities of the {what}, by the kernel", sets, {name: sorted(kept) for name in sets})
            rows.equal(f"{service}: user of the {what}, by the kernel", set(fields["Uid"].split()), {str(users[user])})
            rows.equal(f"{service}: {what} gains nothing and has a list of system calls", (fields["NoNewPrivs"], fields["Seccomp"]), ("1", "2"))
        links = [line.split(":")[0].strip() for line in pathlib.Path(f"/proc/{pid}/net/dev").read_text().splitlines()[2:]]
        own = os.readlink(f"/proc/{pid}/ns/net") != machine
        rows.equal(f"{service}: has a network of its own, and nothing in it but loopback", (own, links == ["lo"]), (network == "none",) * 2)
    rows.equal("api: Docker's socket in its file system", pathlib.Path(f"/proc/{daemon('api')}/root{SOCKET}").is_socket(), False)
    rows.equal("broker: the same, as a control", pathlib.Path(f"/proc/{daemon('broker')}/root{SOCKET}").is_socket(), True)


def sick(found):
    """Whose health check fails."""
    check = ["/usr/lib/cell/cell-launch", "container", "healthy"]
    return [service for service in SPLIT if service != "sockets" and
            subprocess.run(["docker", "exec", found[service]["Id"], *check], capture_output=True, check=False).returncode != 0]


# What asks for a daemon's listeners (launch/src/handover.rs) and says how many it got.
ASKS = """
import array, socket, sys
asking = socket.socket(socket.AF_UNIX)
try:
    asking.connect(sys.argv[1])
    asking.sendall(b"L")
    rights = asking.recvmsg(1024, socket.CMSG_SPACE(64))[1]
    print(sum(len(data) // array.array("i").itemsize for _, _, data in rights))
except (ConnectionResetError, BrokenPipeError):
    print(0)
except OSError as error:
    print(error.strerror)
"""


def strangers(rows):
    """Who else asks for the listeners of cell-api: another daemon, which may not connect, and root, whom the holder refuses."""
    users, socket = numbers(), f"{HOME}/run/handover/api/handover.sock"
    def asked(user):
        number = str(users[user])
        return run("setpriv", "--reuid", number, "--regid", number, "--clear-groups", "python3", "-c", ASKS, socket).strip()
    rows.equal("who gets cell-api's listeners", {user: asked(user) for user in ("cell-api", "cell-egress", "root")},
               {"cell-api": "4", "cell-egress": "Permission denied", "root": "0"})


def held(rows):
    """While netd is dead its policy is still its container's: nobody else changes it."""
    first, pid = containers()["netd"]["State"]["Pid"], daemon("netd")
    os.kill(first, signal.SIGSTOP)
    os.kill(pid, signal.SIGKILL)
    done = subprocess.run(["nft", "delete", "table", "inet", "cell"], text=True, capture_output=True, check=False)
    os.kill(first, signal.SIGCONT)
    said = done.stderr.splitlines()[0] if done.stderr else "deleted"
    rows.add("netd is dead, and another deletes its table", said, goal="not permitted", ok="Operation not permitted" in said)
    until("netd is back", 20, lambda: daemon("netd") not in (None, pid))


def setup(rest):
    """Claim and wizard."""
    with open(f"{HOME}/lib/api/claim-token", encoding="utf-8") as file:
        token = file.read().strip()
    rest.must("POST", "/api/setup/step/claim", {"claim_token": token})
    rest.headers["X-Claim-Token"] = token
    rest.must("POST", "/api/setup/step/identity", {"cell_name": "home", "domain_mode": "lan"})
    rest.must("POST", "/api/setup/step/network",
              {"vpn_range_ipv4": "10.77.0.0/24", "vpn_range_ipv6": "fd77:1:2:3::/64", "endpoint_host": CELL})
    rest.must("POST", "/api/setup/step/admin", {"username": "admin", "password": PASSWORD})
    rest.must("POST", "/api/setup/complete", {})
    del rest.headers["X-Claim-Token"]
    rest.must("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})
    rest.headers["X-CSRF-Token"] = rest.must("GET", "/api/auth/csrf-token")["csrf_token"]


def join(rest, device):
    """Adds a device, whose key it makes itself; answers after how long there was a handshake."""
    private = device.inside("wg", "genkey").strip()
    public = run("wg", "pubkey", text_in=private).strip()
    access = {"internet": False, "peer_to_peer": False, "services": []}
    body = {"name": device.name, "public_key": public, "access": access, "tunnel": "full"}
    device.up(rest.must("POST", "/api/peers", body)["config"], private)
    return until(f"{device.name}: a handshake", 20, lambda: device.fetches(f"http://{VPN}:9/", patience=1) or device.handshake())


def healthy():
    """Whether the API answers on the machine's loopback."""
    try:
        return Rest().call("GET", "/health")[0] == 200
    except OSError:
        return False


def reaches(device):
    """Whether the device gets the API's page by HTTPS in the VPN."""
    return "ok" in device.fetches(f"https://{VPN}/health", "--cacert", "/srv/root.pem").lower()


def core(rows, rest):
    """The cell's own services are installed by the broker, and run."""
    def states():
        answer = rest.must("GET", "/api/services")
        return {one["id"]: one for one in (answer if isinstance(answer, list) else answer["services"])}
    try:
        took = until("the cell's own services are installed", 40,
                     lambda: all(states().get(name, {}).get("phase") == "installed" for name in CORE))
        rows.add("services that the broker deployed: " + ", ".join(CORE), f"{took:.1f}", "s")
    except RuntimeError:
        rows.add("services that the broker deployed: " + ", ".join(CORE), json.dumps([states().get(name) for name in CORE]), ok=False)
    running = run("docker", "ps", "--filter", "label=cell.owner=default", "--format", "{{.Names}}").split()
    rows.add("their containers run, at Docker's own word", ", ".join(running), goal="three", ok=len(running) >= len(CORE))


def store(rows, rest, phone):
    """A service of the store, from the click to a device that signs in: by the cell's own name, through its proxy, with its certificate."""
    begin = time.monotonic()
    rest.must("POST", "/api/services/calendar/install", {"allowed_peers": ["phone"], "parameters": {}})

    def told():
        return rest.must("GET", "/api/services/calendar")
    try:
        until("the calendar is installed", 60, lambda: told()["phase"] in ("installed", "failed"))
    except RuntimeError:
        pass
    rows.equal("a service of the store is installed", (told()["phase"], told().get("error")), ("installed", None))
    name = told()["names"][0]

    def resolved():
        return phone.inside("dig", f"@{VPN}", name, "A", "+short", "+tries=1", "+time=2", check=False).strip()
    until("its name is found", 20, resolved)
    page, at = f"https://{name}/.web/", ["--cacert", "/srv/root.pem", "--resolve", f"{name}:443:{resolved()}"]

    def code(*more):
        return phone.fetches(page, *at, "--output", "/dev/null", "--write-out", "%{http_code}", *more)
    until("a device gets its page", 20, lambda: code() == "200")
    rows.add(f"from the click until a device has {name} by HTTPS", f"{time.monotonic() - begin:.1f}", "s")
    made = rest.must("POST", "/api/accounts", {"peer": "phone", "user": "ana", "services": ["calendar"]})["credentials"][0]

    def signed_in(password):
        return phone.fetches(f"https://{name}/ana/", *at, "--request", "PROPFIND", "--header", "Depth: 0", "--user", f"ana:{password}",
                             "--output", "/dev/null", "--write-out", "%{http_code}")
    rows.equal("the account's password opens the calendar, another does not", (signed_in(made["password"]), signed_in("wrong")), ("207", "401"))
    rest.must("PUT", "/api/services/calendar/access", {"allowed_peers": []})
    until("its name is gone for a device without access", 20, lambda: not resolved())
    rows.equal("a device without access any more: its page", code("--max-time", "2"), "000")
    rest.must("PUT", "/api/services/calendar/access", {"allowed_peers": ["phone"]})
    until("control: with access it is there again", 20, lambda: resolved() and code() == "200")


def killed(rows, rest, phone):
    """Each daemon, and what holds the listeners, killed as by a crash."""
    for service in ("netd", "wg", "vaultd", "tor", "egress", "openvpn", "broker", "api"):
        before = daemon(service)
        first = containers()[service]["State"]["Pid"]
        os.kill(before, signal.SIGKILL)
        took = until(f"{service} is back", 20, lambda: daemon(service) not in (None, before))
        kept = containers()[service]["State"]["Pid"] == first
        rows.add(f"kill -9 of {service}: started again in the same container", f"{took * 1000:.0f}", "ms", ok=kept)
    held(rows)
    until("the API answers", 20, healthy)
    until("a device gets the API's page", 40, lambda: reaches(phone))
    tv = Device("tv", 22)
    rows.add("after all were killed: a new device's handshake", f"{join(rest, tv):.1f}", "s")
    before = {service: daemon(service) for service in SPLIT}
    os.kill(before["sockets"], signal.SIGKILL)
    took = until("all daemons have new listeners", 40,
                 lambda: all(daemon(service) not in (None, pid) for service, pid in before.items()))
    until("the API answers", 20, healthy)
    rows.add("kill -9 of what holds the listeners: all daemons have the next ones", f"{took:.1f}", "s")
    first = containers()["netd"]["State"]["Pid"]
    os.kill(first, signal.SIGKILL)
    until("netd's container is started again", 40, lambda: daemon("netd") and containers()["netd"]["State"]["Pid"] != first)
    rest.must("DELETE", "/api/peers/tv")
    until("a device gets the API's page", 40, lambda: reaches(phone))
    rows.add("kill -9 of netd's whole container: a change and a page in the VPN", "converged")
    tv.end()


def left():
    """What of a cell is on this machine: tables, links, rules and routes of netd's, containers and networks of services."""
    links = [one["ifname"] for one in json.loads(run("ip", "-j", "link")) if "cell-netd" in one.get("ifalias", "")]
    owned = [run("docker", *what, "--quiet", "--filter", "label=cell.owner=default").split() for what in (["ps", "--all"], ["network", "ls"])]
    routing = [line for family in ("-4", "-6") for words in (["rule"], ["route", "show", "table", "all"])
               for line in run("ip", family, *words).splitlines() if "proto 206" in line]
    rules = [line for line in run("nft", "list", "ruleset").splitlines() if "inet cell " in line or 'comment "cell"' in line]
    return {"links": links, "containers and networks": sum(owned, []), "routing": routing, "rules": rules}


def story(rows):
    """From the images to an empty machine."""
    cache = sys.argv[1]
    run(str(ROOT / "compose/images/build.sh"), "--cache", cache, "--list", f"{HOME}-images.toml", "cell", *CORE, *IMAGES, timeout=300)
    run("ip", "link", "add", "lan", "type", "bridge")
    for address in (CELL + "/24", CELL6 + "/64"):
        run("ip", "address", "add", address, "dev", "lan", *(["nodad"] if ":" in address else []))
    run("ip", "link", "set", "lan", "up")
    host = str(ROOT / "compose/host.sh")
    refused = subprocess.run([host, "prepare", "--home", "/tmp/cell", "--env", ENV], text=True, capture_output=True, check=False)
    rows.add("a home that others may change", refused.stderr.strip(), goal="refused, and not made", ok=refused.returncode == 1
             and "/tmp is not root's alone" in refused.stderr and not os.path.exists("/tmp/cell") and not os.path.exists(ENV))
    run(host, "prepare", "--home", HOME, "--env", ENV, "--tor")
    policy = pathlib.Path(f"{HOME}/etc/netd.toml").read_bytes()
    run(host, "prepare", "--home", HOME, "--env", ENV, "--tor")
    rows.equal("prepared a second time: the policy is as it was", pathlib.Path(f"{HOME}/etc/netd.toml").read_bytes() == policy, True)
    os.replace(f"{HOME}-images.toml", f"{HOME}/lib/images/images.toml")
    begin = time.monotonic()
    run(*COMPOSE, "up", "--detach", timeout=120)
    until("the API answers", 30, healthy)
    rows.add("docker-compose up, until the API answers", f"{time.monotonic() - begin:.1f}", "s")
    until("the claim token is there", 10, lambda: os.path.exists(f"{HOME}/lib/api/claim-token"))
    until("all daemons run", 20, lambda: all(daemon(service) for service in SPLIT))
    found = containers()
    until("all serve, by their health checks", 20, lambda: not sick(found))
    host_settings(rows, found)
    split(rows, found)
    strangers(rows)
    rest = Rest()
    setup(rest)
    rows.add("claimed and set up", "by loopback")
    said = json.loads(run("env", "CELL_HOME=" + HOME, os.environ["CELL_BIN"] + "/cellctl", "--json", "status"))
    rows.add("cellctl, by root on the machine", "answers", ok="daemons" in said)
    until("there is a certificate", 20, lambda: rest.call("GET", "/api/trust/root.pem")[0] == 200)
    pathlib.Path("/srv/root.pem").write_text(rest.must("GET", "/api/trust/root.pem"), encoding="utf-8")
    phone = Device("phone", 21)
    rows.add("a device's handshake with WireGuard", f"{join(rest, phone):.1f}", "s")
    until("a device gets the API's page", 20, lambda: reaches(phone))
    rows.add("a device gets the API's page by HTTPS in the VPN", "yes")
    core(rows, rest)
    store(rows, rest, phone)
    killed(rows, rest, phone)
    run(*COMPOSE, "down", timeout=120)
    rows.add("after docker-compose down: the policy stays, so that what is denied stays denied",
             "inet cell", ok=any("inet cell " in line for line in left()["rules"]))
    run(host, "clean-host", "--env", ENV, timeout=120)
    rows.equal("after compose/host.sh clean-host: what is left", left(), {name: [] for name in left()})
    phone.end()


def main():
    """Writes the report whatever happens."""
    rows = Rows()
    try:
        story(rows)
    except (RuntimeError, OSError, KeyError, ValueError, subprocess.SubprocessError) as error:
        rows.add("the story broke off", error, ok=False)
        logs = subprocess.run([*COMPOSE, "logs", "--no-color", "--tail", "40"], text=True, capture_output=True, check=False)
        print(logs.stdout + logs.stderr, file=sys.stderr)
    pathlib.Path(sys.argv[2]).write_text(json.dumps(rows.rows, indent=2), encoding="utf-8")
    sys.exit(0 if rows.ok() else 1)


main()
