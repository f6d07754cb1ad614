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
    """lab/src/bin/bench/wireguard.rs, and of lab/src/bin/bench_net the whole state: the module beside wg(8), and all beside the
    stock tools."""
    bench(rows, "bench-wireguard", "cell-bench", "wireguard", "--seconds", "60")
    bench(rows, "bench-net-part", "cell-bench-net", "--only", "apply", "--peers", "2000", "--exits", "40")


def bench(rows, report, program, *arguments):
    """Runs it, and takes over what it reports."""
    os.makedirs("/tmp/bench", exist_ok=True)
    print(run(PROGRAMS + program, *arguments, check=False, cwd="/tmp/bench"), flush=True)
    with open(f"/tmp/bench/target/reports/{report}.json", encoding="utf-8") as file:
        for row in json.load(file):
            rows.add(row["name"], row["value"], row["unit"], row["goal"], row["ok"])
