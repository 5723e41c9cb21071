"""Probe of the golden checkpoints: what an older release saved, the installed ones must load to the same numbers."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator

from ..goldens import ADAPTERS, MODELS, compute, load, names, read
from ..models import from_transformers
from ..probe import distance, probe
from ..releases import require
from .checkpoints import empty_tensors

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
PEFT = "https://github.com/huggingface/peft/pull/"


@probe(
    "golden-checkpoint-loads-to-the-same",
    "saving",
    "a checkpoint of an older release loads to the logits, loss and gradient that that release computed",
    library="transformers",
    cause="stored weights are renamed, fused, tied or dropped by the newer release, or never reach the model",
    cases=names,
    links=[f"{ISSUES}48154", f"{PULLS}47620", f"{PEFT}3083", f"{PEFT}3146"],
)
def loads_to_the_same(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    _require_author(name)
    golden, model = read(name), load(name)
    empty = empty_tensors(model)
    if empty:
        yield f"{len(empty)} tensors are left without values (meta): {', '.join(empty[:3])}"
        return
    logits, loss, gradient = compute(model, golden.inputs)
    limit = MODELS[name].within if name in MODELS else ADAPTERS[name].within
    size = max(1.0, float(golden.logits.abs().max()))
    author = f"written by {golden.written_by}"
    if not distance(logits, golden.logits) <= limit * size:
        yield f"logits differ by {distance(logits, golden.logits):.2e}", author
    elif not abs(loss - golden.loss) <= 10 * limit * max(1.0, golden.loss):
        yield f"the loss is {loss:.6f} and was {golden.loss:.6f}", author
    elif (name in MODELS or ADAPTERS[name].same_gradient) and not abs(
        gradient - golden.gradient
    ) <= 100 * limit * golden.gradient:
        yield f"the gradient's norm is {gradient:.6f} and was {golden.gradient:.6f}", author


def _require_author(name: str) -> None:
    """NotApplicable where the installed releases are older than the one that wrote it: they owe it nothing."""
    model = MODELS[name if name in MODELS else ADAPTERS[name].base]
    require(f"transformers>={model.release}")
    from_transformers("PreTrainedModel")
    if name in ADAPTERS:
        require("peft>=0.13")


@probe(
    "golden-checkpoint-survives-being-saved-again",
    "saving",
    "a checkpoint of an older release that is loaded, saved and loaded again still gives its numbers",
    library="transformers",
    cause="what loading converts or unties is not written back: a fine-tuned older checkpoint loses it at the end",
    cases=lambda: tuple(MODELS),
    links=[f"{ISSUES}48154", f"{PULLS}47620"],
)
def saved_again(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    _require_author(name)
    golden, model = read(name), load(name)
    # Where loading itself goes wrong, the other probe says so.
    expected = compute(model, golden.inputs)[0]
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        again = type(model).from_pretrained(folder).eval()
    empty = empty_tensors(again)
    if empty:
        yield f"{len(empty)} tensors are left without values (meta): {', '.join(empty[:3])}"
        return
    away = distance(compute(again, golden.inputs)[0], expected)
    if not away <= 1e-5 * max(1.0, float(expected.abs().max())):
        yield f"logits differ by {away:.2e} after saving and loading again", f"written by {golden.written_by}"
