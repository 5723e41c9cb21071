"""The check of what evaluations in the middle of a training are made on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.evaluations import evaluation_passes
from ..evidence.stream import KNOWN_SHARE, Rows, contents, train_rows
from .check import Finding, check
from .sabotages.mode import EVALUATES_ON_TRAINING_ROWS

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence


@check(
    "evaluation-reads-the-evaluation-data",
    "data",
    "evaluations in the middle of the training are made on rows of eval_data, and not on those that are trained on",
    controls=[EVALUATES_ON_TRAINING_ROWS],
)
def evaluation_reads_the_evaluation_data(evidence: Evidence) -> Iterator[Finding]:
    job = evidence.standard.job
    if job.eval_data is None:
        raise NotApplicable("the recipe has no eval_data")
    seen = [content for forward in evaluation_passes(evidence) for content in contents(forward)]
    collate = job.collate if evidence.recipe.collate is not None else None
    known, held_out = train_rows(evidence), Rows(job.eval_data, collate)
    trained = sum(bool(known.numbers_of(content)) for content in seen)
    # One that looks at both is a choice: the loss on training rows, beside that on others.
    if any(held_out.numbers_of(content) for content in seen) or not (trained >= KNOWN_SHARE * len(seen)):
        return
    yield Finding(
        summary=f"{trained} of {len(seen)} rows of the evaluations are rows of train_data, and none is of eval_data",
        cause="the evaluation is given the training data (eval_dataset=train_data, the wrong loader): its loss hides "
        "overfitting, and chooses the most overfitted checkpoint",
        remedy="evaluate on eval_data",
    )
