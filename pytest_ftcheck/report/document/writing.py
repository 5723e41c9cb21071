"""Writing a report to files, and to the summary of a job on GitHub Actions."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ...committed import CommittedFile
from ...errors import RecordError, ReportError
from .. import step_summary
from .contents import contents
from .findings import Findings
from .html import page
from .markdown import markdown

TITLE = "ftcheck: full fine-tuning and LoRA"


def write(findings: Findings, targets: Mapping[str, str | None], folder: Path) -> list[str]:
    """Write the report as each kind in ``targets``, to its path in ``folder`` (default: ``ftcheck-report.KIND``), and
    say where. Raises ReportError.
    """
    told = []
    for kind, given in targets.items():
        path, text = folder / (given or f"ftcheck-report.{kind}"), written(findings, kind)
        publish(path, text)
        told.append(f"report: {path}")
        if kind == "md":
            step_summary.add(text)
    return told


def written(findings: Findings, kind: str) -> str:
    """The report as "html", "md" or "json"."""
    footer = f"{findings.made}, pytest-ftcheck {findings.version}"
    if kind == "json":
        return findings.to_json()
    blocks = contents(findings)
    return page(blocks, TITLE, footer) if kind == "html" else "\n".join(markdown(blocks, TITLE, footer)) + "\n"


def publish(path: Path, text: str) -> None:
    """The file whole, or as it was before. Raises ReportError."""
    try:
        CommittedFile(path).write(text)
    except RecordError as error:
        raise ReportError(str(error)) from None
