"""Checks of merging an adapter into the base, and of taking it out again."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import NotApplicable
from ..evidence.adapted import (
    PREFIX,
    active,
    as_matrix,
    base_layer,
    config_of,
    factors_of,
    has_formula,
    kind_of,
    moved,
    peft_model,
    refuse_prompts,
)
from ..evidence.checkpoint import reload, write
from ..evidence.evidence import adapters
from ..evidence.precision import distance, precision
from ..theory.differences import first_few
from .check import Finding, check
from .sabotages.adapter import (
    MERGE_FORGETS_THE_ADAPTER,
    MERGE_NOT_REMEMBERED,
    MERGED_FILE_LACKS_A_LAYER,
    MERGED_TWICE,
)

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence


def merged_by_peft(model: Any, **options: Any) -> nn.Module:
    """``model`` with its adapter merged and unloaded. NotApplicable where PEFT refuses."""
    if not hasattr(model, "merge_and_unload") or not hasattr(model.base_model, "merge_and_unload"):
        raise NotApplicable(f"PEFT cannot merge {kind_of(config_of(model))}")
    known = inspect.signature(model.merge_and_unload).parameters
    try:
        return model.merge_and_unload(**{k: v for k, v in options.items() if k in known or "kwargs" in known})  # type: ignore[no-any-return]
    except Exception as error:
        _pass_on_refusal(error)
        raise


def _pass_on_refusal(error: Exception) -> None:
    """NotApplicable where ``error`` is how PEFT says that it knows it cannot merge; any other error is a mistake."""
    if isinstance(error, (NotImplementedError, ValueError)) or "merge" in str(error).lower():
        raise NotApplicable(f"PEFT refuses to merge: {error}".splitlines()[0]) from None


def merged_or_not(model: Any, **options: Any) -> nn.Module:
    """``merged_by_peft`` for checks of what comes after: that merging itself fails is reported by one check alone."""
    try:
        return merged_by_peft(model, **options)
    except NotApplicable:
        raise
    except Exception as error:
        raise NotApplicable(f"merging fails ({type(error).__name__})") from None


def merged(evidence: Evidence) -> nn.Module:
    """The moved model merged as the recipe merges, or else by PEFT. Made once: not to be changed."""

    def make() -> nn.Module:
        model = moved(evidence)
        if evidence.recipe.merge is not None:
            return evidence.recipe.merge(model)
        refuse_prompts(model)
        return merged_by_peft(model)

    return evidence.once("merged", make)


@check(
    "merging-keeps-the-logits",
    "adapter",
    "the merged model computes what the adapted one computes",
    controls=[MERGE_FORGETS_THE_ADAPTER, MERGED_TWICE],
    catches=["https://github.com/huggingface/trl/issues/386", "https://github.com/huggingface/peft/pull/438"],
    applies="adapter",
    cost="model",
)
def merging_keeps_the_logits(evidence: Evidence) -> Iterator[Finding]:
    exact, model = precision(evidence), moved(evidence)
    try:
        result = merged(evidence)
    except NotApplicable:
        raise
    except Exception as error:
        yield _merging_fails(evidence, error)
        return
    left = [name for name, _ in result.named_parameters() if any(p.startswith("lora_") for p in name.split("."))]
    logits, tolerance = exact.logits(result), exact.tolerance(model, result)
    difference = distance(logits, exact.reference)
    if not difference <= tolerance:
        share = _share_merged(model, result)
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of the merged model's logits from the adapted model's "
            f"(rounding: {tolerance:.2g})",
            cause="the merge was made in half precision: every merged weight is rounded"
            if _rounded(result, model)
            else _cause_of_share(share, distance(logits, exact.logits(evidence.base_model())) <= tolerance, model),
            remedy="merge once, with the model's own merge_and_unload(), and save what it returns",
            evidence=() if share is None else (f"the merged weights hold {share:.2f} times the adapter's change",),
        )
    elif left:
        yield Finding(
            summary=f"{len(left)} adapter parameters are still in the merged model: {first_few(left)}",
            cause="the adapter was merged and not unloaded: saving this saves the adapter beside the merged weights",
            remedy="export what merge_and_unload() returns",
        )


def _merging_fails(evidence: Evidence, error: Exception) -> Finding:
    whose = "recipe.merge" if evidence.recipe.merge is not None else "merge_and_unload()"
    text = str(error).splitlines() or [""]
    return Finding(
        summary=f"1 merge tried, and {whose} raised {type(error).__name__}: {text[0]}",
        cause="this kind of adapter, or of layer, cannot be merged by this release",
        remedy="upgrade peft, or leave that kind of layer out of target_modules; test the export before training",
    )


def _rounded(result: nn.Module, model: nn.Module) -> bool:
    """Whether all weights of ``result`` have bfloat16's or float16's precision, and those of ``model`` do not."""
    import torch

    def is_rounded(one: nn.Module) -> bool:
        matrices = [p.detach().float() for p in one.parameters() if p.dim() > 1]
        return any(all(torch.equal(m, m.to(half).float()) for m in matrices) for half in halves)

    halves = (torch.bfloat16, torch.float16)
    return is_rounded(result) and not is_rounded(model)


def _share_merged(model: Any, result: nn.Module) -> float | None:
    """How many times the adapter's change is in the merged weights, in the worst layer: 0 never, 2 twice."""
    shares = []
    found = dict(result.named_parameters(remove_duplicate=False))
    for name, module in adapters(model):
        factors = factors_of(module, active(model)) if has_formula(config_of(model)) else None
        weight = found.get(f"{name.removeprefix(PREFIX)}.weight")
        if factors is None or weight is None:
            continue
        change, made = factors.effective - factors.weight, as_matrix(module, weight) - factors.weight
        shares.append(float((change * made).sum() / (change * change).sum().clamp_min(1e-30)))
    return max(shares, key=lambda share: abs(share - 1)) if shares else None


