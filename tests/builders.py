"""Runs and pairs that no training made: sound ones by default, with what a test is about given by keyword.

The model is the same everywhere: an embedding ``wte`` of 40 parameters and a ``h.0.attn.c_attn`` of 60. In full, all
100 train; LoRA of rank 2 on the latter adds and trains 32, 16 per unit of rank.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_ftcheck import Pair, Run
from pytest_ftcheck.run import (
    Breakdown,
    Environment,
    Flops,
    Losses,
    Memory,
    Optimizer,
    OptimizerGroup,
    Parameters,
    ParameterTensor,
    Timing,
)
from pytest_ftcheck.theory.growth import Growth
from pytest_ftcheck.theory.parameters import ModuleForm, ParameterForm

FULL_FORM = ParameterForm(
    label="Full(lr=0.001)",
    total=100,
    trainable=100,
    modules=(
        ModuleForm("wte", total=40, trainable=40, base=40),
        ModuleForm("h.0.attn.c_attn", total=60, trainable=60, base=60, bias=12),
    ),
)
LORA_FORM = ParameterForm(
    label="LoRA(r=2, alpha=4, c_attn, lr=0.01)",
    total=132,
    trainable=32,
    modules=(
        ModuleForm("wte", total=40, trainable=0, base=40),
        ModuleForm("h.0.attn.c_attn", total=92, trainable=32, base=60, bias=12, rank=2, growth=(Growth(linear=16),)),
    ),
)


def a_tensor(name: str, shape: tuple[int, ...], *, trainable: bool = True, **changes: Any) -> ParameterTensor:
    """A parameter; one that trains is in the optimizer, has a gradient, and moves."""
    tensor = ParameterTensor(
        name=name,
        module=name.removeprefix("base_model.model.")
        .partition(".lora_")[0]
        .removesuffix(".weight")
        .removesuffix(".bias"),
        shape=shape,
        dtype="float32",
        trainable=trainable,
        optimized=trainable,
        gradient=trainable,
        moved=trainable,
    )
    return dataclasses.replace(tensor, **changes)


def tensors(method: str = "full", **changes: Mapping[str, Any]) -> tuple[ParameterTensor, ...]:
    """The model's parameters under ``method``; ``wte={"moved": False}`` changes those whose name has "wte" in it."""
    full = method == "full"
    found = [
        a_tensor("wte.weight", (10, 4), trainable=full),
        a_tensor("h.0.attn.c_attn.weight", (4, 12), trainable=full),
        a_tensor("h.0.attn.c_attn.bias", (12,), trainable=full),
    ]
    if not full:
        found.append(a_tensor("base_model.model.h.0.attn.c_attn.lora_A.default.weight", (2, 4)))
        found.append(a_tensor("base_model.model.h.0.attn.c_attn.lora_B.default.weight", (12, 2)))
    for part, change in changes.items():
        assert any(part in tensor.name for tensor in found), part
        found = [dataclasses.replace(t, **change) if part in t.name else t for t in found]
    return tuple(found)


def a_run(
    method: str = "full",
    *,
    train: Sequence[float] = (3.0, 2.0, 1.0),
    evals: Mapping[int, float] | None = None,
    supervised_tokens: Sequence[int | None] = (),
    batches: str = "the batches",
    parameters: Parameters | None = None,
    declared: ParameterForm | None = None,
    group_lr: Sequence[float] | None = None,
    samples_s: Sequence[float] = (0.5,) * 5 + (0.01,) * 5,
    tokens_per_step: float | None = 64.0,
    memory: Memory | None = None,
    **changes: Any,
) -> Run:
    """A sound run of ``method`` ("full", or anything else for LoRA of rank 2); ``changes`` are further fields of Run.

    ``evals``: step -> evaluation loss. ``group_lr``: the learning rates of the one optimizer group.
    """
    full = method == "full"
    parameters = parameters or Parameters(tensors(method), declared or (FULL_FORM if full else LORA_FORM))
    lr = 1e-3 if full else 1e-2
    group = OptimizerGroup(
        parameters=tuple(t.name for t in parameters.tensors if t.optimized),
        weight_decay=0.0,
        lr=tuple(group_lr) if group_lr is not None else (lr,) * len(train),
    )
    run = Run(
        recipe="a recipe",
        method=method,
        title="full" if full else "LoRA r=2",
        declaration=FULL_FORM.label if full else LORA_FORM.label,
        seed=0,
        steps=len(train),
        batch_size=4,
        accumulation=2,
        lr=lr,
        dtype="float32",
        parameters=parameters,
        loss=Losses(tuple(train), tuple((evals or {}).items()), tuple(supervised_tokens), batches),
        time=Timing(tuple(samples_s), tokens_per_step),
        optimizers=(Optimizer("AdamW", (group,)),),
        environment=Environment("cpu", "x86_64", "3.11.7", {"torch": "2.13.0"}, threads=1, deterministic=False),
        memory=memory or a_memory(method),
        flops=Flops(forward=1000, backward=2000) if full else Flops(forward=1200, backward=1200),
    )
    return dataclasses.replace(run, **changes)


def a_memory(method: str = "full", **changes: Any) -> Memory:
    """What training the model in float32 with AdamW holds: 1600 static bytes in full, 912 with LoRA."""
    total, trainable = (100, 100) if method == "full" else (132, 32)
    at_peak = Breakdown(4 * total, 4 * trainable, 8 * trainable, 0, 400)
    memory = Memory(
        peak_bytes=at_peak.total,
        weights_bytes=4 * total,
        gradients_bytes=4 * trainable,
        optimizer_bytes=8 * trainable,
        activations_bytes=700,
        peak_phase="optimizer",
        at_peak=at_peak,
    )
    return dataclasses.replace(memory, **changes)


def a_pair(gaps: Mapping[int, Sequence[float]] | None = None, *, full_loss: float = 1.0, **changes: Any) -> Pair:
    """Both arms from as many seeds as a gap has numbers: step -> evaluation loss of LoRA minus that of full, per seed.

    The evaluation loss of full is ``full_loss`` throughout. ``changes`` go to every run.
    """
    gaps = {10: (0.25, 0.25, 0.25)} if gaps is None else gaps
    horizon = max(gaps)
    arms: dict[str, list[Run]] = {"full": [], "lora": []}
    for seed in range(len(gaps[horizon])):
        full, lora = dict.fromkeys(gaps, full_loss), {at: full_loss + gap[seed] for at, gap in gaps.items()}
        for method, curve in (("full", full), ("lora", lora)):
            arms[method].append(a_run(method, seed=seed, evals=curve, **{"steps": horizon, **changes}))
    return Pair(tuple(arms["full"]), tuple(arms["lora"]))
