"""What the running processes have, read back from the kernel: a unit that is active may still lack half of its lines."""

import grp
import os
import pwd
import shutil
import stat

from machine import prop, role, run, until

NET_ADMIN = "0000000000001000"
NONE = "0000000000000000"
# Process: capabilities, supplementary groups, whether its network is the machine's.
PROCESSES = {
    "cell-vaultd": (NONE, set(), False),
    "cell-wg": (NONE, set(), False),
    "cell-netd": (NET_ADMIN, {"cell-edge-keys", "cell-edge-wg", "cell-edge-iptables"}, True),
    "cell-egress": (NONE, {"cell-edge-exit-keys", "cell-edge-marks"}, True),
    "cell-openvpn": (NONE, {"cell-edge-openvpn-keys", "cell-edge-programs"}, True),
    "cell-broker": (NONE, {"cell-edge-broker-keys"}, False),
    "cell-api": (NONE, {"cell-edge-netd", "cell-edge-egress", "cell-edge-openvpn", "cell-edge-broker", "cell-edge-vault", "cell-edge-caddy"},
                 False),
}
SOCKETS = {
    "netd/netd.sock": "cell-edge-netd",
    "marks/mark.sock": "cell-edge-marks",
    "egress/egress.sock": "cell-edge-egress",
    "openvpn/openvpn.sock": "cell-edge-openvpn",
    "openvpn-keys/vault.sock": "cell-edge-openvpn-keys",
    "broker-keys/vault.sock": "cell-edge-broker-keys",
    "programs/management.sock": "cell-edge-programs",
    "broker/broker.sock": "cell-edge-broker",
    "vault/vault.sock": "cell-edge-vault",
    "keys/vault.sock": "cell-edge-keys",
    "exit-keys/vault.sock": "cell-edge-exit-keys",
    "wg/wg.sock": "cell-edge-wg",
    "wg/device.sock": "cell-edge-wg",
    "iptables/iptables.sock": "cell-edge-iptables",
    "api/api.sock": "cell-admin",
}


def userspace():
    """Whether this kernel needs cell-wg."""
    return os.path.islink("/etc/systemd/system/cell-netd.service.d/userspace-wireguard.conf")


def pid(service):
    """The main process of a service."""
    return int(prop(service + ".service", "MainPID"))


def status(process):
    """The lines of proc_pid_status(5)."""
    with open(f"/proc/{process}/status", encoding="utf-8") as file:
        return {key: " ".join(value.split()) for key, value in (line.split(":", 1) for line in file)}


def netns(process):
    """The network namespace of a process."""
    return os.readlink(f"/proc/{process}/ns/net")


def root_options(process):
    """Of the options of / in the view of a process, those that protect the system (proc_pid_mountinfo(5))."""
    with open(f"/proc/{process}/mountinfo", encoding="utf-8") as file:
        options = next(line.split()[5] for line in file if line.split()[4] == "/")
    return sorted({"noexec", "nosuid", "ro"} & set(options.split(",")))


def proc_options(process):
    """Options of the /proc that a process sees, which is mounted last."""
    with open(f"/proc/{process}/mountinfo", encoding="utf-8") as file:
        return [line.split()[-1] for line in file if line.split()[4] == "/proc"][-1]


def look(rows):
    """Every process against the table, and every socket. For a cell with an interface: without one cell-wg has not been asked."""
    if userspace():
        until("cell-wg runs", 20, lambda: prop("cell-wg.service", "ActiveState") == "active")
    for name, (capabilities, groups, machines) in PROCESSES.items():
        if name == "cell-wg" and not userspace():
            rows.equal("cell-wg, the kernel having WireGuard", prop("cell-wg.service", "ActiveState"), "inactive")
            continue
        one_process(rows, name, capabilities, groups, machines)
    rows.equal("cell-iptables, the policy being nftables'", prop("cell-iptables.service", "ActiveState"), "inactive")
    for path, group in SOCKETS.items():
        if path.startswith("wg/") and not userspace():
            continue
        one_socket(rows, "/run/cell/" + path, group)


