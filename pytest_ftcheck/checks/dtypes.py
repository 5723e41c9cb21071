"""Checks of the precision that weights are held in: where training needs it, and not where it only costs memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import NotApplicable
from ..evidence.names import base_parameters, first_few_of, in_base, is_adapters
from .check import Finding, check
from .sabotages.dtypes import ADAPTER_MIXED, BASE_UPCAST, TRAINED_IN_HALF

if TYPE_CHECKING:
    import torch

    from ..evidence.evidence import Evidence


@check(
    "trained-in-the-declared-dtype",
    "parameters",
    "what trains is held in the declared dtype (adapters also in float32), and all of an adapter in the same",
    controls=[TRAINED_IN_HALF, ADAPTER_MIXED],
    catches=["https://github.com/pytorch/torchtune/issues/2254", "https://github.com/pytorch/ao/pull/1124"],
)
def trained_in_the_declared_dtype(evidence: Evidence) -> Iterator[Finding]:
    import torch

    trace, declared = evidence.trace, getattr(torch, evidence.recipe.dtype)
    trainable = [n for n, on in trace.trainable.items() if on and trace.initial[n].is_floating_point()]
    coarse = [name for name in trainable if _bits(trace.initial[name].dtype) < _bits(declared)]
    if coarse:
        dtypes = ", ".join(sorted({_name(trace.initial[name].dtype) for name in coarse}))
        yield Finding(
            summary=f"{len(coarse)} of {len(trainable)} trainable tensors are {dtypes}; the recipe declares "
            f"{evidence.recipe.dtype}",
            cause="the model was loaded or cast in half precision (torch_dtype, dtype='auto', .half()): small updates "
            "are lost to rounding",
            remedy="train weights in float32 (with autocast, if it must be fast), or declare the dtype in the recipe",
            evidence=(first_few_of(coarse),),
        )
    factors = [name for name in trainable if is_adapters(name) and "modules_to_save" not in name.split(".")]
    found = {trace.initial[name].dtype for name in factors}
    if len(found) > 1:
        counts = {dtype: sum(trace.initial[name].dtype == dtype for name in factors) for dtype in found}
        rarest = min(counts, key=lambda dtype: counts[dtype])
        yield Finding(
            summary=f"{counts[rarest]} of {len(factors)} adapter tensors are {_name(rarest)}, the others are not",
            cause="a part of the adapter was cast by itself, or made without autocast_adapter_dtype",
            remedy="hold the whole adapter in one dtype, float32 by PEFT's default",
            evidence=(first_few_of([name for name in factors if trace.initial[name].dtype == rarest]),),
        )


@check(
    "frozen-base-keeps-its-dtype",
    "parameters",
    "the frozen layers under an adapter are held in the dtype that they were loaded in",
    controls=[BASE_UPCAST],
    applies="adapter",
)
def frozen_base_keeps_its_dtype(evidence: Evidence) -> Iterator[Finding]:
    base, trace = base_parameters(evidence), evidence.trace
    homes = {name: in_base(name, base) for name, on in trace.trainable.items() if not on}
    # Norms, embeddings and heads are put into float32 on purpose before training on a quantized base; matrices of the
    # layers are where the memory is.
    matrices = {
        name: home
        for name, home in homes.items()
        if home is not None and trace.initial[name].dim() > 1 and any(part.isdigit() for part in name.split("."))
    }
    if not matrices:
        raise NotApplicable("no layer of the base is frozen")
    changed = [name for name, home in matrices.items() if trace.initial[name].dtype != base[home].dtype]
    if changed:
        before, after = _name(base[matrices[changed[0]]].dtype), _name(trace.initial[changed[0]].dtype)
        extra = sum(
            trace.initial[name].numel() * (trace.initial[name].element_size() - base[matrices[name]].element_size())
            for name in changed
        )
        yield Finding(
            summary=f"{len(changed)} of {len(matrices)} frozen matrices went from {before} to {after} "
            f"({extra / 2**20:+.2f} MiB)",
            cause="the whole model was cast after loading (.float(), .half(), prepare_model_for_kbit_training)",
            remedy="cast the adapter alone, and leave the base as it was loaded",
            evidence=(first_few_of(changed),),
        )


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _bits(dtype: torch.dtype) -> int:
    import torch

    return torch.finfo(dtype).bits
