"""The cell in use: claim, wizard, two devices with stock WireGuard clients, what each may reach, removal of one."""

import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request

import device
from machine import SLOW, role, run, until

BASE = "http://127.0.0.1:3000"
PASSWORD = "a long enough pass phrase 7"
CELL, CELL6 = "192.0.2.1", "2001:db8:1::1"
# A host behind the cell's gateway: what is on the cell's own links is not the internet.
GATEWAY, GATEWAY6 = "198.51.100.2", "2001:db8:2::2"
INTERNET, INTERNET6 = "203.0.113.2", "2001:db8:3::2"
# A server of the house; private addresses are not the internet.
NAS, NAS6 = "192.168.9.50", "fd99::50"


class Rest:
    """A client of the REST API, as a browser is one."""

    def __init__(self):
        self.headers = {}
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())

    def call(self, method, path, body=None):
        """Answers status and JSON."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(BASE + path, data, {"Content-Type": "application/json", **self.headers}, method=method)
        try:
            with self.opener.open(request, timeout=20) as answer:
                text = answer.read().decode()
                return answer.status, json.loads(text) if text and text[0] in "{[" else text
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def must(self, method, path, body=None):
        """The JSON of a call that must succeed."""
        status, answer = self.call(method, path, body)
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {answer}")
        return answer


class Device:
    """A namespace with a stock client: wireguard-go or the kernel, wg(8), ip(8)."""

    def __init__(self, name, number):
        self.name, self.link, self.process = name, "wg-" + name, None
        run("ip", "netns", "add", name)
        wire(name, "lan", f"192.0.2.{number}/24", f"2001:db8:1::{number}/64")

    def inside(self, *command, check=True):
        """Runs a program there."""
        return run("ip", "netns", "exec", self.name, *command, check=check)

    def up(self, config, private_key):
        """Takes the file as downloaded, fills its own key in, and connects."""
        path = f"/tmp/{self.name}.conf"
        with open(path, "w", encoding="utf-8") as file:
            file.write(re.sub(r"(?m)^PrivateKey *=.*$", "PrivateKey = " + private_key, config))
        os.chmod(path, 0o600)
        if subprocess.run(["ip", "netns", "exec", self.name, "ip", "link", "add", self.link, "type", "wireguard"],
                          stderr=subprocess.DEVNULL, check=False).returncode != 0:
            self.process = subprocess.Popen(["ip", "netns", "exec", self.name, "wireguard-go", "-f", self.link],
                                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            until("wireguard-go makes its link", 10, lambda: self.link in self.inside("ip", "-o", "link"))
        stripped = run("wg-quick", "strip", path)
        with open(path + ".wg", "w", encoding="utf-8") as file:
            file.write(stripped)
        self.inside("wg", "setconf", self.link, path + ".wg")
        for address in re.findall(r"[^\s,]+", " ".join(re.findall(r"(?m)^Address *= *(.*)$", config))):
            self.inside("ip", "address", "add", address, "dev", self.link, *(["nodad"] if ":" in address else []))
        self.inside("ip", "link", "set", self.link, "up", "mtu", "1420")
        # What wg-quick does for a full tunnel, without its policy rules: the way to the cell itself is on the wire's subnet.
        self.inside("ip", "route", "add", "default", "dev", self.link)
        self.inside("ip", "-6", "route", "add", "default", "dev", self.link)

    def handshake(self):
        """Seconds since 1970 of the latest handshake; 0 when there was none."""
        return int(self.inside("wg", "show", self.link, "latest-handshakes").split()[-1])

    def fetches(self, url, *more):
        """What curl gets, or an empty text."""
        return self.inside("curl", "-s", "-m", str(min(3 * SLOW, 15)), *more, url, check=False)

    def pings(self, address, count=1):
        """Whether an echo comes back."""
        done = subprocess.run(["ip", "netns", "exec", self.name, "ping", "-n", "-c", str(count), "-W", "1", address],
                              capture_output=True, check=False)
        return done.returncode == 0


def wire(name, switch, address, address6):
    """A pair of links from a namespace to a switch."""
    run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", f"to-{name}", "up", "master", switch)
    for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"], ["address", "add", address, "dev", "eth0"],
                    ["address", "add", address6, "dev", "eth0", "nodad"]):
        run("ip", "-n", name, *command)


def serve(name, *addresses):
    """A web server in a namespace, on port 8080."""
    return [subprocess.Popen(["ip", "netns", "exec", name, "python3", "-m", "http.server", "--bind", address,
                              "--directory", "/systemtest/in", "8080"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            for address in addresses]


def houses():
    """The house's two switches and the internet's, each with the cell on it, and the servers. Neither server has a way back
    to the VPN's range: what arrives there must have been masqueraded by the cell."""
    for link, address, address6 in (("lan", CELL + "/24", CELL6 + "/64"), ("wan", "198.51.100.1/24", "2001:db8:2::1/64"),
                                    ("home", "192.168.9.1/24", "fd99::1/64")):
        run("ip", "link", "add", link, "type", "bridge")
        run("ip", "address", "add", address, "dev", link)
        run("ip", "address", "add", address6, "dev", link, "nodad")
        run("ip", "link", "set", link, "up")
    run("ip", "netns", "add", "internet")
    wire("internet", "wan", GATEWAY + "/24", GATEWAY6 + "/64")
    for host, gateway in ((INTERNET, GATEWAY), (INTERNET6, GATEWAY6)):
        run("ip", "-n", "internet", "address", "add", host, "dev", "lo")
        run("ip", "route", "add", host, "via", gateway)
    run("ip", "netns", "add", "nas")
    wire("nas", "home", NAS + "/24", NAS6 + "/64")
    return serve("internet", INTERNET, INTERNET6) + serve("nas", NAS, NAS6)


