"""The cell in use: claim, wizard, two devices with stock WireGuard clients, what each may reach, and what is taken away again."""

import json
import os
import re
import subprocess
import time

import device
from machine import SLOW, prop, role, run, until
from rest import Rest
from stock import CELL, INTERNET, INTERNET6, NAS, NAS6, NO_ANSWER, Device, Flow, House, arrived, count, echo

PASSWORD = "a long enough pass phrase 7"
NOTHING = {"internet": False, "peer_to_peer": False, "services": []}
# Seconds within which a change of access holds for connections that are there; an interpreted machine is slow.
PROMISE = 1 if role() == "container" else 5
# Seconds for which is watched that they carry nothing.
WATCH = 2 * SLOW


def dropped(counter):
    """Packets that netd's rule of that name has dropped."""
    return count(json.loads(run("nft", "-j", "list", "counter", "inet", "cell", counter)))


def denied(rows, name, counter, attempt):
    """Adds a row for an attempt that must come to nothing, because a packet of it was dropped by that rule."""
    before = dropped(counter)
    came = attempt()
    packets = dropped(counter) - before
    rows.add(name, f"{packets} dropped" if not came else "got through", "packets", "> 0", not came and packets > 0)


def setup(rest, rows):
    """Claim and wizard."""
    with open("/var/lib/cell/api/claim-token", encoding="utf-8") as file:
        token = file.read().strip()
    rows.equal("the wrong token", rest.call("POST", "/api/setup/step/claim", {"claim_token": "WRONG"})[0], 403)
    rest.must("POST", "/api/setup/step/claim", {"claim_token": token})
    rest.headers["X-Claim-Token"] = token
    rest.must("POST", "/api/setup/step/identity", {"cell_name": "home", "domain_mode": "lan"})
    rest.must("POST", "/api/setup/step/network",
              {"vpn_range_ipv4": "10.77.0.0/24", "vpn_range_ipv6": "fd77:1:2:3::/64", "endpoint_host": CELL})
    rest.must("POST", "/api/setup/step/admin", {"username": "admin", "password": PASSWORD})
    done = rest.must("POST", "/api/setup/complete", {})
    del rest.headers["X-Claim-Token"]
    rows.equal("claimed and set up", done["complete"], True)
    rows.equal("the claim token is gone", os.path.exists("/var/lib/cell/api/claim-token"), False)
    rows.equal("peers without a session", rest.call("GET", "/api/peers")[0], 401)
    login(rest)


