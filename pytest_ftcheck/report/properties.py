"""The properties of LoRA as a page: ``python -m pytest_ftcheck.report.properties > docs/lora-properties.md``."""

from __future__ import annotations

from collections.abc import Iterator

from ..lora.catalogue import THEMES, all_properties
from ..lora.property import Property

COLUMNS = ("property", "claim", "formula", "tried on", "needs", "source")
# How a source is called that is no paper.
HOSTS = {"huggingface.co": "PEFT", "docs.pytorch.org": "PyTorch", "github.com": "PEFT", "jmlr.org": "JMLR"}


def markdown() -> str:
    """Every property by theme: what it claims, of which layers, and where that is from."""
    properties = all_properties().values()
    lines = [
        "# The properties of LoRA",
        "",
        f"{len(properties)} properties, as [lora.md](lora.md) has them tried. "
        "Made by `python -m pytest_ftcheck.report.properties`.",
    ]
    for theme in THEMES:
        lines += ["", f"## {theme}", "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        lines += [f"| {' | '.join(_cells(one))} |" for one in properties if _theme(one) == theme]
    return "\n".join(lines)


def _cells(one: Property) -> Iterator[str]:
    yield f"`{one.id}`"
    yield _escaped(one.claim)
    yield _escaped(one.formula)
    yield ", ".join(one.kinds)
    yield ", ".join([*(f"`{need}`" for need in one.needs), *one.features]) or "–"
    yield f"[{_source(one.source)}]({one.source})"


def _escaped(text: str) -> str:
    """A bar would end the cell."""
    return text.replace("|", "\\|")


def _theme(one: Property) -> str:
    return one.function.__module__.rpartition(".")[2]


def _source(link: str) -> str:
    host, _, rest = link.removeprefix("https://").partition("/")
    return rest.replace("abs/", "arXiv ") if host == "arxiv.org" else HOSTS[host]


if __name__ == "__main__":
    print(markdown())
