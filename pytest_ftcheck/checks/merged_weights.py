"""Checks of single weights: as merging makes them, and as unmerging leaves them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import (
    PREFIX,
    active,
    as_matrix,
    base_weight,
    config_of,
    factors_of,
    has_formula,
    kind_of,
    moved,
    refuse_prompts,
)
from ..evidence.evidence import adapters
from ..evidence.precision import distance, precision
from .check import Finding, check
from .merging import merge_in_place, mergeable, merged_or_not
from .sabotages.adapter import MERGED_WEIGHTS_PERTURBED, UNMERGE_DOES_NOTHING

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence

# Rounding of a merged weight, in units of (|W| + s|B||A|)·eps/2: measured 0.7 to 2.6 in float32 and less in bfloat16
# (science.md §4.6). Twice that where a weight was merged and unmerged.
ROUNDING = 8.0


@check(
    "unmerging-restores-the-base",
    "adapter",
    "unmerging takes out what merging put in: base weights and logits are what they were, but for rounding",
    controls=[UNMERGE_DOES_NOTHING],
    catches=["https://github.com/huggingface/peft/issues/1388"],
    applies="adapter",
    cost="model",
)
def unmerging_restores_the_base(evidence: Evidence) -> Iterator[Finding]:
    import torch

    exact, model = precision(evidence), mergeable(evidence)
    before = {name: base_weight(module).detach().clone() for name, module in adapters(model)}
    merge_in_place(model)
    moved_by = {name: distance(base_weight(module), before[name]) for name, module in adapters(model)}
    try:
        model.unmerge_adapter()
    except Exception as error:
        yield Finding(
            summary=f"0 of {len(before)} base weights are restored by unmerging: unmerge_adapter() raised "
            f"{type(error).__name__}: {str(error).partition(chr(10))[0]}",
            cause="this kind of adapter, or of layer, cannot be unmerged by this release",
            remedy="keep a copy of the base weights, or reload the base, instead of unmerging",
        )
        return
    wrong = {}
    for name, module in adapters(model):
        weight = base_weight(module)
        size = max(float(before[name].abs().max()), moved_by[name])
        # Both round once, at the size that the weight has in between; DoRA divides by a factor too.
        tolerance = 4 * ROUNDING * torch.finfo(weight.dtype).eps * (size + moved_by[name])
        if not distance(weight, before[name]) <= tolerance:
            wrong[name] = distance(weight, before[name]), tolerance
    if wrong:
        name, (difference, tolerance) = max(wrong.items(), key=lambda item: item[1][0])
        yield Finding(
            summary=f"{len(wrong)} of {len(before)} base weights are not restored by unmerging: {name} is off by "
            f"{difference:.3g} (rounding: {tolerance:.2g}; merging moved it by {moved_by[name]:.3g})",
            cause="unmerging subtracts something else than merging added, or nothing",
            remedy="keep a copy of the base weights, or reload the base, instead of unmerging",
        )
    difference, tolerance = distance(exact.logits(model), exact.reference), exact.tolerance(model)
    if not wrong and not difference <= tolerance:
        yield Finding(
            summary=f"{difference:.3g} is how far the logits are from before after merging and unmerging "
            f"(rounding: {tolerance:.2g})",
            cause="the base weights are restored, but the adapter is no longer applied",
            remedy="look at module.merged of each layer after unmerge_adapter()",
        )


@check(
    "merged-weights-are-exact",
    "adapter",
    "each merged weight is the one that the formula says, rounded once, also by a safe merge",
    controls=[MERGED_WEIGHTS_PERTURBED],
    catches=["https://github.com/huggingface/peft/issues/1388", "https://github.com/huggingface/peft/pull/438"],
    applies="adapter",
    cost="model",
)
def merged_weights_are_exact(evidence: Evidence) -> Iterator[Finding]:
    model = moved(evidence)
    refuse_prompts(model)
    if not has_formula(config_of(model)):
        raise NotApplicable(f"the formula of {kind_of(config_of(model))} with these settings is not known here")
    for safe in (False, True):
        copied = copy.deepcopy(model)
        result = merged_or_not(copied, safe_merge=safe)
        wrong = dict(_inexact(model, result))
        if wrong:
            name, (difference, bound) = max(wrong.items(), key=lambda item: item[1][0])
            yield Finding(
                summary=f"{len(wrong)} merged weights are not W + s·BA, rounded: {name} is off by {difference:.3g}, "
                f"{difference / bound:.0f} times the bound" + (" (safe_merge=True)" if safe else ""),
                cause="the merge computes another change than the adapter, otherwise oriented or with less precision",
                remedy="merge in float32 and cast afterwards; upgrade peft",
            )


def _inexact(model: Any, result: nn.Module) -> Iterator[tuple[str, tuple[float, float]]]:
    """(name, (difference, bound)) of each merged weight that rounding does not explain."""
    import torch

    found = dict(result.named_parameters(remove_duplicate=False))
    for name, module in adapters(model):
        factors = factors_of(module, active(model))
        weight = found.get(f"{name.removeprefix(PREFIX)}.weight")
        if factors is None or weight is None:
            continue
        parts = [weight.dtype, *(p.dtype for p in module.parameters() if p.is_floating_point())]
        unit = max(torch.finfo(dtype).eps for dtype in parts) / 2
        stretch = (
            1.0 if factors.magnitude is None else float((factors.magnitude / factors.weight.norm(dim=1)).abs().max())
        )
        sizes = factors.weight.abs() + abs(factors.scaling) * factors.up.abs() @ factors.down.abs()
        bound = ROUNDING * unit * max(1.0, stretch) * float(sizes.max())
        difference = distance(as_matrix(module, weight), factors.effective)
        if not difference <= bound:
            yield name, (difference, bound)