def dropped(counter):
    """Packets that netd's rule of that name has dropped."""
    answer = json.loads(run("nft", "-j", "list", "counter", "inet", "cell", counter))
    return next(item["counter"]["packets"] for item in answer["nftables"] if "counter" in item)


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
    rest.must("POST", "/api/auth/login", {"username": "admin", "password": PASSWORD})
    rest.headers["X-CSRF-Token"] = rest.must("GET", "/api/auth/csrf-token")["csrf_token"]


def add(rest, device, access):
    """A peer whose key the device made; it is connected then."""
    private = device.inside("wg", "genkey").strip()
    public = run("wg", "pubkey", text_in=private).strip()
    answer = rest.must("POST", "/api/peers", {"name": device.name, "public_key": public, "access": access,
                                                 "tunnel": "full"})
    device.up(answer["config"], private)
    return answer["peer"]


def cell(rows):
    """The whole story."""
    servers = houses()
    rest = Rest()
    setup(rest, rows)
    config = rest.must("GET", "/api/config")
    until("netd has the cell's network", 10, lambda: "wg0" in run("ip", "-o", "link"))
    status = "/api/wireguard/status"
    until("the API knows of it", 10, lambda: rest.must("GET", status)["backend"])
    kernel = subprocess.run(["unshare", "--net", "ip", "link", "add", "trial", "type", "wireguard"],
                            stderr=subprocess.DEVNULL, check=False).returncode == 0
    rows.equal("WireGuard", rest.must("GET", status)["backend"], "kernel" if kernel else "userspace")

    nothing = {"internet": False, "peer_to_peer": False, "services": []}
    nas = [{"address": address, "protocol": "tcp", "port": 8080} for address in (NAS, NAS6)]
    phone, tablet = Device("phone", 11), Device("tablet", 12)
    peers = (add(rest, phone, {**nothing, "internet": True}), add(rest, tablet, {**nothing, "services": nas}))
    talk(rows, rest, config, phone, tablet)
    peer_to_peer(rows, rest, phone, peers)
    narrow(rows, rest, config, phone, tablet)
    if role() == "cell":
        guest(rows, rest, config)
    rows.equal("cellctl, as root", json.loads(run("cellctl", "--json", "status")).get("cell_name", ""), "home")
    done = rest.must("GET", "/api/audit/verify")
    rows.equal("audit chain", done["intact"], True)
    for process in servers + [phone.process, tablet.process]:
        if process:
            process.terminate()
            process.wait()
    for name in ("phone", "tablet", "internet", "nas"):
        run("ip", "netns", "delete", name)
    for name in ("lan", "wan", "home"):
        run("ip", "link", "delete", name)


