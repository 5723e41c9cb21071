"""Probes of the gradients that ``transformers.Trainer`` steps with."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..breaks import undivided
from ..data import ROWS, collate
from ..loops import hf_trainer
from ..models import ARCHITECTURES, build
from ..probe import Control, probe
from ..releases import at_least
from ..updates import ADAPTED, flat, logged, model_of, relative, rows_of_model, run, window_gradient

if TYPE_CHECKING:
    from torch import Tensor

    from ...observers.trace import Trace


ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
NEEDS = "transformers,accelerate"


SHAPES = {"8x1": (8, 1), "2x4": (2, 4), "1x8": (1, 8)}


@probe(
    "trainer-accumulates-the-mean",
    "equivalence",
    "the Trainer's gradient is that of the mean over all tokens of an update, however it is cut into micro-batches",
    library="transformers",
    cause="means of micro-batches are averaged whatever they hold, or not divided by the accumulation steps",
    cases=lambda: tuple(
        f"{m} {s}"
        for m in ("llama", "gpt2", "bert-classifier", "bert-masked", "t5", "mistral", "gemma", "qwen2", ADAPTED)
        for s in SHAPES
    ),
    needs=NEEDS,
    links=[f"{PULLS}34191", f"{PULLS}35207", "https://huggingface.co/blog/gradient_accumulation"],
)
def accumulates_the_mean(case: str, seed: int) -> Iterator[str]:
    name, shape = case.split()
    size, accumulation = SHAPES[shape]
    trace, losses = logged(name, 8, batch_size=size, accumulation=accumulation, max_grad_norm=0.0)
    wanted, loss = window_gradient(model_of(name), name, trace.updates[0])
    found = flat(trace.updates[0].gradients)
    away = relative(found, wanted)
    ratio = float(found.norm() / wanted.norm()) if found.shape == wanted.shape else float("nan")
    if not away <= 1e-4 and 0.6 < ratio < 1.6 and _averages_means(name, accumulation):
        raise NotApplicable("its forward takes no num_items_in_batch: the Trainer documents a mean of means")
    if not away <= 1e-4:
        yield f"the gradient is {away:.1%} off that of the mean over the update's tokens, its norm {ratio:.3f} times it"
    elif not abs(losses[0] - loss) <= 1e-3 * max(1.0, abs(loss)):
        yield f"the logged loss is {losses[0]:.4f} and the mean over the update's tokens {loss:.4f}"


def _averages_means(name: str, accumulation: int) -> bool:
    """Whether a mean of means is what this model gets in every release: its forward knows no number of items."""
    import inspect

    model = build("llama" if name == ADAPTED else name)
    parameters = inspect.signature(model.forward).parameters.values()
    takes = any(p.kind is p.VAR_KEYWORD or p.name == "num_items_in_batch" for p in parameters)
    return not takes and accumulation > 1 and at_least("transformers", "4.46") and name != "bert-classifier"


@probe(
    "trainer-scales-with-equal-rows",
    "equivalence",
    "with as many labels in every micro-batch, the Trainer's gradient is the same for every accumulation",
    library="transformers",
    cause="the loss is not divided by the accumulation steps, or twice",
    cases=lambda: ("gpt2", "bert-classifier", "opt", "gpt-neox", "llama", ADAPTED, "gpt2-classifier"),
    needs=NEEDS,
    control=Control("gpt2", undivided),
    links=[f"{ISSUES}34263", f"{PULLS}35207", f"{PULLS}35651"],
)
def scales_with_equal_rows(name: str, seed: int) -> Iterator[str]:
    equal = [row for row in rows_of_model(name, 200) if len(row["input_ids"]) == 11][:8]
    make = functools.partial(hf_trainer, max_grad_norm=0.0)
    large, small = (
        flat(run(make, model_of(name), equal, batch_size=size, accumulation=8 // size).updates[0].gradients)
        for size in (8, 2)
    )
    if not relative(small, large) <= 1e-4:
        ratio = float(small.norm() / large.norm())
        yield f"the gradient of 4 micro-batches of 2 rows is {ratio:.3f} times that of one batch of 8"


@probe(
    "trainer-last-window-counts",
    "equivalence",
    "the last, short window of an epoch is averaged over what it holds, and no row is left out",
    library="transformers",
    cause="the remainder of an epoch is divided by the full accumulation, dropped, or not stepped",
    cases=lambda: ("llama", ADAPTED, "t5", "qwen2"),
    needs="transformers>=4.46,accelerate",
    links=[f"{PULLS}34198", f"{PULLS}35121"],
)
def last_window_counts(name: str, seed: int) -> Iterator[str]:
    if _averages_means(name, 4):
        raise NotApplicable("its forward takes no num_items_in_batch: the Trainer documents a mean of means")
    trace, _ = logged(name, 6, batch_size=1, accumulation=4, steps=2, max_grad_norm=0.0)
    sizes = [len(update.forwards) for update in trace.updates]
    if sizes != [4, 2]:
        yield f"two updates of 6 rows, 4 micro-batches each, were made of {sizes} micro-batches"
        return
    model = model_of(name)
    for number, update in enumerate(trace.updates, 1):
        wanted, _ = window_gradient(model, name, update)
        away = relative(flat(update.gradients), wanted)
        if not away <= 1e-4:
            of = f"update {number} (of {sizes[number - 1]} micro-batches)"
            yield f"the gradient of {of} is {away:.1%} off the mean over its tokens"


@probe(
    "trainer-smooths-labels-over-all-tokens",
    "loss",
    "label smoothing trains on the smoothed mean over an update's tokens",
    library="transformers",
    cause="the smoothed loss is shifted, masked or averaged otherwise than the plain one",
    needs=NEEDS,
    cases=lambda: ("llama", "gpt2", "bert-classifier"),
    links=[f"{ISSUES}34242"],
)
def smooths_labels(name: str, seed: int) -> Iterator[str]:
    import torch.nn.functional as F

    trace, _ = logged(name, 4, batch_size=4, label_smoothing_factor=0.1, max_grad_norm=0.0)
    model, inputs = model_of(name), trace.forwards[0].inputs
    causal = ARCHITECTURES[name].task == "causal"
    labels = _labels_of(trace, name)
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits
    logits, labels = (logits[:, :-1], labels[:, 1:]) if causal else (logits, labels)
    log_p, kept = F.log_softmax(logits.float(), -1), labels != -100
    plain = -log_p.gather(-1, labels.clamp_min(0)[..., None])[..., 0][kept].mean()
    even = -log_p.mean(-1)[kept].mean()
    (0.9 * plain + 0.1 * even).backward()  # type: ignore[no-untyped-call]
    wanted = flat({key: p.grad for key, p in model.named_parameters() if p.grad is not None})
    away = relative(flat(trace.updates[0].gradients), wanted)
    if not away <= 1e-4:
        yield f"the gradient is {away:.1%} off that of 0.9 × cross-entropy + 0.1 × its mean over all tokens"


def _labels_of(trace: Trace, name: str) -> Tensor:
    """The labels of the first batch, which the smoothing Trainer takes out of the model's inputs: by its rows."""
    ids = trace.forwards[0].inputs["input_ids"]
    rows = rows_of_model(name, 4)
    order = []
    for seen in ids.tolist():
        order.append(next(row for row in rows if seen[: len(row["input_ids"])] == row["input_ids"]))
    return collate(order)["labels"]


