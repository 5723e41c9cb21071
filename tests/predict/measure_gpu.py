"""Measures what real trainings allocate on this machine's GPU, beside what is predicted of them; needs no pytest.

    cd tests && PYTHONPATH=.. python -m predict.measure_gpu --folder ../docs/evidence
    ... --cells "gpt2-124m" "llama-1b full"     # those with one of these in their names

gpu-predictions.json and gpu-predictions.md are written anew after each cell, so that what was measured before a time
limit stays. The exit status is 1 where a figure is off by more than its limit, or a cell could not be tried.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from predict.accuracy import Cell, Table
from predict.gpu_cells import Measure, Predicting, compared, environment
from predict.gpu_grid import grid
from predict.real_memory import gpu_peaks

from pytest_ftcheck.failures import one_line
from pytest_ftcheck.predict import Gpu
from pytest_ftcheck.predict.gpu import GPUS
from pytest_ftcheck.predict.present import present_gpu

NAME = "gpu-predictions"
# Predictions share the cores with the process that measures.
AT_ONCE = max(1, min(8, (os.cpu_count() or 2) - 2))


def main(arguments: list[str] | None = None, measure: Measure = gpu_peaks) -> int:
    options = _parsed(arguments)
    names = [name for name in grid() if not options.cells or any(part in name for part in options.cells)]
    if not names:
        print(f"no cell is called like {', '.join(options.cells)}; there are {', '.join(grid())}", file=sys.stderr)
        return 2
    profile = GPUS[options.pretend] if options.pretend else present_gpu(options.device)
    if profile is None:
        print(f"no profile is like the GPU {options.device}", file=sys.stderr)
        return 2
    where = {"gpu": f"pretended {profile.name}"} if options.pretend else environment(options.device, profile)
    failed = _measured(names, profile, where, options, measure)
    print(f"{len(names)} cells, {failed} of them off or not tried; {options.folder / NAME}.md")
    return int(failed > 0)


def _measured(
    names: Sequence[str], profile: Gpu, where: dict[str, str], options: argparse.Namespace, measure: Measure
) -> int:
    """How many cells are off, or could not be tried."""
    began, cells, broken = time.monotonic(), [], 0
    with Predicting(names, profile, options.at_once) as predicting:
        for name in names:
            try:
                cells.append(compared(name, predicting, options.device, measure))
            except Exception as error:
                broken += 1
                cells.append(Cell(name, why_not=one_line(error)))
            Table(where, tuple(cells)).write(options.folder, NAME)
            print(f"{time.monotonic() - began:4.0f} s  {name}: {_said(cells[-1])}", flush=True)
    return broken + sum(bool(cell.failures) for cell in cells)


def _said(cell: Cell) -> str:
    if not cell.figures:
        return cell.why_not
    return ", ".join(f"{one.quantity} {one.error:+.2%}{'' if one.holds else ' OFF'}" for one in cell.figures)


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m predict.measure_gpu", allow_abbrev=False)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--cells", nargs="*", default=[], metavar="PART", help="cells with one of these in their names")
    folder = os.environ.get("FTCHECK_EVIDENCE_DIR") or os.environ.get("OUT") or "."
    parser.add_argument("--folder", type=Path, default=Path(folder), help="of the table")
    parser.add_argument("--at-once", type=int, default=AT_ONCE, metavar="COUNT", help="predictions at a time")
    parser.add_argument("--pretend", choices=GPUS, help="predict for this GPU, whatever is there (for trying this out)")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
