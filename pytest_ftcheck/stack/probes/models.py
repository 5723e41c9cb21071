"""Probes of the models themselves: their losses and their gradients."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ...evidence.dropout import without_dropout
from ..losses import IGNORED, reference_loss
from ..models import ARCHITECTURES, batch, still
from ..probe import distance, probe
from ..releases import at_least

if TYPE_CHECKING:
    from torch import Tensor

ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"


@probe(
    "model-loss-is-the-cross-entropy",
    "loss",
    "the loss that a model returns is the cross-entropy of its logits and labels",
    library="transformers",
    cause="labels are shifted, masked or averaged otherwise than the task says",
    cases=lambda: tuple(n for n in ARCHITECTURES if ARCHITECTURES[n].task != "spans"),
    links=[f"{PULLS}34191", f"{ISSUES}22794"],
)
def loss_is_cross_entropy(name: str, seed: int) -> Iterator[str]:
    inputs = batch(name)
    if "labels" in inputs and inputs["labels"].dim() > 1:
        # Very different numbers of labels in the rows, as in instruction data.
        inputs["labels"][0, :7] = IGNORED
    output = still(name)(**inputs)
    wanted = reference_loss(name, output.logits, inputs["labels"])
    if not abs(float(output.loss) - float(wanted)) <= 1e-5 * max(1.0, float(wanted)):
        yield f"the model's loss is {float(output.loss):.6f}; its cross-entropy with the labels {float(wanted):.6f}"


@probe(
    "model-loss-by-number-of-items",
    "loss",
    "with num_items_in_batch a model returns the sum of losses over that number",
    library="transformers",
    cause="num_items_in_batch is ignored or applied twice: accumulated gradients are scaled wrongly",
    cases=lambda: tuple(n for n in ARCHITECTURES if ARCHITECTURES[n].task == "causal"),
    needs="transformers>=4.48",
    links=[f"{PULLS}34191", f"{PULLS}35207"],
)
def loss_by_number_of_items(name: str, seed: int) -> Iterator[str]:
    import inspect

    model, inputs = still(name), batch(name)
    accepted = inspect.signature(model.forward).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD or p.name == "num_items_in_batch" for p in accepted):
        raise NotApplicable("its forward takes no num_items_in_batch")
    output = model(**inputs, num_items_in_batch=100)
    wanted = float(reference_loss(name, output.logits, inputs["labels"], total=True)) / 100
    if not abs(float(output.loss) - wanted) <= 1e-5 * max(1.0, wanted):
        yield f"with 100 items the loss is {float(output.loss):.6f} instead of {wanted:.6f}"


@probe(
    "checkpointed-gradients-are-equal",
    "equivalence",
    "gradient checkpointing changes no gradient",
    library="transformers",
    cause="recomputation runs with other inputs, masks or caches, or cuts the graph",
    cases=lambda: tuple(ARCHITECTURES),
    links=[f"{ISSUES}21381", f"{ISSUES}23170"],
)
def checkpointed(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    plain = _gradients(still(name), name)
    model = still(name)
    if not getattr(model, "supports_gradient_checkpointing", False):
        raise NotApplicable("the installed release does not checkpoint it")
    model.gradient_checkpointing_enable(
        **({"gradient_checkpointing_kwargs": {"use_reentrant": False}} if at_least("transformers", "4.36") else {})
    )
    if not getattr(model, "is_gradient_checkpointing", True):
        yield "gradient_checkpointing_enable() leaves is_gradient_checkpointing off"
    found = _gradients(model, name)
    odd = [key for key in plain if not _close(found.get(key), plain[key])]
    if odd:
        yield f"{len(odd)} of {len(plain)} gradients differ with gradient checkpointing", ", ".join(odd[:3])


def _gradients(model: Any, name: str) -> dict[str, Tensor]:
    """Gradients of the model's loss, in training mode, which is what turns checkpointing on; without dropout."""
    without_dropout(model)
    model.train()(**batch(name)).loss.backward()
    return {key: p.grad for key, p in model.named_parameters() if p.grad is not None}


def _close(found: Tensor | None, wanted: Tensor) -> bool:
    return found is not None and distance(found, wanted) <= 1e-5 + 1e-4 * float(wanted.abs().max())


# What has no gradient in any release, and rightly so: positions and token types that the batch does not have, experts
# that no token is sent to, the pooler of a model that does not use it, the keys' biases, which softmax does not see.
_NO_GRADIENT = ("expert", "e_score_correction_bias", "pooler", "token_type")


@probe(
    "model-trains-whole",
    "parameters",
    "every parameter of a model gets a gradient",
    library="transformers",
    cause="a part of the model is not in the computation, or its graph is cut",
    cases=lambda: tuple(ARCHITECTURES),
)
def trains_whole(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    model = still(name)
    found = _gradients(model, name)
    silent = [k for k, p in model.named_parameters() if p.requires_grad and k not in found]
    silent = [key for key in silent if not any(part in key for part in _NO_GRADIENT)]
    if silent:
        yield f"{len(silent)} parameters have no gradient", ", ".join(silent[:3])
    wrong = [key for key, gradient in found.items() if not bool(gradient.isfinite().all())]
    if wrong:
        yield f"{len(wrong)} gradients are not finite", ", ".join(wrong[:3])
