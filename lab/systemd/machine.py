"""The machine under test: its programs, its packages, and what it looked like before."""

import glob
import json
import os
import re
import stat
import subprocess
import time

PACKAGE = "cell"
SERVICES = ["cell-vaultd", "cell-netd", "cell-egress", "cell-openvpn", "cell-broker", "cell-api"]
# Not ours to judge: what is no disk, what the test itself makes, and what any installation or any running Debian changes.
PASSED_OVER = (
    "/proc", "/sys", "/dev", "/tmp", "/systemtest",
    # Looked at by what they are for (Snapshot.private).
    "/var/tmp/systemd-private-",
    # The package manager's own books, and caches.
    "/var/lib/dpkg", "/var/cache", "/var/log/dpkg.log", "/usr/lib/python3",
    # Of systemd itself: its journal, its units' state, its clock and seed.
    "/run/systemd", "/run/udev", "/run/log", "/var/log/journal", "/var/log/wtmp", "/var/lib/systemd/timers",
    "/var/lib/systemd/random-seed", "/var/lib/systemd/timesync",
    # The machine's key, made by the first who seals something (systemd-creds setup): others may have used it since.
    "/var/lib/systemd/credential.secret",
    # Of ip netns, wireguard-go (the test's devices), logins.
    "/run/netns", "/run/wireguard", "/run/agetty.reload", "/run/utmp",
    # By which programs wait for each other that replace tables of iptables: whoever comes first makes it.
    "/run/xtables.lock",
    # Looked at by name, line for line (Snapshot.accounts). useradd and its kin keep the last version and a lock beside.
    "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/.pwd.lock",
)
# What Debian's practice lets a purged package leave: its users and groups, as files in a backup may still be theirs.
ACCOUNTS = {"cell-api", "cell-netd", "cell-wg", "cell-broker", "cell-vaultd", "cell-admin", "cell-edge-netd",
            "cell-edge-broker", "cell-edge-vault", "cell-edge-caddy", "cell-edge-keys", "cell-edge-wg", "cell-egress", "cell-edge-egress",
            "cell-edge-exit-keys", "cell-tor", "cell-openvpn", "cell-edge-openvpn", "cell-edge-openvpn-keys", "cell-edge-broker-keys",
            "cell-edge-programs", "cell-edge-marks", "cell-iptables", "cell-edge-iptables"}


def role():
    """What this guest is: the cell in a container, or one of two virtual machines."""
    with open("/proc/cmdline", encoding="utf-8") as file:
        words = [word.partition("=") for word in file.read().split()]
    return next((value for name, _, value in words if name == "systemtest.role"), "container")


# A virtual machine that is interpreted is ten to twenty times slower. What a program may take, at most: a busy machine
# fails nothing.
SLOW = 1 if role() == "container" else 4
PATIENCE = 3 if role() == "container" else 12


class Rows:
    """What was found; each row as make demo and make bench write them."""

    def __init__(self):
        self.rows = []

    def add(self, name, value, unit="", goal="holds", ok=True):
        """Adds a row and says it at once, for whoever reads the log."""
        self.rows.append({"name": name, "value": str(value), "unit": unit, "goal": str(goal), "ok": bool(ok)})
        print("ROW", "ok" if ok else "FAILED", name, value, flush=True)

    def equal(self, name, value, goal):
        """Adds a row for a value that must be another."""
        self.add(name, value, "", goal, value == goal)

    def ok(self):
        """Whether all rows are, and there are some."""
        return bool(self.rows) and all(row["ok"] for row in self.rows)


def run(*command, check=True, text_in=None, timeout=60, cwd=None):
    """Runs a program to its end and answers what it printed."""
    done = subprocess.run(command, input=text_in, text=True, capture_output=True, timeout=timeout * PATIENCE, check=False,
                          cwd=cwd)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def until(what, seconds, holds):
    """Waits for something; answers after how long it held, in seconds."""
    begin = time.monotonic()
    while not holds():
        if time.monotonic() - begin > seconds * PATIENCE:
            raise RuntimeError(f"not after {seconds * PATIENCE} s: {what}")
        time.sleep(0.02 * SLOW * SLOW)
    return time.monotonic() - begin


def prop(unit, name):
    """A property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit).strip()


def all_run():
    """Waits until each daemon does."""
    for service in SERVICES:
        until(f"{service} runs", 20, lambda service=service: prop(service + ".service", "ActiveState") == "active")


class Snapshot:
    """All files and all of the network's configuration."""

    def __init__(self):
        self.files = dict(files("/"))
        self.accounts = accounts()
        # systemd makes these for PrivateTmp=, and takes them away with the service; their names tell the boot, and a random word.
        self.private = sorted(re.sub(r"private-[0-9a-f]{32}-(.*)-\w+$", r"private-\1", path)
                              for path in glob.glob("/tmp/systemd-private-*") + glob.glob("/var/tmp/systemd-private-*"))
        self.rules = run("nft", "list", "ruleset")
        self.links = sorted(link["ifname"] for link in json.loads(run("ip", "-j", "link")))
        self.routes = run("ip", "route", "show", "table", "all") + run("ip", "rule")
        self.forwarding = run("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding")
        self.units = run("systemctl", "list-unit-files", "cell*", "--no-legend", check=False)


def accounts():
    """The lines of the books of users and groups: (book, name) and the rest."""
    found = {}
    for book in ("passwd", "group", "shadow", "gshadow"):
        with open(f"/etc/{book}", encoding="utf-8") as file:
            found.update({(book, line.split(":")[0]): line for line in file.read().splitlines()})
    return found


