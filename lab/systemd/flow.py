#!/usr/bin/env python3
"""A TCP connection held open. `serve ADDRESS...` sends back what comes; `hold ADDRESS` sends 20 times a second and writes
the time (CLOCK_MONOTONIC, the same in all namespaces) at which something came back."""

import socket
import sys
import threading
import time

PORT = 7000
INTERVAL = 0.05


def listen(address):
    """A listening socket."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, PORT))
    listener.listen()
    return listener


def accept(listener):
    """Answers all who connect."""
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=echo, args=(connection,), daemon=True).start()


def echo(connection):
    """Sends back what comes, until the other side ends."""
    with connection:
        try:
            while text := connection.recv(4096):
                connection.sendall(text)
        except OSError:
            pass


def beat(connection):
    """Sends until the connection is gone."""
    try:
        while True:
            connection.sendall(b".")
            time.sleep(INTERVAL)
    except OSError:
        pass


def hold(address):
    """Says when something came back."""
    connection = socket.create_connection((address, PORT), timeout=30)
    connection.settimeout(None)
    threading.Thread(target=beat, args=(connection,), daemon=True).start()
    while connection.recv(4096):
        print(time.monotonic(), flush=True)


def main():
    if sys.argv[1] == "hold":
        hold(sys.argv[2])
    listeners = [threading.Thread(target=accept, args=(listen(address),)) for address in sys.argv[2:]]
    for thread in listeners:
        thread.start()


main()
