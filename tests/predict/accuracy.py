"""How far predictions are off what was measured, as a table that can be committed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pytest_ftcheck.codec import Record


@dataclass(frozen=True)
class Figure(Record):
    """One quantity in bytes, predicted and measured; ``limit`` is how far off it may be, relative to the measured."""

    quantity: str
    predicted: int
    measured: int
    limit: float

    @property
    def error(self) -> float:
        """(predicted - measured) / measured; NaN where nothing was measured."""
        return (self.predicted - self.measured) / self.measured if self.measured > 0 else math.nan

    @property
    def holds(self) -> bool:
        return abs(self.error) <= self.limit

    @property
    def share(self) -> float:
        """The error as a share of the limit; what could not be measured is worst."""
        return math.inf if math.isnan(self.error) else abs(self.error) / self.limit

    def __str__(self) -> str:
        figures = f"predicted {self.predicted:,} B, measured {self.measured:,} B"
        return f"{self.quantity} is off by {self.error:+.2%} (limit {self.limit:.1%}): {figures}"


@dataclass(frozen=True)
class Cell(Record):
    """One training. Without figures it was not carried out, and ``why_not`` says why."""

    name: str
    figures: tuple[Figure, ...] = ()
    why_not: str = ""

    @property
    def failures(self) -> list[Figure]:
        return [figure for figure in self.figures if not figure.holds]

    @property
    def share(self) -> float:
        """The largest of the figures' errors, as shares of their limits."""
        return max((figure.share for figure in self.figures), default=-1.0)


@dataclass(frozen=True)
class Table(Record):
    """Cells, and where and with what they were measured."""

    environment: dict[str, str]
    cells: tuple[Cell, ...]

    def markdown(self) -> str:
        """The worst cell first; what was left out last, with the reason."""
        return "\n".join([*self._environment_lines(), *self._figure_lines(), *self._left_out_lines()]) + "\n"

    def write(self, folder: Path, name: str) -> list[Path]:
        """``name.json`` and ``name.md`` in ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        files = {folder / f"{name}.json": self.to_json() + "\n", folder / f"{name}.md": self.markdown()}
        for file, text in files.items():
            file.write_text(text, encoding="utf-8")
        return list(files)

    def _environment_lines(self) -> Iterator[str]:
        yield ", ".join(f"{name} {value}" for name, value in self.environment.items())
        yield ""

    def _figure_lines(self) -> Iterator[str]:
        measured = sorted((cell for cell in self.cells if cell.figures), key=lambda cell: (-cell.share, cell.name))
        if not measured:
            return
        quantities = [figure.quantity for figure in measured[0].figures]
        heads = [head for name in quantities for head in (f"{name}, predicted", "measured", "error")]
        yield f"| training | {' | '.join(heads)} |"
        yield f"|---|{'---:|' * len(heads)}"
        for cell in measured:
            parts = [
                f"{figure.predicted:,} | {figure.measured:,} | {figure.error:+.4%}{'' if figure.holds else ' **off**'}"
                for figure in cell.figures
            ]
            yield f"| {cell.name} | {' | '.join(parts)} |"

    def _left_out_lines(self) -> Iterator[str]:
        left_out = [cell for cell in self.cells if not cell.figures]
        if left_out:
            yield ""
        for cell in left_out:
            yield f"- {cell.name}: not measured, {cell.why_not}"