def talk(rows, rest, config, phone, tablet):
    """Handshakes, HTTPS by the cell's authority, and what each may reach, for both families."""
    with open("/tmp/root.pem", "w", encoding="utf-8") as file:
        file.write(rest.must("GET", "/api/trust/root.pem"))
    for device in (phone, tablet):
        device.pings(config["vpn_address_ipv4"])
        took = until(f"{device.name} shakes hands", 10, lambda device=device: device.handshake() > 0)
        rows.add(f"{device.name}: handshake", f"{took:.2f}", "s")
    for family, address in (("IPv4", config["vpn_address_ipv4"]), ("IPv6", f"[{config['vpn_address_ipv6']}]")):
        answer = phone.fetches(f"https://{address}/health", "--cacert", "/tmp/root.pem")
        rows.add(f"phone: https://{address}/health, verified", answer[:60] or "nothing", ok='"ok"' in answer)
        refused = phone.fetches(f"https://{address}/health")
        rows.equal(f"the same without the cell's authority, {family}", refused, "")
    for family, internet, nas in (("IPv4", INTERNET, NAS), ("IPv6", f"[{INTERNET6}]", f"[{NAS6}]")):
        internet, nas = f"http://{internet}:8080/", f"http://{nas}:8080/"
        rows.equal(f"phone reaches the internet, {family}", "use.py" in phone.fetches(internet), True)
        denied(rows, f"tablet does not, {family}", "from_peer_default", lambda url=internet: tablet.fetches(url))
        rows.equal(f"tablet reaches a service, {family}", "use.py" in tablet.fetches(nas), True)
        denied(rows, f"phone does not, {family}", "from_peer_default", lambda url=nas: phone.fetches(url))


def peer_to_peer(rows, rest, phone, peers):
    """Off, then on for both, then off again."""
    tablets = {family: peers[1][family].split("/")[0] for family in ("ipv4", "ipv6")}
    for family, address in tablets.items():
        denied(rows, f"phone does not reach tablet, {family}", "peer_to_peer", lambda to=address: phone.pings(to))
    for on in (True, False):
        for peer in peers:
            rest.must("PUT", f"/api/peers/{peer['name']}", {"access": {**peer["access"], "peer_to_peer": on}})
        time.sleep(1)
        for family, address in tablets.items():
            if on:
                rows.equal(f"phone reaches tablet once let, {family}", phone.pings(address, 3), True)
            else:
                denied(rows, f"and not again, {family}", "peer_to_peer", lambda to=address: phone.pings(to))


def guest(rows, rest, config):
    """A device that is another machine: gets its file over the wire, as if carried, and is seen to connect."""
    run("ip", "link", "set", device.nic(), "up", "master", "lan")
    private = run("wg", "genkey").strip()
    public = run("wg", "pubkey", text_in=private).strip()
    answer = rest.must("POST", "/api/peers", {"name": "laptop", "public_key": public, "tunnel": "split",
                                              "access": {"internet": False, "peer_to_peer": False, "services": []}})
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


def narrow(rows, rest, config, phone, tablet):
    """A change of access, and a removal, in effect within a second, with traffic under way."""
    url = f"http://{INTERNET}:8080/"
    peer = rest.must("GET", "/api/peers/tablet")
    rest.must("PUT", "/api/peers/tablet", {"access": {**peer["access"], "internet": True}})
    took = until("tablet reaches the internet", 5, lambda: tablet.fetches(url) != "")
    rows.add("tablet: let to the internet", f"{took:.2f}", "s", f"< {2 * SLOW}", took < 2 * SLOW)
    rest.must("PUT", "/api/peers/tablet", {"access": {**peer["access"], "internet": False}})
    time.sleep(1)
    denied(rows, "tablet: kept from it again, after a second", "from_peer_default", lambda: tablet.fetches(url))
    rest.must("DELETE", "/api/peers/phone")
    time.sleep(1)
    health = f"https://{config['vpn_address_ipv4']}/health"
    rows.equal("phone: removed, after a second", phone.fetches(health, "--cacert", "/tmp/root.pem"), "")
    rows.equal("tablet is not disturbed", "ok" in tablet.fetches(health, "--cacert", "/tmp/root.pem"), True)
