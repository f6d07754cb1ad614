#!/usr/bin/python3
"""Judges containers from what `docker inspect` says of them, by rules of its own: nothing here is the broker's.

docker inspect ID... | inspected.py [--root FOLDER]... [--read-only FOLDER]... [--gateway ID]... [--fields FILE]

For each of the 171 fields of Docker's create request (FILE: name, class, rule, constraint, tab-separated) there is a look here,
or it is written down that an inspect does not show it; a field without either is a fault of this program. Prints a line for each
thing that is wrong, with its rule, and ends with 1; ends with 2 where it could not judge. FOLDER: what may be bound lies below one;
below one that is given as read-only it cannot be written to. ID: a service that may have a TUN and NET_ADMIN; no other may.
"""

import argparse
import csv
import ipaddress
import json
import pathlib
import re
import sys

FIELDS = pathlib.Path(__file__).parent.parent / "containerd-shim/core/src/deploy/fields.tsv"
MIB = 1024 * 1024
CAPABILITIES = {"CHOWN", "SETUID", "SETGID", "DAC_OVERRIDE", "FOWNER", "NET_BIND_SERVICE"}
# To be read and written; not made anew (the m of Docker's own "rwm").
TUN = [{"PathOnHost": "/dev/net/tun", "PathInContainer": "/dev/net/tun", "CgroupPermissions": "rw"}]
# Docker 20.10's own lists; later ones have more.
MASKED = {"/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"}
READ_ONLY = {"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
FORBIDDEN_ENV = ("LD_", "GLIBC_", "DOCKER_")
# What is found here only as Docker made it, not as it was asked for: addresses and ids of the endpoint, and what a query or a name said.
NOT_SHOWN = {
    "NetworkingConfig.EndpointsConfig{}." + key
    for key in ("DNSNames", "EndpointID", "Gateway", "GlobalIPv6Address", "GlobalIPv6PrefixLen", "IPAddress",
                "IPPrefixLen", "IPv6Gateway", "MacAddress", "NetworkID", "GwPriority")
} | {"MacAddress"}


def nothing(value):
    """What an inspect writes where nothing was asked for."""
    return value in (None, "", 0, False, [], {})


def normal(capabilities):
    return {word.upper().removeprefix("CAP_") for word in capabilities or []}


def clean(path):
    return path.startswith("/") and "//" not in path and not any(part in (".", "..") for part in path.split("/"))


def below(path, folders):
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)


class Container:
    """One container as Docker tells it."""

    def __init__(self, told, options):
        self.config = told["Config"]
        self.host = told["HostConfig"]
        self.networks = told["NetworkSettings"]["Networks"] or {}
        self.mounts = self.host.get("Mounts") or []
        self.roots = options.root + options.read_only
        self.read_only = options.read_only
        service = (self.config.get("Labels") or {}).get("cell.part-of")
        self.gateway = self.host.get("Devices") == TUN and service in options.gateway

    def value(self, field):
        """Of a field that nothing is asked for by: where it would show, if it were."""
        endpoint = field.removeprefix("NetworkingConfig.EndpointsConfig{}.")
        if endpoint != field:
            return [found for one in self.networks.values() for found in each(one, endpoint) if not nothing(found)]
        if field.startswith("HostConfig."):
            return [found for found in each(self.host, field.removeprefix("HostConfig.")) if not nothing(found)]
        return [found for found in each(self.config, field) if not nothing(found)]


def each(value, path):
    """All values at a path of keys and of items (`[]`)."""
    head, _, rest = path.partition(".")
    items = head.endswith("[]")
    found = value.get(head.removesuffix("[]")) if isinstance(value, dict) else None
    found = (found or []) if items else [found]
    return [deep for one in found for deep in (each(one, rest) if rest else [one])]


# Fields that are never sent, and that Docker fills by itself: what it may say there.
DEFAULTS = {
    "HostConfig.MaskedPaths": lambda c: MASKED <= set(c.host.get("MaskedPaths") or []),
    "HostConfig.ReadonlyPaths": lambda c: READ_ONLY <= set(c.host.get("ReadonlyPaths") or []),
    "HostConfig.Runtime": lambda c: c.host.get("Runtime") in ("runc", "io.containerd.runc.v2"),
    "HostConfig.ConsoleSize": lambda c: c.host.get("ConsoleSize") in (None, [0, 0]),
    "HostConfig.MemorySwappiness": lambda c: c.host.get("MemorySwappiness") in (None, -1),
    "OnBuild": lambda c: nothing(c.config.get("OnBuild")),
}


