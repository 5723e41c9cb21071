"""Probes of what ``transformers.Trainer`` saves, and goes on from."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..loops import hf_trainer
from ..probe import distance, probe
from ..updates import ADAPTED, job, model_of, rows_of_model, traced

if TYPE_CHECKING:
    from ...observers.trace import Trace


ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
NEEDS = "transformers,accelerate"


RESUMED = {
    "middle": (1, 3),
    "boundary": (1, 5),
    "accumulated": (2, 2),
    "remainder": (3, 1),
    "remainder-boundary": (3, 2),
}


@probe(
    "resumed-training-is-the-straight-one",
    "resume",
    "a Trainer resumed from a checkpoint ends with the weights of an uninterrupted one",
    library="transformers",
    cause="rows are skipped by another count than were seen, or optimizer, schedule or generators are not restored",
    cases=lambda: tuple(f"{m} {c}" for m in ("gpt2", ADAPTED) for c in RESUMED),
    needs="transformers>=4.38,accelerate",
    links=[f"{PULLS}17032"],
)
def resumed(case: str, seed: int) -> Iterator[str]:
    from ...evidence.rows import row_keys

    name, where = case.split()
    accumulation, at = RESUMED[where]
    rows = rows_of_model(name, 10)
    make = functools.partial(hf_trainer, save_strategy="steps", save_steps=at)
    settings = dict(steps=7, lr=1e-3, batch_size=2, accumulation=accumulation)
    with tempfile.TemporaryDirectory() as folder:
        straight = traced(make(job(model_of(name), rows, folder, **settings)))
        again = make(job(model_of(name), rows, folder, **settings))
        trace = _resume(again, f"{folder}/checkpoint-{at}")
    seen, found = (
        [[row_keys(f) for f in u.forwards] for u in updates] for updates in (straight.updates[at:], trace.updates)
    )
    if [len(window) for window in found] != [len(window) for window in seen]:
        sizes = f"{[len(window) for window in found]} instead of {[len(window) for window in seen]}"
        yield f"the updates after update {at} are of {sizes} micro-batches"
        return
    if found != seen:
        same = sum(one == other for one, other in zip(found, seen, strict=True))
        yield f"of {len(seen)} updates after update {at}, {same} are of the rows of the straight run"
        return
    rates = [u.lr[0] for u in straight.updates[at:]], [u.lr[0] for u in trace.updates]
    if rates[0] != rates[1]:
        yield f"after update {at} the rate is {rates[1][0]:.2e} instead of {rates[0][0]:.2e}"
    weights = dict(straight.model.named_parameters())
    away = max(distance(p, weights[key]) for key, p in trace.model.named_parameters())
    if not away <= 1e-6:
        yield f"weights at the end differ by {away:.2e} from the uninterrupted training's"


def _resume(trainer: Any, checkpoint: str) -> Trace:
    try:
        return traced(trainer, resume_from_checkpoint=checkpoint)
    except Exception as error:
        if "weights_only" in str(error) or "Weights only" in str(error):
            raise NotApplicable("the installed torch refuses the checkpoint's pickles") from None
        raise


@probe(
    "trainer-checkpoints-load",
    "saving",
    "what the Trainer saves, best model included, loads to the weights that it had",
    library="transformers",
    cause="the checkpoint is written before or after other weights, or the best one is not found",
    cases=lambda: ("llama", "t5-untied", "llama-tied", ADAPTED),
    needs="transformers>=4.38,accelerate",
)
def checkpoints_load(name: str, seed: int) -> Iterator[str]:
    from ..models import auto_class

    rows = rows_of_model(name, 8)
    with tempfile.TemporaryDirectory() as folder:
        trainer = hf_trainer(job(model_of(name), rows, folder, steps=3, lr=1e-2, batch_size=2))
        trainer.train()
        trainer.save_model(f"{folder}/final")
        if name == ADAPTED:
            from .adapter_files import load

            again = load("lora", f"{folder}/final")
        else:
            again = auto_class(name).from_pretrained(f"{folder}/final")
    weights = dict(trainer.model.named_parameters())
    odd = [key for key, p in again.named_parameters() if key not in weights or distance(p, weights[key]) != 0]
    if odd:
        yield f"{len(odd)} tensors loaded from save_model() are not the trained ones: {', '.join(odd[:3])}"
