"""Probes of the course of ``transformers.Trainer``: rates, decay, rows, evaluation, repetition."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ...errors import NotApplicable
from ..data import collate
from ..loops import hf_trainer
from ..losses import reference_loss
from ..models import build, from_transformers
from ..probe import distance, probe
from ..updates import job, model_of, rows_of_model, run

if TYPE_CHECKING:
    from ...observers.trace import Trace


ISSUES = "https://github.com/huggingface/transformers/issues/"
PULLS = "https://github.com/huggingface/transformers/pull/"
NEEDS = "transformers,accelerate"


@probe(
    "trainer-rate-is-as-scheduled",
    "schedule",
    "every update is made at the rate that the schedule gives it, with accumulation too",
    library="transformers",
    cause="the schedule steps by micro-batches, or is stretched over another number of updates",
    cases=lambda: ("1", "4"),
    needs=NEEDS,
    links=["https://github.com/huggingface/accelerate/issues/963"],
)
def rate_as_scheduled(case: str, seed: int) -> Iterator[str]:
    make = functools.partial(hf_trainer, lr_scheduler_type="linear", warmup_steps=2)
    trace = run(
        make, model_of("llama"), rows_of_model("llama", 24), steps=6, lr=1e-3, batch_size=1, accumulation=int(case)
    )
    found = [update.lr[0] for update in trace.updates]
    wanted = [1e-3 * (min(step / 2, 1.0) if step < 2 else (6 - step) / 4) for step in range(6)]
    if len(found) != 6 or any(abs(a - b) > 1e-9 for a, b in zip(found, wanted, strict=True)):
        yield f"rates {[f'{rate:.2e}' for rate in found]} instead of {[f'{rate:.2e}' for rate in wanted]}"


@probe(
    "trainer-decays-matrices-only",
    "optimizer",
    "weight decay is on matrices, not on norms and biases; each trainable is held once",
    library="transformers",
    cause="a norm's class or name is unknown to the rule that exempts it from decay",
    cases=lambda: (
        "llama",
        "gpt2",
        "bert-classifier",
        "t5",
        "gemma",
        "opt",
        "qwen3",
        "mixtral",
        "bart",
        "olmo2",
        "phi",
        "starcoder2",
    ),
    needs="transformers>=4.34,accelerate",
    links=[f"{PULLS}35927"],
)
def decays_matrices_only(name: str, seed: int) -> Iterator[str | tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        model = model_of(name)
        optimizer = hf_trainer(job(model, rows_of_model("llama", 4), folder), weight_decay=0.1).create_optimizer()
    held = [id(p) for group in optimizer.param_groups for p in group["params"]]
    if sorted(held) != sorted({id(p) for p in model.parameters() if p.requires_grad}):
        yield f"the optimizer holds {len(held)} tensors of {len(list(model.parameters()))}"
    names = {id(p): key for key, p in model.named_parameters()}
    decayed = [names[id(p)] for g in optimizer.param_groups if g["weight_decay"] for p in g["params"] if p.dim() < 2]
    if decayed:
        yield f"{len(decayed)} norms and biases decay", ", ".join(decayed[:3])


@probe(
    "trainer-feeds-every-row-once",
    "data",
    "in one epoch each row is trained on once, in another order than the data's",
    library="transformers",
    cause="the sampler, or how the Trainer wraps the loader, drops or repeats rows",
    cases=lambda: ("plain", "grouped", "accumulated"),
    needs=NEEDS,
)
def every_row_once(case: str, seed: int) -> Iterator[str]:
    from ...evidence.rows import row_keys

    rows = rows_of_model("llama", 12)
    arguments: dict[str, Any] = {"max_steps": -1, "num_train_epochs": 2}
    if case == "grouped":
        arguments |= {"group_by_length": True, "train_sampling_strategy": "group_by_length"}
    make = functools.partial(hf_trainer, **arguments)
    trace = run(make, model_of("llama"), rows, batch_size=2, accumulation=3 if case == "accumulated" else 1)
    seen = [key for forward in trace.forwards for key in row_keys(forward)]
    first, second = seen[:12], seen[12:]
    if len(seen) != 24 or sorted(first) != sorted(second) or len(set(first)) != 12:
        yield f"{len(seen)} rows in two epochs of 12; {len(set(first))} different ones in the first"
    elif first == second:
        yield "both epochs have the same order"


def _evaluated(**changes: Any) -> Trace:
    evaluation: dict[str, Any] = {"eval_strategy": "steps", "eval_steps": 2} if changes.pop("evaluate") else {}
    make = functools.partial(hf_trainer, **evaluation)
    rows = rows_of_model("gpt2", 10)
    return run(make, model_of("gpt2"), rows, eval_data=rows[:4], steps=8, lr=1e-3, batch_size=2)


@probe(
    "evaluation-leaves-training-alone",
    "data",
    "evaluating in the middle changes neither the order of rows nor, without dropout, a weight",
    library="transformers",
    cause="evaluation draws from the generator that shuffles the training data, or leaves a mode behind",
    needs=NEEDS,
    links=[f"{PULLS}17055", f"{ISSUES}11323"],
)
def evaluation_leaves_training(case: str, seed: int) -> Iterator[str]:
    from ...evidence.rows import row_keys

    plain, evaluated = _evaluated(evaluate=False), _evaluated(evaluate=True)
    if not evaluated.evaluations:
        raise NotApplicable("the installed release did not evaluate")
    one, other = ([row_keys(f) for f in trace.forwards] for trace in (plain, evaluated))
    if one != other:
        first = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
        yield f"with evaluation the training sees other rows from batch {first + 1} on"
        return
    weights = dict(plain.model.named_parameters())
    moved_by = max(distance(p, weights[key]) for key, p in evaluated.model.named_parameters())
    if moved_by != 0:
        yield f"with the same rows and no dropout, weights differ by {moved_by:.2e}"
    if not all(not forward.in_eval_mode for forward in evaluated.forwards):
        yield "after evaluation, training goes on in evaluation mode"


@probe(
    "evaluation-counts-every-row",
    "data",
    "evaluate() takes every row once, in evaluation mode, and reports their mean loss",
    library="transformers",
    cause="rows are dropped, doubled or padded in evaluation, or the loss is averaged otherwise",
    cases=lambda: ("llama", "bert-classifier"),
    needs=NEEDS,
)
def evaluation_counts(name: str, seed: int) -> Iterator[str]:
    import torch

    rows = rows_of_model(name, 7)
    with tempfile.TemporaryDirectory() as folder:
        trainer = hf_trainer(job(model_of(name), rows, folder, eval_data=rows, batch_size=7))
        whole = trainer.evaluate()["eval_loss"]
        model = trainer.model.eval()
        with torch.no_grad():
            inputs = collate(rows)
            wanted = float(reference_loss(name, model(**inputs).logits, inputs["labels"]))
        if not abs(whole - wanted) <= 1e-4:
            yield f"eval_loss of one batch is {whole:.5f}; its cross-entropy {wanted:.5f}"
        short = hf_trainer(job(model_of(name), rows, folder, eval_data=rows, batch_size=3))
        predicted = short.predict(rows)
    if len(predicted.predictions) != 7 or len(predicted.label_ids) != 7:
        yield f"predict() returns {len(predicted.predictions)} rows of 7 in batches of 3"


@probe(
    "trainer-is-repeatable",
    "learning",
    "the same seed gives the same weights, with dropout, to the bit",
    library="transformers",
    cause="something is drawn before the seed is set, or from another source",
    cases=lambda: ("gpt2", "bert-classifier"),
    needs=NEEDS,
)
def repeatable(name: str, seed: int) -> Iterator[str]:
    import torch

    ends = []
    for disturbance in range(2):
        model = build(name)
        torch.manual_seed(100 + disturbance)
        ends.append(dict(run(hf_trainer, model, rows_of_model(name, 8), steps=3, lr=1e-3).model.named_parameters()))
    away = max(distance(ends[0][key], ends[1][key]) for key in ends[0])
    if away != 0:
        yield f"two trainings from one seed end {away:.2e} apart"


@probe(
    "schedules-follow-their-formulas",
    "schedule",
    "get_scheduler's schedules warm up, peak and end as documented",
    library="transformers",
    cause="warm-up or decay is counted over another number of updates",
    cases=lambda: ("linear", "cosine", "constant_with_warmup", "polynomial", "constant"),
)
def schedules(kind: str, seed: int) -> Iterator[str]:
    import math

    import torch

    get: Any = from_transformers("get_scheduler")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule: Any = get(kind, optimizer, num_warmup_steps=4, num_training_steps=20)
    found = []
    for _ in range(20):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    decays: dict[str, Callable[[float], float]] = {
        "linear": lambda share: 1 - share,
        "cosine": lambda share: 0.5 * (1 + math.cos(math.pi * share)),
        "polynomial": lambda share: 1e-7 + (1 - 1e-7) * (1 - share),
    }
    after = [decays[kind]((step - 4) / 16) if kind in decays else 1.0 for step in range(4, 20)]
    wanted = [1.0 if kind == "constant" else step / 4 for step in range(4)] + after
    off = [step for step in range(20) if not abs(found[step] - wanted[step]) <= 1e-6]
    if off:
        yield f"in update {off[0] + 1} of 20 the rate is {found[off[0]]:.4f} instead of {wanted[off[0]]:.4f}"