def health(c):
    test = (c.config.get("Healthcheck") or {}).get("Test") or []
    return test == ["NONE"] or test[:1] == ["CMD"]


def health_times(c):
    found = c.config.get("Healthcheck") or {}
    return found.get("Test") == ["NONE"] or (found.get("Interval", 0) >= 5_000_000_000 and 1 <= found.get("Retries", 0) <= 10)


def env(c):
    pairs = [entry.partition("=") for entry in c.config.get("Env") or []]
    right = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
    return all(right.fullmatch(key) and not key.startswith(FORBIDDEN_ENV) and len(value) <= 8192
               and not set(value) & set("\0\r\n") for key, _, value in pairs)


def security(c):
    words = c.host.get("SecurityOpt") or []
    profiles = [word.removeprefix("seccomp=") for word in words if word.startswith("seccomp=")]
    rest = [word for word in words if not word.startswith(("seccomp=", "apparmor="))]
    if rest != ["no-new-privileges"] or len(profiles) != 1 or any(word == "apparmor=unconfined" for word in words):
        return False
    try:
        return json.loads(profiles[0])["defaultAction"] == "SCMP_ACT_ERRNO"
    except (ValueError, KeyError, TypeError):
        return False


def capabilities(c):
    return normal(c.host.get("CapAdd")) <= CAPABILITIES | ({"NET_ADMIN"} if c.gateway else set())


def ports(c):
    for bindings in (c.host.get("PortBindings") or {}).values():
        if not bindings:
            return False
        for one in bindings:
            try:
                unspecified = ipaddress.ip_address(one["HostIp"]).is_unspecified
            except ValueError:
                return False
            if unspecified or not one["HostPort"].isdigit() or int(one["HostPort"]) < 1024:
                return False
    return True


def network(c):
    ids = [one["NetworkID"] for one in c.networks.values()]
    mode = c.host.get("NetworkMode") or ""
    return re.fullmatch("[0-9a-f]{64}", mode) is not None and mode in ids + [""]


def own_networks(c):
    # The proxy has a leg in each service's.
    names = list(c.networks)
    return all(name.startswith(("cell-service-", "cell-network")) or re.fullmatch("[0-9a-f]{64}", name) for name in names) and (
        len(names) == 1 or "cell-network" in names)


def targets(c):
    found = [mount["Target"] for mount in c.mounts]
    bad = [t for t in found if not clean(t) or t == "/" or below(t, ["/proc", "/sys", "/dev", "/run/docker", "/run/docker.sock"])]
    nested = [(a, b) for i, a in enumerate(found) for j, b in enumerate(found) if i != j and below(a, [b])]
    return not bad and not nested


def sources(c):
    for mount in c.mounts:
        source = mount.get("Source", "")
        if mount["Type"] == "volume" and not re.fullmatch(r"cell-[a-z0-9-]+\.[a-z0-9-]+", source):
            return False
        if mount["Type"] == "bind" and not (clean(source) and below(source, c.roots)):
            return False
    return True


def of_mounts(kind, right):
    return lambda c: all(right(mount) for mount in c.mounts if mount["Type"] == kind)


def user(c):
    found = re.fullmatch(r"(\d+):(\d+)", c.config.get("User") or "")
    return found is not None and all(1000 <= int(n) < 2**31 for n in found.groups())


def ulimits(c):
    most = {"nofile": 65536, "nproc": 4096, "core": 0}
    return all(one["Name"] in most and 0 <= one["Soft"] <= one["Hard"] <= most[one["Name"]] for one in c.host.get("Ulimits") or [])


def log(c):
    config = c.host["LogConfig"].get("Config") or {}
    size = re.fullmatch(r"(\d+)m", config.get("max-size", ""))
    return size is not None and int(size[1]) <= 50 and set(config) <= {"max-size", "max-file"} and 1 <= int(config.get("max-file", 0)) <= 5


def exposed(c):
    return set(c.config.get("ExposedPorts") or {}) == set(c.host.get("PortBindings") or {})


def dns(c):
    # The machine's own address in the container's network, or the cell's own resolver there.
    found = c.host.get("Dns") or []
    return len(found) == 1 and ipaddress.ip_address(found[0]).is_private


def words(value):
    return value is None or (isinstance(value, list) and all(isinstance(word, str) for word in value))


