"""The check that a recipe which adds tokens to its model's vocabulary keeps what the model knew."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from .check import Finding, check
from .sabotages.resizing import RESIZE_REDRAWS

if TYPE_CHECKING:
    from torch import Tensor

    from ..evidence.evidence import Evidence

EMBEDDINGS = {"input": "get_input_embeddings", "output": "get_output_embeddings"}
ANOTHER_RELEASE = "compare the old rows after resizing, or use another release of transformers"


@dataclass
class Resized:
    """A model whose vocabulary the recipe resizes, and what its embeddings were before: their rows, and whether one
    tensor was both.
    """

    model: Any
    rows: dict[str, Tensor]
    tied: bool


@check(
    "embedding-resize-keeps-the-model",
    "parameters",
    "a vocabulary that the recipe resizes keeps its old rows and its ties, and the head has the new size throughout",
    controls=[RESIZE_REDRAWS],
    catches=[
        "https://github.com/huggingface/transformers/issues/35141",
        "https://github.com/huggingface/transformers/issues/45292",
    ],
    cost="model",
)
def embedding_resize_keeps_the_model(evidence: Evidence) -> Iterator[Finding]:
    resized = _resized_by(evidence)
    if not resized:
        raise NotApplicable("the recipe resizes no vocabulary")
    for one in resized:
        found = [*_changed_rows(one, "is resized"), *_wrong_shapes(one)]
        yield from found
        if not found and not _is_wrapped(one.model):
            again = Resized(copy.deepcopy(one.model), one.rows, one.tied)
            again.model.post_init()
            yield from _changed_rows(again, "is resized and post_init() is called, as loading does")


def _is_wrapped(model: Any) -> bool:
    """Whether adapters are in it: then nothing initialises it any more."""
    return any(hasattr(part, "base_layer") or hasattr(part, "original_module") for part in model.modules())


def _resized_by(evidence: Evidence) -> list[Resized]:
    """The models whose vocabulary is resized while the recipe builds and adapts its model."""
    with _watched_resizing() as resized:
        try:
            evidence.adapted_model()
        except NotApplicable:
            evidence.base_model()
    return resized


@contextlib.contextmanager
def _watched_resizing() -> Iterator[list[Resized]]:
    """What is resized in the body, as it was before it was resized for the first time."""
    try:
        from transformers import PreTrainedModel
    except ImportError:
        raise NotApplicable("transformers is not installed") from None
    seen: list[Resized] = []
    kind: Any = PreTrainedModel
    original = kind.resize_token_embeddings

    def resize(this: Any, *args: Any, **kwargs: Any) -> Any:
        if not any(one.model is this for one in seen):
            weights = _weights(this)
            tied = len({weight.data_ptr() for weight in weights.values()}) < len(weights)
            seen.append(Resized(this, {which: w.detach().clone() for which, w in weights.items()}, tied))
        return original(this, *args, **kwargs)

    kind.resize_token_embeddings = resize
    try:
        yield seen
    finally:
        kind.resize_token_embeddings = original


def _weights(model: Any) -> dict[str, Tensor]:
    """The weights of the input and output embeddings, where there are such, without an adapter's."""
    found: dict[str, Tensor] = {}
    for which, way in EMBEDDINGS.items():
        weight: Any = getattr(_embedding(model, way), "weight", None)
        if getattr(weight, "ndim", 0) == 2:
            found[which] = weight
    return found


def _embedding(model: Any, way: str) -> Any:
    try:
        module = getattr(model, way)()
    except (AttributeError, NotImplementedError, TypeError):
        return None
    while hasattr(module, "base_layer") or hasattr(module, "original_module"):
        module = module.base_layer if hasattr(module, "base_layer") else module.original_module
    return module


def _changed_rows(resized: Resized, event: str) -> Iterator[Finding]:
    now = _weights(resized.model)
    for which, old in resized.rows.items():
        rows = min(len(old), len(now.get(which, ())))
        changed = int((now[which][:rows].to(old) != old[:rows]).any(dim=1).sum()) if rows else 0
        if changed:
            yield Finding(
                summary=f"{changed} of {len(old)} old rows of the {which} embedding change when the vocabulary {event}",
                cause="the resized layer counts as new and is initialised again: what it knew of every token is lost",
                remedy=f"resize before anything that initialises weights; {ANOTHER_RELEASE}",
            )


def _wrong_shapes(resized: Resized) -> Iterator[Finding]:
    now, head = _weights(resized.model), _embedding(resized.model, EMBEDDINGS["output"])
    if set(now) != set(EMBEDDINGS):
        return
    tokens, bias = len(now["input"]), getattr(head, "bias", None)
    sizes = {
        "rows of the head": len(now["output"]),
        "out_features of the head": getattr(head, "out_features", tokens),
        "biases of the head": tokens if bias is None else len(bias),
    }
    wrong = [f"{size} {what}" for what, size in sizes.items() if size != tokens]
    if wrong:
        yield Finding(
            summary=f"after resizing to {tokens} tokens there are {', '.join(wrong)}",
            cause="the head was not resized with the embedding, or its sizes are stale: saving, merging or adapting it "
            "goes wrong",
            remedy=f"resize the head as well; {ANOTHER_RELEASE}",
        )
    if resized.tied and now["input"].data_ptr() != now["output"].data_ptr():
        yield Finding(
            summary="the input and output embeddings are one tensor before the vocabulary is resized, and two after it",
            cause="the resized head was made anew and not tied again",
            remedy="call model.tie_weights() after resizing",
        )