def admins(rows):
    """Members of cell-admin: kept out by the unit as it is shipped, let in by the drop-in that is there for it. Not the user
    nobody, whose number is the one by which cell-api sees all others."""
    unit, drop_in = "cell-api.service", "cell-api.service.d/api-admin-group.conf"
    member = ["setpriv", "--reuid=games", "--regid=nogroup", "--groups=cell-admin", "cellctl", "--json", "status"]
    run("gpasswd", "-a", "games", "cell-admin")
    run("systemctl", "restart", unit)
    rows.equal("cellctl, a member of cell-admin, unit as shipped", "cell_name" in run(*member, check=False), False)
    os.makedirs(os.path.dirname("/etc/systemd/system/" + drop_in))
    shutil.copy("/usr/share/cell/drop-in/" + drop_in, "/etc/systemd/system/" + drop_in)
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", unit)
    rows.equal("the same with api-admin-group.conf", "cell_name" in run(*member), True)
    others = ["setpriv", "--reuid=games", "--regid=nogroup", "--clear-groups", *member[4:]]
    rows.equal("and not without the group", "cell_name" in run(*others, check=False), False)
    shutil.rmtree(os.path.dirname("/etc/systemd/system/" + drop_in))
    run("gpasswd", "-d", "games", "cell-admin")
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", unit)


def one_process(rows, name, capabilities, groups, machines):
    """One process."""
    process = pid(name)
    found = status(process)
    user = pwd.getpwnam(name)
    rows.equal(f"{name}: user ids", found["Uid"], " ".join([str(user.pw_uid)] * 4))
    names = {grp.getgrgid(int(gid)).gr_name for gid in found["Groups"].split()} - {name}
    rows.equal(f"{name}: supplementary groups", sorted(names), sorted(groups))
    sets = {key: found[key] for key in ("CapPrm", "CapEff", "CapBnd")}
    rows.equal(f"{name}: capabilities", sets, dict.fromkeys(sets, capabilities))
    rows.equal(f"{name}: ambient capabilities", found["CapAmb"], NONE)
    rows.equal(f"{name}: no new privileges", found["NoNewPrivs"], "1")
    # Two filters at least: systemd's and its own.
    filters = int(found.get("Seccomp_filters", "0"))
    rows.add(f"{name}: seccomp", f"mode {found['Seccomp']}, {filters} filters", "", "mode 2, 2 filters or more",
             found["Seccomp"] == "2" and filters >= 2)
    rows.equal(f"{name}: shares the machine's network", netns(process) == netns(1), machines)
    with open(f"/proc/{process}/limits", encoding="utf-8") as file:
        core = next(line for line in file if line.startswith("Max core file size"))
    rows.equal(f"{name}: core dumps", core.split()[4:6], ["0", "0"])
    rows.equal(f"{name}: its view of /", root_options(process), ["noexec", "nosuid", "ro"])
    rows.equal(f"{name}: processes of others in /proc", "hidepid=invisible" not in proc_options(process), False)
    own_devices = os.stat(f"/proc/{process}/root/dev").st_dev != os.stat("/dev").st_dev
    rows.equal(f"{name}: a /dev of its own", own_devices, True)
    if role() != "container":
        # Limits of memory and tasks; in a container the machine's controllers are not the guest's.
        for limit in ("memory.max", "pids.max"):
            with open(f"/sys/fs/cgroup/system.slice/{name}.service/{limit}", encoding="utf-8") as file:
                value = file.read().strip()
            rows.add(f"{name}: {limit}", value, "", "a number", value.isdigit())
    said = run("journalctl", "-b", "-o", "cat", "-u", name + ".service")
    rows.equal(f"{name}: entered its own sandbox", "sandbox: Landlock ABI" in said, True)


def one_socket(rows, path, group):
    """One socket and its folder."""
    found, folder = os.stat(path), os.stat(os.path.dirname(path))
    gid = grp.getgrnam(group).gr_gid
    value = (stat.S_ISSOCK(found.st_mode), oct(found.st_mode & 0o7777), found.st_uid, found.st_gid)
    rows.equal(f"{path}", value, (True, "0o660", 0, gid))
    rows.equal(f"{os.path.dirname(path)}", (oct(folder.st_mode & 0o7777), folder.st_uid, folder.st_gid), ("0o750", 0, gid))
