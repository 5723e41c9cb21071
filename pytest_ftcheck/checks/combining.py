"""Checks of adapters combined into one: weighted sums, pruning."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import active, config_of, factors_of, has_formula, kind_of, moved
from ..evidence.evidence import adapters
from ..evidence.precision import distance
from .check import Finding, check
from .sabotages.adapter import COMBINING_HALVES
from .several import move, others

if TYPE_CHECKING:
    from ..evidence.evidence import Evidence

# Adapters are combined in the recipe's dtype, and compared relative to the largest change.
COMBINED = 64.0
# Ones that random pruning left and rescaled have a mean of 1 within 0.008 (standard deviation); peft#3152 gives 0.3.
PRUNED = 0.05


@check(
    "combined-adapters-add-up",
    "adapter",
    "add_weighted_adapter makes the weighted sum of the adapters' changes, and pruning that rescales keeps the mean",
    controls=[COMBINING_HALVES],
    catches=["https://github.com/huggingface/peft/pull/3152"],
    applies="adapter",
    cost="model",
)
def combined_adapters_add_up(evidence: Evidence) -> Iterator[Finding]:
    model = moved(evidence)
    # One that may be made of two others.
    first, (second, *_) = active(model), others(model, least=2)
    pruned = list(_pruning())
    yield from pruned
    if not _can_combine(model):
        if not pruned:
            raise NotApplicable("PEFT combines adapters of plain LoRA only: no DoRA, no rsLoRA, no copies of modules")
        return
    move(model, second)
    for label, combine, weights in _combinations(first, second):
        name = f"combined_{label}"
        try:
            combine(model, name)
        except (TypeError, ValueError, NotImplementedError):
            continue  # not in this release, or not for these ranks
        worst = _worst_sum(model, name, weights)
        if worst is not None:
            layer, share = worst
            yield Finding(
                summary=f"{share:.1%} is how far combination_type={label!r} is from the weighted sum of the adapters' "
                f"changes, relative to it, in {layer}",
                cause="the combination loses or repeats a weight, or the scaling of an adapter",
                remedy="upgrade peft, or merge the adapters one after the other and compare",
                evidence=(f"weights: {weights}",),
            )


def _can_combine(model: Any) -> bool:
    config = config_of(model)
    # Combined rsLoRA adapters are scaled by √r too much up to peft 0.21.2, whoever trained them.
    more = any(getattr(config, name, None) for name in ("use_dora", "use_rslora", "modules_to_save"))
    return hasattr(model, "add_weighted_adapter") and kind_of(config) == "LORA" and has_formula(config) and not more


def _combinations(first: str, second: str) -> Iterator[tuple[str, Callable[[Any, str], None], dict[str, float]]]:
    """(combination type, call that makes it, weight of each adapter) where the result is exactly the weighted sum."""

    def call(label: str, weights: dict[str, float], **options: Any) -> Callable[[Any, str], None]:
        return lambda model, name: model.add_weighted_adapter(
            list(weights), list(weights.values()), name, combination_type=label, **options
        )

    both, one = {first: 0.75, second: 0.5}, {first: 1.0}
    yield "cat", call("cat", both), both
    for label in ("linear", "svd"):
        yield label, call(label, one), one
    for label in ("ties", "dare_linear", "dare_ties", "magnitude_prune"):
        yield label, call(label, one, density=1.0), one


def _worst_sum(model: Any, combined: str, weights: dict[str, float]) -> tuple[str, float] | None:
    """The layer whose combined change is furthest from the weighted sum, if any is further than rounding explains."""
    import torch

    worst: tuple[str, float] | None = None
    for name, module in adapters(model):
        parts = {adapter: factors_of(module, adapter) for adapter in (combined, *weights)}
        if any(factors is None for factors in parts.values()):
            continue
        changes = {adapter: factors.change for adapter, factors in parts.items() if factors is not None}
        wanted = sum(weight * changes[adapter] for adapter, weight in weights.items())
        assert isinstance(wanted, torch.Tensor)
        share = distance(changes[combined], wanted) / max(float(wanted.abs().max()), 1e-12)
        coarse = max(torch.finfo(p.dtype).eps for p in module.parameters() if p.is_floating_point())
        # Of layers that are equally far off, but for rounding, the first: it is the same one on every processor.
        if not share <= COMBINED * coarse and (worst is None or not share <= 1.01 * worst[1]):
            worst = name, share
    return worst


def _pruning() -> Iterator[Finding]:
    """DARE (arXiv 2311.03099) drops entries at random and divides the rest by the share that it keeps."""
    import torch

    try:
        from peft.utils.merge_utils import prune
    except ImportError:
        return
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        mean = float(prune(torch.ones(200, 200), 0.3, method="random", rescale=True).mean())
    if not abs(mean - 1) <= PRUNED:
        yield Finding(
            summary=f"{mean:.2f} instead of 1 is the mean of ones that DARE pruned to density 0.3 and rescaled",
            cause="random pruning does not divide what is left by the density: merged adapters are too weak",
            remedy="upgrade peft (0.19), or divide the pruned task tensors by the density yourself",
        )
