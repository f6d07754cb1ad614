#!/usr/bin/env python3
"""The system test, as root inside a booted Debian: install, look, use, lose power, remove, purge. One row a fact, all into
rows.json."""

import json
import sys
import traceback

import device
import kernel
import machine
import privileges
import redteam
import restart
import services
import use

OUT = "/systemtest/out"


def story(rows):
    """From a fresh machine to a clean one, with a loss of power between the two halves."""
    before = restart.came_back(rows)
    if before is None:
        to_the_loss_of_power(rows)
    machine.upgrade(rows)
    if machine.role() == "container":
        machine.remove_beside_others(rows)
    machine.remove(rows)
    machine.purge(rows, before)
    if machine.role() == "cell":
        kernel.contract(rows)
        kernel.measure(rows)


def to_the_loss_of_power(rows):
    """The first boot. Does not return."""
    before = machine.Snapshot()
    machine.install(rows)
    use.cell(rows)
    services.look(rows)
    privileges.look(rows)
    if machine.role() == "container":
        privileges.admins(rows)
        redteam.attack(rows)
    restart.lose_power(rows, before)


def main():
    rows = machine.Rows()
    try:
        if machine.role() == "device":
            device.device(rows)
        else:
            story(rows)
    except Exception as error:  # a fault is a row too, so that what was seen before it is not lost
        traceback.print_exc()
        rows.add("ran to its end", f"{type(error).__name__}: {error}".splitlines()[0], ok=False)
    with open(OUT + "/rows.json", "w", encoding="utf-8") as file:
        json.dump(rows.rows, file, indent=1)
    sys.exit(0 if rows.ok() else 1)


main()