@probe(
    "trainer-clips-to-the-limit",
    "optimizer",
    "gradients are clipped to max_grad_norm as a whole, once they are complete",
    library="transformers",
    cause="clipping is skipped, done by micro-batch, or on scaled gradients",
    cases=lambda: ("llama 1", "llama 4", "gpt2 1", "llama-lora 4"),
    needs=NEEDS,
)
def clips(case: str, seed: int) -> Iterator[str]:
    name, accumulation = case.split()
    make = functools.partial(hf_trainer, max_grad_norm=0.05)
    free = functools.partial(hf_trainer, max_grad_norm=0.0)
    settings = dict(batch_size=2, accumulation=int(accumulation))
    clipped, plain = (
        flat(run(one, model_of(name), rows_of_model(name, 8), **settings).updates[0].gradients) for one in (make, free)
    )
    wanted = plain * min(1.0, 0.05 / float(plain.norm()))
    if not relative(clipped, wanted) <= 1e-4:
        norms = f"{float(clipped.norm()):.4f} with max_grad_norm=0.05, and {float(plain.norm()):.4f} without"
        yield f"the gradient's norm is {norms}"


@probe(
    "trainer-checkpointing-trains-adapters",
    "equivalence",
    "gradient checkpointing by the Trainer changes no gradient of an adapter",
    library="transformers",
    cause="inputs of the first checkpointed layer need no gradient, so none comes back",
    cases=lambda: ("lora", "lora-gpt2", "lora-t5", "dora"),
    needs="transformers>=4.35,accelerate,peft>=0.6",
    links=[f"{ISSUES}21381", f"{ISSUES}23170"],
)
def checkpointed_adapters(name: str, seed: int) -> Iterator[str]:
    from ...evidence.dropout import without_dropout
    from ..adapters import VARIANTS, trained

    found = []
    for on in (False, True):
        model = trained(name).train()
        without_dropout(model)
        # The older, re-entrant way needs enable_input_require_grads() of the user.
        how: dict[str, Any] = {"gradient_checkpointing_kwargs": {"use_reentrant": False}} if on else {}
        make = functools.partial(hf_trainer, gradient_checkpointing=on, max_grad_norm=0.0, **how)
        rows = ROWS[ARCHITECTURES[VARIANTS[name].architecture].task](4, 4)
        found.append(run(make, model, rows).updates[0].gradients)
    if set(found[0]) != set(found[1]):
        yield f"{len(found[1])} tensors have a gradient with checkpointing, {len(found[0])} without"
    elif not relative(flat(found[1]), flat(found[0])) <= 1e-4:
        yield f"gradients differ by {relative(flat(found[1]), flat(found[0])):.1%} with checkpointing"
