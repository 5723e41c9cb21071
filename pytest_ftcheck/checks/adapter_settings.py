"""Checks that the adapter is the declared one: on which modules it sits, and with which settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..errors import FtcheckError, NotApplicable
from ..evidence.adapted import PREFIX, config_of, declared_lora, peft_model, refuse_combined
from ..evidence.evidence import adapters
from ..theory.differences import first_few
from ..theory.targets import HEADS
from .check import Finding, check
from .sabotages.adapter import ONE_ADAPTER_MISSING, RANK_ONE

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence


@check(
    "adapters-are-where-declared",
    "adapter",
    "exactly the modules that target_modules, exclude_modules and layers_to_transform mean are adapted",
    controls=[ONE_ADAPTER_MISSING],
    catches=["https://github.com/huggingface/peft/pull/3318", "https://github.com/huggingface/peft/issues/2295"],
    applies="adapter",
    cost="model",
)
def adapters_are_where_declared(evidence: Evidence) -> Iterator[Finding]:
    from ..theory.lora_config import has_closed_form
    from ..theory.targets import are_rewritten, targeted_modules

    lora = declared_lora(evidence.method)
    base = evidence.base_model()
    if lora is None or not has_closed_form(lora) or are_rewritten(base, lora):
        raise NotApplicable("which modules the declaration means is known for LoRA on modules only")
    try:
        meant = set(targeted_modules(base, lora))
    except FtcheckError as error:
        raise NotApplicable(str(error).splitlines()[0]) from None
    # An attention module brings a projection along that is adapted with it.
    found = {name.removeprefix(PREFIX) for name, _ in adapters(evidence.trace.model) if not name.endswith(".out_proj")}
    meant = {name for name in meant if not name.endswith(".out_proj")}
    missing, extra = sorted(meant - found), sorted(found - meant)
    if missing or extra:
        lines = [f"declared, but not adapted: {first_few(missing)}"] if missing else []
        lines += [f"adapted, but not declared: {first_few(extra)}"] if extra else []
        yield Finding(
            summary=f"{len(found)} modules are adapted and {len(meant)} are declared: {len(missing)} are missing, "
            f"{len(extra)} were not meant",
            cause="other targets in the code that adapts than in the recipe; or PEFT read the names otherwise: an "
            "ending that matches more, an expert's number taken for the layer's, a regular expression against a list",
            remedy="print model.targeted_module_names, and spell the targets so that they match these and no others",
            evidence=tuple(lines),
        )


@check(
    "adapter-configured-as-declared",
    "adapter",
    "rank, alpha, scaling and bias of the adapter are those that the recipe declares, and the head of its task trains",
    controls=[RANK_ONE],
    catches=["https://github.com/huggingface/peft/pull/2646", "https://github.com/huggingface/peft/issues/1337"],
    applies="adapter",
)
def adapter_configured_as_declared(evidence: Evidence) -> Iterator[Finding]:
    frozen = list(_frozen_head(evidence.trace.model))
    yield from frozen
    lora = declared_lora(evidence.method)
    if lora is None:
        if not frozen:
            raise NotApplicable("the recipe declares another method than LoRA")
        return
    refuse_combined(evidence.trace.model)
    config = config_of(peft_model(evidence.trace.model))
    declared = {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "bias": lora.bias,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
    }
    wrong = {k: (v, getattr(config, k, v)) for k, v in declared.items() if getattr(config, k, v) != v}
    if wrong:
        yield Finding(
            summary=f"{len(wrong)} settings of the adapter are not the declared ones: {first_few(list(wrong))}",
            cause="the code that adapts has other values than the recipe: edited in one place, or lost on the way",
            remedy="make the recipe's method and the code's LoraConfig say the same",
            evidence=tuple(f"{name}: {found} instead of {meant}" for name, (meant, found) in wrong.items()),
        )


def _frozen_head(model: nn.Module) -> Iterator[Finding]:
    """A classification task begins with a head of random values, which PEFT must train and save."""
    task = getattr(config_of(peft_model(model)), "task_type", None)
    heads = HEADS.get(str(getattr(task, "value", task)), ())
    trains = {name: p.requires_grad for name, p in model.named_parameters() if _is_in(name, heads)}
    if trains and not any(trains.values()):
        yield Finding(
            summary=f"0 of {len(trains)} parameters of the head train in a {getattr(task, 'value', task)} task: "
            f"{first_few(sorted(trains))}",
            cause="the head is not among the modules_to_save that PEFT sets by itself: it keeps its random values",
            remedy="name the head in modules_to_save, or upgrade peft (0.17 for prompt tuning)",
        )


def _is_in(name: str, heads: tuple[str, ...]) -> bool:
    return any(part in heads for part in name.split("."))