# Fields that are sent, and what each must be.
RULES = {
    "Cmd": lambda c: words(c.config.get("Cmd")),
    "Entrypoint": lambda c: words(c.config.get("Entrypoint")),
    "Env": env,
    "ExposedPorts": exposed,
    "Healthcheck": lambda c: isinstance(c.config.get("Healthcheck"), dict),
    "Healthcheck.Test": health,
    **{f"Healthcheck.{key}": health_times for key in ("Interval", "Retries", "StartInterval", "StartPeriod", "Timeout")},
    "HostConfig.CapAdd": capabilities,
    "HostConfig.CapDrop": lambda c: c.host.get("CapDrop") == ["ALL"],
    "HostConfig.CgroupParent": lambda c: c.host.get("CgroupParent") == "cell-apps.slice",
    "HostConfig.CgroupnsMode": lambda c: c.host.get("CgroupnsMode") == "private",
    "HostConfig.CpuShares": lambda c: c.host.get("CpuShares") in (None, 0) or 2 <= c.host["CpuShares"] <= 1024,
    "HostConfig.Devices": lambda c: nothing(c.host.get("Devices")) or c.gateway,
    **{f"HostConfig.Devices[].{key}": lambda c: nothing(c.host.get("Devices")) or c.gateway
       for key in ("CgroupPermissions", "PathInContainer", "PathOnHost")},
    "HostConfig.Dns": dns,
    "HostConfig.Init": lambda c: c.host.get("Init") is True,
    "HostConfig.IpcMode": lambda c: c.host.get("IpcMode") in ("private", "none"),
    "HostConfig.LogConfig": log,
    "HostConfig.LogConfig.Config": log,
    "HostConfig.LogConfig.Type": lambda c: c.host["LogConfig"]["Type"] in ("local", "json-file"),
    "HostConfig.Memory": lambda c: 6 * MIB <= c.host.get("Memory", 0) <= 64 * 1024 * MIB,
    "HostConfig.MemoryReservation": lambda c: (c.host.get("MemoryReservation") or 0) <= c.host["Memory"],
    "HostConfig.MemorySwap": lambda c: c.host.get("MemorySwap") == c.host.get("Memory"),
    "HostConfig.Mounts": lambda c: nothing(c.host.get("Binds")),
    "HostConfig.Mounts[].BindOptions": of_mounts("bind", lambda m: set(m.get("BindOptions") or {}) <= {"Propagation", "ReadOnlyForceRecursive"}),
    "HostConfig.Mounts[].BindOptions.Propagation": of_mounts("bind", lambda m: (m.get("BindOptions") or {}).get("Propagation") == "rprivate"),
    # Docker 20.10 does not know it, and forgets it.
    "HostConfig.Mounts[].BindOptions.ReadOnlyForceRecursive": of_mounts(
        "bind", lambda m: (m.get("BindOptions") or {}).get("ReadOnlyForceRecursive") in (None, True)),
    "HostConfig.Mounts[].ReadOnly": lambda c: all(
        m.get("ReadOnly") is True or not below(m.get("Source", ""), c.read_only) for m in c.mounts if m["Type"] == "bind"),
    "HostConfig.Mounts[].Source": sources,
    "HostConfig.Mounts[].Target": targets,
    "HostConfig.Mounts[].TmpfsOptions": of_mounts("tmpfs", lambda m: set(m.get("TmpfsOptions") or {}) == {"SizeBytes", "Mode"}),
    "HostConfig.Mounts[].TmpfsOptions.Mode": of_mounts("tmpfs", lambda m: 0 < m["TmpfsOptions"]["Mode"] <= 0o1777),
    "HostConfig.Mounts[].TmpfsOptions.SizeBytes": of_mounts("tmpfs", lambda m: 0 < m["TmpfsOptions"]["SizeBytes"] <= 256 * MIB),
    "HostConfig.Mounts[].Type": lambda c: {m["Type"] for m in c.mounts} <= {"volume", "tmpfs", "bind"},
    "HostConfig.Mounts[].VolumeOptions": of_mounts("volume", lambda m: set(m.get("VolumeOptions") or {}) <= {"NoCopy"}),
    "HostConfig.Mounts[].VolumeOptions.NoCopy": of_mounts("volume", lambda m: (m.get("VolumeOptions") or {}).get("NoCopy") in (None, True)),
    "HostConfig.NanoCpus": lambda c: 0 < c.host.get("NanoCpus", 0) <= 1024 * 10**9,
    "HostConfig.NetworkMode": network,
    "HostConfig.OomScoreAdj": lambda c: 0 <= c.host.get("OomScoreAdj", -1) <= 1000,
    "HostConfig.PidsLimit": lambda c: 1 <= (c.host.get("PidsLimit") or 0) <= 4096,
    "HostConfig.PortBindings": ports,
    "HostConfig.Privileged": lambda c: c.host.get("Privileged") is False,
    "HostConfig.PublishAllPorts": lambda c: c.host.get("PublishAllPorts") is False,
    # A manifest may opt out of it, which is not to be seen here.
    "HostConfig.ReadonlyRootfs": lambda c: c.host.get("ReadonlyRootfs") in (True, False),
    "HostConfig.RestartPolicy": lambda c: isinstance(c.host.get("RestartPolicy"), dict),
    "HostConfig.RestartPolicy.MaximumRetryCount": lambda c: 0 <= c.host["RestartPolicy"]["MaximumRetryCount"] <= 10,
    # The broker starts what ended, not Docker: not even where the policy lets Docker do it.
    "HostConfig.RestartPolicy.Name": lambda c: c.host["RestartPolicy"]["Name"] == "no",
    "HostConfig.SecurityOpt": security,
    "HostConfig.ShmSize": lambda c: 0 < c.host.get("ShmSize", 0) <= 64 * MIB,
    "HostConfig.Sysctls": lambda c: (c.host.get("Sysctls") or {}) == ({"net.ipv4.conf.all.src_valid_mark": "1"} if c.gateway else {}),
    "HostConfig.Ulimits": ulimits,
    **{f"HostConfig.Ulimits[].{key}": ulimits for key in ("Hard", "Name", "Soft")},
    "Hostname": lambda c: re.fullmatch("[a-z0-9-]{1,32}", c.config.get("Hostname") or "") is not None,
    "Image": lambda c: re.search("(^|@)sha256:[0-9a-f]{64}$", c.config.get("Image") or "") is not None,
    "Labels": lambda c: {"cell.owner", "cell.service"} <= set(c.config.get("Labels") or {}) and all(
        key.startswith("cell.") for key in c.config["Labels"]),
    "NetworkingConfig.EndpointsConfig": own_networks,
    "NetworkingConfig.EndpointsConfig{}.Aliases": lambda c: all(words(one.get("Aliases")) for one in c.networks.values()),
    "NetworkingConfig.EndpointsConfig{}.IPAMConfig": lambda c: all(one.get("IPAMConfig") for one in c.networks.values()),
    "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv4Address": lambda c: all(
        (one.get("IPAMConfig") or {}).get("IPv4Address") for one in c.networks.values()),
    "NetworkingConfig.EndpointsConfig{}.IPAMConfig.IPv6Address": lambda c: all(
        nothing((one.get("IPAMConfig") or {}).get("IPv6Address")) for one in c.networks.values()),
    "StopSignal": lambda c: (c.config.get("StopSignal") or "").removeprefix("SIG") in ("TERM", "INT", "QUIT", "HUP", "USR1"),
    "StopTimeout": lambda c: 0 <= c.config.get("StopTimeout", -1) <= 60,
    "User": user,
    "WorkingDir": lambda c: not c.config.get("WorkingDir") or (
        clean(c.config["WorkingDir"]) and not below(c.config["WorkingDir"], ["/proc", "/sys", "/dev"])),
}


