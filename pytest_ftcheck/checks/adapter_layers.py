"""Checks of single adapted layers: their scaling, and that they compute the formula of their method."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import (
    acting_as,
    active,
    an_input,
    base_layer,
    config_of,
    declared_lora,
    declared_scaling,
    factors_of,
    has_formula,
    is_conv1d,
    kind_of,
    moved,
    pattern_name,
    peft_model,
    refuse_combined,
    refuse_prompts,
)
from ..evidence.evidence import adapters
from ..evidence.precision import distance
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.adapter import ADAPTER_COUNTED_TWICE, SCALING_LOST_ON_RESET, SCALING_OF_THE_OTHER_KIND

if TYPE_CHECKING:
    from ..evidence.adapted import Factors
    from ..evidence.evidence import Evidence

# Both sides are computed in float64, where rounding is 1e-13 of the output; this forgives one step in float32.
SAME = 1e-5


@check(
    "scaling-as-declared",
    "adapter",
    "each adapter is scaled by alpha/r, or alpha/√r with rsLoRA, with the r and alpha of its own patterns",
    controls=[SCALING_OF_THE_OTHER_KIND],
    catches=["https://github.com/huggingface/peft/pull/2195", "https://arxiv.org/abs/2312.03732"],
    applies="adapter",
)
def scaling_as_declared(evidence: Evidence) -> Iterator[Finding]:
    from ..theory.targets import alpha_of, rank_of

    lora = declared_lora(evidence.method)
    if lora is None:
        raise NotApplicable("the recipe declares another method than LoRA")
    model = peft_model(evidence.trace.model)
    refuse_combined(model)
    adapter, wrong, count = active(model), {}, 0
    for name, module in _scaled(model, adapter):
        count += 1
        declared = pattern_name(name, module)
        rank, alpha = rank_of(lora, declared), alpha_of(lora, declared)
        expected, found = declared_scaling(alpha, rank, lora.use_rslora), float(module.scaling[adapter])
        if not math.isclose(found, expected, rel_tol=1e-6):
            wrong[name] = (found, expected, rank, alpha)
    if wrong:
        name, (found, expected, rank, alpha) = next(iter(wrong.items()))
        root = "√" if lora.use_rslora else ""
        yield Finding(
            summary=f"{len(wrong)} of {count} adapters are scaled wrongly: {name} by {found:g} instead of "
            f"alpha/{root}r = {alpha:g}/{root}{rank} = {expected:g}",
            cause=_cause_of_scaling(found, rank, alpha, lora.use_rslora),
            remedy="give the code's LoraConfig the declared r, alpha, use_rslora and patterns, and reset any scaling "
            "that was changed (unscale_layer, set_scale)",
            evidence=(f"in: {first_few(sorted(wrong))}",),
        )


def _scaled(model: Any, adapter: str) -> list[tuple[str, Any]]:
    """The layers that hold a scaling for ``adapter``."""
    return [(n, module) for n, module in adapters(model) if adapter in getattr(module, "scaling", {})]


def _cause_of_scaling(found: float, rank: int, alpha: float, rslora: bool) -> str:
    if math.isclose(found, declared_scaling(alpha, rank, not rslora), rel_tol=1e-6):
        return f"use_rslora was {'forgotten' if rslora else 'switched on'}: the scaling is that of the other kind"
    if found == 0:
        return "the scaling is 0: the adapter does nothing"
    return "alpha or r is another than declared, rank_pattern or alpha_pattern is ignored, or it was scaled since"


@check(
    "scaling-survives-a-round-trip",
    "adapter",
    "scaling an adapter up and taking that back leaves the scaling that it had",
    controls=[SCALING_LOST_ON_RESET],
    catches=["https://github.com/huggingface/peft/pull/2775"],
    applies="adapter",
    cost="model",
)
def scaling_survives_a_round_trip(evidence: Evidence) -> Iterator[Finding]:
    model = peft_model(evidence.adapted_model())
    adapter = active(model)
    config = config_of(model)
    trips = {
        "scale_layer(2), unscale_layer()": _scaled_and_reset,
        "scale_layer(2), unscale_layer(2)": _scaled_and_divided,
        "set_scale(adapter, 1)": _set_to_one,
    }
    if not _scaled(model, adapter) or kind_of(config) != "LORA":
        raise NotApplicable(f"layers of {kind_of(config)} have no scaling that can be set")
    for called, trip in trips.items():
        wrong = {}
        layers = [(n, m) for n, m in _scaled(copy.deepcopy(model), adapter) if hasattr(m, "unscale_layer")]
        for name, module in layers:
            before = float(module.scaling[adapter])
            trip(module, adapter)
            if not math.isclose(float(module.scaling[adapter]), before, rel_tol=1e-6):
                wrong[name] = (before, float(module.scaling[adapter]))
        if wrong:
            name, (before, after) = next(iter(wrong.items()))
            yield Finding(
                summary=f"{len(wrong)} of {len(layers)} adapters have another scaling after {called}: "
                f"{name} {after:g} instead of {before:g}",
                cause="the reset works with alpha/r whatever the adapter was made with (rsLoRA: alpha/√r)",
                remedy="upgrade peft (0.18 resets rsLoRA rightly), or set module.scaling back by hand",
            )


def _scaled_and_reset(module: Any, adapter: str) -> None:
    module.scale_layer(2.0)
    module.unscale_layer()


def _scaled_and_divided(module: Any, adapter: str) -> None:
    module.scale_layer(2.0)
    module.unscale_layer(2.0)


def _set_to_one(module: Any, adapter: str) -> None:
    module.set_scale(adapter, 1.0)


@check(
    "layer-follows-its-formula",
    "adapter",
    "each adapted layer computes (W + s·BA) x, with DoRA m·(W + s·BA)/‖W + s·BA‖ x, in its own orientation",
    controls=[ADAPTER_COUNTED_TWICE],
    catches=["https://github.com/huggingface/peft/pull/1588", "https://arxiv.org/abs/2402.09353"],
    applies="adapter",
    cost="model",
)
def layer_follows_its_formula(evidence: Evidence) -> Iterator[Finding]:
    model = moved(evidence)
    refuse_prompts(model)
    if not has_formula(config_of(model)):
        raise NotApplicable(f"the formula of {kind_of(config_of(model))} with these settings is not known here")
    adapter, wrong, count = active(model), {}, 0
    for name, module in adapters(model):
        factors = factors_of(module, adapter)
        if factors is None:
            continue
        difference = _from_formula(module, factors)
        if difference is not None:
            count += 1
        if difference is not None and not difference <= SAME:
            wrong[name] = difference, factors
    if not count:
        raise NotApplicable("no adapted layer is of a kind whose formula is known here")
    if wrong:
        name, (difference, factors) = max(wrong.items(), key=lambda item: item[1][0])
        kind = type(model.get_submodule(name)).__name__
        yield Finding(
            summary=f"{len(wrong)} of {count} adapted layers do not compute their formula: {name} is off by "
            f"{difference:.1%} of its largest output",
            cause=_cause_in_layer(model.get_submodule(name), adapter, factors),
            remedy="upgrade peft or leave this kind of layer out of target_modules; in a layer of your own, compare "
            "its forward with W x + s B A x",
            evidence=(
                f"a {kind} from {factors.weight.shape[1]} to {factors.weight.shape[0]}, s = {factors.scaling:g}",
            ),
        )


def _from_formula(module: Any, factors: Factors) -> float | None:
    """How far the layer's output is from its formula, as a share of the largest output; None where it cannot be called
    by itself.
    """
    import torch

    if base_layer(module) is module:
        return None  # before peft 0.7 an adapter is no layer around another
    own = copy.deepcopy(module).double().eval()
    try:
        expected_layer = acting_as(module, _effective(factors), factors.bias).eval()
        with torch.no_grad():
            given = an_input(expected_layer)
            expected = expected_layer(given)
            found = own(given)
    except NotApplicable:
        raise
    except Exception:
        return None
    return distance(found, expected) / max(float(expected.abs().max()), 1e-12)


def _effective(factors: Factors) -> Any:
    """The weight that the formula says; a magnitude of another length than the outputs has no formula."""
    import torch

    if factors.magnitude is not None and factors.magnitude.shape[0] != factors.weight.shape[0]:
        return torch.full_like(factors.weight, float("nan"))
    return factors.effective


def _cause_in_layer(module: Any, adapter: str, factors: Factors) -> str:
    if factors.magnitude is not None:
        turned = ", on the untransposed weight of a Conv1D?" if is_conv1d(base_layer(module)) else ""
        return f"DoRA divides by the norm along the wrong axis, or its magnitude is not that of each output{turned}"
    return "the layer applies its scaling twice or not at all, or multiplies the factors in the wrong orientation"