def _cause_of_share(share: float | None, is_base: bool, model: Any) -> str:
    if is_base or (share is not None and abs(share) < 0.02):
        return "the adapter is not in the merged model: the base was exported, or a layer left unmerged"
    if share is not None and share > 1.5:
        return "the adapter was merged more than once: by hand and again by merge_and_unload()"
    tied = _tied_and_adapted(model)
    if tied:
        return f"{first_few(tied)} shares its weight with another module, which merging changes too"
    if share is not None and abs(share - 1) < 0.02:
        return "the weights hold the change, but not something else: copies of modules_to_save, biases, adapted experts"
    return "the merge uses another scaling, orientation or formula than the adapter"


@check(
    "merging-twice-is-merging-once",
    "adapter",
    "a second merge_adapter(), or merge_and_unload() after it, adds nothing",
    controls=[MERGE_NOT_REMEMBERED],
    catches=["https://github.com/huggingface/peft/pull/1355"],
    applies="adapter",
    cost="model",
)
def merging_twice_is_merging_once(evidence: Evidence) -> Iterator[Finding]:
    exact, model = precision(evidence), mergeable(evidence)
    tolerance = exact.tolerance(model)
    merge_in_place(model)
    once = exact.logits(model)
    if not distance(once, exact.reference) <= tolerance:
        return  # merging itself is wrong, which another check reports
    merge_in_place(model)
    results = {"merge_adapter() twice": exact.logits(model)}
    results["merge_adapter() and then merge_and_unload()"] = exact.logits(merged_or_not(model))
    for called, logits in results.items():
        difference = distance(logits, once)
        if not difference <= tolerance:
            yield Finding(
                summary=f"{difference:.3g} is the largest change of the logits by {called} (rounding: {tolerance:.2g})",
                cause="the layers do not remember that they are merged, and add the adapter's change again",
                remedy="merge once only, or upgrade peft (0.8.2 remembers)",
            )


def mergeable(evidence: Evidence) -> Any:
    """The moved model, whose layers can be merged in place. NotApplicable for all others."""
    model = moved(evidence)
    refuse_prompts(model)
    if not hasattr(model.base_model, "merge_adapter"):
        raise NotApplicable(f"this release cannot merge {kind_of(config_of(model))} in place")
    return model


def merge_in_place(model: Any) -> None:
    try:
        model.merge_adapter()
    except Exception as error:
        _pass_on_refusal(error)
        raise NotApplicable(f"merging fails ({type(error).__name__}), which another check reports") from None


@check(
    "merged-model-survives-saving",
    "adapter",
    "the merged model, saved and loaded again, computes what the adapted one computes",
    controls=[MERGED_FILE_LACKS_A_LAYER],
    catches=[
        "https://github.com/huggingface/peft/issues/2018",
        "https://github.com/huggingface/transformers/issues/45127",
    ],
    applies="adapter",
    cost="model",
)
def merged_model_survives_saving(evidence: Evidence) -> Iterator[Finding]:
    exact, model = precision(evidence), moved(evidence)
    try:
        result = copy.deepcopy(merged(evidence))
    except NotApplicable:
        raise
    except Exception:
        raise NotApplicable("merging fails") from None
    if hasattr(result, "peft_config") and adapters(result):
        raise NotApplicable("what merging returns still holds the adapter, which another check reports")
    expected = exact.logits(result)
    if not distance(expected, exact.reference) <= exact.tolerance(model, result):
        raise NotApplicable("merging itself changes the logits")
    folder = write(result)
    loaded = reload(type(result), folder.path, evidence)
    difference, tolerance = distance(exact.logits(loaded), expected), exact.between(result, loaded)
    if not difference <= tolerance:
        tied = _tied_and_adapted(model)
        yield Finding(
            summary=f"{difference:.3g} is the largest difference of the merged model's logits, once reloaded, from "
            f"the adapted model's (rounding: {tolerance:.2g})",
            cause=f"{first_few(tied)} shares its weight with another module: merging changes one of the two, and "
            "loading ties them together again"
            if tied
            else "saving leaves a merged weight out, or loading puts another in its place",
            remedy="do not adapt a tied head or embedding; or untie it before (config.tie_word_embeddings=False, and a "
            "head of its own), or ship the adapter unmerged",
        )


def _tied_and_adapted(model: Any) -> list[str]:
    """Adapted modules whose base weight is another module's too."""
    peft_model(model)
    held = [id(module._parameters.get("weight")) for module in model.modules() if "weight" in module._parameters]
    return [name.removeprefix(PREFIX) for name, m in adapters(model) if held.count(id(_weight_of(m))) > 1]


def _weight_of(module: Any) -> Any:
    return getattr(base_layer(module), "weight", None)
