"""Runs in the interpreter of a case's releases: examines one recipe and prints its verdicts as JSON lines.

python -m bugs.examine adapters:with_a_head
"""

from __future__ import annotations

import importlib
import sys

from pytest_ftcheck.checks.examination import check_training


def main(name: str, *select: str) -> None:
    module, _, function = name.partition(":")
    if module == "stack":
        from pytest_ftcheck.stack import subjects

        (subject,) = [one for one in subjects() if one.id == function]
        verdicts = [v for v in subject.examine(seed=0) if not select or v.method in select]
    else:
        make = getattr(importlib.import_module(f"bugs.recipes.{module}"), function)
        verdicts = check_training(make(), select=select)
    for verdict in verdicts:
        print("VERDICT " + verdict.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
