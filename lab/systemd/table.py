#!/usr/bin/env python3
"""Prints a report (an array of rows) as a table; fails when a row failed or there is none."""

import json
import sys


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = json.load(file)
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        found = f"{row['value']} {row['unit']}".strip()
        verdict = "ok" if row["ok"] else f"FAILED, goal: {row['goal']}"
        print(f"  {row['name']:<{width}}  {found[:90]:<40}  {verdict}")
    failed = sum(not row["ok"] for row in rows)
    print(f"  {len(rows)} looked at, {failed} failed")
    sys.exit(1 if failed or not rows else 0)


main()
