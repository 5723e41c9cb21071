"""Checks that the adapter is the declared one: on which modules it sits, and with which settings."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..errors import FtcheckError, NotApplicable
from ..evidence.adapted import PREFIX, config_of, declared_lora, kind_of, peft_model, refuse_combined
from ..evidence.evidence import adapters
from ..theory.differences import first_few
from ..theory.targets import HEADS
from .check import Finding, check
from .sabotages.adapter import ONE_ADAPTER_MISSING, RANK_ONE

if TYPE_CHECKING:
    from torch import nn

    from ..evidence.evidence import Evidence


# Settings, by method, that decide what an adapter computes: its size, its scale, and what trains beside it.
SETTINGS = {
    "ADALORA": ("init_r", "target_r", "lora_alpha", "bias", "tinit", "tfinal", "deltaT"),
    "IA3": ("feedforward_modules",),
    "LOHA": ("r", "alpha", "use_effective_conv2d"),
    "LOKR": ("r", "alpha", "use_effective_conv2d", "decompose_both", "decompose_factor"),
    "VERA": ("r", "d_initial", "bias", "projection_prng_key"),
}


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
    from ..theory.adapters import adapters_of

    method: Any = evidence.method
    try:
        meant = adapters_of(evidence.base_model(), getattr(method, "config", method))
    except FtcheckError as error:
        raise NotApplicable(str(error).splitlines()[0]) from None
    if meant is None:
        raise NotApplicable(f"which modules {method.title} adapts by this declaration is not known")
    # Adapters on several parameters of one module are nested, and each is wrapped once more.
    found = {name.removeprefix(PREFIX).replace(".base_layer", "") for name, _ in adapters(evidence.trace.model)}
    if not found and not hasattr(evidence.trace.model, "peft_config"):
        # Layers of the user's own; an adapter that was forgotten altogether is found by what trains.
        raise NotApplicable("no layer of the model is PEFT's; trainable-as-declared counts what trains in each module")
    missing, extra = sorted(meant.keys() - found), sorted(found - meant.keys())
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
    declared = _settings(evidence.method)
    if declared is None:
        if not frozen:
            raise NotApplicable(f"which settings decide about {evidence.method.title} is not known")
        return
    refuse_combined(evidence.trace.model)
    config = config_of(peft_model(evidence.trace.model))
    wrong = {k: (v, getattr(config, k, v)) for k, v in declared.items() if getattr(config, k, v) != v}
    kind = _kind(evidence.method)
    if kind_of(config) != kind:
        wrong = {"peft_type": (kind, kind_of(config))}
    if wrong:
        yield Finding(
            summary=f"{len(wrong)} settings of the adapter are not the declared ones: {first_few(list(wrong))}",
            cause="the code that adapts has other values than the recipe: edited in one place, or lost on the way",
            remedy="make the recipe's method and the code's configuration say the same",
            evidence=tuple(f"{name}: {found} instead of {meant}" for name, (meant, found) in wrong.items()),
        )


def _kind(method: Any) -> str:
    return "LORA" if declared_lora(method) is not None else kind_of(method.config)


def _settings(method: Any) -> dict[str, Any] | None:
    """What the adapter must be configured with; None for a method of which the settings that count are not known."""
    lora = declared_lora(method)
    if lora is None:
        names = SETTINGS.get(_kind(method))
        found = {name: getattr(method.config, name, None) for name in names or ()}
        # What is left to PEFT is set by it.
        return None if names is None else {name: value for name, value in found.items() if value is not None}
    return {
        "r": lora.r,
        "lora_alpha": lora.alpha,
        "bias": lora.bias,
        "use_rslora": lora.use_rslora,
        "use_dora": lora.use_dora,
    }


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