def login(rest):
    """A session of the administrator's."""
    rest.must("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})
    rest.headers["X-CSRF-Token"] = rest.must("GET", "/api/auth/csrf-token")["csrf_token"]


def add(rest, client, access):
    """A peer whose key the device made; it is connected then."""
    private = client.inside("wg", "genkey").strip()
    public = run("wg", "pubkey", text_in=private).strip()
    answer = rest.must("POST", "/api/peers", {"name": client.name, "public_key": public, "access": access, "tunnel": "full"})
    client.up(answer["config"], private)
    return answer["peer"]


def grant(rest, name, **access):
    """Changes what a peer may reach, in parts."""
    peer = rest.must("GET", f"/api/peers/{name}")
    rest.must("PUT", f"/api/peers/{name}", {"access": {**peer["access"], **access}})


def cell(rows):
    """The whole story."""
    house = House()
    rest = Rest()
    setup(rest, rows)
    config = rest.must("GET", "/api/config")
    until("netd has the cell's network", 10, lambda: "wg0" in run("ip", "-o", "link"))
    status = "/api/wireguard/status"
    until("the API knows of it", 10, lambda: rest.must("GET", status)["backend"])
    kernel = subprocess.run(["unshare", "--net", "ip", "link", "add", "trial", "type", "wireguard"],
                            stderr=subprocess.DEVNULL, check=False).returncode == 0
    rows.equal("WireGuard", rest.must("GET", status)["backend"], "kernel" if kernel else "userspace")

    nas = [{"address": address, "protocol": "tcp", "port": port} for address in (NAS, NAS6) for port in (8080, 7000)]
    phone, tablet = Device("phone", 11), Device("tablet", 12)
    peers = (add(rest, phone, {**NOTHING, "internet": True}), add(rest, tablet, {**NOTHING, "services": nas}))
    talk(rows, rest, config, phone, tablet)
    without_netd(rows)
    peer_to_peer(rows, rest, (phone, tablet), peers)
    narrow(rows, rest, tablet)
    remove(rows, rest, config, phone, tablet)
    if role() == "cell":
        guest(rows, rest, config)
    rows.equal("cellctl, as root", json.loads(run("cellctl", "--json", "status")).get("cell_name", ""), "home")
    done = rest.must("GET", "/api/audit/verify")
    rows.equal("audit chain", done["intact"], True)
    for client in (phone, tablet):
        client.end()
    house.end()


def talk(rows, rest, config, phone, tablet):
    """Handshakes, HTTPS by the cell's authority, and what each may reach, for both families."""
    with open("/tmp/root.pem", "w", encoding="utf-8") as file:
        file.write(rest.must("GET", "/api/trust/root.pem"))
    for client in (phone, tablet):
        client.pings(config["vpn_address_ipv4"])
        took = until(f"{client.name} shakes hands", 10, lambda client=client: client.handshake() > 0)
        rows.add(f"{client.name}: handshake", f"{took:.2f}", "s")
    for family, address in (("IPv4", config["vpn_address_ipv4"]), ("IPv6", f"[{config['vpn_address_ipv6']}]")):
        answer = phone.fetches(f"https://{address}/health", "--cacert", "/tmp/root.pem")
        rows.add(f"phone: https://{address}/health, verified", answer[:60] or "nothing", ok='"ok"' in answer)
        refused = phone.fetches(f"https://{address}/health")
        rows.equal(f"the same without the cell's authority, {family}", refused, "")
    for family, internet, nas in (("IPv4", INTERNET, NAS), ("IPv6", f"[{INTERNET6}]", f"[{NAS6}]")):
        internet, nas = f"http://{internet}:8080/", f"http://{nas}:8080/"
        rows.equal(f"phone reaches the internet, {family}", "use.py" in phone.fetches(internet), True)
        denied(rows, f"tablet does not, {family}", "from_peer_default",
               lambda url=internet: tablet.fetches(url, patience=NO_ANSWER))
        rows.equal(f"tablet reaches a service, {family}", "use.py" in tablet.fetches(nas), True)
        denied(rows, f"phone does not, {family}", "from_peer_default", lambda url=nas: phone.fetches(url, patience=NO_ANSWER))


def without_netd(rows):
    """While netd is dead, nobody takes the policy away: the socket that it belongs to is held by its unit."""
    rows.equal("cell-netd-nft.socket", prop("cell-netd-nft.socket", "SubState"), "running")
    pid = prop("cell-netd.service", "MainPID")
    script = f"kill -KILL {pid}; while grep -qs '^State:.[^Z]' /proc/{pid}/status; do :; done; nft flush ruleset; nft delete table inet cell"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    rows.add("netd killed: its policy is deleted by hand", done.stderr.strip().splitlines()[0] if done.stderr else "gone",
             goal="not permitted", ok="Operation not permitted" in done.stderr)
    until("netd is back", 10, lambda: prop("cell-netd.service", "MainPID") not in ("0", pid))
    rows.equal("its policy afterwards", "inet cell" in run("nft", "list", "tables"), True)


def cut(rows, name, counter, flows, change):
    """Connections that are there carry nothing within a second of the change: their packets are dropped by that rule."""
    still = sum(len(flow.echoes()) for flow in flows)
    until(f"{name}: connections carry before", 10, lambda: sum(len(flow.echoes()) for flow in flows) > still + 4)
    before = dropped(counter)
    change()
    acknowledged = time.monotonic()
    time.sleep(PROMISE + WATCH)
    late = max(flow.echoes()[-1] for flow in flows) - acknowledged
    packets = dropped(counter) - before
    rows.add(f"{name}: open connections carry after it", f"{max(late, 0):.2f}", "s", f"< {PROMISE}", late < PROMISE)
    rows.add(f"{name}: dropped of them", packets, "packets", "> 0", packets > 0)
    for flow in flows:
        flow.end()


def peer_to_peer(rows, rest, clients, peers):
    """Off, then on for both, then off again."""
    phone, tablet = clients
    tablets = {family: peers[1][family].split("/")[0] for family in ("ipv4", "ipv6")}
    for family, address in tablets.items():
        denied(rows, f"phone does not reach tablet, {family}", "peer_to_peer", lambda to=address: phone.pings(to))
    for peer in peers:
        grant(rest, peer["name"], peer_to_peer=True)
    time.sleep(1)
    for family, address in tablets.items():
        rows.equal(f"phone reaches tablet once let, {family}", phone.pings(address, 3), True)
    server = echo(tablet.name, *tablets.values())
    flows = [Flow(phone, address) for address in tablets.values()]
    cut(rows, "peer to peer off", "peer_to_peer", flows, lambda: grant(rest, "tablet", peer_to_peer=False))
    grant(rest, "phone", peer_to_peer=False)
    for family, address in tablets.items():
        denied(rows, f"and not again, {family}", "peer_to_peer", lambda to=address: phone.pings(to))
    server.kill()
    server.wait()


def narrow(rows, rest, tablet):
    """A change of access, with traffic under way."""
    url = f"http://{INTERNET}:8080/"
    grant(rest, "tablet", internet=True)
    took = until("tablet reaches the internet", 5, lambda: tablet.fetches(url) != "")
    rows.add("tablet: let to the internet", f"{took:.2f}", "s", f"< {2 * PROMISE}", took < 2 * PROMISE)
    flows = [Flow(tablet, address) for address in (INTERNET, INTERNET6)]
    cut(rows, "tablet kept from the internet", "from_peer_default", flows, lambda: grant(rest, "tablet", internet=False))
    flows = [Flow(tablet, address) for address in (NAS, NAS6)]
    cut(rows, "tablet kept from a service", "from_peer_default", flows, lambda: grant(rest, "tablet", services=[]))


def remove(rows, rest, config, phone, tablet):
    """A removed peer: it goes on sending, and nothing arrives. The cell no longer knows the key, so that no rule sees it; the
    witness is a counter where it went."""
    flows = [Flow(phone, address) for address in (INTERNET, INTERNET6)]
    before = arrived("internet")
    until("the witness counts the phone's packets", 10, lambda: arrived("internet") > before + 4)
    rest.must("DELETE", "/api/peers/phone")
    acknowledged = time.monotonic()
    time.sleep(PROMISE)
    late, sent = arrived("internet"), phone.sent()
    time.sleep(WATCH)
    late, sent = arrived("internet") - late, phone.sent() - sent
    rows.add("phone removed: still sends", sent, "bytes", "> 0", sent > 0)
    rows.add("phone removed: of that arrives", late, "packets", "0", late == 0)
    last = max(flow.echoes()[-1] for flow in flows) - acknowledged
    rows.add("phone removed: open connections carry after it", f"{max(last, 0):.2f}", "s", f"< {PROMISE}", last < PROMISE)
    for flow in flows:
        flow.end()
    health = f"https://{config['vpn_address_ipv4']}/health"
    known = tablet.fetches(health, "--cacert", "/tmp/root.pem")
    rows.equal("tablet is not disturbed", "ok" in known, True)
    rows.equal("phone: no answer of the cell", phone.fetches(health, "--cacert", "/tmp/root.pem", patience=NO_ANSWER), "")


def guest(rows, rest, config):
    """A device that is another machine: gets its file over the wire, as if carried, and is seen to connect."""
    run("ip", "link", "set", device.nic(), "up", "master", "lan")
    private = run("wg", "genkey").strip()
    public = run("wg", "pubkey", text_in=private).strip()
    answer = rest.must("POST", "/api/peers", {"name": "laptop", "public_key": public, "tunnel": "split", "access": NOTHING})
    os.makedirs("/tmp/carried", exist_ok=True)
    for name, text in (("root.pem", rest.must("GET", "/api/trust/root.pem")),
                       ("facts", f"ADDRESS={config['vpn_address_ipv4']}\n"),
                       ("laptop.conf", re.sub(r"(?m)^PrivateKey *=.*$", "PrivateKey = " + private, answer["config"]))):
        with open(f"/tmp/carried/{name}", "w", encoding="utf-8") as file:
            file.write(text)
    server = subprocess.Popen(["python3", "-m", "http.server", "--bind", CELL, "--directory", "/tmp/carried", "8000"],
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def connected():
        activity = rest.must("GET", "/api/peers/laptop")["activity"]
        return activity is not None and activity["connected"]

    took = until("the other machine connects", 20, connected)
    rows.add("another machine connects", f"{took:.1f}", "s")
    time.sleep(SLOW)
    server.terminate()
    server.wait()
    run("ip", "link", "set", device.nic(), "down", "nomaster")
