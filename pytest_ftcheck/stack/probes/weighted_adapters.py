"""Probes of the arithmetic that makes one adapter of several."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..adapters import base_of
from ..breaks import nothing_rescaled
from ..probe import Control, from_peft, probe

if TYPE_CHECKING:
    from torch import Tensor

PEFT = "https://github.com/huggingface/peft/"
CAUSE = "the weights of the adapters, their scalings or their ranks are not applied as the method is defined"


def _two(ranks: tuple[int, int], alphas: tuple[int, int], **settings: Any) -> Any:
    """A Llama with LoRA adapters a and b on its queries, of these ranks and alphas, at random values."""
    import torch
    from peft import get_peft_model

    torch.manual_seed(0)

    def config(index: int) -> Any:
        own = {"r": ranks[index], "lora_alpha": alphas[index], "init_lora_weights": False}
        return from_peft("LoraConfig")(**own, target_modules=["q_proj"], **settings)

    model = get_peft_model(base_of("lora"), config(0), adapter_name="a")
    model.add_adapter("b", config(1))
    return model


def _delta(model: Any, adapter: str) -> Any:
    """The change that ``adapter`` makes to the weight of the first layer's queries."""
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    return layer.get_delta_weight(adapter).detach().clone()


def _combined(model: Any, weights: list[float], kind: str, **settings: Any) -> Any:
    model.add_weighted_adapter(["a", "b"][: len(weights)], weights, "new", combination_type=kind, **settings)
    return _delta(model, "new")


def _away(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@probe(
    "concatenated-adapters-are-their-weighted-sum",
    "adapter",
    "combination 'cat' is w₁ ΔW₁ + w₂ ΔW₂, exactly",
    library="peft",
    cause=CAUSE,
    cases=lambda: ("same-alpha", "own-alpha", "own-rank", "rslora", "negative"),
    needs="peft>=0.5",
)
def concatenated(case: str, seed: int) -> Iterator[str]:
    ranks, alphas = ((4, 4), (12, 12)) if case in ("same-alpha", "negative") else ((4, 4), (12, 3))
    ranks = (4, 2) if case == "own-rank" else ranks
    model = _two(ranks, alphas, **({"use_rslora": True} if case == "rslora" else {}))
    weights = [0.7, -0.4] if case == "negative" else [0.7, 0.4]
    wanted = weights[0] * _delta(model, "a") + weights[1] * _delta(model, "b")
    away = _away(_combined(model, weights, "cat"), wanted)
    if not away <= 1e-4:
        yield f"the combined change is {away:.1%} off the weighted sum"


@probe(
    "svd-combined-adapters-are-their-weighted-sum",
    "adapter",
    "combination 'svd' of enough rank is w₁ ΔW₁ + w₂ ΔW₂",
    library="peft",
    cause=CAUSE,
    cases=lambda: ("same-alpha", "own-alpha", "own-rank", "negative"),
    needs="peft>=0.5",
)
def by_svd(case: str, seed: int) -> Iterator[str]:
    ranks, alphas = ((4, 2) if case == "own-rank" else (4, 4)), ((12, 12) if case == "same-alpha" else (12, 3))
    model = _two(ranks, alphas)
    weights = [0.7, -0.4] if case == "negative" else [0.7, 0.4]
    wanted = weights[0] * _delta(model, "a") + weights[1] * _delta(model, "b")
    away = _away(_combined(model, weights, "svd", svd_rank=8), wanted)
    if not away <= 1e-3:
        yield f"the combined change is {away:.1%} off the weighted sum"


@probe(
    "weighted-adapter-scales",
    "adapter",
    "one adapter with weight w is w ΔW, by every way of combining",
    library="peft",
    cause=CAUSE,
    needs="peft>=0.5",
    cases=lambda: tuple(
        f"{kind} {w}"
        for kind in ("linear", "cat", "svd", "ties", "dare_linear", "magnitude_prune")
        for w in (0.5, 2.0, -1.0)
    ),
    links=[f"{PEFT}pull/3152", f"{PEFT}issues/3004"],
)
def one_scaled(case: str, seed: int) -> Iterator[str]:
    kind, weight = case.split()
    model = _two((4, 4), (12, 3))
    wanted = float(weight) * _delta(model, "a")
    # At density 1 nothing is pruned, so every method must give the same.
    pruning = {"density": 1.0} if kind in ("ties", "dare_linear", "magnitude_prune") else {}
    away = _away(_combined(model, [float(weight)], kind, **pruning), wanted)
    if not away <= 1e-3:
        yield f"the change is {away:.1%} off {weight} times the adapter's"


@probe(
    "dare-keeps-the-mean",
    "adapter",
    "dropping at random and rescaling (DARE) keeps the expected change",
    library="peft",
    cause="what survives the pruning is not divided by the density: the merged adapter is too weak",
    needs="peft>=0.9",
    cases=lambda: ("0.3", "0.7"),
    control=Control("0.3", nothing_rescaled),
    links=[f"{PEFT}pull/3152"],
)
def dare_keeps_the_mean(case: str, seed: int) -> Iterator[str]:
    import torch
    from peft.utils.merge_utils import prune

    torch.manual_seed(seed)
    kept = prune(torch.ones(300, 300), float(case), method="random", rescale=True)
    mean, share = float(kept.mean()), float((kept != 0).float().mean())
    # The mean of 90,000 draws is within 0.02 at ten standard deviations.
    if not abs(mean - 1) <= 0.03:
        yield f"the mean after pruning at density {case} is {mean:.3f} instead of 1"
    if not abs(share - float(case)) <= 0.02:
        yield f"{share:.1%} of the values are kept at density {case}"


@probe(
    "magnitude-pruning-keeps-the-largest",
    "adapter",
    "pruning by magnitude keeps the largest values, as they are",
    library="peft",
    cause="the wrong end is pruned, or the survivors are changed",
    needs="peft>=0.9",
)
def keeps_the_largest(case: str, seed: int) -> Iterator[str]:
    import torch
    from peft.utils.merge_utils import prune

    values = torch.tensor([[0.1, -4.0, 0.3, 2.0], [3.0, -0.2, 0.4, -1.0]])
    found = prune(values, 0.5, method="magnitude")
    wanted = values.where(values.abs() >= 1.0, torch.zeros(()))
    if not torch.equal(found, wanted):
        yield f"of {values.flatten().tolist()} it keeps {found[found != 0].tolist()} at density 0.5"


@probe(
    "ties-elects-the-sign-of-the-sum",
    "adapter",
    "TIES merges the values whose sign the weighted sum has",
    library="peft",
    cause="the sign is elected by another rule, or the mean counts the wrong adapters",
    needs="peft>=0.9",
)
def ties_formula(case: str, seed: int) -> Iterator[str]:
    import torch
    from peft.utils.merge_utils import ties

    one, other = torch.tensor([1.0, -2.0, 3.0, 1.0]), torch.tensor([2.0, 1.0, -1.0, 1.0])
    found = ties([one, other], torch.tensor([1.0, 1.0]), 1.0, "total")
    wanted = torch.tensor([1.5, -2.0, 3.0, 1.0])
    if not torch.allclose(found, wanted):
        yield f"{found.tolist()} instead of {wanted.tolist()}"