def files(top):
    """Path and kind, owner, mode, target of everything below, on one file system."""
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if not os.path.join(folder, name).startswith(PASSED_OVER)]
        for name in folders + names:
            path = os.path.join(folder, name)
            if path.startswith(PASSED_OVER) or path.endswith("/__pycache__"):
                continue
            found = os.lstat(path)
            target = os.readlink(path) if stat.S_ISLNK(found.st_mode) else ""
            size = found.st_size if stat.S_ISREG(found.st_mode) else 0
            yield path, (oct(found.st_mode), found.st_uid, found.st_gid, target, size)


def deb():
    """The package under test."""
    return glob.glob("/systemtest/in/*.deb")[0]


def install(rows):
    """Installs the package as an administrator would, and waits until the cell serves."""
    begin = time.monotonic()
    run("dpkg", "-i", deb())
    rows.add("package installed", f"{time.monotonic() - begin:.1f}", "s")
    for service in SERVICES:
        until(f"{service} runs", 20, lambda service=service: prop(service + ".service", "ActiveState") == "active")
        rows.equal(f"{service}.service", prop(service + ".service", "SubState"), "running")
    rows.equal("cell.target is enabled", run("systemctl", "is-enabled", "cell.target", check=False).strip(), "enabled")
    rows.equal("failed units", run("systemctl", "list-units", "--failed", "--no-legend", "cell*").strip(), "")
    kek = os.stat("/etc/cell/kek.cred")
    rows.equal("key-encryption key, sealed", (oct(kek.st_mode & 0o7777), kek.st_uid), ("0o600", 0))


def upgrade(rows):
    """The same version once more, over a changed conffile: the administrator's words stay, and so does the key."""
    with open("/etc/cell/broker.toml", "a", encoding="utf-8") as file:
        file.write("# the administrator's\n")
    with open("/etc/cell/kek.cred", "rb") as file:
        kek = file.read()
    run("dpkg", "--force-confold", "-i", deb())
    with open("/etc/cell/broker.toml", encoding="utf-8") as file:
        rows.add("a changed conffile is kept", "kept", ok="the administrator's" in file.read())
    with open("/etc/cell/kek.cred", "rb") as file:
        rows.add("the vault's key is kept", "kept", ok=file.read() == kek)
    all_run()
    rows.add("all run after an upgrade", "running")


def remove(rows):
    """Removal ends everything and takes back what was put into the kernel, by the names of the policy; state and policies
    stay."""
    with open("/etc/cell/netd.toml", encoding="utf-8") as file:
        policy = file.read()
    with open("/etc/cell/netd.toml", "w", encoding="utf-8") as file:
        file.write(policy.replace('interfaces = ["wg0"]', 'interfaces = [\n  "wg0",\n  "wg7", "wg8"\n]'))
    for link in ("wg7", "wg8", "wg9"):
        run("ip", "link", "add", link, "type", "bridge")
    for link in ("wg7", "wg9"):
        run("ip", "address", "add", "169.254.67.1/32", "dev", link)
    run("dpkg", "-r", PACKAGE)
    processes = run("pgrep", "-l", "^cell-", check=False).strip()
    rows.equal("processes after removal", processes, "")
    links = json.loads(run("ip", "-j", "link"))
    rows.equal("links after removal: without a mark of netd's, or not of its policy",
               [link["ifname"] for link in links if link["ifname"].startswith("wg")], ["wg8", "wg9"])
    for link in ("wg8", "wg9"):
        run("ip", "link", "delete", link)
    rows.equal("table inet cell after removal", "inet cell" in run("nft", "list", "tables"), False)
    rows.equal("state after removal", os.path.isdir("/var/lib/cell/vaultd"), True)
    rows.equal("sockets after removal", glob.glob("/run/cell/*"), [])


def remove_beside_others(rows):
    """Somebody else came to rely on forwarding: it stays on. Then the package comes back, to what it knew."""
    run("nft", "add table ip mine; add chain ip mine forward { type filter hook forward priority 0; }")
    run("dpkg", "-r", PACKAGE)
    rows.equal("forwarding that others need stays on", run("sysctl", "-n", "net.ipv4.ip_forward").strip(), "1")
    run("nft", "delete table ip mine")
    run("sysctl", "-w", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0")
    run("dpkg", "-i", deb())
    all_run()
    until("the peers are back", 20, lambda: "tablet" in run("cellctl", "peer", "list", check=False))
    rows.add("installed again: knows its peers", "tablet")


def purge(rows, before):
    """A purge leaves the machine as it was, but for users and groups."""
    run("dpkg", "-P", PACKAGE)
    run("systemctl", "daemon-reload")
    after = Snapshot()
    left = sorted(set(after.files) - set(before.files))
    rows.equal("files left after purge", left, [])
    gone = sorted(set(before.files) - set(after.files))
    rows.equal("files of others that are gone", gone, [])
    # Folders change their size and time by what was in them; owner and mode may not.
    changed = [path for path, facts in after.files.items() if before.files.get(path, facts) != facts]
    rows.equal("files of others that changed", changed, [])
    mine = {name for _, name in set(after.accounts) - set(before.accounts)}
    rows.equal("users and groups that stay, and no others", mine, ACCOUNTS)
    others = [name for name, line in before.accounts.items() if after.accounts.get(name) != line]
    rows.equal("users and groups of others that changed", others, [])
    rows.equal("private temporary folders as before", after.private, before.private)
    rows.equal("nftables ruleset as before", after.rules == before.rules, True)
    rows.equal("links as before", after.links, before.links)
    moved = sorted(set(after.routes.splitlines()) ^ set(before.routes.splitlines()))
    rows.equal("routes and rules that changed", moved, [])
    rows.equal("forwarding as before", after.forwarding.split(), before.forwarding.split())
    rows.equal("unit files as before", after.units, before.units)
