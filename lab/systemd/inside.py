#!/usr/bin/env python3
"""The system test, as root inside a booted Debian: install, look, use, remove, purge. One row a fact, all into rows.json."""

import json
import sys
import traceback

import device
import machine
import privileges
import redteam
import use

OUT = "/systemtest/out"


def story(rows):
    """From a fresh machine to a clean one."""
    before = machine.Snapshot()
    machine.install(rows)
    use.cell(rows)
    privileges.look(rows)
    if machine.role() == "container":
        redteam.attack(rows)
    machine.upgrade(rows)
    machine.remove(rows)
    machine.purge(rows, before)


def main():
    rows = machine.Rows()
    try:
        if machine.role() == "device":
            device.device(rows)
        else:
            story(rows)
    except Exception:  # a fault is a row too, so that what was seen before it is not lost
        traceback.print_exc()
        rows.add("ran to its end", traceback.format_exc().strip().splitlines()[-1], ok=False)
    with open(OUT + "/rows.json", "w", encoding="utf-8") as file:
        json.dump(rows.rows, file, indent=1)
    sys.exit(0 if rows.ok() else 1)


main()
