"""Checks of an adapter as a whole: where it sits, what it starts from, what it leaves alone, how much it can change."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import (
    PREFIX,
    active,
    base_weight,
    config_of,
    declared_lora,
    is_prompt,
    kind_of,
    moved,
    peft_model,
    refuse_combined,
    refuse_prompts,
    takes_from_base,
    trains_beside_the_adapter,
)
from ..evidence.evidence import adapters, copy_of
from ..evidence.precision import distance, precision
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.adapter import (
    ADAPTER_STARTS_SOMEWHERE_ELSE,
    BASE_CHANGED_BY_ADAPTING,
    BASE_TRAINS_TOO,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from ..evidence.evidence import Evidence

# Kinds of adapters that compute the base's own outputs before they are trained, unless they are told otherwise.
START_AS_THE_BASE = ("LORA", "ADALORA", "IA3", "LN_TUNING", "VERA", "OFT", "BOFT", "HRA", "LOHA", "LOKR", "RANDLORA")
# Singular values below this share of the largest are rounding: the change is worked out in float64 from weights that
# training left untouched, so only the rank that was declared is above it.
SMALL = 1e-9


@check(
    "adapter-starts-as-the-base",
    "adapter",
    "before the first update the adapted model computes what the base computes",
    controls=[ADAPTER_STARTS_SOMEWHERE_ELSE, BASE_CHANGED_BY_ADAPTING],
    catches=["https://github.com/huggingface/peft/issues/1836", "https://github.com/huggingface/peft/issues/2103"],
    applies="adapter",
    cost="model",
)
def adapter_starts_as_the_base(evidence: Evidence) -> Iterator[Finding]:
    model = _at_the_start(evidence)
    refuse_combined(model)
    _refuse_other_starts(evidence, model)
    exact = precision(evidence)
    base = evidence.base_model()
    expected, found = exact.logits(base), exact.logits(model)
    turned = takes_from_base(_config(model)) if hasattr(model, "peft_config") else False
    difference = distance(found, expected)
    tolerance = exact.tolerance(base, model) if turned or _rounds_at_the_start(model) else exact.tolerance()
    if difference <= tolerance:
        return
    yield Finding(
        summary=f"{difference:.3g} is the largest difference of the fresh adapter's logits from the base's "
        f"(rounding: {tolerance:.2g})",
        cause="base residual and factors do not add up to the base weight: decomposed in the wrong orientation?"
        if turned
        else "a factor that must start at 0 (lora_B, AdaLoRA's lora_E) does not, or adapting changed the base weights",
        remedy="initialise as PEFT does (init_lora_weights=True), adapt a base that is already resized and loaded, and "
        "see whether your peft release has a bug here",
        evidence=_what_is_not_zero(model),
    )


def _rounds_at_the_start(model: nn.Module) -> bool:
    """Whether the start is the base but for rounding: DoRA's quotient of two norms, factors that are orthogonal."""
    config = _config(model) if hasattr(model, "peft_config") else None
    init = getattr(config, "init_lora_weights", True)
    return bool(getattr(config, "use_dora", False)) or (isinstance(init, str) and init not in ("gaussian", "eva"))


