"""``python -m pytest_ftcheck.history``: metrics over commits, and where they changed; see ``--help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..committed import CommittedFile
from ..errors import FtcheckError, HistoryError
from ..report.trends import trend_lines
from .place import Place
from .series import LAST, Chosen, read
from .trend import Trend

PROGRAM = "python -m pytest_ftcheck.history"
DEFAULT_PLACE = ".benchmarks"
REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Shows metrics over commits, with their change points. Exit status: 0, or 2 where there is nothing to show."""
    options = _parser().parse_args(arguments)
    chosen = Chosen(options.test, options.metric, options.branch, options.last)
    try:
        return _show(options.place, chosen, options.html)
    except FtcheckError as error:
        print(f"{PROGRAM}: {str(error).splitlines()[0]}", file=sys.stderr)
        return REFUSED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description=main.__doc__)
    add = parser.add_argument
    add("place", nargs="?", default=DEFAULT_PLACE, metavar="PLACE", help="a folder, or a URL (default: .benchmarks)")
    add("--test", default="*", metavar="GLOB", help="tests to show, by node id: '*test_it*'")
    add("--metric", default="*", metavar="GLOB", help="metrics to show: 'lora/memory.*'")
    add("--branch", default="", metavar="NAME", help="only runs of this branch")
    add("--last", type=_count, default=LAST, metavar="N", help=f"newest runs of each folder to look at ({LAST})")
    add("--html", type=Path, metavar="FILE", help="write a page to this file instead")
    return parser


def _count(text: str) -> int:
    if not (text.isdigit() and int(text) >= 1):
        raise argparse.ArgumentTypeError(f"{text!r}; allowed: a whole number of at least 1")
    return int(text)


def _show(where: str, chosen: Chosen, html: Path | None) -> int:
    found, problems = read(Place(where), chosen)
    for line in problems:
        print(f"{PROGRAM}: {line}", file=sys.stderr)
    if not found:
        raise HistoryError(f"history {where!r} has no run that was asked for")
    trends = [Trend.of(series) for series in found]
    if html is None:
        print("\n".join(trend_lines(trends)))
    else:
        from ..report.trends_page import page

        CommittedFile(html).write(page(trends, problems, f"History of {where}", f"Made by {PROGRAM}"))
        print(f"{html}: {len(trends)} metrics")
    return 0


if __name__ == "__main__":
    sys.exit(main())
