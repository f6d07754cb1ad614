"""netd on the kernel's own WireGuard module: the contract of its backends, and how long it takes beside wg(8)."""

import json
import os

from machine import run

PROGRAMS = "/systemtest/in/"
CONTRACT = "in_the_kernel_where_it_has_one"


def contract(rows):
    """netd/tests/backend.rs. Without a module the same test asks for a refusal; here there is one, which is seen first."""
    run("unshare", "--net", "ip", "link", "add", "trial", "type", "wireguard")
    said = run(PROGRAMS + "backend", "--exact", CONTRACT)
    rows.equal("netd's contract of backends, kernel module", f"{CONTRACT} ... ok" in said, True)


def measure(rows):
    """lab/src/bin/bench/wireguard.rs."""
    os.makedirs("/tmp/bench", exist_ok=True)
    print(run(PROGRAMS + "cell-bench", "wireguard", "--seconds", "60", check=False, cwd="/tmp/bench"), flush=True)
    with open("/tmp/bench/target/reports/bench-wireguard.json", encoding="utf-8") as file:
        for row in json.load(file):
            rows.add(row["name"], row["value"], row["unit"], row["goal"], row["ok"])