def faults(container, fields):
    for field, kind, rule in fields:
        look = RULES.get(field) if kind == "emit" else DEFAULTS.get(field)
        try:
            if look:
                if not look(container):
                    yield f"{field} ({rule})"
            elif kind == "never" and field not in NOT_SHOWN and container.value(field):
                yield f"{field} ({rule}): {container.value(field)}"
        except (KeyError, TypeError, ValueError, IndexError) as error:
            yield f"{field} ({rule}): cannot be judged: {error!r}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", action="append", default=[])
    parser.add_argument("--read-only", action="append", default=[])
    parser.add_argument("--gateway", action="append", default=[])
    parser.add_argument("--fields", type=pathlib.Path, default=FIELDS)
    options = parser.parse_args()
    with options.fields.open() as file:
        fields = [(row["field"], row["class"], row["rule"].split()[0]) for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)]
    unknown = [field for field, kind, _ in fields if kind == "emit" and field not in RULES] + sorted(set(RULES) - {f for f, _, _ in fields})
    if len(fields) != 171 or unknown:
        print(f"inspected: {len(fields)} fields, and no look at {unknown}", file=sys.stderr)
        sys.exit(2)
    told = json.load(sys.stdin)
    if not told:
        print("inspected: no container was told of", file=sys.stderr)
        sys.exit(2)
    wrong = [f"{one['Name'].lstrip('/')}: {fault}" for one in told for fault in faults(Container(one, options), fields)]
    for line in wrong:
        print(line)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