def _at_the_start(evidence: Evidence) -> nn.Module:
    """The adapted model before its first update; also where the training puts the adapter on by itself."""
    import torch

    if not evidence.trained_elsewhere:
        return evidence.adapted_model()
    model = copy_of(evidence.trace.model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in evidence.trace.initial:
                parameter.copy_(evidence.trace.initial[name])
    return model


def _config(model: nn.Module) -> Any:
    return config_of(peft_model(model))


def _refuse_other_starts(evidence: Evidence, model: nn.Module) -> None:
    """NotApplicable for adapters that are meant to start somewhere else."""
    init = getattr(evidence.method, "init", None)
    if not hasattr(model, "peft_config"):
        if not adapters(model):
            raise NotApplicable("no adapter is known in this model")
        return
    config = _config(model)
    init = getattr(config, "init_lora_weights", True) if init is None else init
    if is_prompt(config) or kind_of(config) not in START_AS_THE_BASE:
        raise NotApplicable(f"{kind_of(config)} does not start as the base")
    if init is False or init == "loftq" or getattr(config, "init_weights", True) is False:
        raise NotApplicable("the adapter is declared to start from random values")


def _what_is_not_zero(model: nn.Module) -> tuple[str, ...]:
    """Which of the factors that usually start at zero do not."""
    kinds = ("lora_B", "lora_E", "lora_embedding_A", "vera_lambda_b")
    named = [(n, p) for n, p in model.named_parameters() if any(f".{kind}." in n for kind in kinds)]
    large = {name: float(parameter.detach().abs().max()) for name, parameter in named}
    nonzero = [name for name, value in large.items() if value]
    if not nonzero:
        return ()
    return (f"{len(nonzero)} of {len(large)} second factors are not 0: {nonzero[0]} up to {large[nonzero[0]]:.3g}",)


@check(
    "disabled-adapter-leaves-the-base",
    "adapter",
    "with the adapter disabled a trained model computes what the base computes, and afterwards what it computed before",
    controls=[BASE_CHANGED_BY_ADAPTING],
    catches=["https://github.com/huggingface/peft/issues/493", "https://github.com/huggingface/peft/pull/736"],
    applies="adapter",
    cost="model",
)
def disabled_adapter_leaves_the_base(evidence: Evidence) -> Iterator[Finding]:
    model = moved(evidence)
    _refuse_changed_base(model)
    exact = precision(evidence)
    base = evidence.base_model()
    before, expected = exact.logits(model), exact.logits(base)
    try:
        with model.disable_adapter():
            disabled = exact.logits(model)
    except Exception as error:  # prompts for some tasks, up to peft 0.21.2; embeddings in 0.3
        raise NotApplicable(f"the adapter cannot be disabled ({type(error).__name__})") from None
    after, tolerance = exact.logits(model), exact.tolerance()
    difference = distance(disabled, expected)
    if not difference <= tolerance:
        copies = sorted({n.split(".modules_to_save")[0] for n, _ in model.named_parameters() if "modules_to_save" in n})
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of the disabled model's logits from the base's "
            f"(rounding: {tolerance:.2g}; the adapter itself changes {distance(before, expected):.3g})",
            cause="a part of what was trained stays in use"
            + (f", perhaps the copies that modules_to_save makes: {first_few(copies)}" if copies else "")
            + "; or adapting changed the base weights",
            remedy="a reference model (DPO, KL) made this way is wrong: load the base by itself, or upgrade peft",
        )
    if not distance(after, before) <= tolerance:
        yield Finding(
            summary=f"{distance(after, before):.3g} is how far the logits are from before once the adapter is on again",
            cause="leaving disable_adapter() does not restore the adapter",
            remedy="upgrade peft; until then set the adapter again with set_adapter()",
        )


def _refuse_changed_base(model: Any) -> None:
    config = config_of(model)
    if takes_from_base(config):
        raise NotApplicable(f"{config.init_lora_weights} moves a part of the base weights into the adapter")
    if getattr(config, "bias", "none") != "none":
        raise NotApplicable(f"bias={config.bias!r} trains biases of the base, which stay when the adapter is disabled")
    beside = trains_beside_the_adapter(model)
    if beside:
        raise NotApplicable(f"{len(beside)} parameters of the base train beside the adapter ({beside[0]}, ...)")


@check(
    "change-has-the-declared-rank",
    "adapter",
    "what LoRA training changed of a weight has at most the adapter's rank",
    controls=[BASE_TRAINS_TOO],
    catches=["https://arxiv.org/abs/2106.09685"],
    applies="adapter",
    cost="model",
)
def change_has_the_declared_rank(evidence: Evidence) -> Iterator[Finding]:
    excess = {}
    layers = list(_trained_changes(evidence))
    if not layers:
        raise NotApplicable("no layer has a plain low-rank change: DoRA, other methods, convolutions in groups")
    for name, change, rank in layers:
        if not bool(change.isfinite().all()):
            raise NotApplicable(f"{name} is not finite after the training (finite-throughout says so)")
        found = _rank(change)
        if found > rank:
            excess[name] = (found, rank)
    if excess:
        worst, (found, rank) = max(excess.items(), key=lambda item: item[1][0])
        yield Finding(
            summary=f"{len(excess)} of {len(layers)} weights changed by more than their rank: {worst} by rank {found}, "
            f"declared {rank}",
            cause="the base weight under the adapter was trained or overwritten too",
            remedy="freeze the base (get_peft_model does; look for a requires_grad_(True) after it), train the adapter",
            evidence=(f"in: {first_few(sorted(excess))}",),
        )


def _trained_changes(evidence: Evidence) -> Iterator[tuple[str, Tensor, int]]:
    """(name, change of the weight by the training [out, in] in float64, declared rank) of each plain LoRA layer."""
    from ..evidence.adapted import as_matrix, factors_of, has_formula
    from ..theory.targets import rank_of

    model = peft_model(evidence.trace.model)
    refuse_prompts(model)
    lora = declared_lora(evidence.method)
    adapter, config = active(model), config_of(model)
    if not has_formula(config):
        return
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    for name, module in adapters(model):
        factors = factors_of(module, adapter)
        start = evidence.trace.initial.get(names.get(id(base_weight(module)), ""))
        if factors is None or factors.magnitude is not None or start is None:
            continue
        # AdaLoRA begins with more rank than it ends with; the declaration of every other LoRA is its factors' rank.
        rank = rank_of(lora, name.removeprefix(PREFIX)) if lora is not None else factors.down.shape[0]
        yield name, factors.weight + factors.change - as_matrix(module, start), rank


def _rank(matrix: Tensor) -> int:
    import torch

    values = torch.linalg.svdvals(matrix)
    return int((values > SMALL * values[0]).sum())
