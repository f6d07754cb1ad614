"""The red team in the place of cell-api: its program is replaced, every other line of the unit holds."""

import json
import os
import shutil
import socketserver
import subprocess
import threading

from machine import run, until

PROGRAM = "/usr/lib/cell/cell-api"
REDTEAM = "/systemtest/in/cell-redteam"
DROP_IN = "/run/systemd/system/cell-api.service.d/redteam.conf"
DOCKER = "/run/docker.sock"


class Ping(socketserver.StreamRequestHandler):
    """Answers as Docker does to GET /_ping: somebody must be there whom the attacker is kept from."""

    def handle(self):
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nOK")


def attack(rows):
    """Each line of the red team at process level is a row. Afterwards the unit has its own program again."""
    docker = socketserver.ThreadingUnixStreamServer(DOCKER, Ping)
    os.chmod(DOCKER, 0o660)
    threading.Thread(target=docker.serve_forever, daemon=True).start()
    os.makedirs(os.path.dirname(DROP_IN), exist_ok=True)
    with open(DROP_IN, "w", encoding="utf-8") as file:
        file.write(f"[Service]\nExecStart=\nExecStart={PROGRAM} in-unit\n")
    run("mount", "--bind", REDTEAM, PROGRAM)
    try:
        run("systemctl", "daemon-reload")
        done = subprocess.run([REDTEAM, "--target", "/systemtest/out", "unit"], text=True, capture_output=True, timeout=120, check=False)
        print(done.stdout, done.stderr, flush=True)
        rows.equal("red team under cell-api.service: exit status", done.returncode, 0)
        with open("/systemtest/out/reports/redteam.json", encoding="utf-8") as file:
            for row in json.load(file):
                name = "red team under cell-api.service: " + row["name"]
                rows.add(name, row["value"], row["unit"], row["goal"], row["ok"])
    finally:
        docker.shutdown()
        os.unlink(DOCKER)
        # Whoever connects to its socket has cell-iptables started, root as a control too.
        run("systemctl", "stop", "cell-api.service", "cell-iptables.service")
        run("umount", PROGRAM)
        shutil.rmtree(os.path.dirname(DROP_IN))
        run("systemctl", "daemon-reload")
        run("systemctl", "start", "cell-api.service")
    until("cell-api is itself again", 20, lambda: run("curl", "-s", "http://127.0.0.1:3000/health", check=False) != "")
