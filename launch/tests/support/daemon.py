#!/usr/bin/python3
"""A stand-in for any daemon of Cell: takes its listeners, says READY=1, answers every connection with its process id."""

import json
import os
import selectors
import signal
import socket
import sys


def forwarding():
    """What reading and writing a setting gives."""
    path = "/proc/sys/net/ipv4/ip_forward"
    try:
        with open(path, encoding="utf-8") as file:
            read = file.read().strip()
    except OSError as error:
        return [error.strerror, None]
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write("0")
        return [read, "written"]
    except OSError as error:
        return [read, error.strerror]


def main():
    assert int(os.environ["LISTEN_PID"]) == os.getpid(), "LISTEN_PID is not ours"
    names = os.environ["LISTEN_FDNAMES"].split(":")
    assert len(names) == int(os.environ["LISTEN_FDS"])
    listeners = [socket.socket(fileno=3 + at) for at in range(len(names))]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    facts = {
        "names": names,
        "addresses": [str(listener.getsockname()) for listener in listeners],
        "environment": dict(os.environ),
        "arguments": sys.argv[1:],
        "descriptors": sorted(int(fd) for fd in os.listdir("/proc/self/fd"))[:-1],
        "processes": sorted(int(entry) for entry in os.listdir("/proc") if entry.isdigit()),
        "links": sorted(name for _, name in socket.if_nameindex()),
        "forwarding": forwarding(),
        "umask": os.umask(0o077),
    }
    if "CREDENTIALS_DIRECTORY" in os.environ:
        with open(os.environ["CREDENTIALS_DIRECTORY"] + "/kek", "rb") as kek:
            facts["kek_bytes"] = len(kek.read())
    state = os.environ.get("STATE_DIRECTORY")
    if state:
        with open(state + "/facts.json", "w", encoding="utf-8") as file:
            json.dump(facts, file)
        if os.path.basename(sys.argv[0]) == "cell-api":
            with open(state + "/claim-token", "w", encoding="utf-8") as file:
                file.write("ABCD-EFGH\n")
    print("hello from", os.path.basename(sys.argv[0]), flush=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.sendto(b"STATUS=serving\nREADY=1", os.environ["NOTIFY_SOCKET"])
    selector = selectors.DefaultSelector()
    for listener in listeners:
        selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            connection, _ = key.fileobj.accept()
            with connection:
                connection.sendall(str(os.getpid()).encode())


main()
