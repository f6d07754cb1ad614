"""Namespaces wired to the cell: devices with stock WireGuard clients, and servers."""

import json
import os
import re
import subprocess

from machine import PATIENCE, SLOW, run, until

CELL, CELL6 = "192.0.2.1", "2001:db8:1::1"
# The internet lies behind a router: what is on a link of the cell's is its neighbour.
ROUTER, ROUTER6 = "198.51.100.2", "2001:db8:2::2"
INTERNET, INTERNET6 = "203.0.113.7", "2001:db8:3::7"
# A server of the house; private addresses are not the internet.
NAS, NAS6 = "192.168.9.50", "fd99::50"
# Seconds that an answer may take which is expected, and for which one is waited that is not: netd's counters show what
# became of the packets, so that the second need not be long.
ANSWER, NO_ANSWER = 5 * PATIENCE, 2 * SLOW


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
            self.process = start(self.name, "wireguard-go", "-f", self.link)
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

    def sent(self):
        """Bytes that it has sent through the tunnel."""
        return int(self.inside("wg", "show", self.link, "transfer").split()[-1])

    def fetches(self, url, *more, patience=ANSWER):
        """What curl gets, or an empty text."""
        return self.inside("curl", "-s", "-m", str(patience), *more, url, check=False)

    def pings(self, address, count=1):
        """Whether an echo comes back."""
        done = subprocess.run(["ip", "netns", "exec", self.name, "ping", "-n", "-c", str(count), "-W", str(NO_ANSWER), address],
                              capture_output=True, check=False)
        return done.returncode == 0

    def end(self):
        """Takes the device away."""
        if self.process:
            self.process.terminate()
            self.process.wait()
        unwire(self.name)


class Flow:
    """A TCP connection from a device, held open."""

    def __init__(self, device, address):
        self.device, self.address = device, address
        self.path = f"/tmp/flow-{device.name}-{address.replace(':', '-')}"
        self.process = None
        self.open()
        until(f"{device.name} holds a connection to {address}", 10, self.moving)

    def open(self):
        """Connects."""
        with open(self.path, "w", encoding="utf-8") as file:
            self.process = start(self.device.name, "python3", "/systemtest/in/flow.py", "hold", self.address, stdout=file)

    def moving(self):
        """Whether something has come back; tries anew while nobody listens yet."""
        if self.process.poll() is not None:
            self.open()
        return len(self.echoes()) > 3

    def echoes(self):
        """When something came back: seconds of CLOCK_MONOTONIC."""
        with open(self.path, encoding="utf-8") as file:
            return [float(line) for line in file.read().split("\n")[:-1]]

    def end(self):
        """Lets go of it."""
        self.process.kill()
        self.process.wait()


class House:
    """The house's two switches and the internet's, each with the cell on it, and the servers. Neither server has a way back
    to the VPN's range: what arrives there must have been masqueraded by the cell."""

    def __init__(self):
        for link, address, address6 in (("lan", CELL + "/24", CELL6 + "/64"), ("wan", "198.51.100.1/24", "2001:db8:2::1/64"),
                                        ("home", "192.168.9.1/24", "fd99::1/64")):
            run("ip", "link", "add", link, "type", "bridge")
            run("ip", "address", "add", address, "dev", link)
            run("ip", "address", "add", address6, "dev", link, "nodad")
            run("ip", "link", "set", link, "up")
        run("ip", "netns", "add", "internet")
        wire("internet", "wan", ROUTER + "/24", ROUTER6 + "/64")
        run("ip", "-n", "internet", "address", "add", INTERNET + "/32", "dev", "lo")
        run("ip", "-n", "internet", "address", "add", INTERNET6 + "/128", "dev", "lo")
        run("ip", "route", "add", "default", "via", ROUTER)
        run("ip", "-6", "route", "add", "default", "via", ROUTER6)
        run("ip", "netns", "add", "nas")
        wire("nas", "home", NAS + "/24", NAS6 + "/64")
        # A witness of its own in each: what arrives there of the connections that are held.
        for name in ("internet", "nas"):
            run("ip", "netns", "exec", name, "nft", "-f", "-", text_in=WITNESS)
        self.servers = serve("internet", INTERNET, INTERNET6) + serve("nas", NAS, NAS6)

    def end(self):
        """Takes everything away again."""
        for process in self.servers:
            process.terminate()
            process.wait()
        for name in ("internet", "nas"):
            unwire(name)
        for name in ("lan", "wan", "home"):
            run("ip", "link", "delete", name)


WITNESS = """table inet witness {
  counter arrived { }
  chain input {
    type filter hook input priority 0
    tcp dport 7000 counter name arrived
  }
}
"""


def arrived(name):
    """Packets of held connections that the witness in that namespace has seen."""
    return count(json.loads(run("ip", "netns", "exec", name, "nft", "-j", "list", "counter", "inet", "witness", "arrived")))


def count(answer):
    """The packets of the counter in nft's answer."""
    return next(item["counter"]["packets"] for item in answer["nftables"] if "counter" in item)


def wire(name, switch, address, address6):
    """A pair of links from a namespace to a switch."""
    run("ip", "link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", name)
    run("ip", "link", "set", f"to-{name}", "up", "master", switch)
    for command in (["link", "set", "lo", "up"], ["link", "set", "eth0", "up"], ["address", "add", address, "dev", "eth0"],
                    ["address", "add", address6, "dev", "eth0", "nodad"]):
        run("ip", "-n", name, *command)


def unwire(name):
    """Deletes a namespace and its links at once; the kernel itself takes its time."""
    run("ip", "link", "delete", f"to-{name}")
    run("ip", "netns", "delete", name)


def start(name, *command, stdout=subprocess.DEVNULL):
    """Starts a program in a namespace."""
    return subprocess.Popen(["ip", "netns", "exec", name, *command], stdout=stdout, stderr=subprocess.DEVNULL)


def serve(name, *addresses):
    """Web servers in a namespace, on port 8080, and the other end of held connections, on port 7000."""
    web = ["python3", "-m", "http.server", "--directory", "/systemtest/in", "8080"]
    return [start(name, *web, "--bind", address) for address in addresses] + [echo(name, *addresses)]


def echo(name, *addresses):
    """The other end of held connections."""
    return start(name, "python3", "/systemtest/in/flow.py", "serve", *addresses)
