"""The machine ends at once while a change waits that has locked its author out and let him out further: it comes back by
itself, with what was before and nothing of what waited. A virtual machine loses what was not written to its disk, as without power; of
a container all processes are killed, and the kernel goes on."""

import os
import pickle
import time

import machine
import use
from machine import role, run, until
from rest import Rest
from stock import ANSWER, INTERNET, NO_ANSWER, Device, House

# What the second boot knows of the first.
KEPT = "/systemtest/kept.pickle"
NAME, NUMBER = "admin", 13
# Longer than the test takes: it is not the end of this time that brings the state before.
WINDOW = 3600


def served(client, rest, patience=ANSWER):
    """Whether the device has the cell, through its tunnel."""
    with open("/tmp/root.pem", "w", encoding="utf-8") as file:
        file.write(rest.must("GET", "/api/trust/root.pem"))
    address = rest.must("GET", "/api/config")["vpn_address_ipv4"]
    return '"ok"' in client.fetches(f"https://{address}/health", "--cacert", "/tmp/root.pem", patience=patience)


def no_internet(rows, name, client):
    """Adds a row: what the device sends to the internet is dropped."""
    use.denied(rows, name, "from_peer_default", lambda: client.fetches(f"http://{INTERNET}:8080/", patience=NO_ANSWER))


def own_key(client):
    """A key pair, made where the device is: private, public."""
    private = client.inside("wg", "genkey").strip()
    return private, run("wg", "pubkey", text_in=private).strip()


def take_key(client, private):
    """The device goes on with another key, and knows nothing of the handshake before."""
    path = f"/tmp/{client.name}.key"
    with open(path, "w", encoding="utf-8") as file:
        file.write(private)
    client.inside("wg", "set", client.link, "private-key", path)
    os.unlink(path)


def lose_power(rows, before):
    """Makes the change, and ends the machine without a word to anybody. Does not return."""
    House()
    rest, client = Rest(), Device(NAME, NUMBER)
    use.login(rest)
    (private, public), (other, others) = own_key(client), own_key(client)
    answer = rest.must("POST", "/api/peers", {"name": NAME, "public_key": public, "access": use.NOTHING, "tunnel": "full"})
    client.up(answer["config"], private)
    until("the device has the cell", 20, lambda: served(client, rest))
    no_internet(rows, "before the loss of power: no internet", client)
    # Another key locks the device out, and whoever holds that key is let to the internet.
    change = {"public_key": others, "access": {**use.NOTHING, "internet": True}}
    rest.must("PUT", f"/api/peers/{NAME}?confirm_within={WINDOW}", change)
    waiting = rest.must("GET", "/api/network/pending")["waiting"]
    rows.equal("a change waits for its confirmation", waiting and waiting["peer"], NAME)
    rows.equal("the device is locked out by it", served(client, rest, NO_ANSWER), False)
    take_key(client, other)
    until("who has the other key has the cell", 20, lambda: served(client, rest))
    rows.equal("who has the other key has the internet", "use.py" in client.fetches(f"http://{INTERNET}:8080/"), True)
    kept = {"rows": rows.rows, "before": before, "config": answer["config"], "private": private, "other": other, "boot": boot()}
    with open(KEPT, "wb") as file:
        pickle.dump(kept, file)
    power_cut()


def boot():
    """Tells one boot from the next (random(4); of a container it is systemd-nspawn's)."""
    with open("/proc/sys/kernel/random/boot_id", encoding="utf-8") as file:
        return file.read().strip()


def power_cut():
    """No process is asked to end. Of a virtual machine nothing is written to the disk that its owner has not; of what the
    test itself needs, this is the owner."""
    print("ROW ok the power fails", flush=True)
    for path in (KEPT, os.path.dirname(KEPT), "/systemtest/out/log"):
        file = os.open(path, os.O_RDONLY)
        os.fsync(file)
        os.close(file)
    if role() == "container":
        run("systemctl", "reboot", "--force", "--force")
    else:
        with open("/proc/sysrq-trigger", "w", encoding="utf-8") as file:
            file.write("b")
    time.sleep(3600)


def came_back(rows):
    """After the power is back; answers how the machine was before the cell was installed. None if this is the first boot."""
    if os.path.exists(KEPT + ".read"):
        raise RuntimeError("the machine booted a third time by itself")
    if not os.path.exists(KEPT):
        return None
    with open(KEPT, "rb") as file:
        kept = pickle.load(file)
    os.rename(KEPT, KEPT + ".read")
    rows.rows = kept["rows"]
    rows.equal("another boot", boot() != kept["boot"], True)
    machine.all_run()
    rows.add("after the loss of power: all run by themselves", "running")
    house, client = House(), Device(NAME, NUMBER)
    client.up(kept["config"], kept["private"])
    rest = Rest()
    use.login(rest)
    took = until("the device has the cell again", 20, lambda: served(client, rest))
    rows.add("the device that was locked out has the cell again", f"{took:.1f}", "s")
    no_internet(rows, "the internet that waited is not there", client)
    look(rows, rest)
    take_key(client, kept["other"])
    rows.equal("who has the other key has nothing", served(client, rest, NO_ANSWER), False)
    take_key(client, kept["private"])
    until("who has the first key has the cell", 20, lambda: served(client, rest))
    rest.must("DELETE", f"/api/peers/{NAME}")
    client.end()
    house.end()
    return kept["before"]


def look(rows, rest):
    """The API has nothing of the change, and all of what was before."""
    pending = rest.must("GET", "/api/network/pending")
    rows.equal("nothing waits any more", pending["waiting"], None)
    rows.equal("the API says that it was taken back", pending["last_rollback_at"] is not None, True)
    peer = rest.must("GET", f"/api/peers/{NAME}")
    rows.equal("the API shows what was before", peer["access"]["internet"], False)
    rows.equal("audit chain after the loss of power", rest.must("GET", "/api/audit/verify")["intact"], True)
    rows.equal("the other devices are known", "tablet" in run("cellctl", "peer", "list"), True)
