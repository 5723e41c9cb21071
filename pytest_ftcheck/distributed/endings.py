"""What to tell somebody whose ranks did not end well: which of them, how, where, and what it printed last."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..predict.exchange import HINTS, SIGNALS, Exchange

# What a rank says whose partner in a collective is gone.
PARTNER_GONE = re.compile(r"[Cc]onnection (reset|closed|refused)|Broken pipe|[Rr]emote|NCCL|Gloo|gloo|[Tt]imed out")

# So many lines that a rank printed last are shown.
LOG_LINES = 12


@dataclass(frozen=True)
class Ending:
    """How one rank ended. ``error`` is what it raised, "" where it ended well, None where it said nothing; ``code`` the
    exit status that torch elastic saw, negative for a signal, None where it saw none. ``at`` is when it said so.
    """

    rank: int
    error: str | None
    code: int | None
    doing: str
    at: float
    place: tuple[str, ...]
    said: tuple[str, ...]

    @classmethod
    def of(cls, rank: int, folder: Path, code: int | None = None) -> Ending:
        with Exchange(folder) as exchange:
            error, at = None, float("inf")
            if exchange.result.exists():
                error = json.loads(exchange.result.read_text(encoding="utf-8")).get("text", "")
                at = exchange.result.stat().st_mtime
            return cls(
                rank, error, code, exchange.doing(), at, tuple(exchange.place()), tuple(exchange.said(LOG_LINES))
            )

    @property
    def first(self) -> tuple[bool, bool, float]:
        """By this the rank that brought the others down comes first: one that died, then the first that raised by
        itself.
        """
        died = self.error is None and self.code is not None
        return not died, bool(PARTNER_GONE.search(self.error or "")), self.at

    @property
    def how(self) -> str:
        if self.error:
            return self.error.splitlines()[0]
        if self.error is None and self.code is not None and self.code < 0:
            return f"died ({SIGNALS.get(-self.code, f'signal {-self.code}')}) in or after {self.doing}"
        if self.error is None and self.code is not None:
            return f"ended with exit status {self.code} in or after {self.doing}, without a word"
        if self.error is None:
            return f"was ended, or left without a word, in or after {self.doing}"
        return "ended well"

    def lines(self) -> Iterator[str]:
        yield from (self.error or "").splitlines()[1:]
        yield from self.place
        yield from (f"  rank {self.rank} | {line}" for line in self.said)


def failed(method: str, folders: Sequence[Path], codes: Mapping[int, int]) -> str:
    """The ranks of a launch that came to its end: the one that failed first, with its log, then the others; "" where
    all ended well.
    """
    # A rank that exits in the middle of train(job) with status 0 has told torch elastic nothing.
    silent = {rank: 0 for rank in range(len(folders)) if not codes} | dict(codes)
    ranks = sorted((Ending.of(n, folder, silent.get(n)) for n, folder in enumerate(folders)), key=lambda e: e.first)
    if all(rank.error == "" for rank in ranks):
        return ""
    first, *others = ranks
    lines = [f"{method}: rank {first.rank} of {len(ranks)}: {_without(method, first.how)}", *first.lines()]
    lines += [f"  rank {one.rank}: {_without(method, one.how)}" for one in others]
    return "\n".join([*lines, *(f"  {hint}" for sign, hint in HINTS.items() if sign in first.how)])


def hung(method: str, folders: Sequence[Path], limit_s: float) -> str:
    """The ranks of a launch that was ended at its time limit: what each was doing, and where."""
    there = [(n, folder) for n, folder in enumerate(folders) if folder.exists()]
    ranks = [Ending.of(n, folder) for n, folder in there]
    busy = [one for one in ranks if one.error is None]
    lines = [f"{method}: {len(busy)} of {len(folders)} ranks had not ended after {limit_s:g} s, and were ended"]
    for one in ranks:
        lines += [f"  rank {one.rank}: {_without(method, one.how)}", *one.lines()]
    lines.append(
        "  likely cause: a collective that not every rank calls, or not equally often; or it needs longer"
        " (--ftcheck-time-limit)"
    )
    return "\n".join(lines)


def _without(method: str, text: str) -> str:
    return text.removeprefix(f"{method}: ")
