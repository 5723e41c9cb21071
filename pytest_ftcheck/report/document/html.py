"""A report as one HTML file that needs nothing else: no network, no files beside it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ...errors import ReportError
from ..units import size
from . import figures
from .blocks import Bars, Block, Curves, Heading, Lines, Points, Table


def require() -> None:
    """Raises ReportError where what pages are made with is not installed."""
    try:
        import jinja2
        import plotly.offline
    except ImportError as error:
        what = f"an HTML report needs {error.name}, which is not installed"
        raise ReportError(f"{what}: pip install 'pytest-ftcheck[report]'") from None
    assert jinja2
    assert plotly.offline


def page(blocks: Sequence[Block], title: str, footer: str) -> str:
    """The HTML. Raises ReportError where what it is made with is not installed."""
    require()
    import jinja2
    from plotly.offline import get_plotlyjs

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pytest_ftcheck.report", "document"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    shown = [_shown(block, number) for number, block in enumerate(blocks)]
    drawn = any(one["kind"] == "figure" for one in shown)
    return environment.get_template("page.html.j2").render(
        title=title,
        blocks=shown,
        contents=[one for one in shown if one["kind"] == "heading" and one["level"] == 2],
        footer=footer,
        script=get_plotlyjs() if drawn else "",
    )


def _shown(block: Block, number: int) -> dict[str, Any]:
    """What the template is given of a block. Text is escaped there."""
    anchor = f"b{number}"
    if isinstance(block, Heading):
        return {"kind": "heading", "anchor": anchor, "level": block.level, "text": block.text}
    if isinstance(block, Lines):
        return {"kind": "lines", "lines": list(block.lines), "tone": block.tone, "code": block.code}
    if isinstance(block, Table):
        return {"kind": "table", **vars(block)}
    if isinstance(block, Curves):
        return _figure(anchor, block, figures.of_curves(block), _table_of_curves(block))
    if isinstance(block, Points):
        # Its numbers are those of the table below it.
        return _figure(anchor, block, figures.of_points(block), None)
    return _figure(anchor, block, figures.of_bars(block), table_of_bars(block))


def _figure(
    anchor: str, block: Curves | Bars | Points, figure: dict[str, Any], numbers: Table | None
) -> dict[str, Any]:
    # A name in it must not end the script that it stands in.
    data = json.dumps(figure, allow_nan=False).replace("<", "\\u003c")
    told = {"caption": block.caption, "told": block.told, "numbers": numbers and vars(numbers)}
    return {"kind": "figure", "anchor": anchor, "figure": data, **told}


def _table_of_curves(block: Curves) -> Table:
    steps = sorted({step for curve in block.curves for step in curve.steps})
    means = [dict(zip(curve.steps, curve.mean, strict=True)) for curve in block.curves]
    rows = [[str(step), *(f"{mean[step]:.4g}" if step in mean else "-" for mean in means)] for step in steps]
    return Table(block.caption, ["update", *(curve.name for curve in block.curves)], rows)


def table_of_bars(block: Bars) -> Table:
    rows = [[name, *map(size, sizes)] for name, sizes in block.parts]
    return Table(block.caption, ["", *block.names], rows)
